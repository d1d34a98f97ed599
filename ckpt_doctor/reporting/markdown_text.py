"""Markdown as rules write it, for a terminal: headings, paragraphs, lists and code; no other marks."""

from __future__ import annotations

import re
from collections.abc import Iterator

from .presentation import Presentation
from .prose import wrapped

_ITEM = re.compile(r"(?P<mark>[-*]|\d+\.) +(?P<text>.*)")


def rendered(markdown: str, look: Presentation) -> Iterator[str]:
    """The text line by line: headings without their marks, paragraphs and list items wrapped, code as it stands."""
    blank = False
    for block in _blocks(markdown):
        if blank:
            yield ""
        first = block[0]
        if first.startswith("```"):
            yield from ("    " + line for line in block[1:])
        elif first.startswith("    "):
            yield from block
        elif first.startswith("#"):
            yield look.paint(first.lstrip("#").strip(), "bold")
        else:
            yield from _prose(block, look.width)
        # A heading stands close to what it heads.
        blank = not first.startswith("#")


def _blocks(markdown: str) -> Iterator[list[str]]:
    """Runs of lines that belong together; a fenced block starts with its fence and has no end mark."""
    block: list[str] = []
    fenced = False
    for line in markdown.splitlines():
        if line.startswith("```"):
            if block:
                yield block
            block = [] if fenced else [line]
            fenced = not fenced
        elif fenced:
            block.append(line)
        elif not line.strip() or line.startswith("#"):
            if block:
                yield block
            block = []
            if line.startswith("#"):
                yield [line]
        else:
            block.append(line)
    if block:
        yield block


def _prose(block: list[str], width: int) -> Iterator[str]:
    lead, text = "", ""
    for line in block:
        item = _ITEM.fullmatch(line.strip())
        if item is None:
            text = f"{text} {line.strip()}"
            continue
        yield from _hanging(lead, text, width)
        lead, text = f"{item['mark']} ", item["text"]
    yield from _hanging(lead, text, width)


def _hanging(lead: str, text: str, width: int) -> Iterator[str]:
    for number, line in enumerate(wrapped(text, width - len(lead))):
        yield (" " * len(lead) if number else lead) + line
