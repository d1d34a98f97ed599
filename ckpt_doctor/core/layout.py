"""The words for a layout that a team defines: which files belong to it, what each must hold, how it is recognised."""

from __future__ import annotations

from typing import NamedTuple

from .entries import Entry

RESERVED_ROLES = ("file", "training-state", "extra")
"""Roles that files get from what they are, and that no layout can give."""


class PartDefinition(NamedTuple):
    """One adapter, model or side file of a layout.

    ``role`` is ``adapter``, ``model``, or for a side file any other word. ``paths`` are the places where the part may
    lie, relative to the checkpoint, the usual one first; ``form`` says what they name: a ``folder`` (always that of an
    adapter; empty for the checkpoint's own), a ``file`` with weights, or a ``document``, which must only be there.
    ``name`` is what the part is called in reports; PEFT knows an adapter by it. ``nested`` says that loaders look for
    the adapter in the folder of that name, and ``hidden_size`` which dimension the hidden size of its model is.
    ``complete`` says that ``entries`` lists all tensors.
    """

    role: str
    paths: tuple[str, ...]
    form: str
    name: str
    required: bool = True
    entries: tuple[Entry, ...] = ()
    complete: bool = False
    nested: bool = False
    hidden_size: str | None = None

    @property
    def beside(self) -> bool:
        """Whether it is a side file."""
        return self.role not in ("adapter", "model")

    def folder_of(self, path: str) -> str:
        """The folder that the part lies in, for one of its ``paths``."""
        return path if self.form == "folder" else path.rpartition("/")[0]


class SizeDefinition(NamedTuple):
    """Where the size of a dimension stands: a JSON file of the checkpoint, and the keys that lead to the number."""

    dim: str
    path: str
    keys: tuple[str, ...]


class LayoutDefinition(NamedTuple):
    """A kind of checkpoint.

    A folder is one if any of ``markers`` lies in it, or, where ``folder`` (a glob) fits its name, any part.
    ``expect`` is the format of adapter and model weights, ``any`` where both will do. ``title`` is what the reports
    say. Paths have at most three folders, so that the checkpoint is found from each of them.
    """

    name: str
    parts: tuple[PartDefinition, ...]
    markers: tuple[str, ...]
    folder: str | None = None
    title: str = ""
    expect: str = "any"
    sizes: tuple[SizeDefinition, ...] = ()
