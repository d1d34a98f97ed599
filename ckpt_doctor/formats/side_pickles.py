"""Pickles in members of a torch archive that have no business in a checkpoint: somebody may load those, too."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import NamedTuple

from ckpt_doctor.core.defects import Defect, DefectKind

from .pickle_machine import Outcome, run
from .pickle_modules import Classes
from .pickle_values import Budget, clipped
from .torch_pickle import of_script, outcome_defects
from .zip_archive import Archive
from .zip_directory import Member

_COST = 100  # opcodes that looking into one more member is worth
_MARGIN = 9  # an opcode and its argument of fixed length, in bytes


def side_pickle_defects(archive: Archive, members: Iterable[Member], classes: Classes | None) -> Iterator[Defect]:
    """What is wrong with the pickles in ``members``, which torch does not read when it loads the archive.

    ``classes`` are those of a TorchScript archive, ``None`` for any other.
    """
    search = _Search(archive, classes)
    for member in members:
        if search.opcodes <= 0:
            message = f"Members from {clipped(member.name)} on were not looked at: those before take all the time."
            yield Defect(DefectKind.RESOURCE_BOMB, message)
            return
        yield from search.judge(member)


class _Look(NamedTuple):
    """What one member read as: its first bytes, and whether a pickle goes on behind them."""

    data: bytes
    outcome: Outcome
    goes_on: bool


class _Search:
    """The search through all members together, which shares one budget of ``opcodes`` and bytes."""

    def __init__(self, archive: Archive, classes: Classes | None) -> None:
        self.archive = archive
        self.classes = classes
        self.opcodes = archive.limits.side_opcodes
        self.nbytes = archive.limits.side_total

    def judge(self, member: Member) -> Iterator[Defect]:
        """The defects of one member."""
        look = self._look(member)
        # Every opcode takes a byte at least, and looking at all takes its time, too.
        self.opcodes -= min(look.outcome.end, self.archive.limits.side_opcodes) + _COST
        wanted = _wanted(look)
        yield from (found for found in outcome_defects([look.outcome], clipped(member.name)) if found.kind in wanted)
        if look.goes_on and len(look.data) < member.nbytes:
            message = f"Member {clipped(member.name)} reads like a pickle, and is too large to be judged as one."
            yield Defect(DefectKind.AMBIGUOUS_ARCHIVE, message)

    def _look(self, member: Member) -> _Look:
        """Read the first piece of a member, and all that is allowed where that is a pickle that goes on."""
        piece = self.archive.limits.side_piece
        data = self.archive.beginning(member, piece)
        outcome = self._run(data, member)
        # A shorter piece is all that the member has.
        goes_on = len(data) == piece and _reaches_the_end(outcome, data)
        whole = min(member.nbytes, self.nbytes)
        if not goes_on or len(data) >= whole:
            return _Look(data, outcome, goes_on)
        self.nbytes -= whole
        data = self.archive.beginning(member, whole)
        outcome = self._run(data, member)
        return _Look(data, outcome, _reaches_the_end(outcome, data))

    def _run(self, data: bytes, member: Member) -> Outcome:
        limits = self.archive.limits
        budget = Budget.for_stored(0, limits)
        budget = budget._replace(opcodes=self.opcodes, visits=0, characters=limits.side_total)
        outcome = run(data, budget, 0, member.nbytes)
        return outcome if self.classes is None else of_script(outcome)


def _reaches_the_end(outcome: Outcome, data: bytes) -> bool:
    """True if reading stopped for want of more bytes, and for nothing else."""
    return outcome.error is not None and outcome.end + _MARGIN > len(data)


def _wanted(look: _Look) -> set[DefectKind]:
    """The kinds of defects that count: what is no pickle at all breaks off in many ways."""
    data, outcome = look.data, look.outcome
    wanted = {DefectKind.UNSAFE_GLOBAL}
    if outcome.unsafe or (data[:1] == b"\x80" and data[1:2] <= b"\x05"):
        wanted.add(DefectKind.RESOURCE_BOMB)
    if outcome.unsafe:
        wanted.add(DefectKind.TORCH_TRUNCATED)
    return wanted
