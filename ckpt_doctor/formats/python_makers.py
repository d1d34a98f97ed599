"""What calling a known function or class of Python or numpy in a pickle makes, as data: nothing is ever called."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ckpt_doctor.core.defects import DefectKind

from .pickle_values import REFUSED, SCALARS, SIZED, DictNode, Global, OpaqueNode, PickleError, clipped

Arguments = tuple[Any, ...]
"""What a call in a pickle is given."""

Maker = Callable[[Arguments], Any]
"""Describes what a call makes; ``REFUSED`` for a use that is not known to be safe."""


def opaque(type_name: str, role: str = "object") -> Maker:
    """The maker of objects that stay opaque."""

    def make(args: Arguments) -> OpaqueNode:
        return OpaqueNode(type_name, [("args", args)] if args else [], role)

    return make


def refuse(_args: Arguments) -> Any:
    """The maker of what no call is known to be safe of."""
    return REFUSED


def _fraction(args: Arguments) -> Any:
    """``Fraction("1/3")`` or of two integers; exponents are limited as in :func:`_decimal_like`."""
    if not all(type(arg) in (int, str) for arg in args):
        return REFUSED
    return _decimal_like("fractions.Fraction", args)


def _decimal(args: Arguments) -> Any:
    return _decimal_like("decimal.Decimal", args)


def _decimal_like(type_name: str, args: Arguments) -> Any:
    for arg in args:
        if type(arg) is not str:
            continue
        exponent = arg.lower().rpartition("e")[2].strip().lstrip("+-").lstrip("0_") if "e" in arg.lower() else ""
        if len(exponent) > _EXPONENT_DIGITS:
            raise PickleError(
                DefectKind.RESOURCE_BOMB, f"{type_name} of a number with the exponent {clipped(exponent, 20)}"
            )
    return OpaqueNode(type_name, [("args", args)] if args else [], "callable")


_EXPONENT_DIGITS = 4  # no number of a checkpoint is beyond ten to the power of 9999


def _str(args: Arguments) -> Any:
    """``str(value)``, but of no container, whose text may be far longer than what is in the file."""
    return REFUSED if args and type(args[0]) in SIZED else OpaqueNode("builtins.str", [("args", args)], "callable")


def _empty_bytes(args: Arguments) -> Any:
    """``bytes()``: how protocols 0 to 2 store no bytes at all."""
    return OpaqueNode("builtins.bytes", [("args", args)], "value") if args else b""


def _encode(args: Arguments) -> Any:
    """``_codecs.encode``: how protocols 0 to 2 store bytes. Only what that needs is worked out."""
    if len(args) != 2 or type(args[0]) is not str or type(args[1]) is not str or args[1] != "latin1":
        return OpaqueNode("builtins.bytes", role="value")
    # Not decoded while parsing: one string may be named many times.
    return OpaqueNode("builtins.bytes", [("latin1", args[0])], role="bytes")


def _ordered_dict(args: Arguments) -> Any:
    """A dictionary, made empty, of a dictionary, or, as Python 2 wrote it, of a list of pairs."""
    if len(args) > 1:
        return REFUSED
    flat: list[Any] = []
    source = args[0] if args else []
    if type(source) is DictNode:
        flat = list(source.flat)
        source = []
    if type(source) is not list and type(source) is not tuple:
        return REFUSED
    for pair in source:
        if type(pair) not in (list, tuple) or len(pair) != 2:
            return REFUSED
        flat += pair
    node = DictNode(flat)
    node.ordered = True
    return node


def _default_dict(args: Arguments) -> Any:
    node = _ordered_dict(args[1:])
    if type(node) is DictNode:
        node.ordered = False
        node.subclass = "collections.defaultdict"
    return node


def _list(args: Arguments) -> Any:
    return list(args[0]) if len(args) == 1 and type(args[0]) in (list, tuple) else REFUSED if args else []


def enum_member(type_name: str) -> Maker:
    """The maker of the members of an enum."""

    def make(args: Arguments) -> Any:
        # What a member is called with, or what its attribute is called: one plain value.
        if len(args) != 1 or type(args[0]) not in SCALARS:
            return REFUSED
        return OpaqueNode(type_name, [("value", args[0])], "value")

    return make


def _getattr(args: Arguments) -> Any:
    """``getattr(enum, "MEMBER")``: how Python 3.11 pickled members. No other use of ``getattr`` is known to be safe."""
    if len(args) == 2 and type(args[0]) is Global and args[0].role == "enum" and type(args[1]) is str:
        name = args[1]
        if len(name) < 100 and name.isidentifier() and not name.startswith("_") and name != "mro":
            return OpaqueNode(args[0].dotted, role="value")
    return REFUSED


def _reconstructor(args: Arguments) -> Any:
    """``copyreg._reconstructor(class, base, state)``: how protocols 0 and 1 make an object of a Python class."""
    if len(args) != 3 or any(type(cls) is not Global for cls in args[:2]):
        return REFUSED
    cls, base, state = args
    if cls.role not in ("object", "mapping", "sequence", "callable") or base.name not in _BASES:
        return REFUSED
    return OpaqueNode(cls.dotted, [("args", (state,))], cls.role)


_BASES = {f"{module} {name}" for module in ("builtins", "__builtin__") for name in ("object", "dict", "list", "str")}


def _numpy_reconstruct(args: Arguments) -> Any:
    cls = args[0] if args else None
    return OpaqueNode("numpy.ndarray", role="callable") if type(cls) is Global and cls.name in _ARRAYS else REFUSED


_ARRAYS = {"numpy ndarray"}

PYTHON_MAKERS: dict[str, Maker] = {
    "_codecs encode": _encode,
    "builtins bytes": _empty_bytes,
    "builtins str": _str,
    "fractions Fraction": _fraction,
    "decimal Decimal": _decimal,
    "collections OrderedDict": _ordered_dict,
    "collections Counter": _ordered_dict,
    "builtins dict": _ordered_dict,
    "collections defaultdict": _default_dict,
    "builtins list": _list,
    "builtins getattr": _getattr,
    "copyreg _reconstructor": _reconstructor,
    "numpy.core.multiarray _reconstruct": _numpy_reconstruct,
    "numpy._core.multiarray _reconstruct": _numpy_reconstruct,
}
"""Maker by the name of what is called."""
