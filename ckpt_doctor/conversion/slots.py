"""What a new file consists of, as places in the source: the one description that copying and checking share."""

from __future__ import annotations

from typing import NamedTuple

from ckpt_doctor.core.dtypes import DType
from ckpt_doctor.core.errors import ConversionError
from ckpt_doctor.core.weight_file import Record, TensorInfo
from ckpt_doctor.core.wording import listed


class Slot(NamedTuple):
    """Bytes of the new file that come from one place of the source.

    ``offset`` is absolute in the source, where the bytes lie there in one run; where they do not, they are the elements
    of ``view`` in row-major order, cast to ``cast`` where that is given. ``name`` is for messages.
    """

    name: str
    nbytes: int
    offset: int | None
    view: TensorInfo | None = None
    cast: DType | None = None


class Content(NamedTuple):
    """A new file: ``header`` is written first, then the slots without gaps.

    ``records`` are runs of the source whose checksums must be right.
    """

    header: bytes
    slots: tuple[Slot, ...]
    records: tuple[Record, ...] = ()

    @property
    def nbytes(self) -> int:
        """Size of the new file."""
        return len(self.header) + sum(slot.nbytes for slot in self.slots)


def slot_of(tensor: TensorInfo, cast: DType | None = None) -> Slot:
    """Where the bytes of a tensor come from. Its storage must be in the file as it is, unless it has no elements.

    ``cast`` is the dtype that its values are cast to, if any.

    Raises ``ConversionError`` if those bytes are not the values.
    """
    nbytes = tensor.nbytes
    if nbytes == 0:
        return Slot(tensor.name, 0, 0)
    if tensor.pending:
        # save_file of safetensors 0.8 writes these bytes nevertheless, and so other values than torch.load gives.
        raise ConversionError(
            f"{tensor.name} is stored with torch's {listed(tensor.pending)} set, so its bytes are not its values: load "
            "it, resolve it (resolve_conj, resolve_neg), and save it again"
        )
    start = tensor.storage.offset
    assert start is not None, "the bytes are not in the file"
    if cast is not None:
        return Slot(tensor.name, cast.nbytes(tensor.numel), None, tensor, cast)
    if tensor.is_contiguous:
        return Slot(tensor.name, nbytes, start + tensor.storage_offset * tensor.dtype.bits // 8)
    return Slot(tensor.name, nbytes, None, tensor)


def whole_file(name: str, nbytes: int) -> Content:
    """The content of a file that is copied as it is."""
    return Content(b"", (Slot(name, nbytes, 0),))
