"""What calling a function or class of torch in a pickle makes, as data: mostly tensors.

The argument orders are those of ``torch/_utils.py`` (read in torch 2.13; older releases wrote fewer arguments).
"""

from __future__ import annotations

from typing import Any

from ckpt_doctor.core.dtypes import BY_NAME, DType

from .pickle_values import REFUSED, DictNode, Global, OpaqueNode, StorageRef, TensorNode, clipped
from .python_makers import Arguments, Maker

BROKEN = "torch.Tensor (not describable)"
"""The type name of what should have been a tensor, but was given arguments that make none."""


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
    """True if attributes of a tensor would put other bytes or another class instead of its own."""
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


def rebuild_on_device(args: Arguments) -> Any:
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


def tensor_class(args: Arguments) -> Any:
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


def _first(args: Arguments) -> Any:
    """``build_intlist([…])``, ``restore_type_tag(value, "List[int]")``: how TorchScript says the type of a list."""
    return args[0] if args else REFUSED


SCRIPT_MAKERS: dict[str, Maker] = {
    f"torch.jit._pickle {name}": _first
    for name in ("build_intlist", "build_doublelist", "build_boollist", "build_tensorlist", "restore_type_tag")
}
"""What only the loader of TorchScript archives calls: it knows these names, and no others of its module."""

TORCH_MAKERS: dict[str, Maker] = {
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
    "torch._utils _rebuild_device_tensor_from_numpy": rebuild_on_device,
    "torch._utils _rebuild_device_tensor_from_cpu_tensor": rebuild_on_device,
    "torch._utils _rebuild_xla_tensor": rebuild_on_device,
    "torch._tensor _rebuild_from_type_v2": _rebuild_from_type,
    "torch._tensor _rebuild_from_type": _rebuild_from_type,
    "torch.tensor _rebuild_from_type": _rebuild_from_type,
    "torch.nn.parameter Parameter": _rebuild_parameter,
    "torch.serialization _get_layout": _get_layout,
    "torch Size": _size,
}
"""Maker by the name of what is called."""
