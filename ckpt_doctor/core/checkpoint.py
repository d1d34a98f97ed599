"""A checkpoint: everything that lies together and is judged together, and what of it was not read.

Nothing here opens a file, and nothing judges.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from .defects import DefectKind
from .layout import Layout
from .parts import ConfigFile, Part
from .weight_file import TensorInfo, WeightFile

if TYPE_CHECKING:
    # Only contracts, and kinds that say what a file must hold, pay for these.
    from .comparison import Comparison
    from .entries import KnownSize


class OtherFile(NamedTuple):
    """A file or link of the checkpoint that is neither weights nor a config: enough to judge it by its name.

    ``path`` is relative to the checkpoint. ``link_target`` is what a symlink says, if it is one, and ``outside`` is set
    where it leads out of the checkpoint.
    """

    path: str
    nbytes: int
    link_target: str | None = None
    outside: bool = False


class Unread(NamedTuple):
    """What is, or may hold, weights and was not read: a file of another kind, a folder that was left out, a link.

    ``path`` is relative to the checkpoint, or where it belongs to none, as it is shown. ``kind`` and ``reason`` say in
    words what it is and why nothing was judged. ``nbytes`` are those of ``files`` files; 0 where they were not counted.
    ``whole`` says that it is the checkpoint itself, which nothing here can judge as what it is.
    """

    path: str
    kind: str
    nbytes: int
    reason: str
    files: int = 1
    whole: bool = False


class Totals(NamedTuple):
    """Sums over the weights of a checkpoint: ``nbytes`` counts aliased bytes each time, ``unique_nbytes`` once."""

    tensor_count: int
    parameters: int
    nbytes: int
    unique_nbytes: int


class Checkpoint(NamedTuple):
    """Everything that belongs together, found from one path.

    ``root`` is where it lies; ``path`` is how it is shown. ``others`` lists the remaining files of its folders, and
    every symlink. ``config`` is a ``config.json`` that concerns no single part; ``known_sizes`` are sizes of named
    dimensions that configs and adapters tell. ``comparison`` is there once it was held against a contract. ``unread``
    is what lies in its folders, is or may hold weights, and was not read. ``unfinished`` are statements, without a full
    stop, about what lies around it and says that its save did not end.
    """

    root: Path
    path: str
    kind: Layout
    variant: str
    parts: tuple[Part, ...]
    others: tuple[OtherFile, ...] = ()
    config: ConfigFile | None = None
    known_sizes: tuple[KnownSize, ...] = ()
    comparison: Comparison | None = None
    unread: tuple[Unread, ...] = ()
    unfinished: tuple[str, ...] = ()

    @property
    def layout(self) -> str:
        """The name of its kind, as ``--layout`` takes it."""
        return self.kind.name

    @property
    def files(self) -> tuple[WeightFile, ...]:
        """Every weight file, side files included, in the order of the parts."""
        return tuple(file for part in self.parts for file in part.files)

    @property
    def tensors(self) -> dict[tuple[str, str], TensorInfo]:
        """``(file, tensor name)`` to the tensor; where a file repeats a name, the last one counts."""
        return {(file.path, tensor.name): tensor for file in self.files for tensor in file.tensors}

    @property
    def totals(self) -> Totals:
        """Sums over what a loader would read: not over a second copy in another format, nor over training state."""
        tensors = [
            (file.path, tensor)
            for part in self.parts
            if not part.auxiliary
            for file in part.preferred
            for tensor in file.tensors
        ]
        unique = 0
        for extents in _extents_by_storage(tensors).values():
            reached = 0
            for start, end in sorted(extents):
                unique += max(0, end - max(start, reached))
                reached = max(reached, end)
        return Totals(
            tensor_count=len(tensors),
            parameters=sum(tensor.numel for _, tensor in tensors),
            nbytes=sum(tensor.nbytes for _, tensor in tensors),
            unique_nbytes=unique,
        )

    @property
    def judged(self) -> bool:
        """True if there was anything to judge: a file of weights that holds a tensor, or that is damaged."""
        if any(item.whole for item in self.unread):
            return False
        return any(
            file.tensors or any(defect.other_kind is None for defect in file.defects)
            for part in self.parts
            if not part.auxiliary
            for file in part.files
        )

    @property
    def not_judged(self) -> tuple[Unread, ...]:
        """Everything here that is, or may hold, weights and was not judged; paths are relative to the checkpoint."""
        files = (
            Unread(file.path, defect.other_kind or file.content, file.nbytes, defect.message)
            for file in self.files
            for defect in file.defects
            if defect.other_kind is not None or defect.kind is DefectKind.UNREADABLE
        )
        return (*self.unread, *files)

    def parts_with(self, *roles: str) -> Iterator[Part]:
        """The parts that have one of these roles."""
        return (part for part in self.parts if part.role in roles)


def _extents_by_storage(tensors: list[tuple[str, TensorInfo]]) -> dict[tuple[str, str], list[tuple[int, int]]]:
    extents: dict[tuple[str, str], list[tuple[int, int]]] = {}
    for path, tensor in tensors:
        extents.setdefault((path, tensor.storage.key), []).append(tensor.extent)
    return extents
