"""What is left of a saved object without its classes: tensors, and plain values in dictionaries, lists and tuples.

A pickled module becomes its ``state_dict()``; a path, a numpy scalar or a configuration becomes the plain value that it
means. Nothing is imported or called. What has no plain form is left out, and named.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import PurePosixPath, PureWindowsPath
from typing import Any

from ckpt_doctor.core.errors import ConversionError
from ckpt_doctor.core.weight_file import TensorInfo, WeightFile
from ckpt_doctor.formats.pickle_modules import SCRIPT_PREFIX, module_parts
from ckpt_doctor.formats.pickle_values import SCALARS, DictNode, Global, OpaqueNode, TensorNode

from .structure import MAX_DEPTH

MAX_RANGE = 1000
"""A range of more numbers than this is no list that anybody wrote down."""


@dataclass(slots=True)
class Plain:
    """A plain object. ``file`` lists the tensors in it, ``dropped`` names what was left out, each with what it is."""

    tree: Any
    file: WeightFile
    dropped: dict[str, str] = field(default_factory=dict)


def state_tensors(file: WeightFile) -> WeightFile:
    """The file without the tensors that a pickled module holds beside its state dict, unless it holds no others."""
    return file._replace(tensors=file.state)


def plain_object(root: Any, file: WeightFile) -> Plain:
    """The plain form of the object ``root`` that ``file`` holds. Raises ``ConversionError`` if it has none."""
    kept = state_tensors(file)
    walk = _Walk(kept)
    tree = walk.plain(root, (), 0)
    names = {tensor.name for tensor in kept.tensors}
    dropped = dict(walk.dropped)
    dropped.update((name, "beside the state dict") for name in file.outside if name not in names)
    if type(tree) is TensorNode or not walk.found:
        # A tensor by itself has the name that the readers give it.
        walk.found.update(names if type(tree) is TensorNode else ())
    lost = [tensor.name for tensor in kept.tensors if tensor.name not in walk.found]
    dropped.update((name, "a tensor inside an object") for name in lost)
    kept = kept._replace(tensors=tuple(tensor for tensor in kept.tensors if tensor.name in walk.found))
    if not kept.tensors:
        raise ConversionError("it holds no tensors")
    return Plain(tree, kept, dropped)


_LEFT_OUT = object()
_Path = tuple[str, ...]


class _Walk:
    """One way through an object, depth first."""

    def __init__(self, file: WeightFile) -> None:
        self.dropped: dict[str, str] = {}
        self.found: set[str] = set()
        self.tensors = file.by_name
        self.below: dict[_Path, list[TensorInfo]] = {}
        for tensor in file.tensors:
            path = tensor.path or (tensor.name,)
            for length in range(len(path)):
                self.below.setdefault(path[:length], []).append(tensor)

    def plain(self, node: Any, path: _Path, depth: int) -> Any:
        """The plain form of ``node``, or ``_LEFT_OUT``."""
        if depth > MAX_DEPTH:
            raise ConversionError(f"{'.'.join(path[:8])} contains itself, or is nested more than {MAX_DEPTH} deep")
        kind = type(node)
        if kind in SCALARS or (kind is Global and node.role == "dtype"):
            return node
        if kind is TensorNode:
            return self.tensor(node, path)
        if kind is DictNode:
            return self.dictionary(node, path, depth)
        if kind is list or kind is tuple:
            return kind(self.elements(node, path, depth))
        if kind is OpaqueNode:
            return self.object(node, path, depth)
        return self.left_out(path, getattr(node, "dotted", kind.__name__))

    def tensor(self, node: TensorNode, path: _Path) -> Any:
        name = ".".join(path) if path else "tensor"
        if name not in self.tensors:
            return self.left_out(path, "a tensor that cannot be described")
        self.found.add(name)
        return node

    def dictionary(self, node: DictNode, path: _Path, depth: int) -> DictNode:
        made = DictNode()
        made.ordered, made.state = node.ordered, node.state if node.ordered else None
        flat = iter(node.flat)
        for key, value in zip(flat, flat, strict=True):
            if type(key) not in SCALARS:
                self.left_out((*path, "<a key>"), getattr(key, "type_name", type(key).__name__))
                continue
            text = key.decode("latin-1") if type(key) is bytes else str(key)
            plain = self.plain(value, (*path, text), depth + 1)
            if plain is not _LEFT_OUT:
                made.flat += [key, plain]
        return made

    def elements(self, nodes: Sequence[Any], path: _Path, depth: int) -> list[Any]:
        plain = [self.plain(node, (*path, str(index)), depth + 1) for index, node in enumerate(nodes)]
        # The other elements must not move up: whoever reads the list counts them.
        return [None if node is _LEFT_OUT else node for node in plain]

    def object(self, node: OpaqueNode, path: _Path, depth: int) -> Any:
        if node.role == "bytes":
            return node
        if node.type_name.startswith(SCRIPT_PREFIX) or module_parts(node, {}) is not None:
            return self.module(node, path)
        value = self.value(node, path, depth)
        if value is _LEFT_OUT and path in self.below:
            return self.parts(path)
        return self.left_out(path, node.type_name) if value is _LEFT_OUT else value

    def module(self, node: OpaqueNode, path: _Path) -> Any:
        """The state dict of a module, whose tensors the reader named already."""
        if path not in self.below:
            return self.left_out(path, node.type_name)
        state = DictNode()
        state.ordered = True
        for tensor in self.below[path]:
            if len(tensor.path) <= len(path) + 1:
                self.found.add(tensor.name)
                state.flat += [(tensor.path or (tensor.name,))[-1], _node(tensor)]
        return state

    def parts(self, path: _Path) -> DictNode:
        """The tensors inside an object of another kind, in dictionaries as their paths say."""
        root: dict[str, Any] = {}
        for tensor in self.below[path]:
            *outer, last = tensor.path[len(path) :]
            place: Any = root
            for key in outer:
                place = place.setdefault(key, {}) if type(place) is dict else None
            if type(place) is dict and last not in place:
                place[last] = _node(tensor)
                self.found.add(tensor.name)
        return _dict_node(root)

    def value(self, node: OpaqueNode, path: _Path, depth: int) -> Any:
        """The text that an object of a known class means, if that is plain."""
        name = node.type_name
        args = next((part for label, part in node.parts if label == "args" and type(part) is tuple), ())
        if name in ("numpy.core.multiarray.scalar", "numpy._core.multiarray.scalar"):
            return _numpy_scalar(args)
        if name.startswith("pathlib.") and all(type(arg) is str for arg in args):
            return str((PureWindowsPath if "Windows" in name else PurePosixPath)(*args))
        if name == "builtins.range" and args and all(type(arg) is int and abs(arg) < 1 << 62 for arg in args):
            numbers = range(*args[:2], *(arg or 1 for arg in args[2:3]))
            return list(numbers) if len(numbers) <= MAX_RANGE else _LEFT_OUT
        if name == "torch.device" and args and type(args[0]) is str:
            return ":".join(map(str, args[:2]))
        if name == "torch.torch_version.TorchVersion" and args and type(args[0]) is str:
            return args[0]
        if name in ("builtins.set", "builtins.frozenset"):
            # Neither JSON nor safetensors has sets.
            return self.elements(_items(node, args), path, depth)
        if node.role == "sequence":
            return self.elements(_items(node, args), path, depth)
        if node.role == "mapping" or name in ("argparse.Namespace", "types.SimpleNamespace"):
            return self.dictionary(_attributes(node), path, depth)
        if name.startswith("omegaconf."):
            return self.configuration(node, path, depth)
        if node.role == "value" and node.parts and node.parts[0][0] == "value":
            return node.parts[0][1]  # of an enum
        return _LEFT_OUT

    def configuration(self, node: OpaqueNode, path: _Path, depth: int) -> Any:
        """omegaconf keeps what a configuration says in ``_content``, and a single value in ``_val``."""
        attributes = _attributes(node)
        flat = iter(attributes.flat)
        found = {key: value for key, value in zip(flat, flat, strict=True) if key in ("_content", "_val")}
        if len(found) != 1:
            return _LEFT_OUT
        return self.plain(next(iter(found.values())), path, depth + 1)

    def left_out(self, path: _Path, what: str) -> Any:
        self.dropped[".".join(path) or "value"] = what
        return _LEFT_OUT


def _node(tensor: TensorInfo) -> TensorNode:
    """A tensor as a state dict holds it: without its gradient."""
    return TensorNode(None, tensor.dtype, tensor.shape, tensor.stride, 0, False)


def _dict_node(items: dict[str, Any]) -> DictNode:
    node = DictNode()
    for key, value in items.items():
        node.flat += [key, _dict_node(value) if type(value) is dict else value]
    return node


def _items(node: OpaqueNode, args: tuple[Any, ...]) -> list[Any]:
    """The elements of a set or list: those it was made of, and those that were added."""
    first = list(args[0]) if args and type(args[0]) in (list, tuple) else []
    added = (part for label, part in node.parts if label == "items" and type(part) is list)
    return [*first, *(item for part in added for item in part)]


def _attributes(node: OpaqueNode) -> DictNode:
    """The attributes of an object, or the items of a mapping."""
    made = DictNode()
    for label, part in node.parts:
        state = part[0] if not label and type(part) is tuple and part else part
        if not label and type(state) is DictNode:
            made.flat += state.flat
        elif label == "args" and type(part) is tuple and part and type(part[0]) is DictNode:
            made.flat += part[0].flat
    return made


_CODES = {
    **{"f2": "e", "f4": "f", "f8": "d", "b1": "?", "c8": "ff", "c16": "dd"},
    **dict(zip(("i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8"), "bhiqBHIQ", strict=True)),
}


def _numpy_scalar(args: tuple[Any, ...]) -> Any:
    """``scalar(dtype, bytes)`` as a number of Python."""
    if len(args) != 2 or type(args[0]) is not OpaqueNode:
        return _LEFT_OUT
    dtype, raw = args
    if type(raw) is OpaqueNode and raw.role == "bytes":
        raw = raw.parts[0][1].encode("latin-1", "replace") if raw.parts else b""
    made_of = next((part for label, part in dtype.parts if label == "args"), ())
    code = _CODES.get(made_of[0]) if made_of and type(made_of[0]) is str else None
    state = next((part for label, part in dtype.parts if not label and type(part) is tuple), ())
    order = ">" if len(state) > 1 and state[1] == ">" else "<"
    if code is None or type(raw) is not bytes or len(raw) != struct.calcsize(order + code):
        return _LEFT_OUT
    numbers = struct.unpack(order + code, raw)
    return complex(*numbers) if len(numbers) == 2 else numbers[0]
