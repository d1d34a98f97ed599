"""The kinds of checkpoints that are known without any settings.

To add one, write a file in ``kinds/`` that defines ``KIND``, a :class:`~ckpt_doctor.core.layout.Layout`, and add a line
to ``KINDS``. If data cannot say everything, the file defines ``HOOKS``, too. See ``docs/development/new-layout.md``.
"""

from __future__ import annotations

from functools import cache
from importlib import import_module
from typing import TYPE_CHECKING, Any

from ckpt_doctor.core.layout import Layout

if TYPE_CHECKING:
    from .kinds import Hooks

# The order is that in which --layout lists them. Each file is imported when the kind is first needed: a lone file
# needs none of the others.
KINDS = {
    "weaver": "kinds.weaver",
    "trigger": "kinds.trigger",
    "memgen": "kinds.memgen",
    "peft": "kinds.peft",
    "transformers": "kinds.transformers",
    "file": "lone_file",
}
"""The name of each kind, and the module of this package that defines it."""

LAYOUTS = tuple(KINDS)
"""Names of the layouts, as ``--layout`` takes them."""


def kind_named(name: str) -> Layout:
    """The record of the built-in kind of this name."""
    kind: Layout = _module(name).KIND
    return kind


def __getattr__(name: str) -> Layout:
    """The record of a built-in kind by its name in capitals: ``registry.WEAVER``."""
    known = name.lower().replace("_", "-")
    if name != name.upper() or known not in KINDS:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return kind_named(known)


def built_in() -> tuple[Layout, ...]:
    """All built-in kinds, in the order in which ``--layout`` lists them."""
    return tuple(map(kind_named, KINDS))


@cache
def asked_for_folders() -> tuple[Layout, ...]:
    """The built-in kinds that are folders, in the order in which a folder is asked whether it is one."""
    folders = (kind for kind in built_in() if kind.grain == "folder")
    return tuple(sorted(folders, key=lambda kind: (kind.general, not kind.alone)))


def family(kind: Layout) -> tuple[Layout, ...]:
    """The kinds that one training saves side by side with this one, itself included; none if it has no family."""
    return tuple(other for other in built_in() if kind.family and other.family == kind.family)


def hooks_of(kind: Layout) -> Hooks:
    """The functions of this kind. A team's own has none."""
    return _hooks_named(kind.name)


@cache
def _hooks_named(name: str) -> Hooks:
    # By the name: a search asks this for every folder, and it takes long to hash a record.
    from .kinds import NO_HOOKS

    hooks: Hooks = getattr(_module(name), "HOOKS", NO_HOOKS) if name in KINDS else NO_HOOKS
    return hooks


def _module(name: str) -> Any:
    return import_module(f".{KINDS[name]}", __package__)
