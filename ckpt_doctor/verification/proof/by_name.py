"""Each tensor against the parameter of its name: is it there, has it this shape, does it hold the values?"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from threading import Lock
from typing import TYPE_CHECKING

from ckpt_doctor.core.coverage import CAST, MISMATCHED, MISSING, RESTORED
from ckpt_doctor.core.wording import shape
from ckpt_doctor.verification.model.live import Target
from ckpt_doctor.verification.model.offloaded import offloaded
from ckpt_doctor.verification.names.matching import PartMatch
from ckpt_doctor.verification.names.wanted import Wanted
from ckpt_doctor.verification.values.comparing import Verdict, compare
from ckpt_doctor.verification.values.marks import Fates
from ckpt_doctor.verification.values.reading import TensorReader
from ckpt_doctor.verification.values.row import Row, is_quantised

from .evidence import Evidence
from .idle import is_applied

if TYPE_CHECKING:
    import torch
    from torch import nn

_THREADS = 2
_WORTH_THREADS = 1 << 26  # bytes of a part
_UNPROVEN = "could not be marked: it is unknown whether the load wrote it"


@dataclass(frozen=True)
class JudgedPart:
    """A part of the checkpoint, how it was matched with the model, and a row for each of its tensors."""

    match: PartMatch
    rows: list[Row]

    @property
    def arrived(self) -> int:
        """How many of the tensors the model holds."""
        return sum(row.arrived for row in self.rows)


def judged_by_name(evidence: Evidence, matches: list[PartMatch]) -> list[JudgedPart]:
    """The parts with their rows. Of adapters that fit equally well, the one that holds the values is taken."""
    advance = _counter(evidence, sum(item.tensor.nbytes for match in matches for item in match.tensors))
    return [_best(evidence, match, advance) for match in matches]


def is_unproven(row: Row, fates: Fates | None) -> bool:
    """True if the parameter held these values before the load, and could not be marked."""
    return fates is not None and (row.wanted.file.path, row.wanted.tensor.name) in fates.unproven


def is_untouched(row: Row, fates: Fates | None) -> bool | None:
    """True if the load left the parameter alone; ``None`` if no mark can tell."""
    return None if fates is None or row.target is None else fates.untouched(row.target)


def _counter(evidence: Evidence, total: int) -> Callable[[int], None]:
    """What is told of each number of bytes that was compared, from several threads."""
    done = 0
    lock = Lock()

    def advance(nbytes: int) -> None:
        nonlocal done
        with lock:
            done += nbytes
            if evidence.progress is not None:
                evidence.progress(done, total)

    return advance


def _best(evidence: Evidence, match: PartMatch, advance: Callable[[int], None]) -> JudgedPart:
    best = _judged(evidence, match, advance)
    for rival in match.rivals if evidence.values else ():
        other = _judged(evidence, rival, lambda _: None)
        # If both hold the values, it is the one that the model applies.
        if _rank(evidence, other) > _rank(evidence, best):
            best = other
    return best


def _rank(evidence: Evidence, part: JudgedPart) -> tuple[int, bool]:
    return part.arrived, is_applied(evidence.model, part.match)


def _judged(evidence: Evidence, match: PartMatch, advance: Callable[[int], None]) -> JudgedPart:
    def judge(items: list[Wanted]) -> list[Row]:
        rows = []
        with TensorReader(evidence.checkpoint.root) as reader:
            for item in items:
                rows.append(_row(evidence, reader, item, match.targets.get(item.tensor.name)))
                advance(item.tensor.nbytes)
        return rows

    nbytes = sum(item.tensor.nbytes for item in match.tensors)
    if not evidence.values or nbytes < _WORTH_THREADS:
        return JudgedPart(match, judge(match.tensors))
    # Reading and comparing release the interpreter's lock.
    shares = [match.tensors[number::_THREADS] for number in range(_THREADS)]
    with ThreadPoolExecutor(_THREADS) as pool:
        rows = [row for found in pool.map(judge, shares) for row in found]
    order = {id(item): number for number, item in enumerate(match.tensors)}
    return JudgedPart(match, sorted(rows, key=lambda row: order[id(row.wanted)]))


def _row(evidence: Evidence, reader: TensorReader, item: Wanted, target: Target | None) -> Row:
    if target is None:
        return Row(item, None, None, MISSING, "no parameter of the model has this name")
    misfit = _misfit(item, target)
    if misfit:
        return Row(item, target, Verdict.DIFFERENT if evidence.values else None, MISMATCHED, misfit)
    if not evidence.values:
        return Row(item, target, None, RESTORED)
    return _by_values(evidence, reader, item, target)


def _misfit(item: Wanted, target: Target) -> str:
    """Why the parameter cannot hold the tensor, if so."""
    if is_quantised(item.tensor, target):
        there = str(target.dtype).removeprefix("torch.")
        return f"the parameter is quantised ({there}): its values cannot be compared"
    if target.shape != item.tensor.shape:
        return f"{shape(item.tensor.shape)} in the checkpoint, {shape(target.shape)} in the model"
    return ""


def _by_values(evidence: Evidence, reader: TensorReader, item: Wanted, target: Target) -> Row:
    fates = evidence.fates
    untouched = fates.untouched(target) if fates is not None else None
    if untouched:
        return Row(item, target, Verdict.DIFFERENT, MISSING, "the load did not write to the parameter")
    live = target.value()
    kept = _kept_elsewhere(evidence.model, target, live)
    if kept is not None:
        live, fates = kept, None  # no mark can be there
    try:
        verdict, dtypes = compare(reader, item.file.path, item.tensor, live, computed=target.computed)
    except OSError as error:
        return Row(item, target, Verdict.DIFFERENT, MISSING, f"cannot be read: {error}")
    row = Row(item, target, verdict, RESTORED)
    if verdict is Verdict.EQUAL:
        row.detail = _UNPROVEN if is_unproven(row, fates) else ""
    elif verdict in (Verdict.ROUNDED, Verdict.OVERFLOWN):
        row.status, row.detail = CAST, dtypes
    elif live.device.type == "meta":
        row.status, row.detail = MISSING, "the parameter is on the meta device: it has no values"
    else:
        # Without marks a parameter that was left alone looks like one that got other values.
        row.status = MISSING if untouched is None else MISMATCHED
        row.detail = "the parameter has other values"
    return row


def _kept_elsewhere(model: nn.Module, target: Target, live: torch.Tensor) -> torch.Tensor | None:
    """The values of what is on the meta device in the model, where they are kept for it outside of it."""
    kept = offloaded(model, target.name) if target.whole and live.device.type == "meta" else None
    return kept if kept is not None and tuple(kept.shape) == target.shape else None
