"""How two checkpoints differ, as a person reads it: a table for each kind of difference, and a verdict."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence

from ckpt_doctor.core.difference import Difference, Mismatch, OneSided, Side, ValueDifference
from ckpt_doctor.core.wording import counted, listed, shape

from .escape import printable
from .presentation import Presentation
from .prose import joined, wrapped

_ROWS = 40
_LONGEST = 120  # characters of a setting or a name that are shown


def lines(difference: Difference, look: Presentation) -> Iterator[str]:
    """The report, line by line. With ``quiet``, nothing where both are equal."""
    if look.quiet and difference.equal:
        return
    yield from _side("a", difference.a, look)
    yield from _side("b", difference.b, look)
    yield from _one_sided("only in a", difference.only_a, difference, look)
    yield from _one_sided("only in b", difference.only_b, difference, look)
    yield from _mismatches("shapes that differ", difference.shapes, difference, look)
    yield from _mismatches("dtypes that differ", difference.dtypes, difference, look)
    yield from _mismatches("settings that differ", difference.settings, difference, look)
    yield from _values(difference, look)
    yield from _problems(difference, look)
    yield ""
    yield from _verdict(difference, look)


def _side(name: str, side: Side, look: Presentation) -> Iterator[str]:
    facts = [look.paint(f"{name}: {printable(side.path)}", "bold"), side.layout, counted(side.tensor_count, "tensor")]
    formats = [", ".join(side.formats)] if side.formats else []
    first, *rest = joined([*facts, *formats], look.separator, look.width - 3)
    yield from (first, *(f"   {line}" for line in rest))


def _one_sided(title: str, rows: Sequence[OneSided], difference: Difference, look: Presentation) -> Iterator[str]:
    cells = (
        (row.part, row.name, row.dtype, shape(row.shape), f"= {row.same_as}" if row.same_as else "") for row in rows
    )
    yield from _table(title, ("part", "tensor", "dtype", "shape", "same as"), cells, len(rows), difference, look)


def _mismatches(title: str, rows: Sequence[Mismatch], difference: Difference, look: Presentation) -> Iterator[str]:
    cells = ((row.part, row.name, _shown(row.a), _shown(row.b)) for row in rows)
    name = "setting" if title.startswith("settings") else "tensor"
    yield from _table(title, ("part", name, "a", "b"), cells, len(rows), difference, look)


def _values(difference: Difference, look: Presentation) -> Iterator[str]:
    # What lies furthest apart comes first, and what has no distance at all before that.
    rows = sorted(difference.differing, key=lambda row: (not row.nonfinite, -(row.largest or 0), row.name))
    cells = (
        (
            row.part,
            row.name,
            f"{row.differing:,} of {row.elements:,}",
            "" if row.largest is None else f"{row.largest:.6g}",
            f"{row.nonfinite:,}" if row.nonfinite else "",
            _position(row),
        )
        for row in rows
    )
    headers = ("part", "tensor", "elements", "largest difference", "not finite", "first at")
    yield from _table("values that differ", headers, cells, len(rows), difference, look)


def _table(
    title: str,
    headers: Sequence[str],
    cells: Iterable[Sequence[str]],
    count: int,
    difference: Difference,
    look: Presentation,
) -> Iterator[str]:
    """A table of the first rows, without the columns that would say the same in each."""
    if not count:
        return
    from tabulate import tabulate

    shown = [[printable(_shortened(cell)) for cell in row] for row, _ in zip(cells, range(_ROWS), strict=False)]
    kept = [number for number, name in enumerate(headers) if _says_something(name, [row[number] for row in shown])]
    numbers = {"elements", "largest difference", "not finite"}
    yield ""
    yield look.paint(f"{title} ({count:,})", "bold")
    yield from tabulate(
        [[row[number] for number in kept] for row in shown],
        headers=[headers[number] for number in kept],
        disable_numparse=True,
        colalign=["right" if headers[number] in numbers else "left" for number in kept],
    ).splitlines()
    if count > _ROWS:
        yield f"and {counted(count - _ROWS, 'more row')} (see --output-format json)"


def _says_something(header: str, column: Sequence[str]) -> bool:
    if header == "part":
        return len(set(column)) > 1
    return header in ("a", "b") or any(column)


def _position(row: ValueDifference) -> str:
    index: list[int] = []
    rest = row.first
    for size in reversed(row.shape):
        rest, position = divmod(rest, size)
        index.insert(0, position)
    return str(index) if row.shape else ""


def _shown(value: object) -> str:
    if isinstance(value, tuple):
        return shape(value)
    if value is None:
        return "not set"
    return value if isinstance(value, str) else json.dumps(value)


def _shortened(text: str) -> str:
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}…"


def _problems(difference: Difference, look: Presentation) -> Iterator[str]:
    if not difference.problems:
        return
    yield ""
    yield look.paint(f"not compared ({len(difference.problems):,})", "bold")
    for problem in difference.problems[:_ROWS]:
        place = ": ".join(printable(item) for item in (problem.side, problem.path) if item)
        concerned = f" ({listed(problem.tensors)})" if problem.tensors else ""
        for line in wrapped(f"{place}: {printable(problem.reason + concerned)}", look.width - 2):
            yield f"  {line}"
    if len(difference.problems) > _ROWS:
        yield f"  and {counted(len(difference.problems) - _ROWS, 'more problem')} (see --output-format json)"


def _verdict(difference: Difference, look: Presentation) -> Iterator[str]:
    if difference.left_out:
        left_out = f"not compared, because no evaluation reads them: {printable(listed(difference.left_out, 6))}"
        yield from wrapped(left_out, look.width)
    if not difference.values:
        yield "values were not compared: use --values"
    if difference.equal:
        what = "names, shapes, dtypes and values" if difference.values else "names, shapes and dtypes"
        yield look.paint(f"equal: {counted(difference.common, 'tensor')} with the same {what}", "green")
        return
    differing = {
        "only in a": difference.only_a,
        "only in b": difference.only_b,
        "in shape": difference.shapes,
        "in dtype": difference.dtypes,
        "in value": difference.differing,
        "not compared": difference.problems,
    }
    pieces = [f"{len(rows):,} {name}" for name, rows in differing.items() if rows]
    if difference.settings:
        pieces.append(counted(len(difference.settings), "setting"))
    known = [*pieces, f"{counted(difference.common, 'tensor')} in both"]
    yield from joined([look.paint("not equal:", "red") + f" {known[0]}", *known[1:]], look.separator, look.width)
