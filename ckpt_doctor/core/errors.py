"""The exceptions this package raises on purpose.

A damaged checkpoint is never an exception: it becomes a finding. An exception from here means that nothing could be
judged at all. The command line renders these in one place (``cli/exit_codes.py``) and exits with 2.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .results import Report


class CkptDoctorError(Exception):
    """Base of every error of this package; its text names the thing that was wrong and what to do next."""


class PathNotFoundError(CkptDoctorError):
    """A path that was asked for does not exist."""


class NoCheckpointError(CkptDoctorError):
    """The path exists, but no checkpoint lies there."""


class UnknownNameError(CkptDoctorError):
    """A rule, layout, format or option value that does not exist."""


class OutputError(CkptDoctorError):
    """The report could not be written where it was asked to go."""


class ConversionError(CkptDoctorError):
    """A file cannot be converted, or could not be written. Nothing bears a new name then, and no source was touched."""


class MissingDependencyError(CkptDoctorError):
    """The request needs a library that is not installed; the text says what to install."""


class VerificationError(CkptDoctorError):
    """No load could be judged: the model cannot be built, or a specification leads nowhere."""


class IncompleteLoadError(CkptDoctorError):
    """A load did not restore every tensor of its checkpoint; the text is the table of what arrived."""


class RepairError(CkptDoctorError):
    """A repair cannot be done, or not be undone. The checkpoint is as it was, unless the text says otherwise."""


class SettingsError(CkptDoctorError):
    """A settings file or an environment variable says something that has no meaning; the text says where."""


class GateError(CkptDoctorError):
    """The gate stays shut though no finding is to blame: what was judged changed, or nobody can tell what to judge."""


class CommandError(GateError):
    """The command behind the gate could not be started; ``code`` is the exit code that shells give then."""

    def __init__(self, message: str, code: int) -> None:
        super().__init__(message)
        self.code = code


class ContractError(CkptDoctorError):
    """A contract cannot be read, or holds what this version does not know how to check. Nothing was compared."""


class LockRefusedError(CkptDoctorError):
    """A checkpoint is not what a contract should be made of. ``report`` holds the findings that say why, if any do."""

    def __init__(self, message: str, report: Report) -> None:
        super().__init__(message)
        self.report = report
