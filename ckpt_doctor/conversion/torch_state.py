"""The state dict that a new torch file holds: built from what another held, with new tensors in their places."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

from ckpt_doctor.core.errors import ConversionError
from ckpt_doctor.core.weight_file import TensorInfo
from ckpt_doctor.formats.pickle_values import SCALARS, DictNode, Global, OpaqueNode, TensorNode

from .pickling import NewParameter, NewTensor, TorchDType
from .structure import MAX_DEPTH


def build(root: Any, tensors: Mapping[str, NewTensor]) -> Any:
    """What the nodes in ``root`` stand for; ``tensors`` holds each tensor by its full name.

    Of the attributes of dictionaries only the ``_metadata`` of state dicts is kept (the version numbers of modules).
    Raises ``ConversionError`` for objects of other classes.
    """
    return _Builder(tensors).build(root, "tensor" if type(root) is TensorNode else "", 0)


def nested(infos: Iterable[TensorInfo], tensors: Mapping[str, NewTensor]) -> dict[str, Any]:
    """Nothing but the tensors, in dictionaries as their paths say. Raises ``ConversionError`` if paths collide."""
    root: dict[str, Any] = {}
    for info in infos:
        *outer, last = info.path or (info.name,)
        place = root
        for key in outer:
            inner = place.setdefault(key, {})
            if type(inner) is not dict:
                raise ConversionError(f"{info.name} lies below another tensor")
            place = inner
        if last in place:
            raise ConversionError(f"two entries would be called {info.name}")
        place[last] = tensors[info.name]
    return root


class _Builder:
    def __init__(self, tensors: Mapping[str, NewTensor]) -> None:
        self.tensors = tensors
        self.made: dict[tuple[TensorNode, NewTensor], NewTensor | NewParameter] = {}

    def build(self, node: Any, name: str, depth: int) -> Any:
        if depth > MAX_DEPTH:
            raise ConversionError(f"{name} contains itself, or is nested more than {MAX_DEPTH} deep")
        kind = type(node)
        if kind in SCALARS:
            return node
        prefix = f"{name}." if name else ""
        if kind is list or kind is tuple:
            return kind(self.build(item, f"{prefix}{index}", depth + 1) for index, item in enumerate(node))
        if kind is DictNode:
            flat = iter(node.flat)
            result: dict[Any, Any] = OrderedDict() if node.ordered else {}
            if node.ordered and type(node.state) is DictNode and node.state.flat[0:1] == ["_metadata"]:
                result._metadata = self.build(node.state.flat[1], "_metadata", depth + 1)  # type: ignore[attr-defined]
            for key, value in zip(flat, flat, strict=True):
                if type(key) not in SCALARS:
                    raise ConversionError(f"{name or 'the object'} has a key that is not a plain value")
                result[key] = self.build(value, f"{prefix}{key}", depth + 1)
            return result
        if kind is TensorNode:
            return self._tensor(node, self.tensors[name])
        if kind is Global and node.role == "dtype" and node.dtype is not None:
            return TorchDType(node.dtype.name)
        if kind is OpaqueNode and node.role == "bytes":
            return node.parts[0][1].encode("latin1") if node.parts else b""
        what = node.type_name if kind is OpaqueNode else getattr(node, "dotted", kind.__name__)
        raise ConversionError(f"{name or 'the object'} is a {what}, which cannot be written without its class")

    def _tensor(self, node: TensorNode, tensor: NewTensor) -> NewTensor | NewParameter:
        """The tensor with what the node says of gradients. What was one object is one again."""
        if not node.parameter and not node.requires_grad:
            return tensor
        if (node, tensor) not in self.made:
            self.made[node, tensor] = (
                NewParameter(tensor, node.requires_grad) if node.parameter else replace(tensor, requires_grad=True)
            )
        return self.made[node, tensor]
