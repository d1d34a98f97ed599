"""The state of the pickle machine: its stacks and its memo, what it may still spend, what it found."""

from __future__ import annotations

from collections import OrderedDict
from typing import Any

from ckpt_doctor.core.defects import DefectKind
from ckpt_doctor.core.dtypes import DType

from .pickle_names import JudgedNames
from .pickle_values import REFUSED, SIZED, Budget, DictNode, Global, OpaqueNode, PickleError, StorageRef, TensorNode
from .torch_objects import dtype_class

LONG_TEXT = 128
"""Texts up to this length, in bytes, are not counted: they take no more memory than the objects around them."""

COSTLY: frozenset[type] = SIZED | {int, OpaqueNode}
"""The types of first arguments for which a call may take time or memory."""


_ALLOCATING = frozenset({"builtins bytes", "builtins bytearray"})  # with a number they make as many zero bytes

_METHODS = frozenset(dir(OrderedDict)) - {"__dict__"}  # no attribute of a dictionary is called like one
_REPLACING = frozenset({"data", "__class__", "__dict__", "__setstate__", "__reduce_ex__"})

UNSET: Any = OpaqueNode("a memo entry that was never written")
"""Fills gaps in the memo."""


class State(JudgedNames):
    """One run of the machine over ``data``. ``available`` is how many bytes the file holds from its beginning on."""

    def __init__(self, data: bytes, budget: Budget, start: int, available: int) -> None:
        super().__init__(budget.characters)
        self.data = data
        self.position = start
        self.available = available
        self.stack: list[Any] = []
        self.metastack: list[list[Any]] = []
        self.memo: list[Any] = []
        self.budget = budget
        self.frame_end: int | None = None
        self.frames_match = True
        self.called = False
        self.dtypes: dict[str, DType] = {}
        self.retyped: list[str] = []
        self.id_lengths: set[int] = set()

    # Reading arguments

    def take(self, length: int) -> bytes:
        """The next ``length`` bytes."""
        end = self.position + length
        if end > len(self.data):
            raise self.too_long(self.position, length)
        chunk = self.data[self.position : end]
        self.position = end
        return chunk

    def take_text(self, length: int) -> bytes:
        """The next ``length`` bytes, which are going to be decoded."""
        chunk = self.take(length)
        self.charge_text(chunk)
        return chunk

    def number(self, width: int, *, signed: bool = False) -> int:
        """The next ``width`` bytes as a little-endian integer."""
        return int.from_bytes(self.take(width), "little", signed=signed)

    def line(self) -> bytes:
        """The bytes up to the next newline, without it."""
        end = self.data.find(b"\n", self.position)
        if end < 0:
            self.position = len(self.data)
            raise PickleError(DefectKind.TORCH_TRUNCATED, "the pickle ends in the middle of a line of text")
        line = self.data[self.position : end]
        self.position = end + 1
        return line

    def decimal(self, *, suffix: bytes = b"") -> int:
        """The next line as a decimal integer."""
        text = self.line().removesuffix(suffix)
        if len(text) > self.budget.digits:
            raise PickleError(DefectKind.RESOURCE_BOMB, f"a number of {len(text):,} digits")
        try:
            return int(text)
        except ValueError:
            raise self.invalid("a number is invalid") from None

    def too_long(self, position: int, length: int) -> PickleError:
        """The error for an argument of ``length`` bytes that the data does not hold."""
        self.position = len(self.data)
        if length > self.budget.declared and length > self.available - position:
            return PickleError(
                DefectKind.RESOURCE_BOMB,
                f"a string declares {length:,} bytes, and {self.available - position:,} follow",
            )
        missing = position + length - len(self.data)
        return PickleError(DefectKind.TORCH_TRUNCATED, f"the pickle ends {missing:,} bytes too early, in a string")

    def invalid(self, what: str) -> PickleError:
        """The error for content that no pickle has."""
        return PickleError(DefectKind.TORCH_TRUNCATED, f"the pickle is invalid before byte {self.position}: {what}")

    # Budgets

    def charge(self, value: Any) -> None:
        """Count the cost of copying a container."""
        kind = type(value)
        if kind is list or kind is tuple:
            self.spend(8 * len(value))
        elif kind is DictNode:
            self.spend(8 * len(value.flat))

    def charge_text(self, raw: bytes, *, escaped: bool = False) -> None:
        """Count a text before it is decoded, by the memory that it may take then."""
        if len(raw) > LONG_TEXT:
            self.spend(len(raw) if raw.isascii() and not escaped else 4 * len(raw))

    def charge_call(self, function: Global, value: Any) -> None:
        """Count the cost of calling ``function`` with ``value`` first, which a loader would pay."""
        kind = type(value)
        if kind is int:
            if function.name in _ALLOCATING:
                self.spend(abs(value))
        elif kind is OpaqueNode:
            if value.type_name == "builtins.range":
                # A range of any length takes a few bytes, the elements of a container do not.
                raise PickleError(DefectKind.RESOURCE_BOMB, f"{function.dotted} is called with a range")
        else:
            self.charge(value)

    # Memo

    def put(self, index: int, value: Any) -> None:
        """Store ``value`` under ``index``, out of order."""
        memo = self.memo
        if index < len(memo):
            memo[index] = value
            return
        # Every entry takes at least one byte of the pickle to make, so that no real index is larger than that.
        if index > len(self.data):
            raise PickleError(
                DefectKind.RESOURCE_BOMB, f"a memo index of {index:,} in a pickle of {len(self.data):,} bytes"
            )
        memo.extend([UNSET] * (index - len(memo)))
        memo.append(value)

    def get(self, index: int) -> Any:
        """The value under ``index``."""
        if not 0 <= index < len(self.memo) or self.memo[index] is UNSET:
            raise self.invalid(f"memo entry {index} was never written")
        return self.memo[index]

    # Making things

    def refuse(self, function: Global, args: Any, position: int) -> OpaqueNode:
        """What means a use of a known name that it was not allowed for."""
        self.flag(function.name, position)
        return OpaqueNode(function.dotted, [("args", args)], "unsafe")

    def call_odd(self, function: Any, args: Any, position: int) -> OpaqueNode:
        """A call of something that is no global, or with arguments that are no tuple."""
        if type(function) is Global:
            return self.refuse(function, args, position)
        # What an unsafe global made was flagged already when that was looked up.
        if type(function) is not OpaqueNode or function.role != "unsafe":
            self.flag(f"(a call of {_described(function)})", position)
        return OpaqueNode("?", [("function", function), ("args", args)], "unsafe")

    def make_object(self, cls: Any, args: Any, position: int) -> Any:
        """``cls.__new__(cls, *args)``."""
        self.called = True
        if type(cls) is not Global or type(args) is not tuple:
            return self.call_odd(cls, args, position)
        if cls.role == "object":
            return OpaqueNode(cls.dotted, [("args", args)] if args else [])
        if args:
            self.charge_call(cls, args[0])
        made = cls.make(args)
        return self.refuse(cls, args, position) if made is REFUSED else made

    def build(self, target: Any, state: Any, position: int) -> None:
        """``target.__setstate__(state)``, or what stands in for it."""
        kind = type(target)
        if kind is DictNode:
            if self.names_any(state, _METHODS):
                self.flag("(attributes of a dictionary that replace its methods)", position)
            target.state = state
        elif kind is TensorNode:
            if (type(state) is tuple and len(state) == 5) or self.names_any(state, _REPLACING):
                # torch would put another tensor's bytes instead of the ones that are described.
                self.flag("(attributes of a tensor that replace its data)", position)
            if type(state) is tuple and len(state) == 4 and type(state[0]) is StorageRef:
                # As torch 0.1 wrote tensors: set_(storage, offset, size, stride).
                storage, offset, size, stride = state
                target.storage, target.dtype = storage, storage.dtype
                target.offset, target.shape, target.stride = offset, size, stride
            else:
                target.extra = state
        elif kind is OpaqueNode and target.role not in ("value", "bytes"):
            if target.type_name == "numpy.dtype":
                self.refuses(dtype_class(target), position, "type")
            target.parts.append(("", state))
        else:
            # On a class, or on an enum's member, this would change it for the whole process.
            self.flag(f"(attributes set on {_described(target)})", position)

    def names_any(self, state: Any, names: frozenset[str]) -> bool:
        """True if the attributes in ``state`` have any of these names."""
        parts = state if type(state) is tuple and len(state) == 2 else (state,)
        found = False
        for part in parts:
            if type(part) is DictNode:
                self.charge(part)
                found = found or any(type(key) is str and key in names for key in part.flat[0::2])
        return found

    def set_items(self, target: Any, items: list[Any], position: int) -> None:
        """``target[key] = value`` for each pair in ``items``."""
        if len(items) % 2:
            raise self.invalid("a key without a value")
        if type(target) is DictNode:
            target.flat += items
            if target.subclass is not None:
                self.refuses(target.subclass, position, "items")
            return
        if type(target) is not OpaqueNode or target.role not in ("mapping", "unsafe"):
            self.flag(f"(items set on {_described(target)})", position)
        if type(target) is OpaqueNode:
            self.refuses(target.type_name, position, "items")
            target.parts.append(("", DictNode(items)))

    def append_items(self, target: Any, items: list[Any], position: int) -> None:
        """``target.extend(items)``."""
        if type(target) is list:
            target += items
            return
        if type(target) is not OpaqueNode or target.role not in ("sequence", "unsafe"):
            self.flag(f"(elements appended to {_described(target)})", position)
        if type(target) is OpaqueNode:
            self.refuses(target.type_name, position, "elements")
            target.parts.append(("items", items))

    def persistent(self, pid: Any, position: int) -> Any:
        """The storage that a persistent id of torch means: ``("storage", type, key, device, elements[, view])``.

        The legacy format also has ``("module", class, file, source)``, which means the class.
        """
        if type(pid) is tuple and 5 <= len(pid) <= 6 and pid[0] == "storage":
            _, cls, key, device, numel = pid[:5]
            key = _key(key)
            if (
                type(cls) is Global
                and cls.role == "storage"
                and cls.dtype is not None
                and key is not None
                and type(device) is str
                and type(numel) is int
            ):
                itemsize = cls.dtype.bits // 8
                view = self.view(pid[5], itemsize) if len(pid) == 6 else None
                self.id_lengths.add(len(pid))
                if len(pid) == 6 and cls.name == "torch.storage UntypedStorage":
                    # torch 2.13 writes float8 into the format from before 1.6, and no torch reads it again.
                    self.refuses(cls.dotted, position, "storage")
                # torch takes the type that it met first for every tensor of a storage.
                if self.dtypes.setdefault(key, cls.dtype) is not cls.dtype and len(self.retyped) < 20:
                    self.retyped.append(key)
                return StorageRef(key, cls.dtype, numel * itemsize, device, view)
        elif type(pid) is tuple and len(pid) == 4 and pid[0] == "module" and type(pid[1]) is Global:
            self.refuses("the source of a module", position, "module")
            return pid[1]
        self.flag("(a persistent id that is not torch's)", position)
        return OpaqueNode("?", [("id", pid)], "unsafe")

    def view(self, view: Any, itemsize: int) -> tuple[str, int, int] | None:
        """``(key, offset, length)`` of a view in bytes; the file counts elements."""
        if view is None:
            return None
        if type(view) is tuple and len(view) == 3 and type(view[1]) is int and type(view[2]) is int:
            key = _key(view[0])
            if key is not None:
                return key, view[1] * itemsize, view[2] * itemsize
        raise self.invalid("the view of a storage has another form than torch's")

    # Ends

    def marked(self) -> list[Any]:
        """What was pushed since the last mark, which is removed."""
        items = self.stack
        self.stack = self.metastack.pop()
        return items

    def stop(self) -> None:
        """Check what must hold at STOP."""
        if self.frame_end is not None and self.position < self.frame_end:
            self.frames_match = False


def _key(key: Any) -> str | None:
    """The key of a storage as text: torch writes strings, its first releases wrote addresses as numbers."""
    if type(key) is int and -(1 << 63) <= key < 1 << 64:
        return str(key)
    return key if type(key) is str else None


def _described(target: Any) -> str:
    if type(target) is Global:
        return target.dotted
    if type(target) is OpaqueNode:
        return f"a {target.type_name}"
    return {DictNode: "a dictionary", TensorNode: "a tensor", StorageRef: "a storage"}.get(
        type(target), f"a {type(target).__name__}"
    )
