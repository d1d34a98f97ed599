"""Two checkpoints to what differs between them."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING

from ckpt_doctor.analysis.sharding import indexed_shards, numbered_sets
from ckpt_doctor.core.checkpoint import Checkpoint
from ckpt_doctor.core.difference import Difference, Mismatch, OneSided, Problem, Side
from ckpt_doctor.core.errors import NoCheckpointError
from ckpt_doctor.core.wording import listed
from ckpt_doctor.inspection import Progress, open_checkpoint

from .contents import Both, Contents, changed, complaint, loaded_parts, pair_up

if TYPE_CHECKING:
    from ckpt_doctor.core.layout import Layout


def diff(
    a: str | os.PathLike[str],
    b: str | os.PathLike[str],
    *,
    values: bool = False,
    layouts: Sequence[Layout] = (),
    progress: Progress | None = None,
) -> Difference:
    """Compare the checkpoints or files at ``a`` and ``b`` by the names of their tensors, part by part.

    Formats, shards and the way in which tensors lie in their files make no difference. ``values`` compares the elements
    of those that both have, too; ``layouts`` are those that a team has defined. Raises ``PathNotFoundError``, and
    ``NoCheckpointError`` where one path does not lead to one checkpoint, or where there is nothing to compare.
    """
    first, second = open_checkpoint(a, layouts=layouts), open_checkpoint(b, layouts=layouts)
    ours, theirs = list(loaded_parts(first, secondary=True)), list(loaded_parts(second, secondary=True))
    found = Difference(_side(first, ours), _side(second, theirs), values, 0)
    problems = [*_problems("a", ours), *_problems("b", theirs)]
    both: list[Both] = []
    pairs = pair_up([(item.part.role, item.part.name) for item in ours], [(i.part.role, i.part.name) for i in theirs])
    for mine, other in pairs:
        left, right = None if mine is None else ours[mine], None if other is None else theirs[other]
        if left is not None and right is not None:
            found = _with_pair(found, left, right, both)
            problems += _settings_problems(left, right)
        elif left is not None:
            found = found._replace(only_a=(*found.only_a, *_one_sided(left, left.tensors)))
        elif right is not None:
            found = found._replace(only_b=(*found.only_b, *_one_sided(right, right.tensors)))
    if not (found.a.tensor_count or found.b.tensor_count or problems):
        raise NoCheckpointError(f"there is nothing to compare: neither {first.path} nor {second.path} holds a tensor")
    if values and both:
        from .values import compare_values

        compared = compare_values(first.root, second.root, both, progress)
        found = found._replace(compared=compared.tensor_count, differing=compared.differing)
        problems += compared.problems
    return found._replace(problems=tuple(problems), left_out=(*_left_out("a", first), *_left_out("b", second)))


def _side(checkpoint: Checkpoint, parts: Iterable[Contents]) -> Side:
    files = [file for item in parts for file in item.part.preferred]
    formats = tuple(dict.fromkeys(file.format for file in files))
    return Side(checkpoint.path, checkpoint.layout, formats, sum(len(file.tensors) for file in files))


def _with_pair(found: Difference, left: Contents, right: Contents, both: list[Both]) -> Difference:
    """With what differs between two parts that belong together; what has one shape goes into ``both``."""
    part = left.part.name if left.part.name == right.part.name else f"{left.part.name} / {right.part.name}"
    settings = list(found.settings)
    if left.config is not None and right.config is not None:
        settings += [Mismatch(part, *item) for item in changed(left.config, right.config)]
    if left.unread is not None or right.unread is not None:
        return found._replace(settings=tuple(settings))
    common = sorted(left.tensors.keys() & right.tensors.keys())
    shapes, dtypes = list(found.shapes), list(found.dtypes)
    for name in common:
        mine, other = left.tensors[name], right.tensors[name]
        if mine.dtype != other.dtype:
            dtypes.append(Mismatch(part, name, mine.dtype, other.dtype))
        if mine.shape != other.shape:
            shapes.append(Mismatch(part, name, mine.shape, other.shape))
        else:
            both.append(Both(part, name, mine, other))
    return found._replace(
        common=found.common + len(common),
        only_a=(*found.only_a, *_one_sided(left, left.tensors.keys() - right.tensors.keys())),
        only_b=(*found.only_b, *_one_sided(right, right.tensors.keys() - left.tensors.keys())),
        shapes=tuple(shapes),
        dtypes=tuple(dtypes),
        settings=tuple(settings),
    )


def _one_sided(contents: Contents, names: Iterable[str]) -> Iterator[OneSided]:
    originals = contents.originals
    for name in sorted(names):
        held = contents.tensors[name]
        yield OneSided(contents.part.name, name, held.dtype, held.shape, originals.get(name))


def _problems(side: str, parts: Iterable[Contents]) -> Iterator[Problem]:
    """What is wrong with the files of one side: two that are damaged in one way are not equal."""
    for item in parts:
        files = item.part.preferred
        for file in files:
            yield from (Problem(side, file.path, defect.message.rstrip("."), defect.tensors) for defect in file.defects)
            if not file.readable and not file.defects:
                yield Problem(side, file.path, complaint(file))
        if item.unread is not None and all(file.readable for file in files):
            yield Problem(side, item.path or "", item.unread)
        if item.unread_config is not None and item.part.config is not None:
            yield Problem(side, item.part.config.path, item.unread_config)
        yield from _shard_problems(side, item)


def _shard_problems(side: str, item: Contents) -> Iterator[Problem]:
    yield from (Problem(side, index.path, index.error) for index in item.part.indexes if index.error is not None)
    missing = {path for shards in indexed_shards(item.part) if not shards.overruled for path in shards.missing} | {
        path for numbered in numbered_sets(item.part.preferred) for path in numbered.missing
    }
    if missing:
        yield Problem(side, item.part.directory, f"shards are not there: {listed(sorted(missing))}")


def _settings_problems(left: Contents, right: Contents) -> Iterator[Problem]:
    """A configuration that only one of two folders has; a lone file has none."""
    for side, item, other in (("a", left, right), ("b", right, left)):
        absent = item.part.config is None and item.part.config_expected is not None
        if absent and other.part.config is not None:
            yield Problem(
                side, item.part.config_expected or "", "it has no configuration, and the settings were not compared"
            )


def _left_out(side: str, checkpoint: Checkpoint) -> Iterator[str]:
    """Weight files that no loader of an evaluation reads, each with the side it is on."""
    for part in checkpoint.parts:
        read = () if part.auxiliary else part.preferred
        yield from (f"{side}: {file.path}" for file in part.files if file not in read)
