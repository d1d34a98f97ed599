"""The words for what lies on disk: tensors, the storages behind them, weight files, checkpoints.

Everything here is an immutable value that was read from headers. Nothing opens a file, and nothing judges: what a
reader could not make sense of is kept as a :class:`Defect` of the file, and a rule decides what that means.

These are named tuples rather than dataclasses because every run pays for defining them, at a seventh of the price, and
a large file for making a hundred thousand.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from enum import Enum
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from .dtypes import DType

if TYPE_CHECKING:
    from .contract import Comparison

NOTHING: Mapping[str, Any] = {}
"""The default of every mapping here; nobody writes to it."""


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


class Refusal(NamedTuple):
    """Something in a torch file that ``torch.load(weights_only=True)`` stops at, in the order in which it does.

    ``name`` is written as torch writes it in its message: ``numpy.dtype``, ``range`` for a builtin. ``position`` is the
    byte offset in the pickle. ``cause`` is ``name`` (an unsupported global), ``items`` or ``elements`` (a class that
    would still get none if it were allowed), ``type`` (the class of something that was made, which the pickle does not
    name), ``getattr``, ``storage``, ``module`` or ``opcode``. Only against a ``name`` or a ``type`` does
    ``add_safe_globals`` help.
    """

    name: str
    position: int
    cause: str = "name"


class Storage(NamedTuple):
    """A run of bytes that one or more tensors are views of.

    ``nbytes`` is the declared length in bytes. ``offset`` is the absolute position of its first byte in the file, or
    ``None`` where the bytes are absent, too short or compressed. ``crc32`` is the checksum recorded in the file, or
    ``None`` where none was computed. ``record`` is the archive member that holds the bytes, if there is one.
    """

    key: str
    nbytes: int
    offset: int | None
    device: str = "cpu"
    record: str | None = None
    crc32: int | None = None


class TensorInfo(NamedTuple):
    """One tensor as its file describes it.

    ``name`` is ``path`` joined with dots. ``shape`` and ``stride`` count elements, ``storage_offset`` too. ``pending``
    names what torch still does to the stored elements when it reads them (``conj``, ``neg``): they are not the values.
    """

    name: str
    dtype: DType
    shape: tuple[int, ...]
    stride: tuple[int, ...]
    storage: Storage
    storage_offset: int = 0
    requires_grad: bool = False
    path: tuple[str, ...] = ()
    pending: tuple[str, ...] = ()

    @property
    def numel(self) -> int:
        """Number of elements."""
        count = 1
        for size in self.shape:
            count *= size
        return count

    @property
    def nbytes(self) -> int:
        """Bytes of the elements laid out contiguously."""
        return self.dtype.nbytes(self.numel)

    @property
    def is_contiguous(self) -> bool:
        """Whether the elements lie in row-major order without gaps (dimensions of size 1 do not matter)."""
        if 0 in self.shape:
            return True
        expected = 1
        for size, step in zip(reversed(self.shape), reversed(self.stride), strict=True):
            if size != 1 and step != expected:
                return False
            expected *= size
        return True

    @property
    def extent(self) -> tuple[int, int]:
        """First byte and end of the bytes that are touched, relative to the storage; equal where there are none."""
        start = self.storage_offset * self.dtype.bits // 8
        if 0 in self.shape:
            return start, start
        last = self.storage_offset + sum((n - 1) * step for n, step in zip(self.shape, self.stride, strict=True))
        return start, self.dtype.nbytes(last + 1)

    @property
    def byte_range(self) -> tuple[int, int] | None:
        """Absolute first byte and end in the file, or ``None`` where the bytes are not there as they are."""
        if self.storage.offset is None:
            return None
        start, end = self.extent
        return self.storage.offset + start, self.storage.offset + end


class OpaqueValue(NamedTuple):
    """An object of a pickle that was recognised by the name of its class and not built."""

    type_name: str


class Record(NamedTuple):
    """A run of stored bytes with a recorded checksum: a member of an archive. ``offset`` is absolute, in bytes."""

    name: str
    offset: int
    nbytes: int
    crc32: int | None


class TensorScan(NamedTuple):
    """What the bytes of one tensor said.

    ``first_nonfinite`` is the flat index, in row-major order of the shape, of the first NaN or Inf. ``digest`` is the
    hex SHA-256 of the contiguous bytes, where it was asked for.
    """

    nonfinite: int
    first_nonfinite: int | None
    zero: bool
    constant: bool
    digest: str | None = None


class WeightFile(NamedTuple):
    """One file that holds tensors, or that bears the name of one that should.

    ``path`` is relative to the checkpoint, with ``/``. ``format`` is ``safetensors``, ``torch-zip``, ``torch-legacy``,
    ``torchscript`` or ``unknown``; ``content`` says in words what was recognised. ``metadata`` is the ``__metadata__``
    of a safetensors file. ``values`` are the non-tensor values of a pickle by dotted path. ``scans`` is there once the
    bytes were read.
    ``plain`` says that what was saved is one dictionary of tensors, of which their names say everything. ``refusals``
    is what ``torch.load``'s default stops at. ``outside`` names the tensors of a pickled module that its own
    ``state_dict()`` does not hold.
    """

    path: str
    format: str
    nbytes: int
    content: str = ""
    tensors: tuple[TensorInfo, ...] = ()
    metadata: Mapping[str, str] | None = None
    values: Mapping[str, Any] = NOTHING
    records: tuple[Record, ...] = ()
    defects: tuple[Defect, ...] = ()
    scans: Mapping[str, TensorScan] | None = None
    plain: bool = False
    refusals: tuple[Refusal, ...] = ()
    outside: tuple[str, ...] = ()

    def has_defect(self, *kinds: DefectKind) -> bool:
        """Whether any defect is of one of these kinds."""
        return any(defect.kind in kinds for defect in self.defects)

    @property
    def state(self) -> tuple[TensorInfo, ...]:
        """The tensors without those that a pickled module holds beside its state dict, unless it holds no others."""
        outside = frozenset(self.outside)
        return tuple(tensor for tensor in self.tensors if tensor.name not in outside) or self.tensors

    @property
    def readable(self) -> bool:
        """Whether the list of tensors can be trusted to be the whole list."""
        if self.format == "unknown" or self.has_defect(*_BLINDING):
            return False
        # A safetensors file may be cut off inside its header; cut off later, it still lists every tensor.
        return bool(self.tensors) or not self.has_defect(DefectKind.SAFETENSORS_TRUNCATED)

    @property
    def by_name(self) -> dict[str, TensorInfo]:
        """The tensors by name; built anew at each call."""
        return {tensor.name: tensor for tensor in self.tensors}


# After one of these the list of tensors may be short, so that no rule may conclude that something is missing.
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


class ConfigFile(NamedTuple):
    """A JSON file beside the weights. ``data`` is ``None`` where ``error`` says why it could not be read."""

    path: str
    data: Mapping[str, Any] | None
    error: str | None = None
    unreadable: bool = False


class ShardIndex(NamedTuple):
    """A ``*.index.json``: which tensor lies in which file.

    ``weight_map`` maps tensor names to file names in the index's own folder; names that would leave the folder stand
    in ``escaping`` and are never opened. ``error`` says why the file could not be read as an index; then the map is
    empty. ``unreadable`` is set where the operating system refused, rather than the content. ``total_size`` is the
    value in ``metadata``, in bytes, or ``None`` where it is absent or not a number.
    """

    path: str
    format: str
    weight_map: Mapping[str, str] = NOTHING
    total_size: int | None = None
    error: str | None = None
    escaping: tuple[str, ...] = ()
    unreadable: bool = False

    @property
    def shards(self) -> frozenset[str]:
        """The files it names, without those that would leave its folder."""
        return frozenset(self.weight_map.values()).difference(self.escaping)


class Entry(NamedTuple):
    """A tensor that a file must hold, or may hold where it is not ``required``.

    In ``name``, a ``*`` stands for any characters within one word between dots: ``layers.*.weight`` means all tensors
    of that kind, and one of them must be there. ``dims`` gives each dimension a size or a name: equal names mean equal
    sizes all over the checkpoint.
    """

    name: str
    dims: tuple[str | int, ...] | None = None
    required: bool = True

    @property
    def is_pattern(self) -> bool:
        """Whether it may mean several tensors."""
        return "*" in self.name

    def matches(self, name: str) -> bool:
        """Whether a tensor of this name is meant.

        >>> Entry("layers.*.weight").matches("layers.10.weight"), Entry("layers.*.weight").matches("layers.weight")
        (True, False)
        """
        return name == self.name or (self.is_pattern and _regex(self.name).fullmatch(name) is not None)

    def matches_start(self, name: str) -> bool:
        """Whether ``name`` is the path of something that the tensor lies in."""
        words = self.name.split(".")
        start = words[: name.count(".") + 1]
        return len(start) < len(words) and _regex(".".join(start)).fullmatch(name) is not None

    def is_among(self, names: Collection[str]) -> bool:
        """Whether one of ``names`` is meant; fast for a set."""
        return self.name in names or (self.is_pattern and any(map(self.matches, names)))


@lru_cache(1024)
def _regex(pattern: str) -> re.Pattern[str]:
    """What a name with ``*`` means; cached, for a file can hold a hundred thousand names to compare."""
    return re.compile(r"[^.]*".join(map(re.escape, pattern.split("*"))), re.DOTALL)


class KnownSize(NamedTuple):
    """The size of a named dimension as something else than an entry tells it; ``source`` says what."""

    dim: str
    size: int
    source: str


class Tokenizer(NamedTuple):
    """A tokenizer beside an adapter. ``length`` is the number of its tokens, or ``None`` where that is not known."""

    length: int | None


class Part(NamedTuple):
    """One loadable unit of a checkpoint: an adapter, a model, a side file.

    ``role`` is ``adapter``, ``model``, ``file`` (a lone weight file), ``training-state`` (optimizer and the like),
    ``extra`` (weight files that no loader of the layout asks for), or for a side file any other word, such as
    ``projections``, ``latents`` or ``trigger-head``.
    ``files`` are all weight files of the unit, in every format that is there; ``active`` names those that the
    ecosystem's own loader would read. ``expected_files`` are the names,
    relative to the checkpoint, under which a loader would look for them, the preferred one first. ``config`` is the
    ``adapter_config.json`` or ``config.json``, and ``config_expected`` where one must lie. ``secondary`` marks an
    adapter that merely lies beside the one that was asked for. ``complete_entries`` says that ``entries`` lists all.
    ``nested_from`` is the folder where a loader would look, if the unit lies in a folder below that one.
    ``base_config`` is the ``config.json`` of an adapter's base model, where that is a local folder. ``tokenizer`` is
    the one beside an adapter whose embedding has other rows than that base.
    """

    name: str
    role: str
    directory: str = ""
    files: tuple[WeightFile, ...] = ()
    active: tuple[str, ...] = ()
    expected_files: tuple[str, ...] = ()
    config: ConfigFile | None = None
    config_expected: str | None = None
    indexes: tuple[ShardIndex, ...] = ()
    entries: tuple[Entry, ...] = ()
    complete_entries: bool = False
    required: bool = True
    secondary: bool = False
    nested_from: str | None = None
    base_config: Mapping[str, Any] | None = None
    tokenizer: Tokenizer | None = None

    @property
    def preferred(self) -> tuple[WeightFile, ...]:
        """The files that a loader would read: the active ones, or where none is named those that come first."""
        if self.active:
            return tuple(file for file in self.files if file.path in self.active)
        return self.files[:1]

    @property
    def auxiliary(self) -> bool:
        """Whether no evaluation reads this: training state, or files that merely lie there."""
        return self.role in ("training-state", "extra")

    @property
    def beside(self) -> bool:
        """Whether this is a side file: one that a loader must read beside an adapter or a model."""
        return self.role not in ("adapter", "model", "file") and not self.auxiliary

    def entries_of(self, names: Iterable[str]) -> dict[str, Entry]:
        """The entry that means each of ``names``, for those that any means; an exact one goes before a ``*``."""
        exact = {entry.name: entry for entry in self.entries}
        patterns = [entry for entry in self.entries if entry.is_pattern]
        found = {}
        for name in names:
            entry = exact.get(name) or next((entry for entry in patterns if entry.matches(name)), None)
            if entry is not None:
                found[name] = entry
        return found

    @property
    def tensors(self) -> Iterator[TensorInfo]:
        """The tensors of the preferred files."""
        for file in self.preferred:
            yield from file.tensors

    @property
    def readable(self) -> bool:
        """Whether the tensors of the preferred files are all known."""
        return bool(self.preferred) and all(file.readable for file in self.preferred)


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

    tensors: int
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
    layout: str
    variant: str
    parts: tuple[Part, ...]
    others: tuple[OtherFile, ...] = ()
    config: ConfigFile | None = None
    known_sizes: tuple[KnownSize, ...] = ()
    comparison: Comparison | None = None
    unread: tuple[Unread, ...] = ()
    unfinished: tuple[str, ...] = ()

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
            tensors=len(tensors),
            parameters=sum(tensor.numel for _, tensor in tensors),
            nbytes=sum(tensor.nbytes for _, tensor in tensors),
            unique_nbytes=unique,
        )

    @property
    def judged(self) -> bool:
        """Whether there was anything to judge: a file of weights that holds a tensor, or that is damaged."""
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
