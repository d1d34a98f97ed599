"""Nested state and plain values, written into the metadata of a safetensors file and read from it again.

A safetensors file holds named tensors and strings. Whatever else a torch file held is kept in its metadata: a value
that stands in a dictionary as JSON under its dotted name, and, where that does not say everything, the shape of the
whole object under :data:`STRUCTURE`. That is JSON, too, in which these objects mean what JSON has no word for:
``{"$tensor": name}``, ``{"$value": name}`` (see the metadata entry of that name), ``{"$tuple": [...]}``,
``{"$float": "nan"}``, and ``{"$items": [[key, value], ...]}`` for dictionaries that have other keys than strings.
"""

from __future__ import annotations

import json
import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

from ckpt_doctor.core.errors import ConversionError
from ckpt_doctor.core.wording import counted, listed
from ckpt_doctor.formats.pickle_values import DictNode, OpaqueNode, TensorNode

STRUCTURE = "ckpt-doctor.structure"
"""The metadata entry that says how tensors and values are nested."""


class ObjectError(ConversionError):
    """Something in the file is an object of a class that is not there."""


MAX_DEPTH = 200
"""How deep an object may be nested; real checkpoints have a dozen levels."""
_MAX_BITS = 2_000  # torch.load(weights_only=True) reads integers of up to 255 bytes
_RESERVED = ("format", STRUCTURE)


@dataclass(slots=True)
class Flattened:
    """What was found in an object: ``tensors`` by dotted name, ``metadata`` to be written beside them.

    ``dropped`` names the values that JSON cannot hold, each with what it is.
    """

    tensors: dict[str, TensorNode] = field(default_factory=dict)
    metadata: dict[str, str] = field(default_factory=dict)
    values: list[str] = field(default_factory=list)
    dropped: dict[str, str] = field(default_factory=dict)


def flatten(root: Any, tensor_names: Collection[str], *, drop: bool) -> Flattened:
    """Take apart the object that a torch file holds; ``tensor_names`` are those that the file lists.

    Raises ``ConversionError`` if a name would stand for two things, where a tensor lies inside an object that was
    not built, and for values that JSON cannot hold unless ``drop`` is set.
    """
    walk = _Walk(tensor_names)
    # A tensor or value that is the whole file has the name that the readers give it.
    name = "tensor" if type(root) is TensorNode else "value"
    encoded = walk.encode(root, "" if type(root) in (DictNode, list, tuple) else name, 0, root=True)
    lost = [name for name in tensor_names if name not in walk.found.tensors]
    if lost:
        raise ObjectError(
            f"{counted(len(lost), 'tensor')} cannot be separated from the object that holds them: {listed(lost)}. "
            "Load the file and save plain tensors"
        )
    if walk.found.dropped and not drop:
        shown = listed(f"{name} ({kind})" for name, kind in walk.found.dropped.items())
        raise ObjectError(
            f"{counted(len(walk.found.dropped), 'value')} that neither safetensors nor JSON can hold: {shown}. "
            "--drop-non-tensors leaves them out"
        )
    if not _is_flat(encoded):
        walk.found.metadata[STRUCTURE] = _dumps(encoded)
    return walk.found


_LEFT_OUT = object()


class _Walk:
    """One way through an object, depth first."""

    def __init__(self, tensor_names: Collection[str]) -> None:
        self.names = frozenset(tensor_names)
        self.found = Flattened()
        self.open: set[int] = set()

    def encode(self, node: Any, name: str, depth: int, *, root: bool = False, listed: bool = False) -> Any:
        """The JSON for ``node``; ``listed`` says that it stands in a list, where nothing has a name of its own."""
        kind = type(node)
        if kind is TensorNode:
            if name in self.found.tensors:
                raise ConversionError(
                    f"two tensors would be called {name}: a dictionary in the file has a key with dots"
                )
            self.found.tensors[name] = node
            return {"$tensor": name}
        if node is None or kind in (str, bool):
            return node
        if kind is int and node.bit_length() <= _MAX_BITS:
            return node
        if kind is float:
            return node if math.isfinite(node) else {"$float": repr(node)}
        if kind is DictNode or kind is list or kind is tuple:
            if id(node) in self.open or depth > MAX_DEPTH:
                raise ConversionError(
                    f"{name or 'the object'} contains itself, or is nested more than {MAX_DEPTH} deep"
                )
            self.open.add(id(node))
            prefix = "" if root else f"{name}."
            encoded = (
                self.dictionary(node, prefix, depth, listed) if kind is DictNode else self.sequence(node, prefix, depth)
            )
            self.open.discard(id(node))
            return encoded
        self.found.dropped[name] = node.type_name if kind is OpaqueNode else _type_name(node)
        return _LEFT_OUT

    def dictionary(self, node: DictNode, prefix: str, depth: int, listed: bool) -> Any:
        flat = iter(node.flat)
        items: dict[Any, Any] = {}
        for key, value in zip(flat, flat, strict=True):
            if type(key) not in (str, int, float, bool, type(None)) or (type(key) is int and key.bit_length() > 256):
                raise ConversionError(f"{prefix or 'the object'} has a key that JSON cannot hold: {_type_name(key)}")
            items[type(key), key] = value  # True and 1 are one key to Python, and so was one of them when it was saved
        pairs = []
        for (_, key), value in items.items():
            name = f"{prefix}{key}"
            before = len(self.found.tensors)
            encoded = self.encode(value, name, depth + 1, listed=listed)
            if encoded is not _LEFT_OUT:
                inline = listed or type(value) is DictNode or len(self.found.tensors) > before
                pairs.append((key, encoded if inline else self.value(name, encoded)))
        if all(type(key) is str and not key.startswith("$") for key, _ in pairs):
            return dict(pairs)
        return {"$items": [list(pair) for pair in pairs]}

    def sequence(self, node: list[Any] | tuple[Any, ...], prefix: str, depth: int) -> Any:
        encoded = [self.encode(item, f"{prefix}{index}", depth + 1, listed=True) for index, item in enumerate(node)]
        # The other elements must not move up: whoever reads the list counts them.
        encoded = [None if item is _LEFT_OUT else item for item in encoded]
        return {"$tuple": encoded} if type(node) is tuple else encoded

    def value(self, name: str, encoded: Any) -> Any:
        """Put a value that is no dictionary under its own name, where nothing else has that name."""
        metadata = self.found.metadata
        if name in self.names or name in metadata or name in _RESERVED or not name.isprintable() or not name:
            return encoded
        text = _dumps(encoded)
        if text in self.names:
            return encoded  # an entry with the name of a tensor says that the two are one
        self.found.values.append(name)
        metadata[name] = text
        return {"$value": name}


def _is_flat(encoded: Any) -> bool:
    """True if this is a plain dictionary of tensors under their own names, of which nothing needs to be recorded."""
    return type(encoded) is dict and all(entry == {"$tensor": key} for key, entry in encoded.items())


def _dumps(value: Any) -> str:
    return json.dumps(value, separators=(",", ":"))


def _type_name(node: Any) -> str:
    return getattr(node, "dotted", None) or type(node).__name__


def rebuild(metadata: Mapping[str, str], tensors: Mapping[str, Any]) -> Any:
    """The object that :func:`flatten` took apart, with the values of ``tensors`` instead of its tensors.

    Without a record it is a plain dictionary of all tensors. Raises ``ConversionError`` for a record that makes no
    sense: a file may say anything.
    """
    if STRUCTURE not in metadata:
        return dict(tensors)
    used: set[str] = set()
    values = dict(metadata)

    def decode(encoded: Any) -> Any:
        if type(encoded) is list:
            return [decode(item) for item in encoded]
        if type(encoded) is int and encoded.bit_length() > _MAX_BITS:
            raise ValueError("torch could not read it back")
        if type(encoded) is not dict:
            return encoded
        tag = next(iter(encoded), "") if len(encoded) == 1 else ""
        content: Any = encoded.get(tag)
        if tag == "$tensor":
            used.add(content)
            return tensors[content]
        if tag == "$value":
            # Each stands in one place: values that refer to others twice over could grow without end.
            return decode(json.loads(values.pop(content)))
        if tag == "$tuple":
            return tuple(decode(item) for item in content)
        if tag == "$float":
            return float(content)
        if tag == "$items":
            return {key: decode(item) for key, item in content}
        return {key: decode(item) for key, item in encoded.items()}

    try:
        result = decode(json.loads(metadata[STRUCTURE]))
    except (KeyError, TypeError, ValueError, RecursionError) as problem:
        raise ConversionError(f"its metadata entry {STRUCTURE} is damaged ({type(problem).__name__})") from None
    forgotten = [name for name in tensors if name not in used]
    if forgotten:
        raise ConversionError(f"its metadata entry {STRUCTURE} does not name the place of: {listed(forgotten)}")
    return result
