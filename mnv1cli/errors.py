"""The errors of mnv1, each with its exit code.

Every failure that a user can cause is an `Mnv1Error`: one line, no traceback. Any other
exception that reaches the command line is a bug in mnv1.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

if TYPE_CHECKING:
    from collections.abc import Sequence


class Mnv1Error(Exception):
    """A failure that the user can understand and correct.

    `what` says what happened, and to which file; `remedy` says what to do about it.
    """

    exit_code: ClassVar[int] = 1

    def __init__(self, what: str, remedy: str = "") -> None:
        self.what = what
        self.remedy = remedy
        super().__init__(f"{what}; {remedy}" if remedy else what)


class OptionError(Mnv1Error):
    """Options or arguments that are not valid, or contradict each other."""

    exit_code = 2


class MissingInputError(Mnv1Error):
    """An input that does not exist."""

    exit_code = 2


class NoImagesError(Mnv1Error):
    """An input without any image that can be used."""


class ModuleError(Mnv1Error):
    """A module that does not exist, or cannot be read or used."""


class SourceError(ModuleError):
    """A source that does not serve a module; the text is only the reason."""


class StatusError(SourceError):
    """A server's answer that is an error: its HTTP status, and the URL that was refused."""

    def __init__(self, what: str, status: int, url: str) -> None:
        self.status = status
        self.url = url
        super().__init__(what)


class UnreachableError(ModuleError):
    """A module that no source serves; `failures` has each source with its reason."""

    def __init__(self, what: str, remedy: str = "", failures: Sequence[str] = ()) -> None:
        self.failures = tuple(failures)
        super().__init__(f"{what} ({'; '.join(failures)})" if failures else what, remedy)


class ChecksumError(ModuleError):
    """A download that differs from what was published."""


class EngineError(Mnv1Error):
    """An engine that is not installed."""


class ClusterError(Mnv1Error):
    """A cluster that cannot be reached, is too small, or failed."""


class SignatureError(ModuleError):
    """A module without the signature or endpoint that a command needs."""


class WeightsError(ModuleError):
    """Variables that are not those of a MobileNet V1."""


class LabelsError(Mnv1Error):
    """Class names that cannot be read, or do not fit the module."""


class OutputError(Mnv1Error):
    """A result that cannot be written."""


class ResumeError(Mnv1Error):
    """A run that cannot be resumed."""


class ResultError(Mnv1Error):
    """An existing result that cannot be read, or was made with other settings."""


class ImageError(Mnv1Error):
    """An image that cannot be read; the text is the reason, without the path."""


class BadImageError(Mnv1Error):
    """An image that failed in a run that stops at the first failure."""


def first_line(error: BaseException) -> str:
    """Return the first line of an error's message, or its type if it has no message."""
    return str(error).strip().partition("\n")[0] or type(error).__name__
