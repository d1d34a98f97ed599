"""One pickle of a torch file: run, judged, and walked through."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ckpt_doctor.core.defects import Defect, DefectKind
from ckpt_doctor.core.weight_file import Refusal
from ckpt_doctor.core.wording import capital, counted, listed

from .pickle_machine import Outcome, UnsafeUse, run
from .pickle_modules import NO_CLASSES, SCRIPT_PREFIX, Classes
from .pickle_values import Budget, PickleError, clipped
from .pickle_walk import Harvest, harvest


class PickleReading:
    """What one pickle holds, and what is wrong with it. ``end`` is the offset of the first byte behind it.

    ``id_lengths`` are the numbers of parts of its persistent ids, ``refusals`` what ``torch.load``'s default stops at.
    """

    def __init__(
        self,
        found: Harvest | None = None,
        defects: list[Defect] | None = None,
        end: int = 0,
        id_lengths: frozenset[int] = frozenset(),
        refusals: tuple[Refusal, ...] = (),
    ) -> None:
        self.harvest = Harvest() if found is None else found
        self.defects: list[Defect] = [] if defects is None else defects
        self.end = end
        self.id_lengths = id_lengths
        self.refusals = refusals


def read_pickle(data: bytes, budget: Budget, member: str, classes: Classes | None = None) -> PickleReading:
    """Read ``data``, the whole of the archive member ``member``.

    ``classes`` are those of the TorchScript archive that it belongs to, or ``None`` for one of ``torch.save``.
    """
    outcome = run(data, budget)
    if classes is not None:
        outcome = of_script(outcome)
    defects = outcome_defects([outcome], member)
    found, problem = walk(outcome.root, budget, classes or NO_CLASSES)
    if problem is not None:
        defects.append(Defect(problem.kind, f"{member}: {problem}."))
    if outcome.error is None and outcome.end < len(data):
        message = f"{counted(len(data) - outcome.end, 'byte')} follow the pickle in {member}."
        defects.append(Defect(DefectKind.AMBIGUOUS_ARCHIVE, message))
    return PickleReading(found, defects, outcome.end, outcome.id_lengths, outcome.refusals)


def of_script(outcome: Outcome) -> Outcome:
    """The same without the names that only the loader of TorchScript resolves, and to nothing but its own classes.

    Whoever unpickled such a member with Python would find no module of these names.
    """
    own = tuple(use for use in outcome.unsafe if not _is_script_name(use.name))
    return outcome._replace(unsafe=own)


def _is_script_name(name: str) -> bool:
    module = f"{name.partition(' ')[0]}."
    return module.startswith(SCRIPT_PREFIX) or name in _SCRIPT_FUNCTIONS


_SCRIPT_FUNCTIONS = frozenset(
    f"torch.jit._pickle {name}"
    for name in (
        *("build_intlist", "build_doublelist", "build_boollist", "build_tensorlist", "build_tensor_from_id"),
        "restore_type_tag",
    )
)


def walk(root: Any, budget: Budget, classes: Classes = NO_CLASSES) -> tuple[Harvest, PickleError | None]:
    """The harvest of ``root``, or what it would have cost."""
    try:
        return harvest(root, budget, classes), None
    except PickleError as problem:
        return Harvest(), problem


def outcome_defects(outcomes: Sequence[Outcome], member: str | None) -> list[Defect]:
    """What is wrong with pickles that belong together, before their content is looked at."""
    place = f"{member}: " if member else ""
    defects = []
    unsafe = [use for outcome in outcomes for use in outcome.unsafe]
    if unsafe:
        refused = [refusal.name for outcome in outcomes for refusal in outcome.refusals if refusal.cause in _NAMED]
        defects.append(unsafe_defect(unsafe, member, refused))
    for outcome in outcomes:
        if outcome.error is not None:
            text = str(outcome.error)
            message = f"{place}{text}." if place else f"{capital(text)}."
            defects.append(Defect(outcome.error.kind, message))
    retyped = [key for outcome in outcomes for key in outcome.retyped]
    if retyped:
        message = f"{place}storages are named with several element types: readers disagree on the content"
        shown = clipped(listed(retyped))
        defects.append(Defect(DefectKind.AMBIGUOUS_ARCHIVE, f"{message if place else capital(message)}: {shown}."))
    if not all(outcome.frames_match for outcome in outcomes):
        message = f"{place}a frame has another length than it declares: readers disagree on the content."
        defects.append(Defect(DefectKind.AMBIGUOUS_ARCHIVE, capital(message) if not place else message))
    return defects


_NAMED = ("name", "getattr", "type")  # causes of a refusal that torch's message gives a name

MAX_SHOWN = 20
"""How many names a message shows; the evidence has them all."""


def unsafe_defect(unsafe: Sequence[UnsafeUse], member: str | None, refused: Sequence[str] = ()) -> Defect:
    """The defect for names that are on no list; ``refused`` are all names that torch's default stops at, in order."""
    where = f" in {member}" if member else ""
    shown = listed(
        (
            f"{use.name.replace(' ', '.', 1) if use.name[:1] != '(' else use.name} (byte {use.position:,})"
            for use in unsafe
        ),
        MAX_SHOWN,
    )
    names = counted(len(unsafe), "name that is", "names that are")
    message = f"The pickle{where} refers to {names} not on the allow-list: {shown}."
    own = {use.name.replace(" ", ".", 1).removeprefix("builtins.") for use in unsafe}
    if any(name not in own for name in refused):
        message += f" With harmless ones, torch.load's default stops at: {listed(refused, MAX_SHOWN)}."
    return Defect(
        DefectKind.UNSAFE_GLOBAL,
        message,
        evidence={
            "refused": list(refused),
            "globals": [
                {
                    "name": use.name,
                    "position": use.position,
                    "count": use.times,
                    **({"member": member} if member else {}),
                }
                for use in unsafe
            ],
        },
    )
