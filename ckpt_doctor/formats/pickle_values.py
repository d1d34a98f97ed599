"""What the pickle machine has on its stack in place of objects: plain values and these nodes.

A list is a ``list``, a tuple a ``tuple``; strings, numbers, bytes, booleans and ``None`` are themselves. Dictionaries
keep their items in a flat list: no key of a file is ever hashed, so that no choice of keys can make a dictionary slow.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from ckpt_doctor.checkpoint import DefectKind
from ckpt_doctor.dtypes import DType

SCALARS = frozenset({str, int, float, bool, bytes, type(None), complex})
"""The types of values that stand for themselves."""


class PickleError(Exception):
    """The pickle cannot be read on; ``kind`` says what that makes of the file."""

    def __init__(self, kind: DefectKind, message: str) -> None:
        super().__init__(message)
        self.kind = kind


@dataclass(frozen=True, slots=True)
class Budget:
    """How much a pickle may cost. All limits grow with the bytes it takes in the file.

    ``opcodes`` counts operations, ``visits`` the values met when walking through the result, where shared parts
    count each time; ``characters`` sums up the names and strings that are made from others; ``depth`` is that of
    nested containers and of open marks.
    """

    opcodes: int
    visits: int
    characters: int
    depth: int = 1000

    @classmethod
    def for_stored(cls, nbytes: int) -> Budget:
        """The budget of a pickle that takes ``nbytes`` in its file, before anything is inflated."""
        return cls(
            opcodes=min(1_000_000 + nbytes, 64_000_000),
            visits=min(250_000 + nbytes, 16_000_000),
            characters=16_000_000 + 8 * nbytes,
        )


@dataclass(frozen=True, slots=True, eq=False)
class Global:
    """A class or function that was looked up by name: ``name`` is its module, a space and its qualified name.

    ``role`` is ``torch``, ``dtype``, ``storage``, ``enum``, ``object``, ``callable``, ``mapping``, ``sequence``,
    ``getattr`` or ``unsafe``. ``make`` stands for calling it with a tuple of arguments; it returns :data:`REFUSED`
    where that is not one of the uses it was allowed for.
    """

    name: str
    role: str
    make: Callable[[tuple[Any, ...]], Any]
    dtype: DType | None = None

    @property
    def dotted(self) -> str:
        """The name as people write it."""
        return self.name.replace(" ", ".")


@dataclass(slots=True, eq=False)
class DictNode:
    """A dictionary: ``flat`` holds key, value, key, value. ``state`` is what was set as its attributes."""

    flat: list[Any] = field(default_factory=list)
    state: Any = None


SIZED = frozenset({list, tuple, DictNode})
"""The types of containers, which take time to copy."""


@dataclass(slots=True, eq=False)
class OpaqueNode:
    """An object that was not built. ``parts`` are what it was made of and given, by name, in order."""

    type_name: str
    parts: list[tuple[str, Any]] = field(default_factory=list)
    role: str = "object"


@dataclass(slots=True, eq=False)
class StorageRef:
    """The persistent id of a storage. ``nbytes`` is the declared length; ``view`` is (key, offset, length) in bytes."""

    key: str
    dtype: DType
    nbytes: int
    device: str
    view: tuple[str, int, int] | None = None


@dataclass(slots=True, eq=False)
class TensorNode:
    """A tensor's description. ``storage`` is ``None`` where its bytes were never stored (the meta device).

    ``extra`` is what was set as its attributes.
    """

    storage: StorageRef | None
    dtype: DType
    shape: tuple[int, ...]
    stride: tuple[int, ...]
    offset: int
    requires_grad: bool
    extra: Any = None


class Refused:
    """The type of :data:`REFUSED`."""


REFUSED = Refused()
"""What a global's ``make`` returns instead of a node, when it must not be used in this way."""
