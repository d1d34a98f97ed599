"""What the name of a folder says about when it was saved."""

from __future__ import annotations

import re
from functools import cache

_COUNTER = r"(?:checkpoint|ckpt|global_?step|step|epoch|iteration|iter)[-_=]?[0-9]+"
# transformers' Trainer gathers a checkpoint under this prefix until it is whole.
_COUNTED = re.compile(rf"(?:tmp[-_])?{_COUNTER}(?:[-_.,]{_COUNTER})*", re.IGNORECASE)
_PIECES = re.compile(r"([a-z_]+?)[-_=]?([0-9]+)")

_TIME = re.compile(
    r"(?<![0-9])((?:19|20)[0-9]{2})([-_.]?)([01][0-9])\2([0-3][0-9])"
    r"(?:[-_.T @]{0,2}([0-2][0-9])[-_.:]?([0-5][0-9])(?:[-_.:]?([0-5][0-9]))?)?(?![0-9])",
    re.IGNORECASE,
)
_TIME_OF_DAY = re.compile(r"([0-2][0-9])[-_.:]([0-5][0-9])[-_.:]([0-5][0-9])")

# Folders that bear a time and are no run of a training.
_NO_RUN = re.compile(
    r"(?<![a-z])(?:eval\w*|tests?|logs?|tb|tensorboard|wandb|results?|metrics|pred\w*|plots?|figures|samples|cache)(?![a-z])",
    re.IGNORECASE,
)

_LABELS = frozenset(("best", "last", "latest", "final", "weaver", "trigger"))

Counter = tuple[tuple[str, ...], tuple[int, ...]]
"""What is counted, and how far: ``(("epoch", "step"), (3, 500))``."""


@cache
def counter_of(name: str) -> Counter | None:
    """The counters that a name consists of; ``None`` if it holds anything else.

    >>> counter_of("checkpoint-500"), counter_of("epoch=3-step=1200"), counter_of("run-2")
    ((('checkpoint',), (500,)), (('epoch', 'step'), (3, 1200)), None)
    """
    if not _COUNTED.fullmatch(name):
        return None
    pieces = _PIECES.findall(re.sub(r"^tmp[-_]", "", name.lower()))
    return tuple(word.strip("_") for word, _ in pieces), tuple(int(number) for _, number in pieces)


@cache
def time_of(names: tuple[str, ...]) -> tuple[int, ...] | None:
    """The time in the last of these names that bears one: year, month and day, or with hour, minute and second.

    A time of day alone counts below a folder that bears the date.

    >>> time_of(("pn=1_pl=8_in=5_il=8_20250107-101500", "weaver"))
    (2025, 1, 7, 10, 15, 0)
    >>> time_of(("2025-01-07", "10-15-00")), time_of(("run_20250107",)), time_of(("seed_20251399",))
    ((2025, 1, 7, 10, 15, 0), (2025, 1, 7), None)
    """
    found: tuple[int, ...] | None = None
    for name in names:
        of_day = _TIME_OF_DAY.fullmatch(name)
        if of_day and found is not None and len(found) == 3:
            found = (*found, *map(int, of_day.groups()))
            continue
        for match in _TIME.finditer(name):
            year, _, month, day, *clock = match.groups(default="00")
            digits = (year, month, day, *(clock if match[5] else ()))
            time = tuple(map(int, digits))
            if _exists(time):
                found = time
    return found


def family_of(name: str) -> str | None:
    """What folders of a tree this one belongs to by its name: those of ``times``, of ``saves``, or none.

    >>> [family_of(name) for name in ("checkpoint-500", "best", "run_20250107", "eval_20250108", "logs")]
    ['saves', 'saves', 'times', None, None]
    """
    if counter_of(name) or name.lower() in _LABELS:
        return "saves"
    if _NO_RUN.search(name):
        return None
    return "times" if time_of((name,)) or _TIME_OF_DAY.fullmatch(name) else None


def _exists(time: tuple[int, ...]) -> bool:
    from datetime import datetime

    try:
        datetime(*time)  # type: ignore[arg-type]
    except ValueError:
        return False
    return True
