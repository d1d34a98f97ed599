"""The checkpoint at a path, as a load sees it."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from ckpt_doctor.core.checkpoint import Checkpoint
from ckpt_doctor.core.parts import Part
from ckpt_doctor.inspection import the_one
from ckpt_doctor.layouts import discover
from ckpt_doctor.layouts.registry import MEMGEN, TRIGGER, WEAVER

if TYPE_CHECKING:
    from ckpt_doctor.core.layout import Layout


def opened(path: str | os.PathLike[str], layout: str | None, layouts: Sequence[Layout] = ()) -> Checkpoint:
    """The one checkpoint at ``path``; a MemGen weaver and a trigger in one folder are one.

    A trigger run of iamseungpil/MemGenforARC writes ``trigger_lora/``, ``weaver_lora/`` and ``projections.pt`` into one
    folder, and its evaluation loads all of them. Raises what ``open_checkpoint`` raises.
    """
    found = discover(path, layout, layouts=layouts)
    own = [item for item in found if os.path.abspath(item.root) == os.path.abspath(path)] or found
    weaver = next((item for item in own if item.kind == WEAVER), None)
    trigger = next((item for item in own if item.kind == TRIGGER), None)
    if len(own) == 2 and weaver is not None and trigger is not None and weaver.root == trigger.root:
        return _joined(weaver, trigger)
    return the_one(found, path)


def _joined(weaver: Checkpoint, trigger: Checkpoint) -> Checkpoint:
    parts = [*_loaded(weaver), *_loaded(trigger), *_auxiliary(weaver, trigger)]
    others = tuple(dict.fromkeys((*weaver.others, *trigger.others)))
    sizes = (*weaver.known_sizes, *trigger.known_sizes)
    return weaver._replace(
        kind=MEMGEN, variant="MemGen trigger run", parts=tuple(parts), others=others, known_sizes=sizes
    )


def _loaded(checkpoint: Checkpoint) -> Iterator[Part]:
    """What is asked for; the further adapters that PEFT saved beside it are the other one's, once more."""
    return (part for part in checkpoint.parts if not part.secondary and not part.auxiliary)


def _auxiliary(weaver: Checkpoint, trigger: Checkpoint) -> Iterator[Part]:
    """Whatever else lies in the folders, each file once."""
    loaded = {file.path for item in (weaver, trigger) for part in _loaded(item) for file in part.files}
    for part in (*weaver.parts, *trigger.parts):
        if part.auxiliary:
            files = tuple(file for file in part.files if file.path not in loaded)
            loaded |= {file.path for file in files}
            if files:
                yield part._replace(files=files, active=tuple(file.path for file in files))
