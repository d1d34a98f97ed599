"""The result of a conversion, as plain values."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal

from ckpt_doctor.core.actions import TargetFormat
from ckpt_doctor.core.envelope import envelope


@dataclass(frozen=True, slots=True)
class AliasOutcome:
    """What became of tensors that shared bytes.

    ``action`` is ``cloned`` (each name has its own bytes now) or ``dropped`` (``kept`` is the one name that is left,
    the others stand in the metadata). ``nbytes`` is what the new file has more, or has less than with a copy for each.
    """

    names: tuple[str, ...]
    action: Literal["cloned", "dropped"]
    nbytes: int
    kept: str | None = None


@dataclass(frozen=True, slots=True)
class ConvertedFile:
    """One weight file that was written. ``source`` and ``target`` are paths as the user would write them.

    ``nbytes`` is the size of the new file, ``tensor_count`` the number of tensors in it. ``values`` names the
    non-tensor values that went into the metadata, ``dropped`` what was left out.
    """

    source: str
    target: str
    nbytes: int
    tensor_count: int
    aliases: tuple[AliasOutcome, ...] = ()
    values: tuple[str, ...] = ()
    dropped: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """The file in the document of ``convert --output-format json``."""
        return {"tensors" if key == "tensor_count" else key: value for key, value in asdict(self).items()}


@dataclass(frozen=True, slots=True)
class Conversion:
    """Everything that one call of ``convert`` did.

    ``files`` are the converted weights; ``copied`` are files that were copied as they are beside them, and ``indexes``
    the shard indexes that were written. ``already`` names weights that had the wanted format and were left alone, and
    ``left_out`` what was not taken along to another folder. ``checked`` says that every tensor was compared.
    """

    to: TargetFormat
    files: tuple[ConvertedFile, ...] = ()
    copied: tuple[str, ...] = ()
    indexes: tuple[str, ...] = ()
    already: tuple[str, ...] = ()
    left_out: tuple[str, ...] = ()
    checked: bool = True

    @property
    def nbytes(self) -> int:
        """Bytes of all converted files."""
        return sum(file.nbytes for file in self.files)

    @property
    def tensors(self) -> int:
        """Number of tensors in all converted files."""
        return sum(file.tensor_count for file in self.files)

    def to_dict(self) -> dict[str, Any]:
        """The document of ``--output-format json``, version 1, as plain values."""
        return {
            **envelope(),
            **asdict(self),
            "files": [file.to_dict() for file in self.files],
            "summary": {"files": len(self.files), "tensors": self.tensors, "bytes": self.nbytes},
        }
