"""What is at some paths, judged; and the one checkpoint at a path, which the caller judges."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ckpt_doctor.core.checkpoint import Checkpoint, Unread
from ckpt_doctor.core.errors import NoCheckpointError
from ckpt_doctor.core.policy import Policy
from ckpt_doctor.core.results import Report
from ckpt_doctor.core.wording import listed
from ckpt_doctor.layouts import Found, discover, nothing_found, survey
from ckpt_doctor.layouts.lone_file import unread_folder

from .diagnosis import Progress, Standard, judge_one

if TYPE_CHECKING:
    from ckpt_doctor.core.layout import Layout

_DEFAULT = Policy()


def inspect(
    paths: str | os.PathLike[str] | Iterable[str | os.PathLike[str]],
    policy: Policy = _DEFAULT,
    *,
    standard: Standard | None = None,
    progress: Progress | None = None,
    counter: Progress | None = None,
    jobs: int = 1,
) -> Report:
    """Diagnose every checkpoint at ``paths``. Nothing is executed, nothing is written.

    See :func:`judge` for the other arguments. Raises ``PathNotFoundError`` or ``NoCheckpointError`` if a path leads
    to nothing, and ``UnknownNameError`` where the policy names what does not exist.
    """
    if isinstance(paths, (str, os.PathLike)):
        paths = [paths]
    found: dict[_Key, Found] = {}
    asked: dict[str, list[_Key]] = {}
    unread: dict[Unread, None] = {}
    for path in paths:
        items, aside = at(path, policy)
        unread.update(dict.fromkeys(aside))
        # Two paths may lead to one checkpoint: it is judged once, under the first name.
        asked[os.fspath(path)] = [_key(item) for item in items]
        for item in items:
            found.setdefault(_key(item), item)
    report = judge(list(found.values()), policy, standard=standard, progress=progress, counter=counter, jobs=jobs)
    judged = {key for key, diagnosis in zip(found, report.diagnoses, strict=True) if diagnosis.judged}
    unjudged = tuple(path for path, keys in asked.items() if not judged.intersection(keys))
    return report._replace(unread=tuple(unread), unjudged=unjudged)


_Key = tuple[str, str, str]


def _key(found: Found) -> _Key:
    return os.path.abspath(found.root), found.layout, found.name


def at(path: str | os.PathLike[str], policy: Policy) -> tuple[list[Found], tuple[Unread, ...]]:
    """What lies at a path, and what is not read there; of both only the latter where nothing can be judged."""
    found, unread = survey(path, policy.layout, layouts=policy.layouts)
    if found:
        return found, unread
    if not unread or policy.layout is not None:
        raise NoCheckpointError(nothing_found(Path(path), policy.layout, unread))
    inside = (item._replace(path=Path(os.path.relpath(item.path, path)).as_posix()) for item in unread)
    return [unread_folder(Path(path), os.path.normpath(path), inside)], ()


def judge(
    found: Sequence[Found],
    policy: Policy = _DEFAULT,
    *,
    standard: Standard | None = None,
    progress: Progress | None = None,
    counter: Progress | None = None,
    jobs: int = 1,
) -> Report:
    """Read and diagnose these checkpoints, in this order, each beside ``standard`` where one is given.

    Of several, up to ``jobs`` processes read some each where that saves time, and one that cannot be judged at all is a
    finding of its own. ``progress`` hears of the tensor bytes of a single checkpoint, ``counter`` of several
    checkpoints.
    """
    if len(found) == 1:
        return Report((judge_one(found[0], policy, standard, progress=progress),))
    from .several import judge_several

    return Report(judge_several(found, policy, _standards(found, standard), counter=counter, jobs=jobs))


def _standards(found: Sequence[Found], standard: Standard | None) -> list[Standard | None]:
    """What each is held against: nothing where PEFT saved it below another adapter, which alone is what is meant."""
    if standard is None:
        return [None] * len(found)
    adapters = {item.root for item in found if item.kind.nests}
    return [None if item.kind.nests and item.root.parent in adapters else standard for item in found]


def open_checkpoint(
    path: str | os.PathLike[str], layout: str | None = None, *, layouts: Sequence[Layout] = ()
) -> Checkpoint:
    """The one checkpoint at ``path``, with its tensors listed and nothing loaded.

    ``layouts`` are those that a team has defined (``load_settings().policy.layouts``). Raises ``NoCheckpointError``
    where several lie there, with what to name for each.
    """
    return the_one(discover(path, layout, layouts=layouts), path)


def the_one(checkpoints: list[Checkpoint], path: str | os.PathLike[str]) -> Checkpoint:
    """The only one of ``checkpoints``, which were found at ``path``, or the only one that is that folder itself."""
    if len(checkpoints) > 1:
        own = [item for item in checkpoints if os.path.abspath(item.root) == os.path.abspath(path)]
        if len(own) != 1:
            names = listed((_way_to(item, checkpoints) for item in checkpoints), 5)
            raise NoCheckpointError(f"{path} holds {len(checkpoints)} checkpoints: name one of them ({names})")
        checkpoints = own
    return checkpoints[0]


def _way_to(checkpoint: Checkpoint, others: list[Checkpoint]) -> str:
    """The path that selects this checkpoint alone: of two in one folder, the folder of its adapter."""
    if sum(item.path == checkpoint.path for item in others) == 1:
        return checkpoint.path
    folders = [part.directory.partition("/")[0] for part in checkpoint.parts if part.role == "adapter"]
    taken = {part.directory.partition("/")[0] for item in others if item is not checkpoint for part in item.parts}
    own = next((folder for folder in folders if folder and folder not in taken), None)
    return f"{checkpoint.path} --layout {checkpoint.layout}" if own is None else f"{checkpoint.path}/{own}"
