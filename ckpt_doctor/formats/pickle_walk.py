"""From what a pickle made to named tensors and values: a walk through nested dictionaries and lists."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from ckpt_doctor.core.defects import DefectKind
from ckpt_doctor.core.weight_file import OpaqueValue

from .pickle_modules import NO_CLASSES, Classes, module_parts
from .pickle_values import SCALARS, Budget, DictNode, Global, OpaqueNode, PickleError, StorageRef, TensorNode
from .torch_makers import BROKEN

LONG_LIST = 1000
"""A list of more plain values than this is kept as one value: nobody looks for its elements by name."""

Children = Iterator[tuple[str | None, Any]]
"""Keys and what stands under them; the key ``None`` adds nothing to the name."""

_NO_PATH: tuple[str, ...] = ()

_WITHOUT_WEIGHTS = frozenset({"torch.distributed.device_mesh.DeviceMesh"})
"""Objects whose tensors are no weights: the mesh that all DTensors of a file share counts devices."""


class _Hidden:
    """A part whose plain values are no entries of the file: an argument, the attributes of a dictionary."""

    __slots__ = ("part",)

    def __init__(self, part: Any) -> None:
        self.part = part


class _Module:
    """A part of a pickled module, which goes on with the names of its state dict."""

    __slots__ = ("node", "outside")

    def __init__(self, node: Any, outside: bool) -> None:
        self.node = node
        self.outside = outside


class Harvest:
    """What was found, in the order of the pickle. Names are dotted paths; ``broken`` are tensors that make no sense.

    ``storages`` are those that were saved for themselves. ``plain`` says that there was one dictionary of tensors with
    strings as keys, and nothing else. ``outside`` are the names of tensors that a module holds beside its state dict.
    """

    def __init__(self) -> None:
        self.tensors: list[tuple[str, tuple[str, ...], TensorNode]] = []
        self.values: dict[str, Any] = {}
        self.broken: list[str] = []
        self.storages: list[StorageRef] = []
        self.plain = False
        self.outside: list[str] = []


def harvest(root: Any, budget: Budget, classes: Classes = NO_CLASSES) -> Harvest:
    """Every tensor below ``root``, and every plain value that is not a mere argument or attribute.

    A tensor that is the whole file is called ``tensor``, a value ``value``. Shared parts are met once on each path,
    cycles once. The tensors of a pickled module have the names of its ``state_dict()``, of which ``classes`` tells what
    TorchScript says about it. Raises :class:`PickleError` where that would take more than ``budget``.
    """
    found = Harvest()
    found.plain = _is_plain(root)
    if type(root) in (DictNode, list, tuple):
        _walk(iter(((None, root),)), found, budget, classes)
    elif type(root) is OpaqueNode and root.parts and root.role != "bytes":
        if module_parts(root, classes) is not None:
            _walk(iter(((None, root),)), found, budget, classes)
        else:
            # An object, such as saved training arguments: its attributes are the entries.
            _walk(_attributes(root), found, budget, classes)
    else:
        _walk(iter((("tensor" if type(root) is TensorNode else "value", root),)), found, budget, classes)
    _forget_copies(found)
    return found


def _forget_copies(found: Harvest) -> None:
    """Take out tensors beside a state dict that are the same as one in it, as in an RNN's ``_flat_weights``."""
    if not found.outside:
        return
    outside = set(found.outside)
    views = {_view(node) for name, _, node in found.tensors if name not in outside}
    copies = {name for name, _, node in found.tensors if name in outside and _view(node) in views}
    found.tensors = [entry for entry in found.tensors if entry[0] not in copies]
    found.outside = [name for name in found.outside if name not in copies]


def _view(node: TensorNode) -> tuple[object, ...]:
    key = node.storage.key if node.storage is not None else id(node)
    # What a file made up need not be hashable.
    sizes = (
        part if type(part) is tuple and all(type(n) is int for n in part) else id(part)
        for part in (node.shape, node.stride)
    )
    return (key, node.dtype.name, str(node.offset), *sizes)


def _is_plain(root: Any) -> bool:
    if type(root) is not DictNode:
        return False
    keys, values = root.flat[0::2], root.flat[1::2]
    return all(type(key) is str for key in keys) and all(
        type(value) is TensorNode and value.extra is None for value in values
    )


def _walk(below: Children, found: Harvest, budget: Budget, classes: Classes) -> None:
    visits, characters = budget.visits, budget.characters
    prefix, path, keep, owner = "", _NO_PATH, True, None
    # Inside a module, names grow from this number of keys on, as one key; and whether its state dict has them.
    flat: int | None = None
    outside = False
    open_frames: list[tuple[Children, str, tuple[str, ...], bool, Any, int | None, bool]] = []
    entered: set[int] = set()
    values = found.values
    while True:
        for key, node in below:
            visits -= 1
            if visits < 0:
                raise PickleError(DefectKind.RESOURCE_BOMB, "its parts contain each other too many times")
            if key is None:
                name, here = prefix, path
            else:
                name = f"{prefix}.{key}" if path else key
                here = (*path, key) if flat is None or len(path) == flat else (*path[:flat], f"{path[flat]}.{key}")
                characters -= len(name) + 8 * len(here)
                if characters < 0:
                    raise PickleError(DefectKind.RESOURCE_BOMB, "its names expand to far more text than it holds")
            kind = type(node)
            inner_flat, inner_outside = flat, outside
            if kind is _Module:
                inner_outside = outside or node.outside
                node = node.node
                kind = type(node)
            if kind is TensorNode:
                found.tensors.append((name, here, node))
                if inner_outside:
                    found.outside.append(name)
                if node.extra is None:
                    continue
                inner, inner_keep = _state(node.extra), False
            elif kind in SCALARS:
                if keep:
                    values[name] = node
                continue
            elif kind is DictNode:
                inner, inner_keep = _items(node), keep
            elif kind is list or kind is tuple:
                if len(node) > LONG_LIST and SCALARS.issuperset(map(type, node)):
                    visits -= len(node)
                    if keep:
                        values[name] = tuple(node)
                    continue
                inner, inner_keep = ((str(index), item) for index, item in enumerate(node)), keep
            elif kind is OpaqueNode:
                if node.type_name == BROKEN:
                    found.broken.append(name)
                    continue
                if node.role == "bytes":
                    if keep:
                        characters -= len(node.parts[0][1])
                        values[name] = _bytes(node)
                    continue
                if keep and here:
                    values[name] = OpaqueValue(node.type_name)
                if not node.parts or node.type_name in _WITHOUT_WEIGHTS:
                    continue
                parts = module_parts(node, classes)
                if parts is None:
                    inner, inner_keep = _attributes(node), keep
                else:
                    visits -= parts.cost
                    inner = ((child.name, _Module(child.node, not child.counts)) for child in parts.children)
                    inner_keep = False
                    inner_flat = len(here) if flat is None else flat
            elif kind is _Hidden:
                inner, inner_keep = iter(((None, node.part),)), False
            else:
                if kind is StorageRef:
                    found.storages.append(node)
                if keep:
                    values[name] = OpaqueValue(_type_name(node))
                continue
            if id(node) in entered:
                continue
            if len(open_frames) >= budget.depth:
                raise PickleError(DefectKind.RESOURCE_BOMB, f"its parts are nested more than {budget.depth} deep")
            open_frames.append((below, prefix, path, keep, owner, flat, outside))
            owner = node
            entered.add(id(owner))
            below, prefix, path, keep = inner, name, here, inner_keep
            flat, outside = inner_flat, inner_outside
            break
        else:
            if not open_frames:
                return
            entered.discard(id(owner))
            below, prefix, path, keep, owner, flat, outside = open_frames.pop()


def _items(node: DictNode) -> Children:
    """The items of a dictionary; where a key stands twice the last one counts, as in Python."""
    chosen: dict[tuple[type, str], Any] = {}
    flat = iter(node.flat)
    for key, value in zip(flat, flat, strict=True):
        chosen[type(key), key if type(key) is str else _key_text(key)] = value
    for (_, text), value in chosen.items():
        yield text, value
    if node.state is not None:
        # What ``state_dict`` keeps beside its entries, such as the versions of modules in ``_metadata``.
        for label, part in _state(node.state):
            yield label, _Hidden(part)


def _attributes(node: OpaqueNode) -> Children:
    """The attributes of an object as its children, and whatever else it was made of in case there is a tensor in it."""
    for label, part in node.parts:
        if not label:
            yield from _state(part)
        elif type(part) is TensorNode:
            yield label, part
        else:
            yield label, _Hidden(part)


def _state(state: Any) -> Children:
    """What BUILD was given: a dictionary of attributes, or that and one for slots, or anything else."""
    if type(state) is DictNode:
        yield from _items(state)
    elif type(state) is tuple and len(state) == 2 and all(type(part) in (DictNode, type(None)) for part in state):
        for part in state:
            if part is not None:
                yield from _items(part)
    else:
        yield "state", state


def _key_text(key: Any) -> str:
    """A key that is no string, as part of a name. Long ones are described: they are no names."""
    if type(key) is int:
        return str(key) if key.bit_length() <= 256 else f"<integer of {key.bit_length()} bits>"
    if type(key) is bytes:
        return key.decode("latin-1") if len(key) <= 256 else f"<{len(key)} bytes>"
    if type(key) is tuple and len(key) <= 16 and all(type(part) in (str, int, bool, type(None)) for part in key):
        return "(" + ", ".join(part if type(part) is str else _key_text(part) for part in key) + ")"
    if type(key) in SCALARS:
        return str(key)
    if type(key) is OpaqueNode and key.role == "bytes" and len(key.parts[0][1]) <= 256:
        return str(key.parts[0][1])
    return f"<{_type_name(key)}>"


def _bytes(node: OpaqueNode) -> bytes | OpaqueValue:
    try:
        text: str = node.parts[0][1]
        return text.encode("latin-1")
    except UnicodeEncodeError:
        return OpaqueValue(node.type_name)


def _type_name(node: Any) -> str:
    if type(node) is Global:
        return node.dotted
    if type(node) is OpaqueNode:
        return node.type_name
    return "torch.UntypedStorage" if type(node) is StorageRef else type(node).__name__
