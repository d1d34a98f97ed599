"""Defects that a reader finds in a file; a rule turns each into a finding."""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum
from typing import Any, NamedTuple

from .nothing import NOTHING


class DefectKind(str, Enum):
    """A defect that a reader found in a file; each kind belongs to exactly one rule.

    The properties are the classes of kinds. Whoever treats some kinds alike asks one of these.
    """

    LFS_POINTER = "lfs-pointer"
    EMPTY = "empty"
    IMPOSTOR = "impostor"
    SAFETENSORS_TRUNCATED = "safetensors-truncated"
    SAFETENSORS_HEADER = "safetensors-header"
    TORCH_TRUNCATED = "torch-truncated"
    STORAGE_MISSING = "storage-missing"
    UNREADABLE = "unreadable"
    CHECKSUM = "checksum"
    UNSAFE_GLOBAL = "unsafe-global"
    AMBIGUOUS_ARCHIVE = "ambiguous-archive"
    RESOURCE_BOMB = "resource-bomb"
    EXECUTABLE_ARCHIVE = "executable-archive"
    PATH_ESCAPE = "path-escape"

    @property
    def blinding(self) -> bool:
        """True if the list of tensors may be short: no rule may conclude that something is missing."""
        return self in _BLINDING

    @property
    def cut_short(self) -> bool:
        """True if bytes are missing, and the tensors that are whole can be saved."""
        return self in CUT_SHORT

    @property
    def incomplete(self) -> bool:
        """True if the file lists its tensors, and holds fewer."""
        return self in _INCOMPLETE

    @property
    def foreign(self) -> bool:
        """True if the file is something else altogether, and nothing in it is dangerous."""
        return self in _FOREIGN

    @property
    def runs_code(self) -> bool:
        """True if loading the file may run code from it."""
        return self in RUNS_CODE

    @property
    def dangerous(self) -> bool:
        """True if the file may harm whoever loads it: run code, fill the memory, lead astray."""
        return self in _DANGEROUS


CUT_SHORT = (DefectKind.SAFETENSORS_TRUNCATED, DefectKind.TORCH_TRUNCATED, DefectKind.STORAGE_MISSING)
"""The kinds that are :attr:`DefectKind.cut_short`."""

RUNS_CODE = (DefectKind.UNSAFE_GLOBAL, DefectKind.EXECUTABLE_ARCHIVE)
"""The kinds that are :attr:`DefectKind.runs_code`."""

_BLINDING = (
    DefectKind.LFS_POINTER,
    DefectKind.EMPTY,
    DefectKind.IMPOSTOR,
    DefectKind.SAFETENSORS_HEADER,
    DefectKind.TORCH_TRUNCATED,
    DefectKind.UNREADABLE,
    DefectKind.RESOURCE_BOMB,
    DefectKind.EXECUTABLE_ARCHIVE,
)
_INCOMPLETE = (DefectKind.SAFETENSORS_TRUNCATED, DefectKind.STORAGE_MISSING)
_FOREIGN = (DefectKind.IMPOSTOR, DefectKind.EMPTY)
_DANGEROUS = (*RUNS_CODE, DefectKind.AMBIGUOUS_ARCHIVE, DefectKind.RESOURCE_BOMB, DefectKind.PATH_ESCAPE)


class Defect(NamedTuple):
    """One thing that is wrong with one file, as a plain statement with its numbers.

    ``message`` is a sentence without the file's name; ``evidence`` holds JSON values only.
    """

    kind: DefectKind
    message: str
    tensors: tuple[str, ...] = ()
    evidence: Mapping[str, Any] = NOTHING

    @property
    def other_kind(self) -> str | None:
        """What the file is where it is of a kind that no reader here reads, and nothing else is wrong with it."""
        kind = self.evidence.get("kind") if self.kind is DefectKind.IMPOSTOR else None
        return kind if isinstance(kind, str) else None
