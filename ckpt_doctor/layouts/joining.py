"""Checkpoints of one family that a training saved into one folder, as the one checkpoint that an evaluation loads."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from ckpt_doctor.core.checkpoint import Checkpoint
from ckpt_doctor.core.parts import Part

from .registry import MEMGEN, family


def joined(checkpoints: Sequence[Checkpoint]) -> Checkpoint | None:
    """A MemGen weaver and a trigger of one folder as one MemGen; ``None`` if ``checkpoints`` are anything else.

    A trigger run of iamseungpil/MemGenforARC writes ``trigger_lora/``, ``weaver_lora/`` and ``projections.pt`` into one
    folder, and its evaluation loads all of them.
    """
    kinds = family(checkpoints[0].kind) if len({item.root for item in checkpoints}) == 1 else ()
    by_kind = {item.layout: item for item in checkpoints}
    members = [by_kind[kind.name] for kind in kinds if kind.name in by_kind]
    if not members or not len(members) == len(kinds) == len(checkpoints):
        return None
    loaded = [part for item in members for part in _loaded(item)]
    return members[0]._replace(
        kind=MEMGEN,
        variant="MemGen trigger run",
        parts=(*loaded, *_auxiliary(members, loaded)),
        others=tuple(dict.fromkeys(other for item in members for other in item.others)),
        known_sizes=tuple(size for item in members for size in item.known_sizes),
    )


def _loaded(checkpoint: Checkpoint) -> Iterator[Part]:
    """What is asked for; the further adapters that PEFT saved beside it are the other one's, once more."""
    return (part for part in checkpoint.parts if not part.secondary and not part.auxiliary)


def _auxiliary(members: Sequence[Checkpoint], loaded: Sequence[Part]) -> Iterator[Part]:
    """Whatever else lies in the folders, each file once."""
    seen = {file.path for part in loaded for file in part.files}
    for part in (part for item in members for part in item.parts if part.auxiliary):
        files = tuple(file for file in part.files if file.path not in seen)
        seen |= {file.path for file in files}
        if files:
            yield part._replace(files=files, active=tuple(file.path for file in files))
