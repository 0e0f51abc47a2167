"""What can go wrong, each with its exit code and what to do about it.

Whatever a user can cause is an `Mnv1Error`: one line, no traceback. Any other
exception that reaches the command line is a bug in mnv1.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

if TYPE_CHECKING:
    from collections.abc import Sequence


class Mnv1Error(Exception):
    """A failure that the user can understand and mend.

    `what` says what happened and to which file, `remedy` what to do now.
    """

    exit_code: ClassVar[int] = 1

    def __init__(self, what: str, remedy: str = "") -> None:
        self.what = what
        self.remedy = remedy
        super().__init__(f"{what}; {remedy}" if remedy else what)


class OptionError(Mnv1Error):
    """Options or arguments that do not fit together."""

    exit_code = 2


class MissingInputError(Mnv1Error):
    """An input that was named and is not there."""

    exit_code = 2


class NoImagesError(Mnv1Error):
    """Directories were searched and hold no image."""


class ModuleError(Mnv1Error):
    """A module that cannot be found, read or used."""


class SourceError(ModuleError):
    """A source that does not serve a module; its text is the reason alone."""


class UnreachableError(ModuleError):
    """No source serves a module; `failures` names each of them, and why it did not."""

    def __init__(self, what: str, remedy: str = "", failures: Sequence[str] = ()) -> None:
        self.failures = tuple(failures)
        super().__init__(f"{what} ({'; '.join(failures)})" if failures else what, remedy)


class ChecksumError(ModuleError):
    """A download that is not what was published."""


class EngineError(Mnv1Error):
    """An engine that is not installed."""


class ClusterError(Mnv1Error):
    """A cluster that cannot be reached, is too small, or failed."""


class SignatureError(ModuleError):
    """A module without the signature or endpoint that a command needs."""


class WeightsError(ModuleError):
    """Variables that do not make up a MobileNet V1."""


class LabelsError(Mnv1Error):
    """Class names that cannot be read, or do not fit the module."""


class OutputError(Mnv1Error):
    """A result that cannot be written."""


class ResumeError(Mnv1Error):
    """A run that cannot go on where it was cut."""


class ResultError(Mnv1Error):
    """A result that is there and cannot be read, or does not fit."""


class ImageError(Mnv1Error):
    """An image that cannot be read; its text is the reason, without the path."""


class BadImageError(Mnv1Error):
    """An image failed, and the caller asked to stop there."""
