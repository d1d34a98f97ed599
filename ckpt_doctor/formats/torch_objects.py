"""What calling the known globals of a pickle means, as data: nothing is ever imported, called or built.

The argument orders are those of ``torch/_utils.py`` (read in torch 2.13; older releases wrote fewer arguments).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ckpt_doctor.core.defects import DefectKind
from ckpt_doctor.core.dtypes import BY_NAME, BY_STORAGE_CLASS, DType
from ckpt_doctor.knowledge.inert_globals import CALLABLES, ENUMS, MAPPINGS, OBJECTS, SEQUENCES
from ckpt_doctor.knowledge.pickle_globals import RENAMED, RENAMED_MODULES, TORCH_ALLOWED, TORCH_IMPORTED
from ckpt_doctor.knowledge.torchao_globals import TORCHAO, TORCHAO_ENUMS

from .pickle_values import (
    REFUSED,
    SCALARS,
    SIZED,
    DictNode,
    Global,
    OpaqueNode,
    PickleError,
    StorageRef,
    TensorNode,
    clipped,
)

Arguments = tuple[Any, ...]
Maker = Callable[[Arguments], Any]

BROKEN = "torch.Tensor (not describable)"
"""The type name of what should have been a tensor, but was given arguments that make none."""


def canonical(name: str) -> str:
    """The name that Python 3 uses for a name that Python 2 wrote; any other name as it is."""
    if name in RENAMED:
        return RENAMED[name]
    module, _, qualified = name.partition(" ")
    return f"{RENAMED_MODULES[module]} {qualified}" if module in RENAMED_MODULES else name


def known_global(name: str) -> Global | None:
    """The global of this exact name, or ``None`` where it is on no list."""
    return _KNOWN.get(canonical(name))


def unsafe_global(name: str) -> Global:
    """A global that is on no list: what it makes stays opaque."""
    return Global(name, "unsafe", _SCRIPT_MAKERS.get(name) or _opaque(name.replace(" ", "."), "unsafe"))


def default_allows(name: str) -> bool:
    """Whether ``torch.load(weights_only=True)`` resolves this name, once the module that it belongs to is imported."""
    return canonical(name) in _DEFAULT


def refused_name(name: str) -> str:
    """A name as torch writes it in ``Unsupported global: GLOBAL …``."""
    return canonical(name).replace(" ", ".", 1).removeprefix("builtins.")


def dtype_class(dtype: OpaqueNode) -> str:
    """The class of a ``numpy.dtype`` that was made of arguments such as ``("f8", False, True)``."""
    args = next((part for label, part in dtype.parts if label == "args"), ())
    code = args[0] if type(args) is tuple and args and type(args[0]) is str else ""
    return f"numpy.dtypes.{_DTYPE_CLASSES.get(code) or _DTYPE_CLASSES.get(code[:1], 'VoidDType')}"


_DTYPE_CLASSES = {
    **{f"f{size}": f"Float{8 * size}DType" for size in (2, 4, 8)},
    **{f"i{size}": f"Int{8 * size}DType" for size in (1, 2, 4, 8)},
    **{f"u{size}": f"UInt{8 * size}DType" for size in (1, 2, 4, 8)},
    **{"f16": "LongDoubleDType", "c8": "Complex64DType", "c16": "Complex128DType", "c32": "CLongDoubleDType"},
    **{"b1": "BoolDType", "O": "ObjectDType", "S": "BytesDType", "U": "StrDType"},
    **{"M": "DateTime64DType", "m": "TimeDelta64DType"},
}
"""The codes of ``numpy.dtype`` in a pickle, or their first letter, and the classes of ``numpy.dtypes``."""


def _opaque(type_name: str, role: str = "object") -> Maker:
    def make(args: Arguments) -> OpaqueNode:
        return OpaqueNode(type_name, [("args", args)] if args else [], role)

    return make


def _refuse(_args: Arguments) -> Any:
    return REFUSED


def _tensor(storage: Any, dtype: Any, offset: Any, size: Any, stride: Any, requires_grad: Any) -> Any:
    if type(size) is not tuple or type(stride) is not tuple or type(offset) is not int or not isinstance(dtype, DType):
        return OpaqueNode(BROKEN)
    if storage is not None and type(storage) is not StorageRef:
        return OpaqueNode(BROKEN)
    return TensorNode(storage, dtype, size, stride, offset, requires_grad is True)


def _rebuild_tensor(args: Arguments) -> Any:
    """``_rebuild_tensor(storage, offset, size, stride)``, of torch 0.1 to 0.3."""
    return OpaqueNode(BROKEN) if len(args) != 4 else _described(args)


def _rebuild_tensor_v2(args: Arguments) -> Any:
    """The same with ``requires_grad``, hooks and, since torch 2.0, metadata."""
    return _with_metadata(_described(args), args[6:]) if 6 <= len(args) <= 7 else OpaqueNode(BROKEN)


def _described(args: Arguments) -> Any:
    if type(args[0]) is not StorageRef:
        return OpaqueNode(BROKEN)
    return _tensor(args[0], args[0].dtype, args[1], args[2], args[3], len(args) > 4 and args[4])


def _rebuild_tensor_v3(args: Arguments) -> Any:
    if not 7 <= len(args) <= 8 or type(args[6]) is not Global:
        return OpaqueNode(BROKEN)
    return _with_metadata(_tensor(args[0], args[6].dtype, args[1], args[2], args[3], args[4]), args[7:])


def _with_metadata(node: Any, metadata: Arguments) -> Any:
    """The tensor with the bits that ``torch._utils.set_tensor_metadata`` sets, such as ``{"conj": True}``."""
    if metadata and type(metadata[0]) is DictNode and type(node) is TensorNode:
        # One or two are usual; whoever writes thousands gets no list of them.
        keys = metadata[0].flat[0:8:2]
        node.pending = tuple(clipped(key) if type(key) is str else "metadata" for key in keys)
    return node


def _rebuild_qtensor(args: Arguments) -> Any:
    if len(args) != 7 or type(args[0]) is not StorageRef:
        return OpaqueNode(BROKEN)
    node = _tensor(args[0], args[0].dtype, args[1], args[2], args[3], args[5])
    if type(node) is TensorNode and type(args[4]) is tuple:
        # Scales and zero points of a quantisation per channel are tensors of their own.
        names = ("qscheme", "scales", "zero_points", "axis")
        node.extra = DictNode([part for pair in zip(names, args[4], strict=False) for part in pair])
    return node


def _rebuild_meta_tensor(args: Arguments) -> Any:
    if len(args) != 4 or type(args[0]) is not Global:
        return OpaqueNode(BROKEN)
    return _tensor(None, args[0].dtype, 0, args[1], args[2], args[3])


def _rebuild_parameter(args: Arguments) -> Any:
    """``Parameter(data, requires_grad)`` with hooks, and in the longer form with attributes."""
    if not 1 <= len(args) <= 4:
        return OpaqueNode(BROKEN)
    data = args[0]
    if type(data) is not TensorNode:
        return OpaqueNode("torch.nn.parameter.Parameter", [("data", data)])
    if len(args) == 4 and _replaces_data(args[3]):
        return REFUSED
    requires_grad = len(args) < 2 or args[1] is True
    extra = args[3] if len(args) == 4 else data.extra
    node = _changed(data, requires_grad, extra)
    node.parameter = True
    return node


def _changed(data: TensorNode, requires_grad: bool, extra: Any) -> TensorNode:
    place = (data.storage, data.dtype, data.shape, data.stride, data.offset)
    return TensorNode(*place, requires_grad, extra, data.pending)


def _replaces_data(state: Any) -> bool:
    """Whether attributes of a tensor would put other bytes or another class in the place of its own."""
    parts = state if type(state) is tuple and len(state) == 2 else (state,)
    for part in parts:
        if type(part) is not DictNode:
            continue
        # No tensor has that many attributes.
        if len(part.flat) > 2 * _MAX_ATTRIBUTES:
            return True
        if any(type(key) is str and key in ("data", "__class__", "__dict__") for key in part.flat[0::2]):
            return True
    return False


_MAX_ATTRIBUTES = 100


def _rebuild_from_type(args: Arguments) -> Any:
    """``function(*arguments)`` viewed as another class, with attributes."""
    if len(args) != 4 or type(args[0]) is not Global or type(args[2]) is not tuple:
        return REFUSED
    if args[0].make is _rebuild_from_type:
        return REFUSED  # torch never nests them
    if not args[0].name.startswith("torch"):
        return REFUSED  # what torch writes there are its own functions
    if _replaces_data(args[3]):
        return REFUSED
    node = args[0].make(args[2])
    if type(node) is TensorNode:
        node.extra = args[3]
    elif type(node) is OpaqueNode:
        if node.type_name == _DTENSOR:
            return _whole_local_tensor(node, args[3]) or node
        if node.type_name != _JAGGED:  # its attributes are the same tensors once more
            node.parts.append(("", args[3]))
    return node


_JAGGED = "torch.Tensor (jagged)"
_DTENSOR = "torch.distributed.tensor.DTensor"


def _whole_local_tensor(node: OpaqueNode, state: Any) -> TensorNode | None:
    """The local tensor of a DTensor, where that is all of it; else it becomes a part of ``node``.

    The other attributes describe the mesh and the placement, which all DTensors of a file share.
    """
    # Attributes in slots come second.
    slots = state[1] if type(state) is tuple and len(state) == 2 else state
    flat = slots.flat[: 2 * _MAX_ATTRIBUTES] if type(slots) is DictNode else []
    local = next((value for key, value in zip(flat[0::2], flat[1::2], strict=True) if key == "_local_tensor"), None)
    if type(local) is not TensorNode:
        node.parts.append(("", state))
        return None
    # _rebuild_wrapper_subclass(class, dtype, size, …)
    made_of: Arguments = node.parts[0][1] if node.parts else ()
    if len(made_of) > 1 and made_of[1] == local.shape:
        return _changed(local, local.requires_grad, None)
    node.parts = [("_local_tensor", local)]
    return None


def _rebuild_nested(args: Arguments) -> Any:
    """``_rebuild_nested_tensor(buffer, sizes, strides, offsets)``: a nested tensor of the strided layout."""
    return OpaqueNode("torch.Tensor (nested)", list(zip(("buffer", "sizes", "strides", "offsets"), args, strict=False)))


def _rebuild_wrapper_subclass(args: Arguments) -> Any:
    cls = args[0] if args else None
    return OpaqueNode(cls.dotted if type(cls) is Global else "torch.Tensor", [("args", args[1:])])


def _rebuild_jagged(args: Arguments) -> Any:
    """``_rebuild_njt({"values": …, "offsets": …, …})``: a nested tensor as its values and where each part begins."""
    parts = args[0] if len(args) == 1 else None
    if type(parts) is not DictNode:
        return OpaqueNode(BROKEN)
    names = ("values", "offsets", "lengths")
    # A dictionary of six entries; a file could have more looked through again and again.
    found = dict(zip(parts.flat[0:24:2], parts.flat[1:24:2], strict=True)) if _named(parts) else {}
    return OpaqueNode(_JAGGED, [(name, found[name]) for name in names if name in found])


def _named(node: DictNode) -> bool:
    return len(node.flat) <= 24 and all(type(key) is str for key in node.flat[0::2])


def _rebuild_on_device(args: Arguments) -> Any:
    """A tensor of another device that was stored as a tensor of the CPU, or as an array."""
    if len(args) != 4:
        return OpaqueNode(BROKEN)
    data = args[0]
    if type(data) is TensorNode:
        return _changed(data, args[3] is True, data.extra)
    return OpaqueNode("torch.Tensor (stored as an array)", [("data", data)])


_SPARSE_PARTS = {
    "torch.sparse_coo": ("indices", "values"),
    "torch.sparse_csr": ("crow_indices", "col_indices", "values"),
    "torch.sparse_bsr": ("crow_indices", "col_indices", "values"),
    "torch.sparse_csc": ("ccol_indices", "row_indices", "values"),
    "torch.sparse_bsc": ("ccol_indices", "row_indices", "values"),
}


def _rebuild_sparse_tensor(args: Arguments) -> Any:
    if len(args) != 2 or type(args[1]) is not tuple:
        return OpaqueNode(BROKEN)
    layout = args[0].type_name if type(args[0]) is OpaqueNode else ""
    names = _SPARSE_PARTS.get(layout, ())
    return OpaqueNode("torch.Tensor (sparse)", list(zip(names, args[1], strict=False)) or [("data", args[1])])


def _tensor_class(args: Arguments) -> Any:
    """A tensor as torch 0.1 wrote it: made empty, and given its storage by BUILD."""
    return (
        OpaqueNode("torch.Tensor", [("args", args)])
        if args
        else TensorNode(None, BY_NAME["float32"], (0,), (1,), 0, False)
    )


def _get_layout(args: Arguments) -> Any:
    name = args[0] if args and type(args[0]) is str and len(args[0]) < 64 else "torch.layout"
    return OpaqueNode(name, role="value")


def _size(args: Arguments) -> Any:
    return args[0] if len(args) == 1 and type(args[0]) is tuple else REFUSED if args else ()


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


def _first(args: Arguments) -> Any:
    """``build_intlist([…])``, ``restore_type_tag(value, "List[int]")``: how TorchScript says the type of a list."""
    return args[0] if args else REFUSED


_SCRIPT_MAKERS: dict[str, Maker] = {
    f"torch.jit._pickle {name}": _first
    for name in ("build_intlist", "build_doublelist", "build_boollist", "build_tensorlist", "restore_type_tag")
}
"""What only the loader of TorchScript archives calls: it knows these names, and no others of its module."""


def _list(args: Arguments) -> Any:
    return list(args[0]) if len(args) == 1 and type(args[0]) in (list, tuple) else REFUSED if args else []


def _enum(type_name: str) -> Maker:
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

_MAKERS: dict[str, Maker] = {
    "torch._utils _rebuild_tensor": _rebuild_tensor,
    "torch._utils _rebuild_tensor_v2": _rebuild_tensor_v2,
    "torch._utils _rebuild_tensor_v3": _rebuild_tensor_v3,
    "torch._utils _rebuild_qtensor": _rebuild_qtensor,
    "torch._utils _rebuild_meta_tensor_no_storage": _rebuild_meta_tensor,
    "torch._utils _rebuild_parameter": _rebuild_parameter,
    "torch._utils _rebuild_parameter_with_state": _rebuild_parameter,
    "torch._utils _rebuild_sparse_tensor": _rebuild_sparse_tensor,
    "torch._utils _rebuild_wrapper_subclass": _rebuild_wrapper_subclass,
    "torch._utils _rebuild_nested_tensor": _rebuild_nested,
    "torch.nested._internal.nested_tensor _rebuild_njt": _rebuild_jagged,
    "torch._utils _rebuild_device_tensor_from_numpy": _rebuild_on_device,
    "torch._utils _rebuild_device_tensor_from_cpu_tensor": _rebuild_on_device,
    "torch._utils _rebuild_xla_tensor": _rebuild_on_device,
    "torch._tensor _rebuild_from_type_v2": _rebuild_from_type,
    "torch._tensor _rebuild_from_type": _rebuild_from_type,
    "torch.tensor _rebuild_from_type": _rebuild_from_type,
    "torch.nn.parameter Parameter": _rebuild_parameter,
    "torch.serialization _get_layout": _get_layout,
    "torch Size": _size,
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

_TENSOR_CLASSES = {name for name in TORCH_ALLOWED if name.endswith("Tensor")}


def _table() -> dict[str, Global]:
    table = {}
    objects = OBJECTS | TORCHAO | TORCH_IMPORTED
    roles = (("enum", ENUMS | TORCHAO_ENUMS), ("object", objects), ("callable", CALLABLES), ("mapping", MAPPINGS))
    for role, names in (*roles, ("sequence", SEQUENCES)):
        for name in names:
            dotted = name.replace(" ", ".")
            default = _enum(dotted) if role == "enum" else _refuse if role == "object" else _opaque(dotted, role)
            table[name] = Global(name, role, _MAKERS.get(name, default))
    for name in ("torch._tensor _rebuild_from_type", "torch.tensor _rebuild_from_type", "copyreg _reconstructor"):
        table[name] = Global(name, "callable", _MAKERS[name])
    table["torch._utils _rebuild_xla_tensor"] = Global("torch._utils _rebuild_xla_tensor", "torch", _rebuild_on_device)
    table["builtins getattr"] = Global("builtins getattr", "getattr", _getattr)
    for name in TORCH_ALLOWED:
        table[name] = _torch_global(name)
    return table


def _torch_global(name: str) -> Global:
    short = name.rpartition(" ")[2]
    dotted = name.replace(" ", ".")
    if short.endswith("Storage"):
        return Global(name, "storage", _refuse, BY_STORAGE_CLASS.get(short, BY_NAME["uint8"]))
    if name.startswith("torch ") and short in BY_NAME:
        return Global(name, "dtype", _refuse, BY_NAME[short])
    if name in _TENSOR_CLASSES:
        return Global(name, "torch", _tensor_class)
    return Global(name, "torch", _MAKERS.get(name, _opaque(dotted, "value")))


_KNOWN = _table()
_DEFAULT = TORCH_ALLOWED | TORCH_IMPORTED | TORCHAO | TORCHAO_ENUMS
