"""What lies around a checkpoint and says that its save did not end."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path

from ckpt_doctor.core.wording import listed

from .disk import Disk

# verl, FSDPCheckpointManager: model_world_size_8_rank_0.pt, and the same for optim and extra_state.
_RANK = re.compile(r"(?P<stem>.+_world_size_(?P<world>\d{1,4})_rank_)(?P<rank>\d{1,4})(?P<ending>\.pt)")
_NEMOS = (".ckpt", ".nemo")


def signs(path: Path, disk: Disk) -> tuple[str, ...]:
    """Statements about the checkpoint at ``path``, a file or a folder; none if nothing says so."""
    path = Path(os.path.abspath(path))
    return (*_marker(path, disk), *_ranks(path, disk))


def _marker(path: Path, disk: Disk) -> Iterator[str]:
    """NeMo, ModelCheckpoint: ``NAME-unfinished`` is made before a save begins and removed when it has ended."""
    name = path.name
    for ending in _NEMOS:
        name = name.removesuffix(ending)
    marker = f"{name}-unfinished"
    if name and disk.has_file(path.with_name(marker)):
        yield f"{marker} lies beside {path.name}: NeMo removes this marker when a save has ended"


def _ranks(path: Path, disk: Disk) -> Iterator[str]:
    """Each rank writes a file of its own; of a set with gaps the first file that is there tells."""
    found = _RANK.fullmatch(path.name)
    if found is None:
        return
    world, rank = int(found["world"]), int(found["rank"])
    names = [f"{found['stem']}{number}{found['ending']}" for number in range(world)]
    if rank >= world or any(disk.has_file(path.with_name(name)) for name in names[:rank]):
        return
    absent = [name for name in names if not disk.has_file(path.with_name(name))]
    if absent:
        yield f"{len(absent)} of {world} files, one for each rank, are absent: {listed(absent)}"
