"""One pickle of a torch file: run, judged, and walked through."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ckpt_doctor.checkpoint import Defect, DefectKind
from ckpt_doctor.wording import capital, counted, listed

from .pickle_machine import Outcome, UnsafeUse, run
from .pickle_values import Budget, PickleError, clipped
from .pickle_walk import Harvest, harvest


class PickleReading:
    """What one pickle holds, and what is wrong with it. ``end`` is the offset of the first byte behind it.

    ``id_lengths`` are the numbers of parts of its persistent ids.
    """

    def __init__(
        self,
        found: Harvest | None = None,
        defects: list[Defect] | None = None,
        end: int = 0,
        id_lengths: frozenset[int] = frozenset(),
    ) -> None:
        self.harvest = Harvest() if found is None else found
        self.defects: list[Defect] = [] if defects is None else defects
        self.end = end
        self.id_lengths = id_lengths


def read_pickle(data: bytes, budget: Budget, member: str) -> PickleReading:
    """Read ``data``, the whole of the archive member ``member``."""
    outcome = run(data, budget)
    defects = outcome_defects([outcome], member)
    found, problem = walk(outcome.root, budget)
    if problem is not None:
        defects.append(Defect(problem.kind, f"{member}: {problem}."))
    if outcome.error is None and outcome.end < len(data):
        message = f"{counted(len(data) - outcome.end, 'byte')} follow the pickle in {member}."
        defects.append(Defect(DefectKind.AMBIGUOUS_ARCHIVE, message))
    return PickleReading(found, defects, outcome.end, outcome.id_lengths)


def walk(root: Any, budget: Budget) -> tuple[Harvest, PickleError | None]:
    """The harvest of ``root``, or what it would have cost."""
    try:
        return harvest(root, budget), None
    except PickleError as problem:
        return Harvest(), problem


def outcome_defects(outcomes: Sequence[Outcome], member: str | None) -> list[Defect]:
    """What is wrong with pickles that belong together, before their content is looked at."""
    place = f"{member}: " if member else ""
    defects = []
    unsafe = [use for outcome in outcomes for use in outcome.unsafe]
    if unsafe:
        defects.append(unsafe_defect(unsafe, member))
    for outcome in outcomes:
        if outcome.error is not None:
            text = str(outcome.error)
            message = f"{place}{text}." if place else f"{capital(text)}."
            defects.append(Defect(outcome.error.kind, message))
    retyped = [key for outcome in outcomes for key in outcome.retyped]
    if retyped:
        message = f"{place}storages are named with several element types, so that readers disagree on the content"
        shown = clipped(listed(retyped))
        defects.append(Defect(DefectKind.AMBIGUOUS_ARCHIVE, f"{message if place else capital(message)}: {shown}."))
    if not all(outcome.frames_match for outcome in outcomes):
        message = f"{place}a frame has another length than it declares, so that readers disagree on the content."
        defects.append(Defect(DefectKind.AMBIGUOUS_ARCHIVE, capital(message) if not place else message))
    return defects


def unsafe_defect(unsafe: Sequence[UnsafeUse], member: str | None) -> Defect:
    """The defect for names that are on no list."""
    where = f" in {member}" if member else ""
    shown = listed(
        f"{use.name.replace(' ', '.', 1) if use.name[:1] != '(' else use.name} (byte {use.position:,})"
        for use in unsafe
    )
    return Defect(
        DefectKind.UNSAFE_GLOBAL,
        f"The pickle{where} asks for what a loader must not give it: {shown}.",
        evidence={
            "globals": [
                {
                    "name": use.name,
                    "position": use.position,
                    "count": use.times,
                    **({"member": member} if member else {}),
                }
                for use in unsafe
            ]
        },
    )
