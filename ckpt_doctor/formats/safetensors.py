"""The safetensors format: 8 bytes of header length, a JSON header, and the tensors' bytes without gaps.

The checks are those of the safetensors crate (0.8, ``Metadata::validate`` and ``SafeTensors::read_metadata``), so that
what loaders accept is not called invalid. Two things are refused beyond that: a tensor name that stands twice, because
programs differ in which one counts, and tensors of more than 1,024 dimensions, which no library makes.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from ckpt_doctor.core.defects import Defect, DefectKind
from ckpt_doctor.core.dtypes import BY_SAFETENSORS, DType
from ckpt_doctor.core.weight_file import Storage, TensorInfo, WeightFile
from ckpt_doctor.core.wording import counted, listed

from .json_text import JsonError, has_lone_surrogate, parse, repeated, rust_refuses
from .limits import LIMITS, Limits

if TYPE_CHECKING:
    from ckpt_doctor.sources.source import Source

_LENGTH_FIELD = 8  # little-endian unsigned, the header's length in bytes
_USIZE_END = 1 << 64
_FIELDS = ("dtype", "shape", "data_offsets")
_METADATA = "__metadata__"


class _EntryError(ValueError):
    """A tensor's entry in the header that says something impossible."""


def read(source: Source, path: str, limits: Limits = LIMITS) -> WeightFile:
    """The weight file in ``source``, a safetensors file: see :class:`.reader.Reader`."""
    try:
        length, document = _header(source, limits)
    except _HeaderError as error:
        return WeightFile(
            path=path, format="safetensors", nbytes=source.size, content="safetensors", defects=(error.defect,)
        )
    metadata, defects = _metadata(document)
    tensors, unusable = _tensors(document, limits, data_start=_LENGTH_FIELD + length, size=source.size)
    defects += _name_defects(document)
    if unusable:
        defects.append(_unusable(unusable))
    defects += _range_defects(tensors, data_start=_LENGTH_FIELD + length, size=source.size, complete=not unusable)
    return WeightFile(
        path=path,
        format="safetensors",
        nbytes=source.size,
        content="safetensors",
        tensors=tuple(info for info, _, _ in tensors),
        metadata=metadata,
        defects=tuple(defects),
    )


class _HeaderError(Exception):
    """The header cannot be taken apart at all."""

    def __init__(self, message: str, kind: DefectKind = DefectKind.SAFETENSORS_HEADER, **evidence: int) -> None:
        super().__init__(message)
        self.defect = Defect(kind, message, evidence=evidence)


def _header(source: Source, limits: Limits) -> tuple[int, Mapping[str, Any]]:
    """The header's length in bytes and what it holds."""
    field = source.read_at(0, _LENGTH_FIELD)
    if len(field) < _LENGTH_FIELD:
        raise _HeaderError(
            f"The file ends after {counted(source.size, 'byte')}, inside the length of its header.",
            DefectKind.SAFETENSORS_TRUNCATED,
            actual_bytes=source.size,
        )
    length = int.from_bytes(field, "little")
    if length > limits.header:
        raise _HeaderError(
            f"The header claims to be {counted(length, 'byte')} long; safetensors allows {limits.header:,} "
            "(its loader says 'header too large').",
            header_bytes=length,
            actual_bytes=source.size,
        )
    if _LENGTH_FIELD + length > source.size:
        raise _HeaderError(
            f"The file is {counted(source.size, 'byte')} long, and its header alone needs {_LENGTH_FIELD + length:,}.",
            DefectKind.SAFETENSORS_TRUNCATED,
            header_bytes=length,
            actual_bytes=source.size,
        )
    raw = source.read_at(_LENGTH_FIELD, length)
    try:
        document = parse(raw.decode("utf-8"), strict=True)
    except UnicodeDecodeError as error:
        raise _HeaderError(
            f"The header is not UTF-8: byte {error.start:,} of it is 0x{raw[error.start]:02x}."
        ) from None
    except JsonError as error:
        raise _HeaderError(f"The header is not valid JSON: {error}.", header_bytes=length) from None
    if not isinstance(document, dict):
        raise _HeaderError("The header is not a JSON object.", header_bytes=length)
    return length, document


def _metadata(document: Mapping[str, Any]) -> tuple[Mapping[str, str] | None, list[Defect]]:
    """What ``__metadata__`` holds, and what is wrong with it. A name that it repeats does no harm: the last counts."""
    if _METADATA not in document:
        return None, []
    found = document[_METADATA]
    if found is None:
        return None, []
    if not isinstance(found, dict):
        return None, [Defect(DefectKind.SAFETENSORS_HEADER, "Its __metadata__ is not a JSON object.")]
    wrong = [name for name, value in found.items() if not isinstance(value, str)]
    metadata = {name: value for name, value in found.items() if isinstance(value, str)}
    defects = []
    if wrong:
        message = f"Its __metadata__ may hold strings only; these are not strings: {listed(map(_cut, wrong))}."
        defects.append(Defect(DefectKind.SAFETENSORS_HEADER, message, evidence={"keys": wrong[:20]}))
    if any(has_lone_surrogate(name) or has_lone_surrogate(value) for name, value in metadata.items()):
        defects.append(Defect(DefectKind.SAFETENSORS_HEADER, "Its __metadata__ holds an unpaired surrogate escape."))
    return metadata, defects


def _name_defects(document: Mapping[str, Any]) -> list[Defect]:
    defects = []
    twice = repeated(document)
    if twice:
        message = (
            f"The header names {counted(len(twice), 'entry', 'entries')} more than once ({listed(map(_cut, twice))}), "
            "and programs differ in which one counts."
        )
        names = tuple(name for name in twice if name != _METADATA)
        defects.append(Defect(DefectKind.SAFETENSORS_HEADER, message, names, {"repeated": list(twice[:20])}))
    unwritable = [name for name in document if has_lone_surrogate(name)]
    if unwritable:
        message = f"{counted(len(unwritable), 'tensor name')} cannot be written as UTF-8 (unpaired surrogate escape)."
        defects.append(Defect(DefectKind.SAFETENSORS_HEADER, message, tuple(unwritable)))
    return defects


_Placed = tuple[TensorInfo, int, int]  # with the first byte and the end, relative to the data area
_Layout = tuple[DType, tuple[int, ...], tuple[int, ...], int]  # dtype, shape, stride, bytes


def _tensors(
    document: Mapping[str, Any], limits: Limits, *, data_start: int, size: int
) -> tuple[list[_Placed], list[tuple[str, str]]]:
    """The tensors whose entries make sense, in the header's order, and the names of the others with the reason."""
    placed: list[_Placed] = []
    unusable: list[tuple[str, str]] = []
    known: dict[tuple[object, ...], _Layout] = {}  # the layers of a model repeat a handful of shapes
    for name, entry in document.items():
        if name == _METADATA:
            continue
        try:
            code, shape, offsets = _fields(entry)
            # Only integers may be looked up: to a dictionary, 1, 1.0 and True are the same key.
            key = (code, *shape) if type(code) is str and type(shape) is list and _only_integers(shape) else None
            layout = known.get(key) if key else None
            if layout is None:
                layout = _layout(code, shape, limits)
                if key:
                    known[key] = layout
            start, end = _byte_range(offsets)
            dtype, sizes, stride, nbytes = layout
            if end - start != nbytes:
                takes = f"{dtype.safetensors} of shape {_shown(shape)} takes {nbytes:,} bytes"
                raise _EntryError(f"{takes} and its data_offsets span {end - start:,}")
        except _EntryError as error:
            unusable.append((name, str(error)))
            continue
        storage = Storage(name, nbytes, data_start + start if data_start + end <= size else None)
        placed.append((TensorInfo(name, dtype, sizes, stride, storage, 0, False, (name,)), start, end))
    return placed, unusable


def _only_integers(values: list[Any]) -> bool:
    return all(kind is int for kind in set(map(type, values)))  # bool is a subclass of int, and no size


def _layout(code: Any, shape: Any, limits: Limits) -> _Layout:
    """What dtype and shape of an entry mean; raises :class:`_EntryError`."""
    if isinstance(code, dict) and len(code) == 1 and None in code.values():
        code = next(iter(code))  # serde also reads an enumeration's value as {"F32": null}
    dtype = BY_SAFETENSORS.get(code) if isinstance(code, str) else None
    if dtype is None:
        raise _EntryError(f"its dtype {_shown(code)} does not exist in safetensors")
    if type(shape) is not list or not _only_integers(shape) or not all(0 <= size < _USIZE_END for size in shape):
        raise _EntryError(f"its shape {_shown(shape)} is not a list of sizes")
    if len(shape) > limits.rank:
        raise _EntryError(f"it has {len(shape):,} dimensions")
    bits = _bits(shape, dtype)
    if bits % 8:
        raise _EntryError(f"its {bits:,} bits are not whole bytes")
    sizes = tuple(shape)
    return dtype, sizes, _row_major(sizes), bits // 8


def _byte_range(offsets: Any) -> tuple[int, int]:
    """First byte and end, relative to the data area; raises :class:`_EntryError`."""
    if type(offsets) is list and len(offsets) == 2 and _only_integers(offsets):
        start, end = offsets
        if 0 <= start <= end < _USIZE_END:
            return start, end
        if start > end:
            raise _EntryError(f"its data_offsets {_shown(offsets)} run backwards")
    raise _EntryError(f"its data_offsets {_shown(offsets)} are not two byte positions")


def _fields(entry: Any) -> tuple[Any, Any, Any]:
    if type(entry) is dict and len(entry) == 3:  # as every writer has it
        try:
            return entry["dtype"], entry["shape"], entry["data_offsets"]
        except KeyError:
            pass
    if isinstance(entry, list) and len(entry) == 3:  # serde takes a structure's values without their names, too
        return entry[0], entry[1], entry[2]
    if not isinstance(entry, dict):
        raise _EntryError("its entry is not a JSON object")
    missing = [field for field in _FIELDS if field not in entry]
    if missing:
        raise _EntryError(f"its entry has no {listed(missing)}")
    twice = [field for field in repeated(entry) if field in _FIELDS]
    if twice:
        raise _EntryError(f"its entry has {listed(twice)} twice")
    for field, value in entry.items():
        reason = None if field in _FIELDS else rust_refuses(value, 3)
        if reason is not None:
            raise _EntryError(f"its entry has a field that cannot be read: {reason}")
    return entry["dtype"], entry["shape"], entry["data_offsets"]


def _bits(shape: list[int], dtype: DType) -> int:
    """Bits of all elements, multiplied from the left as in the crate: each intermediate result must fit in 64 bits."""
    product = 1
    for factor in (*shape, dtype.bits):
        product *= factor
        if product >= _USIZE_END:
            raise _EntryError(f"the size of its shape {_shown(shape)} overflows 64 bits")
    return product


def _row_major(shape: tuple[int, ...]) -> tuple[int, ...]:
    """Strides of a contiguous tensor, in elements; a dimension of size 0 counts as 1, as in torch."""
    strides = []
    step = 1
    for size in reversed(shape):
        strides.append(step)
        step *= size or 1
    return tuple(reversed(strides))


def _unusable(entries: list[tuple[str, str]]) -> Defect:
    reasons = "; ".join(f"{_cut(name)}: {reason}" for name, reason in entries[:3])
    more = f"; and {len(entries) - 3:,} more" if len(entries) > 3 else ""
    message = f"{counted(len(entries), 'invalid entry', 'invalid entries')} in the header ({reasons}{more})."
    return Defect(DefectKind.SAFETENSORS_HEADER, message, tuple(name for name, _ in entries))


def _range_defects(placed: list[_Placed], *, data_start: int, size: int, complete: bool) -> list[Defect]:
    """Overlaps, holes, and a file that is not as long as it should be.

    Where entries could not be read (``complete`` is false) holes and surplus bytes prove nothing.
    """
    defects: list[Defect] = []
    overlaps: list[tuple[str, str]] = []
    holes: list[tuple[str, str]] = []
    reached = 0
    for info, start, end in sorted(placed, key=lambda item: (item[1], item[2])):
        if start < reached:
            overlaps.append((info.name, f"starts at {start:,}, inside what ends at {reached:,}"))
        elif start > reached:
            holes.append((info.name, f"{counted(start - reached, 'byte')} before {start:,}"))
        reached = max(reached, end)
    if overlaps:
        message = f"Bytes of tensors overlap, {counted(len(overlaps), 'time')} ({_examples(overlaps)})."
        defects.append(Defect(DefectKind.SAFETENSORS_HEADER, message, tuple(name for name, _ in overlaps)))
    if holes and complete:
        message = f"The header leaves bytes unused before {counted(len(holes), 'tensor')} ({_examples(holes)})."
        defects.append(Defect(DefectKind.SAFETENSORS_HEADER, message, tuple(name for name, _ in holes)))
    expected = data_start + reached
    evidence = {"header_bytes": data_start - _LENGTH_FIELD, "expected_bytes": expected, "actual_bytes": size}
    if size < expected:
        lost = [info.name for info, _, _ in placed if info.storage.offset is None]
        message = (
            f"The file is {counted(size, 'byte')} long and its header describes {expected:,}: "
            f"{counted(expected - size, 'byte')} missing, {len(lost):,} of {counted(len(placed), 'tensor')} cut off."
        )
        defects.append(Defect(DefectKind.SAFETENSORS_TRUNCATED, message, tuple(lost), evidence))
    elif size > expected and complete:
        message = (
            f"The file is {counted(size, 'byte')} long and its header describes {expected:,}: "
            f"{counted(size - expected, 'byte')} too many."
        )
        defects.append(Defect(DefectKind.SAFETENSORS_TRUNCATED, message, (), evidence))
    return defects


def _examples(items: list[tuple[str, str]]) -> str:
    return listed(f"{_cut(name)}: {what}" for name, what in items)


def _cut(name: str) -> str:
    return name if len(name) <= 200 else name[:200] + "…"


def _shown(value: Any) -> str:
    """A JSON value for a message, cut short and one level deep: a hostile header may hold very long or deep ones."""
    if isinstance(value, dict):
        return "{...}"
    if isinstance(value, list):
        items = ["[...]" if isinstance(item, (list, dict)) else _shown(item) for item in value[:8]]
        return f"[{', '.join(items + ['...'] * (len(value) > 8))}]"
    text = repr(value[:64] if isinstance(value, str) else value)
    return text if len(text) <= 80 else text[:77] + "..."
