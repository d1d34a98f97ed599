"""State dicts as the pickles that ``torch.save`` writes, opcode for opcode, without torch and without ``pickle``.

Read off torch 2.13 and CPython's pickler at protocol 2. A tensor is a call of ``torch._utils._rebuild_tensor_v2`` with
its storage as a persistent id ``("storage", class, key, "cpu", numel)``. The dtypes that have no class of storage are
rebuilt by ``_rebuild_tensor_v3`` from an untyped storage, and name their dtype.
"""

from __future__ import annotations

import struct
from collections import OrderedDict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from ckpt_doctor.core.dtypes import DType
from ckpt_doctor.core.errors import ConversionError

from .slots import Slot

_BATCH = 1000  # elements that CPython's pickler puts between a mark and SETITEMS or APPENDS

_MARK, _TUPLE, _EMPTY_TUPLE, _REDUCE, _PERSISTENT, _BUILD = b"(", b"t", b")", b"R", b"Q", b"b"
_BYTES = tuple(b"K" + bytes((number,)) for number in range(256))
_SHORT_TUPLES = (_EMPTY_TUPLE, b"\x85", b"\x86", b"\x87")


@dataclass(frozen=True, eq=False, slots=True)
class NewStorage:
    """A storage of the new file: the bytes of ``slot``. Tensors that have the same one share them."""

    slot: Slot


@dataclass(frozen=True, eq=False, slots=True)
class NewTensor:
    """A tensor of the new file. ``offset`` and ``stride`` count elements of its storage.

    The same one in two places of a state dict is one tensor for the pickle, too.
    """

    dtype: DType
    shape: tuple[int, ...]
    stride: tuple[int, ...]
    storage: NewStorage
    offset: int = 0
    requires_grad: bool = False


@dataclass(frozen=True, eq=False, slots=True)
class NewParameter:
    """A tensor that is a ``torch.nn.Parameter``."""

    data: NewTensor
    requires_grad: bool


@dataclass(frozen=True, slots=True)
class TorchDType:
    """A dtype of torch as a value in a state dict."""

    name: str


def pickled(state: Any) -> tuple[bytes, list[NewStorage]]:
    """The pickle of a state dict, and its storages; the key of each is its place in the list.

    A state dict holds plain values, :class:`NewTensor`, :class:`NewParameter` and :class:`TorchDType`, in dictionaries,
    ordered dictionaries, lists and tuples. Raises ``ConversionError`` if it is nested too deep.
    """
    pickler = _Pickler()
    pickler.out += b"\x80\x02"
    try:
        pickler.save(state)
    except RecursionError:
        raise ConversionError("it is nested too deep") from None
    pickler.out += b"."
    return bytes(pickler.out), pickler.storages


class _Pickler:
    """One pickle in the making. What was written before is referred to by its number in the memo."""

    def __init__(self) -> None:
        self.out = bytearray()
        self.storages: list[NewStorage] = []
        self._keys: dict[NewStorage, str] = {}
        self._memo: dict[int, int] = {}  # by id, as CPython has it: equal is not the same
        self._globals: dict[str, int] = {}
        self._numbers = 0
        self._alive: list[Any] = []  # an id is that of one object only as long as this is there

    def save(self, value: Any) -> None:
        """Write any value."""
        kind = type(value)
        number = self._memo.get(id(value))
        if number is not None:
            self._get(number)
        else:
            _SAVERS[kind](self, value)

    def save_scalar(self, value: bool | int | float | None) -> None:
        """Write a value that has no identity."""
        self.out += _encoded(value)

    def save_text(self, value: str) -> None:
        """Write a string."""
        data = value.encode("utf-8", "surrogatepass")
        self.out += b"X" + struct.pack("<I", len(data)) + data
        self._remember(value)

    def save_tuple(self, value: tuple[Any, ...]) -> None:
        """Write a tuple."""
        short = len(value) < len(_SHORT_TUPLES)
        if not short:
            self.out += _MARK
        for item in value:
            self.save(item)
        self.out += _SHORT_TUPLES[len(value)] if short else _TUPLE
        if value:
            self._remember(value)

    def save_list(self, value: list[Any]) -> None:
        """Write a list."""
        self.out += b"]"
        self._remember(value)
        self._batches([(item,) for item in value], b"a", b"e")

    def save_dictionary(self, value: dict[Any, Any]) -> None:
        """Write a dictionary."""
        self.out += b"}"
        self._remember(value)
        self._batches(value.items(), b"s", b"u")
        if value and len(value) % _BATCH == 0:
            self.out += _MARK + b"u"  # only when it finds nothing more does CPython know that the batch was the last

    def save_ordered(self, value: OrderedDict[Any, Any]) -> None:
        """Write an ``OrderedDict``, with its attributes."""
        self._call("collections OrderedDict", ())
        self._remember(value)
        self._batches(value.items(), b"s", b"u", last_alone=True)
        if vars(value):
            self.save(dict(vars(value)))
            self.out += _BUILD

    def save_bytes(self, value: bytes) -> None:
        """Write bytes, for which protocol 2 has no opcode."""
        if value:
            self._call("_codecs encode", (value.decode("latin-1"), "latin1"))
        else:
            self._call("__builtin__ bytes", ())
        self._remember(value)

    def save_complex(self, value: complex) -> None:
        """Write a complex number."""
        self._call("__builtin__ complex", (value.real, value.imag))
        self._remember(value)

    def save_dtype(self, value: TorchDType) -> None:
        """Write a dtype of torch."""
        self._global(f"torch {value.name}")

    def save_tensor(self, value: NewTensor) -> None:
        """Write a tensor."""
        storage_class = value.dtype.storage_class
        self._global(f"torch._utils _rebuild_tensor_v{2 if storage_class else 3}")
        self.out += _MARK
        self._storage(value)
        self.save_scalar(value.offset)
        self._sizes(value.shape)
        self._sizes(value.stride)
        self.save_scalar(value.requires_grad)
        self._hooks()
        if not storage_class:
            self._global(f"torch {value.dtype.name}")
        self._end_of_tuple(_TUPLE)
        self.out += _REDUCE
        self._remember(value)

    def save_parameter(self, value: NewParameter) -> None:
        """Write a parameter."""
        self._global("torch._utils _rebuild_parameter")
        self.save(value.data)
        self.save_scalar(value.requires_grad)
        self._hooks()
        self._end_of_tuple(_SHORT_TUPLES[3])
        self.out += _REDUCE
        self._remember(value)

    def _storage(self, tensor: NewTensor) -> None:
        storage, dtype = tensor.storage, tensor.dtype
        key = self._keys.get(storage)
        if key is None:
            key = self._keys[storage] = str(len(self.storages))
            self.storages.append(storage)
        self.out += _MARK
        self.save("storage")
        self._global(f"torch {dtype.storage_class}" if dtype.storage_class else "torch.storage UntypedStorage")
        self.save(key)
        self.save("cpu")
        self.save_scalar(storage.slot.nbytes // (dtype.bits // 8) if dtype.storage_class else storage.slot.nbytes)
        self._end_of_tuple(_TUPLE)
        self.out += _PERSISTENT

    def _sizes(self, sizes: tuple[int, ...]) -> None:
        """Numbers for each dimension, as a tuple that nothing else refers to."""
        short = len(sizes) < len(_SHORT_TUPLES)
        if not short:
            self.out += _MARK
        for size in sizes:
            self.out += _encoded(size)
        self.out += _SHORT_TUPLES[len(sizes)] if short else _TUPLE
        if sizes:
            self._numbered()

    def _hooks(self) -> None:
        """A tensor's backward hooks: none."""
        self._call("collections OrderedDict", ())
        self._numbered()

    def _call(self, function: str, arguments: Sequence[Any]) -> None:
        self._global(function)
        self.save_tuple(tuple(arguments))
        self.out += _REDUCE

    def _end_of_tuple(self, opcode: bytes) -> None:
        self.out += opcode
        self._numbered()

    def _batches(
        self, items: Iterable[tuple[Any, ...]], one: bytes, several: bytes, *, last_alone: bool = False
    ) -> None:
        """The elements of a list, or the keys and values of a dictionary.

        ``last_alone`` says that one that is left over is written like a single one.
        """
        rest = list(items)
        for start in range(0, len(rest), _BATCH):
            batch = rest[start : start + _BATCH]
            if len(batch) == 1 and (last_alone or not start):
                self._each(batch)
                self.out += one
            else:
                self.out += _MARK
                self._each(batch)
                self.out += several

    def _each(self, items: Iterable[tuple[Any, ...]]) -> None:
        for item in items:
            for value in item:
                self.save(value)

    def _global(self, name: str) -> None:
        number = self._globals.get(name)
        if number is not None:
            self._get(number)
            return
        self.out += f"c{name}\n".replace(" ", "\n").encode()
        self._globals[name] = self._numbered()

    def _get(self, number: int) -> None:
        self.out += b"h" + bytes((number,)) if number < 256 else b"j" + struct.pack("<I", number)

    def _remember(self, value: Any) -> None:
        self._memo[id(value)] = self._numbered()
        self._alive.append(value)

    def _numbered(self) -> int:
        """Give the object on the top of the stack the next number."""
        number = self._numbers
        self._numbers += 1
        self.out += b"q" + bytes((number,)) if number < 256 else b"r" + struct.pack("<I", number)
        return number


def _encoded(value: bool | int | float | None) -> bytes:
    if value is None:
        return b"N"
    if type(value) is int and 0 <= value < len(_BYTES):
        return _BYTES[value]
    if isinstance(value, bool):
        return b"\x88" if value else b"\x89"
    if isinstance(value, float):
        return b"G" + struct.pack(">d", value)
    if 0 <= value < 1 << 16:
        return b"M" + struct.pack("<H", value)
    if -1 << 31 <= value < 1 << 31:
        return b"J" + struct.pack("<i", value)
    # The fewest bytes that hold it with its sign.
    count = (value.bit_length() >> 3) + 1
    data = value.to_bytes(count, "little", signed=True)
    if value < 0 and data[-1] == 0xFF and data[-2] & 0x80:
        data = data[:-1]
    return (b"\x8a" + bytes((len(data),)) if len(data) < 256 else b"\x8b" + struct.pack("<i", len(data))) + data


_SAVERS: dict[type, Callable[[_Pickler, Any], None]] = {
    **dict.fromkeys((type(None), bool, int, float), _Pickler.save_scalar),
    str: _Pickler.save_text,
    bytes: _Pickler.save_bytes,
    complex: _Pickler.save_complex,
    tuple: _Pickler.save_tuple,
    list: _Pickler.save_list,
    dict: _Pickler.save_dictionary,
    OrderedDict: _Pickler.save_ordered,
    NewTensor: _Pickler.save_tensor,
    NewParameter: _Pickler.save_parameter,
    TorchDType: _Pickler.save_dtype,
}
