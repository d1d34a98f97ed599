"""The picture in the README: what a terminal shows of a command, as SVG.

``generate_docs.py`` writes it, from what the command line really prints. The same code gives the same bytes.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from html import escape
from pathlib import Path
from shlex import split

from click.testing import CliRunner

from ckpt_doctor.cli.root import cli

COMMAND = "ckpt-doctor inspect fixtures/failures/both/weaver"
FILE = Path("docs/images/inspect.svg")

_COLUMN, _LINE, _MARGIN, _BAR = 8.43, 19, 18, 34
_BACKGROUND, _TEXT, _PROMPT = "#14161b", "#d8dee9", "#7f8896"
_COLOURS = {"31": "#ff6b6b", "33": "#f2c14e", "32": "#7bd88f", "34": "#6cb6ff", "36": "#5fd7d7", "35": "#d79bff"}
_CODE = re.compile(r"\x1b\[([0-9;]*)m")


def pages(repository: Path) -> Iterator[tuple[Path, str]]:
    """The picture by its path; commands run in ``repository``."""
    yield FILE, "\n".join(_svg(COMMAND, _shown(COMMAND, repository)))


def _shown(command: str, repository: Path) -> list[str]:
    before, columns = Path.cwd(), os.environ.get("COLUMNS")
    os.chdir(repository)
    os.environ["COLUMNS"] = "80"
    try:
        done = CliRunner().invoke(cli, [*split(command)[1:], "--color", "always"])
    finally:
        os.chdir(before)
        if columns is None:
            del os.environ["COLUMNS"]
        else:
            os.environ["COLUMNS"] = columns
    return str(done.stdout).rstrip("\n").split("\n")


def _svg(command: str, lines: list[str]) -> Iterator[str]:
    width = max(len(_CODE.sub("", line)) for line in (f"$ {command}", *lines)) * _COLUMN + 2 * _MARGIN
    height = (len(lines) + 1) * _LINE + _BAR + _MARGIN
    label = escape(f"{command}: {_CODE.sub('', lines[0])}", quote=True)
    yield (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width:.0f}" height="{height}" '
        f'viewBox="0 0 {width:.0f} {height}" role="img" aria-label="{label}">'
    )
    yield f'<rect width="{width:.0f}" height="{height}" rx="8" fill="{_BACKGROUND}"/>'
    for number, colour in enumerate(("#ff5f57", "#febc2e", "#28c840")):
        yield f'<circle cx="{_MARGIN + 6 + 18 * number}" cy="18" r="5" fill="{colour}"/>'
    yield (
        f'<g font-family="ui-monospace,SFMono-Regular,Menlo,Consolas,monospace" font-size="14" fill="{_TEXT}" '
        'xml:space="preserve">'
    )
    yield from _line(f"$ {command}", 0, prompt=True)
    for number, line in enumerate(lines, 1):
        yield from _line(line, number)
    yield "</g>"
    yield "</svg>"


def _line(line: str, number: int, *, prompt: bool = False) -> Iterator[str]:
    """One line: each run of one look is placed by its column, whatever the width of the font."""
    column = 0
    for text, style in _runs(line):
        if text.strip():
            fill = f' fill="{_PROMPT}"' if prompt else style
            x = _MARGIN + (column + len(text) - len(text.lstrip())) * _COLUMN
            shown = text.strip()
            yield (
                f'<text x="{x:.1f}" y="{_BAR + (number + 1) * _LINE - 5}" textLength="{len(shown) * _COLUMN:.1f}"'
                f"{fill}>{escape(shown)}</text>"
            )
        column += len(text)


def _runs(line: str) -> Iterator[tuple[str, str]]:
    """The pieces of a line with the attributes that the escape codes before them ask for."""
    codes: set[str] = set()
    position = 0
    for match in _CODE.finditer(line):
        yield line[position : match.start()], _style(codes)
        given = set(match[1].split(";")) - {""}
        codes = set() if not given or given == {"0"} else codes | given
        position = match.end()
    yield line[position:], _style(codes)


def _style(codes: set[str]) -> str:
    colour = next((f' fill="{_COLOURS[code]}"' for code in sorted(codes) if code in _COLOURS), "")
    bold = ' font-weight="bold"' if "1" in codes else ""
    dim = ' opacity="0.7"' if "2" in codes else ""
    return f"{colour}{bold}{dim}"
