"""The terminal's side of a command: what stderr shows, signals, and exit codes."""

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
from typing import TYPE_CHECKING, Any, NoReturn, TextIO

import click

from mnv1cli.errors import Mnv1Error
from mnv1cli.path_text import display_path
from mnv1cli.system import signals

if TYPE_CHECKING:
    from collections.abc import Iterator

log = logging.getLogger("mnv1cli")

INTERRUPTED, TERMINATED = 130, 143


class Terminated(BaseException):
    """SIGTERM, where the main thread was when it came."""


@contextlib.contextmanager
def session(quiet: bool = False, verbose: bool = False) -> Iterator[TextIO]:
    """Run a command's body; gives the stream that stderr is to the user.

    Descriptor 2 is diverted meanwhile: TensorFlow and the image libraries
    write their diagnostics there, whatever they are told. What was caught is
    shown with `verbose`, and when mnv1 itself is at fault.
    """
    with _diverted() as (stream, caught), _logging(stream, quiet), _signals():
        try:
            yield stream
        except (click.exceptions.Exit, click.ClickException, SystemExit):
            raise
        except Mnv1Error as error:
            log.error("%s", error, extra={"label": "error: "})
            _forget_unwritable_stdout()
            raise SystemExit(error.exit_code) from None
        except BrokenPipeError:
            _forget_unwritable_stdout()
            raise SystemExit(0) from None
        except OSError as error:
            # A full disk, a folder without permission: the user's to mend, wherever it shows.
            log.error("%s", error, extra={"label": "error: "})
            raise SystemExit(Mnv1Error.exit_code) from None
        except (KeyboardInterrupt, Terminated) as stop:
            log.error("stopped by a signal")
            code = TERMINATED if isinstance(stop, Terminated) else INTERRUPTED
            raise SystemExit(code) from None
        except Exception:  # noqa: BLE001 - the last place that can tell of a bug
            stream.write(caught() + traceback.format_exc())
            log.error("this is a bug in mnv1; please report it with the lines above")
            raise SystemExit(1) from None
        finally:
            if verbose:
                stream.write(caught())
            stream.flush()


def progress(stream: TextIO, quiet: bool) -> TextIO | None:
    """The stream for bars: that of a terminal, where they are wanted."""
    return stream if stream.isatty() and not quiet else None


@contextlib.contextmanager
def _diverted() -> Iterator[tuple[TextIO, Any]]:
    """Send descriptor 2 to a file; gives what stderr was, and what reads the file."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    with contextlib.ExitStack() as stack:
        stack.enter_context(warnings.catch_warnings())
        warnings.simplefilter("ignore")
        file = stack.enter_context(tempfile.TemporaryFile())
        try:
            saved = os.dup(2)
        except OSError:
            # There is no stderr: nobody to speak to, nothing to divert.
            nobody = stack.enter_context(open(os.devnull, "w"))
            yield nobody, str
            return
        stack.callback(_restore, saved)
        os.dup2(file.fileno(), 2)
        yield _own_stream(saved, stack), lambda: _read(file)


def _own_stream(saved: int, stack: contextlib.ExitStack) -> TextIO:
    """Our stderr: the saved descriptor, or what stands in for stderr in a test."""
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
    """stderr, where a reader that is gone or a full disk is no reason to fail."""

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


class _Line(logging.Formatter):
    """One line a message, with the program's name before it; no terminal obeys it."""

    def format(self, record: logging.LogRecord) -> str:
        label = "warning: " if record.levelno == logging.WARNING else ""
        # Messages have names of files and modules in them, which may hold anything.
        message = display_path(os.fsencode(record.getMessage()))
        return f"mnv1: {getattr(record, 'label', label)}{message}"


class _Unrepeated(logging.Filter):
    """Lets a piece of news through once; faults and warnings as often as they come."""

    def __init__(self) -> None:
        super().__init__()
        self._said: set[str] = set()

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether a message is to be shown."""
        message = record.getMessage()
        if record.levelno > logging.INFO:
            return True
        known = message in self._said
        self._said.add(message)
        return not known


@contextlib.contextmanager
def _logging(stream: TextIO, quiet: bool) -> Iterator[None]:
    handler = logging.StreamHandler(stream)
    handler.setFormatter(_Line())
    handler.addFilter(_Unrepeated())
    # What other libraries log would otherwise be printed for want of a handler.
    nobody = logging.NullHandler()
    logging.getLogger().addHandler(nobody)
    level, propagate = log.level, log.propagate
    log.addHandler(handler)
    log.setLevel(logging.ERROR if quiet else logging.INFO)
    log.propagate = False
    try:
        yield
    finally:
        logging.getLogger().removeHandler(nobody)
        log.removeHandler(handler)
        log.setLevel(level)
        log.propagate = propagate


@contextlib.contextmanager
def _signals() -> Iterator[None]:
    """Let SIGTERM unwind like Ctrl-C does, and both leave what was done whole."""

    def stop(number: int, _frame: Any) -> None:
        signals.arrive(Terminated() if number == signal.SIGTERM else KeyboardInterrupt())

    try:
        before = {number: signal.signal(number, stop) for number in (signal.SIGTERM, signal.SIGINT)}
    except ValueError:  # not in the main thread: whoever runs us there handles signals
        yield
        return
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def threads_are_left() -> bool:
    """Whether there are threads that Python would wait for at its end."""
    return any(
        not thread.daemon and thread is not threading.main_thread()
        for thread in threading.enumerate()
    )


def leave(code: int) -> NoReturn:
    """End the process at once, whatever its threads are doing."""
    from mnv1cli.system import tempdirs

    with contextlib.suppress(OSError):
        sys.stdout.flush()
    tempdirs.clear_scratch()
    os._exit(code)


def _forget_unwritable_stdout() -> None:
    """Keep Python from complaining at its end that stdout is closed, or its disk full."""
    if sys.stdout is None:
        return
    try:
        sys.stdout.flush()
    except OSError:
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, sys.stdout.fileno())
        os.close(null)
