"""What each kind answers when a folder is asked whether it is one: the markers that it found and those it missed."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from ckpt_doctor.core.layout import Layout

from .disk import DISK, Disk, Folder
from .places import has_file, has_folder, place_of
from .recogniser import Demand, demands, is_named, recognised
from .registry import asked_for_folders


class Answer(NamedTuple):
    """True if a folder is of one kind, and why.

    ``met`` and ``unmet`` are what the sign that fits, or comes closest, asks for; see
    :data:`~ckpt_doctor.layouts.recogniser.Demand`. ``by`` says what decided: a ``sign``, or the ``content`` of files,
    which a function of the kind looked at.
    """

    layout: str
    recognised: bool
    met: tuple[Demand, ...] = ()
    unmet: tuple[Demand, ...] = ()
    by: str = "sign"


def answers(path: str | os.PathLike[str], layouts: Sequence[Layout] = (), disk: Disk = DISK) -> Iterator[Answer]:
    """What each kind says of the very folder ``path``, in the order in which they are asked.

    ``layouts`` are those of a team. A folder that cannot be listed meets nothing.
    """
    folder = disk.folder(Path(path))
    for kind in (*layouts, *asked_for_folders()):
        yield _answer(kind, folder)


def _answer(kind: Layout, folder: Folder) -> Answer:
    is_one = recognised(kind, folder) is not None
    tried = [_tried(list(demands(sign, kind, folder))) for sign in kind.signs if not sign.forced]
    tried = tried or [_marks(kind, folder)]
    # Of those that fit the first counts, which is the one with the fewest unmet.
    met, unmet = min(tried, key=lambda pair: len(pair[1]))
    # A function of the kind may know better than the signs.
    by = "sign" if is_one == (not unmet) else "content"
    return Answer(kind.name, is_one, met, unmet, by)


def _tried(demanded: list[tuple[bool, Demand]]) -> tuple[tuple[Demand, ...], tuple[Demand, ...]]:
    met = tuple(demand for holds, demand in demanded if holds)
    unmet = tuple(demand for holds, demand in demanded if not holds)
    # A file that is not there needs no word about its tensors.
    return met, tuple(demand for demand in unmet if demand[0] != "tensors" or ("file", demand[1]) not in unmet)


def _marks(kind: Layout, folder: Folder) -> tuple[tuple[Demand, ...], tuple[Demand, ...]]:
    """The same for a kind without signs: any marker will do, or else its name and any of its parts."""
    here = [("file", path) for path in kind.markers if has_file(folder, path)]
    here += [("folder", path) for path in kind.markers if has_folder(folder, path)]
    places = [place for item in kind.parts if (place := place_of(item, folder)) is not None]
    named = [("name", kind.folder)] if kind.folder and is_named(kind, folder.name) else []
    if here or (named and places):
        return tuple(dict.fromkeys((*here, *named, *(("file", place) for place in places)))), ()
    if kind.markers:
        return tuple(named), (("any of", ", ".join(kind.markers)),)
    return tuple(named), (("any of", ", ".join(path for item in kind.parts for path in item.paths if path)),)
