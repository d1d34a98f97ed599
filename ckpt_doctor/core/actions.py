"""The words for what a repair does: a rule says it in these, and ``repair/`` carries it out, all of it or nothing.

Paths are relative to the checkpoint, with ``/``; only :class:`Copy` may lead out of it (``..``). What an action takes
the place of, or takes away, goes into the backup.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, NamedTuple, Union

from .defects import DefectKind
from .nothing import NOTHING

Safety = Literal["safe", "unsafe"]
"""A safe fix loses nothing; an unsafe one may, and is applied on request."""

TargetFormat = Literal["safetensors", "bin"]
"""The formats of weight files: ``bin`` is the current format of ``torch.save``."""

SharedBytes = Literal["keep", "clone"]
"""What becomes of tensors that share bytes: equal views stay one, or each gets its own bytes."""

SharedChoice = Literal["clone", "drop", "error"]
"""What ``convert`` may be asked to make of tensors that share bytes: a copy for each name, one name for all, or an
error."""

SharedUse = Literal["clone", "drop", "error", "tied"]
"""What ``convert`` does with them in one file. ``tied`` drops where nothing but input and output embeddings are tied
and clones all else: a loader ties only those again."""


class Rewrite(NamedTuple):
    """Write a weight file anew: contiguous tensors, each with its own bytes, in a current format.

    ``target`` is the path of the result if it does not replace ``path``; the old file is then deleted unless ``keeps``.
    ``format`` is ``None`` for the one that the file has. ``names`` maps full names of
    tensors to the new ones, ``without`` are left out, ``dtypes`` maps names to the floating-point dtypes that their
    values are cast to. ``metadata`` is added to a safetensors header. ``shared`` is ``keep`` where one of several equal
    views may stand for all, and else ``clone``. ``despite`` are the defects that do not stand against it: only what
    they leave whole is written. ``plain`` keeps tensors and plain values, and no object of any class.
    """

    path: str
    target: str | None = None
    format: TargetFormat | None = None
    names: Mapping[str, str] = NOTHING
    without: tuple[str, ...] = ()
    dtypes: Mapping[str, str] = NOTHING
    metadata: Mapping[str, str] = NOTHING
    shared: SharedBytes = "keep"
    despite: tuple[DefectKind, ...] = ()
    keeps: bool = False
    plain: bool = False


class Move(NamedTuple):
    """Give a file another name. Nothing may have that name."""

    path: str
    target: str


class Copy(NamedTuple):
    """Copy a file to where nothing is."""

    path: str
    target: str


class SetAside(NamedTuple):
    """Take a file away."""

    path: str


class WriteIndex(NamedTuple):
    """Write a shard index. ``weight_map`` maps tensors to files in its folder, ``total_size`` counts bytes.

    ``like`` is the index whose other entries are kept, where that can be read.
    """

    path: str
    weight_map: Mapping[str, str]
    total_size: int
    like: str | None = None


class EditJson(NamedTuple):
    """Set ``values`` in the JSON object of a file, and remove the keys in ``without``."""

    path: str
    values: Mapping[str, Any] = NOTHING
    without: tuple[str, ...] = ()


Action = Union[Rewrite, Move, Copy, SetAside, WriteIndex, EditJson]  # noqa: UP007  (3.10 has no | at run time here)
"""One step of a repair."""
