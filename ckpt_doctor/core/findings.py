"""The words for what is wrong: severities, fixes, findings."""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum
from typing import Any, Literal, NamedTuple

from .actions import Action, Safety

MAX_TENSORS = 20
"""How many tensor names a finding carries at most; ``tensor_count`` has the whole number."""

FailOn = Literal["error", "warning", "note", "never"]
"""The values of ``--fail-on``: the least severity that makes a run fail."""


class Severity(str, Enum):
    """How bad it is: an error is something that an evaluation or a load would trip over."""

    ERROR = "error"
    WARNING = "warning"
    NOTE = "note"

    @property
    def rank(self) -> int:
        """0 for errors, 1 for warnings, 2 for notes."""
        return ("error", "warning", "note").index(self.value)


class Fix(NamedTuple):
    """How to repair a finding. ``command`` is what to type, a command of this tool.

    ``actions`` is what ``ckpt-doctor fix`` does, in this order. ``fix`` offers it again if it is told to ``expect`` the
    same format, where one is named, and, where the fix is ``deep``, to read the tensor bytes.
    """

    title: str
    safety: Safety
    command: str
    actions: tuple[Action, ...] = ()
    expect: str | None = None
    deep: bool = False


class Finding(NamedTuple):
    """One thing that is wrong with one checkpoint.

    ``path`` is relative to the checkpoint; ``None`` if the checkpoint as a whole is meant. ``evidence`` holds JSON
    values. ``always_fails`` marks what no setting may turn green, because nothing was judged.
    """

    code: str
    name: str
    severity: Severity
    message: str
    path: str | None = None
    tensors: tuple[str, ...] = ()
    tensor_count: int = 0
    evidence: Mapping[str, Any] = {}
    fix: Fix | None = None
    always_fails: bool = False

    @property
    def fingerprint(self) -> str:
        """16 hex digits that stay the same when only the wording or the numbers of the message change."""
        import hashlib
        import json

        identity = json.dumps([self.code, self.path, list(self.tensors)])
        return hashlib.sha256(identity.encode()).hexdigest()[:16]

    def fails(self, fail_on: FailOn) -> bool:
        """True if it turns the exit code to 1 under this ``--fail-on``."""
        return self.always_fails or (fail_on != "never" and self.severity.rank <= Severity(fail_on).rank)
