"""A kind of checkpoint as a record: which files belong to it, what each must hold, how it is recognised and loaded."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, NamedTuple

if TYPE_CHECKING:
    from .entries import Entry  # a lone file needs none

Expectation = Literal["safetensors", "bin", "any"]
"""The values of ``--expect``: the format that weights should be in."""

Form = Literal["folder", "file", "document"]
"""The kind of path in a part: a folder, a file with weights, or a file that must only be there."""

Grain = Literal["file", "folder"]
"""The form of a checkpoint: one file, or a folder."""

RESERVED_ROLES = ("file", "training-state", "extra")
"""Roles that files get from what they are, and that no layout can give."""


class LayoutPart(NamedTuple):
    """One adapter, model or side file of a layout.

    ``role`` is ``adapter``, ``model``, or for a side file any other word. ``paths`` are the places where the part may
    lie, relative to the checkpoint, the usual one first; ``form`` says what they name: a ``folder`` (always that of an
    adapter; empty for the checkpoint's own), a ``file`` with weights, or a ``document``, which must only be there.
    ``name`` is what the part is called in reports; PEFT knows an adapter by it, and one whose name is empty is the
    adapter of the checkpoint's own folder, whatever it is called. ``nested`` says that loaders look for the adapter in
    the folder of that name, and ``hidden_size`` which dimension the hidden size of its model is. ``complete`` says that
    ``entries`` lists all tensors. ``gathers`` are those of ``paths`` in which every folder with an adapter belongs to
    the checkpoint, and no other folder does. Elsewhere all folders beside an adapter belong to it, except in the
    checkpoint's own folder: there only the one with the adapter's name does.
    """

    role: str
    paths: tuple[str, ...]
    form: Form
    name: str
    required: bool = True
    entries: tuple[Entry, ...] = ()
    complete: bool = False
    nested: bool = False
    hidden_size: str | None = None
    gathers: tuple[str, ...] = ()

    @property
    def beside(self) -> bool:
        """True if it is a side file."""
        return self.role not in ("adapter", "model")

    def folder_of(self, path: str) -> str:
        """The folder that the part lies in, for one of its ``paths``."""
        return path if self.form == "folder" else path.rpartition("/")[0]


class LayoutSize(NamedTuple):
    """Where the size of a dimension is recorded: a JSON file of the checkpoint, and the keys that lead to the number.

    If the file is the layout's ``config``, it may lack the number. Any other one must have it.
    """

    dim: str
    path: str
    keys: tuple[str, ...]


class Sign(NamedTuple):
    """One way to recognise a layout: all that it names must be there.

    ``named`` asks for a folder whose own name fits the layout's ``folder``. ``files`` and ``folders`` are names that
    must be in it; ``adapters`` and ``models`` are paths of folders, empty for the checkpoint's own, that must hold an
    adapter or the weights of a model. ``holds`` is a weight file that must hold a tensor which its part lists, and
    ``alone`` asks that no other weight file lies in the folder. ``unless`` are names that must not be there; they do
    not count if the user has said which layout it is, and a sign that is ``forced`` counts only then.

    ``place`` is the one of the adapter's ``paths`` that this sign decides for, or ``None`` if the files decide.
    ``title`` is what the reports say if it is not the layout's title.
    """

    named: bool = False
    files: tuple[str, ...] = ()
    folders: tuple[str, ...] = ()
    adapters: tuple[str, ...] = ()
    models: tuple[str, ...] = ()
    holds: str = ""
    alone: bool = False
    unless: tuple[str, ...] = ()
    forced: bool = False
    place: str | None = None
    title: str = ""


class Layout(NamedTuple):
    """A kind of checkpoint: one of those that are built in, or one that a team defines.

    ``name`` is what ``--layout`` takes, and ``title`` what the reports say; without one they say the name. Paths have
    at most three folders, which is how far up the checkpoint is looked for from a path inside it.

    *What it consists of.* ``parts`` are its adapters, models and side files. Reports list adapters and models first,
    or, if it is ``in_order``, all in the order of ``parts``, which is the order in which they are saved. ``config`` is
    a JSON file that concerns no single part and may be absent; ``sizes`` says where the sizes of dimensions are.
    ``expects`` is the format of adapter and model weights, ``any`` where both will do. ``grain`` is ``file`` where one
    file is a whole checkpoint. ``resumes`` says that training can go on from it: the state folders of training
    frameworks (``global_step500``) belong to it.

    *How it is recognised.* A folder is one if one of ``signs`` fits; the first that does counts. Without ``signs``, it
    is one if any of ``markers`` exists, or, if its name fits ``folder`` (a glob), any part. Kinds are asked in the
    order of the registry, those that are ``alone`` first: where such a one fits, no other is asked. Those that are
    ``general`` are asked last and only for the folder itself, never for a folder around the path; the first counts.

    *What else is known of it.* ``family`` names the kinds that one training saves side by side, which together are one
    save. ``nests`` says that others of the kind in the folders below belong to the same save. ``loads`` is the entry of
    verification's table that loads it: ``parts`` loads each part by itself. ``covers`` is ``model`` where a load
    must set every parameter of the model, and ``adapter`` where it adds to a base model that lies elsewhere.
    ``trainer`` is the project whose training code writes it, and ``loader`` the one of ``verify --loader`` that is this
    project's own.
    """

    name: str
    parts: tuple[LayoutPart, ...] = ()
    markers: tuple[str, ...] = ()
    folder: str | None = None
    title: str = ""
    expects: Expectation = "any"
    sizes: tuple[LayoutSize, ...] = ()
    grain: Grain = "folder"
    family: str = ""
    nests: bool = False
    loads: str = "parts"
    covers: Literal["model", "adapter", ""] = ""
    resumes: bool = True
    signs: tuple[Sign, ...] = ()
    alone: bool = False
    general: bool = False
    config: str = ""
    in_order: bool = False
    trainer: str = ""
    loader: str = ""
