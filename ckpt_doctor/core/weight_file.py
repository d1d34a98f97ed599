"""The words for what a weight file holds: tensors, the storages behind them, what is wrong with them.

Everything here is an immutable value that was read from headers.

These are named tuples rather than dataclasses because every run pays for defining them, at a seventh of the price, and
a large file for making a hundred thousand.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, NamedTuple

from .defects import Defect, DefectKind
from .dtypes import DType
from .nothing import NOTHING

FileFormat = Literal["safetensors", "torch-zip", "torch-legacy", "torchscript", "unknown"]
"""What a weight file is by its content: ``torch-zip`` and ``torch-legacy`` are what ``torch.save`` writes, since torch
1.6 and before; ``torchscript`` is what ``torch.jit.save`` writes.
"""

RefusalCause = Literal["name", "items", "elements", "type", "getattr", "storage", "module", "opcode"]
"""See :class:`Refusal`."""


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
    cause: RefusalCause = "name"


class Storage(NamedTuple):
    """A run of bytes that one or more tensors are views of.

    ``nbytes`` is the declared length in bytes. ``offset`` is the absolute position of its first byte in the file, or
    ``None`` if the bytes are absent, too short or compressed. ``crc32`` is the checksum recorded in the file, or
    ``None`` if none was computed. ``record`` is the archive member that holds the bytes, if there is one.
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
        """True if the elements lie in row-major order without gaps (dimensions of size 1 do not matter)."""
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
        """Absolute first byte and end in the file, or ``None`` if the bytes are not there as they are."""
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

    ``path`` is relative to the checkpoint, with ``/``. ``content`` says in words what was recognised. ``metadata`` is
    the ``__metadata__`` of a safetensors file. ``values`` are the non-tensor values of a pickle by dotted path.
    ``scans`` is there once the bytes were read.
    ``plain`` says that what was saved is one dictionary of tensors, of which their names say everything. ``refusals``
    is what ``torch.load``'s default stops at. ``outside`` names the tensors of a pickled module that its own
    ``state_dict()`` does not hold.
    """

    path: str
    format: FileFormat
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
        """True if any defect is of one of these kinds."""
        return any(defect.kind in kinds for defect in self.defects)

    @property
    def is_safetensors(self) -> bool:
        """True if this is a safetensors file, whole or damaged."""
        return self.format == "safetensors"

    @property
    def is_torch_save(self) -> bool:
        """True if ``torch.save`` wrote this, in its current format or the one before torch 1.6."""
        return self.format in ("torch-zip", "torch-legacy")

    @property
    def is_known(self) -> bool:
        """True if this is a file of weights in a format that is read here."""
        return self.format != "unknown"

    @property
    def state(self) -> tuple[TensorInfo, ...]:
        """The tensors without those that a pickled module holds beside its state dict, unless it holds no others."""
        outside = frozenset(self.outside)
        return tuple(tensor for tensor in self.tensors if tensor.name not in outside) or self.tensors

    @property
    def readable(self) -> bool:
        """True if the list of tensors can be trusted to be the whole list."""
        if not self.is_known or any(defect.kind.blinding for defect in self.defects):
            return False
        # A safetensors file may be cut off inside its header; cut off later, it still lists every tensor.
        return bool(self.tensors) or not self.has_defect(DefectKind.SAFETENSORS_TRUNCATED)

    @property
    def by_name(self) -> dict[str, TensorInfo]:
        """The tensors by name; built anew at each call."""
        return {tensor.name: tensor for tensor in self.tensors}
