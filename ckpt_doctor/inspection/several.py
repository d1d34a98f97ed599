"""Many checkpoints: judged one by one, and by several processes once that is worth starting them."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Sequence

from ckpt_doctor.core.checkpoint import Checkpoint
from ckpt_doctor.core.parts import Part
from ckpt_doctor.core.policy import Policy
from ckpt_doctor.core.results import Diagnosis
from ckpt_doctor.core.weight_file import WeightFile
from ckpt_doctor.layouts import Found
from ckpt_doctor.rules.file_unreadable import FileUnreadable

from .diagnosis import Progress, Standard, judge_one

_WORTH = 0.2
"""Seconds of work that a process must be spared to be started: twice the time in which it gets ready."""


def judge_several(
    found: Sequence[Found],
    policy: Policy,
    standards: Sequence[Standard | None],
    *,
    counter: Progress | None = None,
    jobs: int = 1,
) -> tuple[Diagnosis, ...]:
    """The diagnoses of these checkpoints, in their order; one that cannot be judged does not hide the others.

    ``standards`` has for each of them what it is held against.

    How long a checkpoint takes cannot be told from its name or size. So the first ones are judged here, and processes
    are started once the pace shows that the rest will keep them busy: a small tree never pays for them.
    """
    diagnoses: dict[int, Diagnosis] = {}
    waiting = deque(range(len(found)))

    def done(index: int, diagnosis: Diagnosis) -> None:
        diagnoses[index] = diagnosis
        if counter is not None:
            counter(len(diagnoses), len(found))

    def share(indexes: deque[int], among: int) -> dict[int, str]:
        """Let processes take from ``indexes``; index and reason of what none of them survived."""
        from .workers import Workers

        lost = {}
        with Workers(found, [(policy, standard) for standard in standards], indexes, among) as workers:
            for index, outcome in workers.outcomes():
                if isinstance(outcome, str):
                    lost[index] = outcome
                else:
                    done(index, outcome)
        return lost

    begin = time.monotonic()
    while waiting:
        index = waiting.popleft()
        done(index, _attempt(found[index], policy, standards[index]))
        pace = (time.monotonic() - begin) / len(diagnoses)
        size = min(jobs, len(waiting), int(pace * len(waiting) / _WORTH))
        if size > 1:
            jobs = 1  # what the processes leave is done here
            # What was too large beside others may be no trouble by itself.
            again = deque(sorted(share(waiting, size)))
            if again:
                for index, reason in share(again, 1).items():
                    done(index, unjudged(found[index], policy, reason))
                waiting.extend(again)
    return tuple(diagnoses[index] for index in range(len(found)))


def _attempt(found: Found, policy: Policy, standard: Standard | None) -> Diagnosis:
    try:
        return judge_one(found, policy, standard)
    # Everything ends here on purpose, as in cli/root.py: the others must be judged, and this one must not pass.
    except Exception as error:
        return unjudged(found, policy, _reason(error))


def unjudged(found: Found, policy: Policy, reason: str) -> Diagnosis:
    """What stands in a report for a checkpoint that could not be judged: it fails under any settings."""
    name = found.name or "."
    part = Part(name, "file", files=(WeightFile(name, "unknown", 0, content="not judged"),))
    checkpoint = Checkpoint(found.root, found.path, found.kind, "not judged", (part,))
    finding = FileUnreadable().finding(f"It was not judged: {reason}", path=name, always_fails=True)
    return Diagnosis(checkpoint, (policy.adjusted(finding),))


def _reason(error: Exception) -> str:
    if isinstance(error, MemoryError):
        return "memory ran out. Inspect it alone, on a machine with more memory."
    return (
        f"{type(error).__name__}: {error}. This is a bug in ckpt-doctor: please report it with what inspecting this "
        "checkpoint by itself prints with CKPT_DOCTOR_DEBUG=1."
    )
