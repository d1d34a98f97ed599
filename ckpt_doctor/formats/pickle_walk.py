"""From what a pickle made to named tensors and values: a walk through nested dictionaries and lists."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeAlias

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
    _Walk(found, budget, classes).run(_roots(root, classes))
    _forget_copies(found)
    return found


def _roots(root: Any, classes: Classes) -> Children:
    """What the walk begins with: an object, such as saved training arguments, has its attributes as entries."""
    if type(root) is OpaqueNode and root.parts and root.role != "bytes":
        return _attributes(root) if module_parts(root, classes) is None else iter(((None, root),))
    if type(root) in (DictNode, list, tuple):
        return iter(((None, root),))
    return iter((("tensor" if type(root) is TensorNode else "value", root),))


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


class _Part:
    """A part that has children: its name, its path, and what holds for everything in it.

    ``keep`` says that its plain values are entries of the file. Inside a module, names grow from ``flat`` keys on as
    one key, and ``outside`` says that the module's state dict does not have them.
    """

    __slots__ = ("children", "flat", "keep", "name", "node", "outside", "path")

    def __init__(self, node: Any, name: str, path: tuple[str, ...], flat: int | None, outside: bool) -> None:
        self.node = node
        self.name = name
        self.path = path
        self.flat = flat
        self.outside = outside
        self.keep = False
        self.children: Children = iter(())

    def path_of(self, key: str) -> tuple[str, ...]:
        """The path of the child under ``key``."""
        path, flat = self.path, self.flat
        return (*path, key) if flat is None or len(path) == flat else (*path[:flat], f"{path[flat]}.{key}")

    def holding(self, children: Children, *, keep: bool) -> _Part:
        """The same, with its children."""
        self.children = children
        self.keep = keep
        return self


class _Walk:
    """One walk through what a pickle made: what it has found, and what it may still spend.

    A step takes one node, with its name, its path and the part it lies in. It returns the node as a part where that has
    children to be met.
    """

    def __init__(self, found: Harvest, budget: Budget, classes: Classes) -> None:
        self.found = found
        self.classes = classes
        self.visits = budget.visits
        self.characters = budget.characters
        self.depth = budget.depth
        self.entered: set[int] = set()

    def run(self, children: Children) -> None:
        """Meet ``children`` and everything below them, in order. Raises :class:`PickleError`."""
        top = _Part(None, "", _NO_PATH, None, False).holding(children, keep=True)
        open_parts = [top]
        while open_parts:
            inner = self._next_part(open_parts[-1])
            if inner is None:
                self.entered.discard(id(open_parts.pop().node))
                continue
            if len(open_parts) > self.depth:
                raise PickleError(DefectKind.RESOURCE_BOMB, f"its parts are nested more than {self.depth} deep")
            self.entered.add(id(inner.node))
            open_parts.append(inner)

    def _next_part(self, owner: _Part) -> _Part | None:
        """Meet the children of ``owner`` up to one that has children of its own: these come before the others."""
        prefix, path, outside = owner.name, owner.path, owner.outside
        nested, grows = bool(path), owner.flat is not None
        for key, node in owner.children:
            self.visits -= 1
            if self.visits < 0:
                raise PickleError(DefectKind.RESOURCE_BOMB, "its parts contain each other too many times")
            name, here = prefix, path
            if key is not None:
                name = f"{prefix}.{key}" if nested else key
                here = owner.path_of(key) if grows else (*path, key)
                self.characters -= len(name) + 8 * len(here)
                if self.characters < 0:
                    raise PickleError(DefectKind.RESOURCE_BOMB, "its names expand to far more text than it holds")
            kind = type(node)
            if kind is TensorNode and node.extra is None and not outside:
                self.found.tensors.append((name, here, node))  # nearly every node: it needs no step
                continue
            inner = _STEPS.get(kind, _Walk._other)(self, node, name, here, owner)
            if inner is not None and id(inner.node) not in self.entered:
                return inner
        return None

    def _tensor(self, node: TensorNode, name: str, here: tuple[str, ...], owner: _Part) -> _Part | None:
        self.found.tensors.append((name, here, node))
        if owner.outside:
            self.found.outside.append(name)
        if node.extra is None:
            return None
        return _Part(node, name, here, owner.flat, owner.outside).holding(_state(node.extra), keep=False)

    def _value(self, node: Any, name: str, here: tuple[str, ...], owner: _Part) -> None:
        if owner.keep:
            self.found.values[name] = node

    def _dictionary(self, node: DictNode, name: str, here: tuple[str, ...], owner: _Part) -> _Part:
        return _Part(node, name, here, owner.flat, owner.outside).holding(_items(node), keep=owner.keep)

    def _sequence(self, node: Sequence[Any], name: str, here: tuple[str, ...], owner: _Part) -> _Part | None:
        if len(node) > LONG_LIST and SCALARS.issuperset(map(type, node)):
            self.visits -= len(node)
            if owner.keep:
                self.found.values[name] = tuple(node)
            return None
        children = ((str(index), item) for index, item in enumerate(node))
        return _Part(node, name, here, owner.flat, owner.outside).holding(children, keep=owner.keep)

    def _opaque(self, node: OpaqueNode, name: str, here: tuple[str, ...], owner: _Part) -> _Part | None:
        if node.type_name == BROKEN:
            self.found.broken.append(name)
            return None
        if node.role == "bytes":
            if owner.keep:
                self.characters -= len(node.parts[0][1])
                self.found.values[name] = _bytes(node)
            return None
        if owner.keep and here:
            self.found.values[name] = OpaqueValue(node.type_name)
        if not node.parts or node.type_name in _WITHOUT_WEIGHTS:
            return None
        return self._object(node, name, here, owner)

    def _object(self, node: OpaqueNode, name: str, here: tuple[str, ...], owner: _Part) -> _Part:
        parts = module_parts(node, self.classes)
        if parts is None:
            return _Part(node, name, here, owner.flat, owner.outside).holding(_attributes(node), keep=owner.keep)
        self.visits -= parts.cost
        children = ((child.name, _Module(child.node, not child.counts)) for child in parts.children)
        flat = len(here) if owner.flat is None else owner.flat
        return _Part(node, name, here, flat, owner.outside).holding(children, keep=False)

    def _module(self, node: _Module, name: str, here: tuple[str, ...], owner: _Part) -> _Part | None:
        """What the part of a module is by itself, in or outside of its state dict."""
        if node.outside and not owner.outside:
            owner = _Part(owner.node, owner.name, owner.path, owner.flat, True).holding(iter(()), keep=owner.keep)
        return _STEPS.get(type(node.node), _Walk._other)(self, node.node, name, here, owner)

    def _hidden(self, node: _Hidden, name: str, here: tuple[str, ...], owner: _Part) -> _Part:
        return _Part(node, name, here, owner.flat, owner.outside).holding(iter(((None, node.part),)), keep=False)

    def _storage(self, node: StorageRef, name: str, here: tuple[str, ...], owner: _Part) -> None:
        self.found.storages.append(node)
        self._other(node, name, here, owner)

    def _other(self, node: Any, name: str, here: tuple[str, ...], owner: _Part) -> None:
        if owner.keep:
            self.found.values[name] = OpaqueValue(_type_name(node))


_Step: TypeAlias = Callable[[_Walk, Any, str, "tuple[str, ...]", _Part], "_Part | None"]

_STEPS: dict[type, _Step] = {
    **dict.fromkeys(SCALARS, _Walk._value),
    TensorNode: _Walk._tensor,
    DictNode: _Walk._dictionary,
    list: _Walk._sequence,
    tuple: _Walk._sequence,
    OpaqueNode: _Walk._opaque,
    StorageRef: _Walk._storage,
    _Module: _Walk._module,
    _Hidden: _Walk._hidden,
}


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
