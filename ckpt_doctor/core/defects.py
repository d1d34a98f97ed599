"""What a reader finds wrong with a file: kept as a statement, which a rule turns into a finding."""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum
from typing import Any, NamedTuple

from .nothing import NOTHING


class DefectKind(str, Enum):
    """What a reader found wrong with a file; each kind belongs to exactly one rule."""

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
