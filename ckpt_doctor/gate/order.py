"""Which save is the newest. Names come first, because copying a tree changes the times of its files and no name.

1. Of folders beside each other that count the same thing (``checkpoint-500``, ``checkpoint-1000``), the highest number.
2. Of those that bear a time in their name or in that of a folder above (``…_20250107-101500``), the latest; of several
   times in one path, the last one counts.
3. Of what is left, the one whose weights were written last.

If that leaves two, the gate does not guess. A model that adapters in the tree name as their base is not
among them, however new its files are: it was copied there.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from ckpt_doctor.core.errors import GateError
from ckpt_doctor.core.wording import listed

from .names import counter_of, time_of
from .save import Save


def newest(saves: Sequence[Save]) -> Save:
    """The newest of these saves. Raises ``GateError`` if it cannot be told."""
    left = _latest_times(_numbered(saves))
    last = max(save.written for save in left)
    left = [save for save in left if save.written == last]
    if len(left) > 1:
        raise GateError(
            f"cannot tell which is the newest: {listed([save.path for save in left])} were written at the same time, "
            "and their names do not tell. Name the one you mean"
        )
    return left[0]


def by_name(saves: Sequence[Save]) -> str | None:
    """What in the names of these saves says which is the newest, if anything does."""
    numbered = _numbered(saves)
    if len(numbered) == 1:
        return "the number in its name"
    return "the time in its name" if len(_latest_times(numbered)) == 1 else None


def reason(saves: Sequence[Save]) -> str:
    """In a few words why the newest of these is the newest."""
    number = len(_trained(saves))
    if number == 1:
        return "the only save there"
    return f"the newest of {number:,} saves by {by_name(saves) or 'the time of its files'}"


def left_out(save: Save, saves: Sequence[Save]) -> list[Save]:
    """The base models whose files are newer than those of ``save``, which was taken."""
    return [other for other in saves if other.base_of and other.written >= save.written and other is not save]


def newest_first(saves: Sequence[Save]) -> Iterator[Save]:
    """All saves but base models, each the newest of those that are left. Raises ``GateError`` once nobody can tell."""
    left = _trained(saves)
    while left:
        save = newest(left)
        yield save
        left = [other for other in left if other is not save]


def written_later(save: Save, saves: Sequence[Save]) -> Save | None:
    """The one whose files say that it is newer than ``save``, which the names say is the newest; if there is one."""
    last = max((other for other in _trained(saves) if other.found), key=lambda other: other.written, default=save)
    return last if last.written > save.written else None


def _trained(saves: Sequence[Save]) -> list[Save]:
    """Those that are no base model of others."""
    return [save for save in saves if not save.base_of]


def _numbered(saves: Sequence[Save]) -> list[Save]:
    # A base model counts where numbers are compared: what it outnumbers is older than it, and than what followed it.
    return _trained(_highest_numbers(saves)) or _highest_numbers(_trained(saves))


def _highest_numbers(saves: Sequence[Save]) -> list[Save]:
    """Those that no other one beside them, or beside a folder above them, outnumbers."""
    highest: dict[tuple[object, ...], tuple[int, ...]] = {}
    counted = [(save, list(_counters(save))) for save in saves]
    for _, counters in counted:
        for place, number in counters:
            highest[place] = max(number, highest.get(place, number))
    return [save for save, counters in counted if all(highest[place] == number for place, number in counters)]


def _counters(save: Save) -> Iterator[tuple[tuple[object, ...], tuple[int, ...]]]:
    """Where something is counted, and the numbers of this save."""
    for depth, name in enumerate(save.names):
        counter = counter_of(name)
        if counter is not None:
            yield (save.names[:depth], counter[0]), counter[1]


def _latest_times(saves: Sequence[Save]) -> list[Save]:
    """Those without a time, and of those with one the latest; a day and a time of day do not compare."""
    timed = [(save, time_of(save.names)) for save in saves]
    latest: dict[int, tuple[int, ...]] = {}
    for _, time in timed:
        if time is not None:
            latest[len(time)] = max(time, latest.get(len(time), time))
    return [save for save, time in timed if time is None or latest[len(time)] == time]
