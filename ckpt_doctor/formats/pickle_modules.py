"""Pickled modules: which of their tensors are their ``state_dict()``, and by which names.

A whole module that was saved by ``torch.save(module)`` holds its parameters, buffers and submodules in the attributes
``_parameters``, ``_buffers`` and ``_modules`` (``torch/nn/modules/module.py``). A TorchScript archive holds them as
plain attributes; which of these are parameters or buffers stands in the code of the class.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from .pickle_values import DictNode, OpaqueNode, TensorNode

SCRIPT_PREFIX = "__torch__."
"""How the names of all classes of a TorchScript archive begin."""

Classes = Mapping[str, frozenset[str]]
"""The names of parameters and buffers by the name of the TorchScript class."""

NO_CLASSES: Classes = {}
"""For what is no TorchScript archive."""


class Child(NamedTuple):
    """A part of a module. ``counts`` says whether its tensors belong to the state dict."""

    name: str
    node: Any
    counts: bool


class Parts(NamedTuple):
    """The parts of a module in the order of its ``state_dict()``, then what else it holds.

    ``cost`` counts what was looked at to find them: parts may share dictionaries, of which each takes its time again.
    """

    cost: int
    children: Iterator[Child]


def module_parts(node: Any, classes: Classes) -> Parts | None:
    """The parts of a module; ``None`` for anything else."""
    if type(node) is not OpaqueNode:
        return None
    if node.type_name == _GRAPH_MODULE:
        state = _first_argument(node)
        return _parts(node, state, classes) if type(state) is DictNode else None
    # What BUILD was given comes last.
    for label, part in reversed(node.parts):
        if not label:
            state = part[0] if type(part) is tuple and len(part) == 2 else part
            return _parts(node, state, classes) if type(state) is DictNode else None
    return None


# What makes a module that torch.fx traced: from its attributes, and the code of its forward (torch/fx/graph_module.py).
_GRAPH_MODULE = "torch.fx.graph_module.reduce_graph_module"


def _first_argument(node: OpaqueNode) -> Any:
    """What stands first in the call that made an object."""
    arguments: Any = next((part for label, part in node.parts if label == "args"), ())
    return arguments[0] if type(arguments) is tuple and arguments else None


def _parts(node: OpaqueNode, state: DictNode, classes: Classes) -> Parts | None:
    attributes = _text_items(state)
    cost = len(state.flat)
    if node.type_name.startswith(SCRIPT_PREFIX):
        return Parts(cost, _script_children(attributes, classes.get(node.type_name)))
    kept = [attributes.get(key) for key in ("_parameters", "_buffers", "_modules")]
    if not all(type(part) is DictNode for part in kept):
        return None
    return Parts(cost + sum(len(part.flat) for part in kept if part is not None), _module_children(attributes))


def _module_children(attributes: dict[str, Any]) -> Iterator[Child]:
    temporary = _members(attributes.get("_non_persistent_buffers_set"))
    for name, value in _text_items(attributes["_parameters"]).items():
        yield Child(name, value, True)
    for name, value in _text_items(attributes["_buffers"]).items():
        yield Child(name, value, name not in temporary)
    for name, value in _text_items(attributes["_modules"]).items():
        yield Child(name, value, True)
    for name, value in attributes.items():
        if name not in ("_parameters", "_buffers", "_modules", "_non_persistent_buffers_set"):
            yield Child(name, value, False)


def _script_children(attributes: dict[str, Any], state: frozenset[str] | None) -> Iterator[Child]:
    for name, value in attributes.items():
        if type(value) is TensorNode:
            yield Child(name, value, state is None or name in state)
        else:
            # Lists of tensors, such as an RNN's _flat_weights, are attributes; objects are submodules.
            yield Child(name, value, type(value) is OpaqueNode and value.type_name.startswith(SCRIPT_PREFIX))


def _text_items(node: Any) -> dict[str, Any]:
    """The items whose keys are text; the last one counts where a key stands twice, as in Python."""
    if type(node) is not DictNode:
        return {}
    flat = iter(node.flat)
    return {key: value for key, value in zip(flat, flat, strict=True) if type(key) is str}


def _members(node: Any) -> frozenset[str]:
    """The strings in a set, as protocols 2 (a call with a list) and 4 (elements that are added) pickle it."""
    found: set[str] = set()
    if type(node) is OpaqueNode and node.type_name == "builtins.set":
        for _, part in node.parts:
            for items in part if type(part) is tuple else (part,):
                if type(items) is list:
                    found.update(item for item in items if type(item) is str)
    return frozenset(found)


_CLASS = re.compile(
    r"^class (\w+)\(Module\):\n  __parameters__ = \[([^\n]*)\]\n  __buffers__ = \[([^\n]*)\]$", re.MULTILINE
)
_QUOTED = re.compile(r'"((?:[^"\\\n]|\\.)*)"')


def script_classes(module: str, code: str) -> dict[str, frozenset[str]]:
    """The names of the parameters and buffers of each class in the TorchScript source ``code`` of ``module``.

    The source is printed by torch (``torch/csrc/jit/serialization/python_print.cpp``), always in the same form; it is
    never run.
    """
    return {
        f"{module}.{name}": frozenset(_QUOTED.findall(parameters)) | frozenset(_QUOTED.findall(buffers))
        for name, parameters, buffers in _CLASS.findall(code)
    }
