"""Says what is wrong with a model checkpoint before an evaluation does.

>>> import ckpt_doctor
>>> report = ckpt_doctor.inspect("fixtures/failures/no_projections/weaver")
>>> [finding.code for finding in report.findings]
['CKD202']

Nothing here imports torch, and nothing of a checkpoint is executed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .core.version import __version__

if TYPE_CHECKING:
    from .contracts import diff, inspect_against, lock
    from .conversion import Conversion, convert
    from .core.contract import Contract
    from .core.coverage import Coverage
    from .core.difference import Difference
    from .core.errors import (
        CkptDoctorError,
        ContractError,
        ConversionError,
        GateError,
        IncompleteLoadError,
        LockRefusedError,
        MissingDependencyError,
        NoCheckpointError,
        OutputError,
        PathNotFoundError,
        RepairError,
        SettingsError,
        UnknownNameError,
        VerificationError,
    )
    from .core.policy import Policy
    from .core.results import Report
    from .inspection import inspect, open_checkpoint
    from .repair import Repairs, fix, undo
    from .settings import Settings, load_settings
    from .verification import load_coverage, verify, watch_load

__all__ = [
    "CkptDoctorError",
    "Contract",
    "ContractError",
    "Conversion",
    "ConversionError",
    "Coverage",
    "Difference",
    "GateError",
    "IncompleteLoadError",
    "LockRefusedError",
    "MissingDependencyError",
    "NoCheckpointError",
    "OutputError",
    "PathNotFoundError",
    "Policy",
    "RepairError",
    "Repairs",
    "Report",
    "Settings",
    "SettingsError",
    "UnknownNameError",
    "VerificationError",
    "__version__",
    "convert",
    "diff",
    "fix",
    "inspect",
    "inspect_against",
    "load_coverage",
    "load_settings",
    "lock",
    "open_checkpoint",
    "undo",
    "verify",
    "watch_load",
]

_HOMES = {
    "CkptDoctorError": "core.errors",
    "Contract": "core.contract",
    "ContractError": "core.errors",
    "Conversion": "conversion",
    "ConversionError": "core.errors",
    "Coverage": "core.coverage",
    "Difference": "core.difference",
    "GateError": "core.errors",
    "IncompleteLoadError": "core.errors",
    "LockRefusedError": "core.errors",
    "MissingDependencyError": "core.errors",
    "NoCheckpointError": "core.errors",
    "OutputError": "core.errors",
    "PathNotFoundError": "core.errors",
    "Policy": "core.policy",
    "RepairError": "core.errors",
    "Repairs": "repair",
    "Report": "core.results",
    "Settings": "settings",
    "SettingsError": "core.errors",
    "UnknownNameError": "core.errors",
    "VerificationError": "core.errors",
    "convert": "conversion",
    "diff": "contracts",
    "fix": "repair",
    "inspect": "inspection",
    "inspect_against": "contracts",
    "load_coverage": "verification",
    "load_settings": "settings",
    "lock": "contracts",
    "open_checkpoint": "inspection",
    "undo": "repair",
    "verify": "verification",
    "watch_load": "verification",
}


def __getattr__(name: str) -> Any:
    # Each name is imported when it is first used: `ckpt-doctor --version` needs none of them.
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f".{_HOMES[name]}", __name__), name)
