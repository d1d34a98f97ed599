"""A kind of checkpoint as a record: which files belong to it, what each must hold, how it is recognised and loaded."""

from __future__ import annotations

from typing import Literal, NamedTuple

from .entries import Entry

Expectation = Literal["safetensors", "bin", "any"]
"""What ``--expect`` takes: the format that weights should be in."""

RESERVED_ROLES = ("file", "training-state", "extra")
"""Roles that files get from what they are, and that no layout can give."""


class LayoutPart(NamedTuple):
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


class LayoutSize(NamedTuple):
    """Where the size of a dimension stands: a JSON file of the checkpoint, and the keys that lead to the number."""

    dim: str
    path: str
    keys: tuple[str, ...]


class Layout(NamedTuple):
    """A kind of checkpoint: one of those that are built in, or one that a team defines.

    A folder is one if any of ``markers`` lies in it, or, where ``folder`` (a glob) fits its name, any part. Paths have
    at most three folders, so that the checkpoint is found from each of them. ``title`` is what the reports say.
    ``expects`` is the format of adapter and model weights, ``any`` where both will do.

    ``grain`` is ``file`` where one file is a whole checkpoint. ``family`` names those that one training saves side by
    side, so that together they are one save. ``nests`` says that others of the kind in the folders below belong to the
    same save. ``loads`` is the entry of verification's table that loads it; ``parts`` loads each part by itself.
    ``covers`` is ``model`` where a load must set every parameter of the model, and ``adapter`` where it adds to a base
    model that lies elsewhere. ``resumes`` says that a training run can go on from it.
    """

    name: str
    parts: tuple[LayoutPart, ...] = ()
    markers: tuple[str, ...] = ()
    folder: str | None = None
    title: str = ""
    expects: Expectation = "any"
    sizes: tuple[LayoutSize, ...] = ()
    grain: Literal["file", "folder"] = "folder"
    family: str = ""
    nests: bool = False
    loads: str = "parts"
    covers: Literal["model", "adapter", ""] = ""
    resumes: bool = False
