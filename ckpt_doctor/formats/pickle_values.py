"""What the pickle machine has on its stack in place of objects: plain values and these nodes.

A list is a ``list``, a tuple a ``tuple``; strings, numbers, bytes, booleans and ``None`` are themselves. Dictionaries
keep their items in a flat list: no key of a file is ever hashed, so that no choice of keys can make a dictionary slow.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from ckpt_doctor.core.defects import DefectKind
from ckpt_doctor.core.dtypes import DType

from .limits import LIMITS, Limits

SCALARS: frozenset[type] = frozenset({str, int, float, bool, bytes, type(None), complex})
"""The types of values that stand for themselves."""


def clipped(text: str, limit: int = 400) -> str:
    """A text that a file made up, cut to a length that a message can bear."""
    return text if len(text) <= limit else text[:limit] + "…"


class PickleError(Exception):
    """The pickle cannot be read on; ``kind`` says what that makes of the file."""

    def __init__(self, kind: DefectKind, message: str) -> None:
        super().__init__(message)
        self.kind = kind


class Budget(NamedTuple):
    """How much a pickle may cost. All limits grow with the bytes it takes in the file.

    ``opcodes`` counts operations, ``visits`` the values met when walking through the result, where shared parts
    count each time; ``characters`` sums up the names and strings that are made from others; ``depth`` is that of
    nested containers and of open marks. ``declared`` and ``digits`` are those of :class:`Limits`.
    """

    opcodes: int
    visits: int
    characters: int
    depth: int = LIMITS.depth
    declared: int = LIMITS.declared
    digits: int = LIMITS.digits

    @classmethod
    def for_stored(cls, nbytes: int, limits: Limits = LIMITS) -> Budget:
        """The budget of a pickle that takes ``nbytes`` in its file, before anything is inflated."""
        return cls(
            opcodes=min(limits.opcodes + nbytes, limits.most_opcodes),
            visits=min(limits.visits + nbytes, limits.most_visits),
            characters=limits.characters + 8 * nbytes,
            depth=limits.depth,
            declared=limits.declared,
            digits=limits.digits,
        )


class Global:
    """A class or function that was looked up by name: ``name`` is its module, a space and its qualified name.

    ``role`` is ``torch``, ``dtype``, ``storage``, ``enum``, ``object``, ``callable``, ``mapping``, ``sequence``,
    ``getattr`` or ``unsafe``. ``make`` means calling it with a tuple of arguments; it returns :data:`REFUSED`
    where that is not one of the uses it was allowed for.
    """

    __slots__ = ("dtype", "make", "name", "role")

    def __init__(
        self, name: str, role: str, make: Callable[[tuple[Any, ...]], Any], dtype: DType | None = None
    ) -> None:
        self.name = name
        self.role = role
        self.make = make
        self.dtype = dtype

    @property
    def dotted(self) -> str:
        """The name as people write it."""
        return self.name.replace(" ", ".")


class DictNode:
    """A dictionary: ``flat`` holds key, value, key, value. ``state`` is what was set as its attributes.

    ``ordered`` marks an ``OrderedDict``; ``subclass`` names a class to which ``torch.load``'s default gives no items.
    """

    __slots__ = ("flat", "ordered", "state", "subclass")

    def __init__(self, flat: list[Any] | None = None) -> None:
        self.flat: list[Any] = [] if flat is None else flat
        self.state: Any = None
        self.ordered = False
        self.subclass: str | None = None


class OpaqueNode:
    """An object that was not built. ``parts`` are what it was made of and given, by name, in order."""

    __slots__ = ("parts", "role", "type_name")

    def __init__(self, type_name: str, parts: list[tuple[str, Any]] | None = None, role: str = "object") -> None:
        self.type_name = type_name
        self.parts: list[tuple[str, Any]] = [] if parts is None else parts
        self.role = role


SIZED: frozenset[type] = frozenset({list, tuple, DictNode})
"""The types of containers, which take time to copy."""


class StorageRef:
    """The persistent id of a storage. ``nbytes`` is the declared length; ``view`` is (key, offset, length) in bytes."""

    __slots__ = ("device", "dtype", "key", "nbytes", "view")

    def __init__(
        self, key: str, dtype: DType, nbytes: int, device: str, view: tuple[str, int, int] | None = None
    ) -> None:
        self.key = key
        self.dtype = dtype
        self.nbytes = nbytes
        self.device = device
        self.view = view


class TensorNode:
    """A tensor's description. ``storage`` is ``None`` if its bytes were never stored (the meta device).

    ``shape``, ``stride`` and ``offset`` are what the file says, whatever that is. ``extra`` is what was set as its
    attributes, ``pending`` what torch does to the elements after reading them. ``parameter`` marks a ``Parameter``.
    """

    __slots__ = ("dtype", "extra", "offset", "parameter", "pending", "requires_grad", "shape", "storage", "stride")

    def __init__(
        self,
        storage: StorageRef | None,
        dtype: DType,
        shape: tuple[int, ...],
        stride: tuple[int, ...],
        offset: int,
        requires_grad: bool,
        extra: Any = None,
        pending: tuple[str, ...] = (),
    ) -> None:
        self.storage = storage
        self.dtype = dtype
        self.shape = shape
        self.stride = stride
        self.offset = offset
        self.requires_grad = requires_grad
        self.extra = extra
        self.pending = pending
        self.parameter = False


class Refused:
    """The type of :data:`REFUSED`."""


REFUSED = Refused()
"""What a global's ``make`` returns instead of a node, when it must not be used in this way."""
