"""A command's session: its messages on stderr, signals, and exit codes."""

from __future__ import annotations

import contextlib
import io
import logging
import os
import signal
import sys
import tempfile
import threading
import traceback
import warnings
from typing import TYPE_CHECKING, Any, BinaryIO, NoReturn, TextIO

import click

from mnv1cli.errors import Mnv1Error
from mnv1cli.path_text import display_path
from mnv1cli.system import signals

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

log = logging.getLogger("mnv1cli")

INTERRUPTED, TERMINATED = 130, 143


class Terminated(BaseException):
    """SIGTERM, raised in the main thread."""


@contextlib.contextmanager
def session(quiet: bool = False, verbose: bool = False) -> Iterator[TextIO]:
    """Run a command's body, and yield the stream of the messages to the user.

    Errors become one line and an exit code. Descriptor 2 is diverted until the end, because
    TensorFlow and the image libraries write their diagnostics there, whatever their settings.
    These are shown with `verbose`, as are details, and when mnv1 itself has a bug.
    """
    level = logging.ERROR if quiet else logging.DEBUG if verbose else logging.INFO
    with _diverted() as (stream, diagnostics), _logging(stream, level), _signals():
        try:
            yield stream
        except (click.exceptions.Exit, click.ClickException, SystemExit):
            raise
        except Mnv1Error as error:
            log.error("%s", _add_deleted_folder(error), extra={"label": "error: "})
            _forget_unwritable_stdout()
            raise SystemExit(error.exit_code) from None
        except BrokenPipeError:
            _forget_unwritable_stdout()
            raise SystemExit(0) from None
        except OSError as error:
            # A full disk or a folder without permission is no bug, wherever it occurs.
            log.error("%s", _add_deleted_folder(error), extra={"label": "error: "})
            raise SystemExit(Mnv1Error.exit_code) from None
        except (KeyboardInterrupt, Terminated) as stop:
            log.error("stopped by a signal")
            code = TERMINATED if isinstance(stop, Terminated) else INTERRUPTED
            raise SystemExit(code) from None
        except Exception:  # noqa: BLE001 - nobody else can report a bug
            stream.write(diagnostics() + traceback.format_exc())
            log.error("this is a bug in mnv1; please report it with the lines above")
            raise SystemExit(1) from None
        finally:
            if verbose:
                stream.write(diagnostics())
            stream.flush()


def _add_deleted_folder(error: Exception) -> str:
    """Return the message of an error, with the reason why relative paths lead nowhere, if so."""
    try:
        os.getcwd()
    except FileNotFoundError:
        reason = "the working folder has been deleted; change to another one"
        return f"{error}: {reason}" if isinstance(error, Mnv1Error) else reason
    except OSError:
        pass
    return str(error)


def progress(stream: TextIO, quiet: bool) -> TextIO | None:
    """Return the stream for progress bars; None without a terminal, or with `quiet`."""
    return stream if stream.isatty() and not quiet else None


def binary_stdout() -> BinaryIO | None:
    """Return stdout for bytes; None in a process that was started without stdout."""
    return sys.stdout.buffer if sys.stdout else None


def stdout_is_terminal() -> bool:
    """Return whether stdout is a terminal."""
    return bool(sys.stdout and sys.stdout.isatty())


@contextlib.contextmanager
def _diverted() -> Iterator[tuple[TextIO, Callable[[], str]]]:
    """Send descriptor 2 to a file; yields the former stderr, and a function that reads the file."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    with contextlib.ExitStack() as stack:
        stack.enter_context(warnings.catch_warnings())
        warnings.simplefilter("ignore")
        file = stack.enter_context(tempfile.TemporaryFile())
        try:
            saved = os.dup(2)
        except OSError:
            # There is no stderr: nothing to divert, and nobody reads the messages.
            null = stack.enter_context(open(os.devnull, "w"))
            yield null, str
            return
        stack.callback(_restore, saved)
        os.dup2(file.fileno(), 2)
        yield _own_stream(saved, stack), lambda: _read(file)


def _own_stream(saved: int, stack: contextlib.ExitStack) -> TextIO:
    """Return our stderr: the saved descriptor, or the stream that replaces stderr in a test."""
    if sys.stderr is None or _descriptor(sys.stderr) == 2:
        stream = _Stderr(
            open(saved, "wb", buffering=0, closefd=False),  # noqa: SIM115 - detached below
            "utf-8",
            errors="backslashreplace",
            write_through=True,
        )
        stack.callback(stream.detach)
        return stream
    return sys.stderr


class _Stderr(io.TextIOWrapper):
    """stderr that ignores a closed pipe or a full disk: neither is a reason to fail."""

    def write(self, text: str) -> int:
        with contextlib.suppress(OSError):
            super().write(text)
        return len(text)

    def flush(self) -> None:
        with contextlib.suppress(OSError):
            super().flush()


def _descriptor(stream: TextIO) -> int | None:
    try:
        return stream.fileno()
    except (OSError, ValueError):
        return None


def _restore(saved: int) -> None:
    os.dup2(saved, 2)
    os.close(saved)


def _read(file: Any) -> str:
    sys.stderr.flush()
    file.seek(0)
    text: str = file.read().decode("utf-8", "replace")
    return text


class _LineFormatter(logging.Formatter):
    """Formats a message as one line after the program's name, without control characters."""

    def format(self, record: logging.LogRecord) -> str:
        label = "warning: " if record.levelno == logging.WARNING else ""
        # Names of files and modules in messages may contain any character.
        message = display_path(os.fsencode(record.getMessage()))
        return f"mnv1: {getattr(record, 'label', label)}{message}"


class _OnceFilter(logging.Filter):
    """Lets a message of level INFO through once; errors and warnings every time."""

    def __init__(self) -> None:
        super().__init__()
        self._shown: set[str] = set()

    def filter(self, record: logging.LogRecord) -> bool:
        """Return whether to show a message."""
        if record.levelno > logging.INFO:
            return True
        message = record.getMessage()
        is_new = message not in self._shown
        self._shown.add(message)
        return is_new


@contextlib.contextmanager
def _logging(stream: TextIO, wanted: int) -> Iterator[None]:
    handler = logging.StreamHandler(stream)
    handler.setFormatter(_LineFormatter())
    handler.addFilter(_OnceFilter())
    # Without any handler Python would print what other libraries log.
    null = logging.NullHandler()
    logging.getLogger().addHandler(null)
    level, propagate = log.level, log.propagate
    log.addHandler(handler)
    log.setLevel(wanted)
    log.propagate = False
    try:
        yield
    finally:
        logging.getLogger().removeHandler(null)
        log.removeHandler(handler)
        log.setLevel(level)
        log.propagate = propagate


@contextlib.contextmanager
def _signals() -> Iterator[None]:
    """Let SIGTERM unwind the stack as Ctrl-C does, so that both leave complete rows and files."""

    def stop(number: int, _frame: Any) -> None:
        signals.request_stop(Terminated() if number == signal.SIGTERM else KeyboardInterrupt())

    try:
        before = {number: signal.signal(number, stop) for number in (signal.SIGTERM, signal.SIGINT)}
    except ValueError:  # not in the main thread: the caller handles signals
        yield
        return
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def threads_are_left() -> bool:
    """Return whether there are threads that Python would wait for at its end."""
    return any(
        not thread.daemon and thread is not threading.main_thread()
        for thread in threading.enumerate()
    )


def leave(code: int) -> NoReturn:
    """End the process at once, even if threads are still running."""
    from mnv1cli.system import tempdirs

    with contextlib.suppress(OSError):
        sys.stdout.flush()
    tempdirs.remove_scratch()
    os._exit(code)


def _forget_unwritable_stdout() -> None:
    """Keep Python from reporting at its end that stdout is closed or its disk is full."""
    if sys.stdout is None:
        return
    try:
        sys.stdout.flush()
    except OSError:
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, sys.stdout.fileno())
        os.close(null)
