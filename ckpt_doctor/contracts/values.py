"""The values of all tensors that two checkpoints have in common, on every core. Imports numpy: import it late."""

from __future__ import annotations

import contextlib
import math
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from ckpt_doctor.core.difference import Problem, ValueDifference
from ckpt_doctor.inspection import Progress
from ckpt_doctor.runtime.crew import Crew
from ckpt_doctor.runtime.file_access import open_to_read
from ckpt_doctor.scanning.strided import Budget
from ckpt_doctor.scanning.sweep import Reader

from .contents import Both
from .tensor_pair import TensorPair, comparable, obstacle

_BUDGET_FACTOR = 8  # how often all bytes of both files may be looked at, where tensors overlap
_BUDGET_BASE = 256 << 20


class Compared(NamedTuple):
    """``tensor_count`` counts those that were compared; ``problems`` says why others were not."""

    tensor_count: int
    differing: tuple[ValueDifference, ...]
    problems: tuple[Problem, ...]


class _Work(NamedTuple):
    """Tensors that are the same views of the same bytes on both sides, and what comparing them once finds."""

    tensors: list[Both]
    pair: TensorPair


def compare_values(first: Path, second: Path, both: Sequence[Both], progress: Progress | None) -> Compared:
    """Compare every element of ``both``; the paths are the roots of the two checkpoints.

    ``progress`` is called from this thread with the bytes read of both sides, and the bytes in all.
    """
    problems: list[Problem] = []
    groups = _by_files(both, problems)
    total = sum(work.pair.nbytes for group in groups for work in group)
    done = 0
    for group in groups:

        def advance(nbytes: int, before: int = done) -> None:
            if progress is not None:
                progress(min(before + nbytes, total), total)

        problems += _run(first, second, group, advance)
        done += sum(work.pair.nbytes for work in group)
        advance(0, done)
    finished = [(item, work.pair) for group in groups for work in group if work.pair.done for item in work.tensors]
    differing = [_difference(item, pair) for item, pair in finished if pair.differing]
    return Compared(len(finished), tuple(sorted(differing, key=lambda row: (row.part, row.name))), tuple(problems))


def _by_files(both: Iterable[Both], problems: list[Problem]) -> list[list[_Work]]:
    """What can be compared, by the two files that it takes; why others cannot goes into ``problems``."""
    groups: dict[tuple[str, str], dict[object, _Work]] = {}
    left: dict[Problem, list[str]] = {}
    for item in both:
        problem = next(_obstacles(item), None)
        if problem is not None:
            left.setdefault(problem, []).append(item.name)
            continue
        group = groups.setdefault((item.first.file.path, item.second.file.path), {})
        key = item.first.view, item.second.view
        if key in group:
            group[key].tensors.append(item)
        else:
            group[key] = _Work([item], TensorPair(item.first, item.second))
    problems += (problem._replace(tensors=tuple(names)) for problem, names in left.items())
    return [_in_file_order(group.values()) for group in groups.values()]


def _obstacles(item: Both) -> Iterator[Problem]:
    """Why a tensor cannot be compared, without its name."""
    for side, held in (("a", item.first), ("b", item.second)):
        reason = obstacle(held)
        if reason is not None:
            yield Problem(side, held.file.path, reason)
    if not comparable(item.first, item.second):
        dtypes = f"{item.first.dtype} and {item.second.dtype}"
        yield Problem("", item.first.file.path, f"cannot compare {dtypes}")


def _in_file_order(group: Iterable[_Work]) -> list[_Work]:
    """In the order in which the tensors lie in the first file, so a cold disk is read from front to back."""
    return sorted(group, key=lambda work: work.pair.first.tensor.byte_range or (0, 0))


def _run(first: Path, second: Path, group: Sequence[_Work], advance: Callable[[int], None]) -> Iterator[Problem]:
    """Compare what lies in one file on each side; yields what came in between."""
    files = group[0].pair.first.file, group[0].pair.second.file
    budget = Budget(_BUDGET_FACTOR * (files[0].nbytes + files[1].nbytes) + _BUDGET_BASE)
    jobs = [job for work in group for job in work.pair.jobs(budget)]
    with contextlib.ExitStack() as stack:
        descriptors = []
        for side, root, file in (("a", first, files[0]), ("b", second, files[1])):
            try:
                descriptors.append(open_to_read(root / file.path))
            except OSError as error:
                yield Problem(side, file.path, f"it cannot be read: {error.strerror or error}")
                return
            stack.callback(os.close, descriptors[-1])
        before = [os.fstat(descriptor) for descriptor in descriptors]
        crew = Crew(jobs, lambda on_read: (Reader(descriptors[0], on_read), Reader(descriptors[1], on_read)))
        complaint = crew.work_off(advance)
        after = [os.fstat(descriptor) for descriptor in descriptors]
    for side, file, was, now in zip("ab", files, before, after, strict=True):
        if (was.st_size, was.st_mtime_ns) != (now.st_size, now.st_mtime_ns) or was.st_size != file.nbytes:
            yield Problem(side, file.path, "it changed while it was read: something is still writing it")
    left = [item.name for work in group if not work.pair.done for item in work.tensors]
    if complaint is not None:
        yield Problem("", files[0].path, f"the tensors could not all be read: {complaint}", tuple(left))
    elif left:
        reason = "they overlap so much that comparing them would read the files many times over"
        yield Problem("", files[0].path, reason, tuple(left))


def _difference(item: Both, pair: TensorPair) -> ValueDifference:
    return ValueDifference(
        part=item.part,
        name=item.name,
        dtypes=(item.first.dtype, item.second.dtype),
        shape=item.first.shape,
        elements=math.prod(item.first.shape),
        differing=pair.differing,
        first=pair.first_index or 0,
        largest=pair.largest,
        nonfinite=pair.nonfinite,
    )
