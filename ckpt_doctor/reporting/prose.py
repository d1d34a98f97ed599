"""Breaking text into lines.

The standard library's ``textwrap`` is not used: it fills the rest of a line with the beginning of a long word, and so
cuts tensor names that would fit on a line of their own.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

_COLOUR = re.compile(r"\x1b\[[0-9;]*m")


def wrapped(text: str, width: int) -> list[str]:
    """``text`` in lines of at most ``width`` columns, broken at spaces; a longer word is cut only on its own lines.

    >>> wrapped("the tensor lora_A.weight is absent", 14)
    ['the tensor', 'lora_A.weight', 'is absent']
    """
    return joined(_cut(text.split(), width), " ", width)


def joined(pieces: Iterable[str], separator: str, width: int) -> list[str]:
    """The pieces with ``separator`` between them, in as few lines as fit; no piece is broken, and colours take no room.

    >>> joined(["2 errors", "1 warning", "1 note"], " · ", 22)
    ['2 errors · 1 warning', '1 note']
    """
    lines: list[list[str]] = []
    used = 0
    for piece in pieces:
        columns = len(_COLOUR.sub("", piece))
        if lines and used + len(separator) + columns <= width:
            lines[-1].append(piece)
            used += len(separator) + columns
        else:
            lines.append([piece])
            used = columns
    return [separator.join(line) for line in lines]


def command_lines(lead: str, command: str, width: int) -> list[str]:
    r"""``lead`` and a shell command, continued with ``\`` where it is too long, so it can still be pasted.

    A command with quotes stays on one line: a break could fall inside of them.
    """
    line = f"{lead} {command}"
    if len(line) <= width or "'" in command or '"' in command:
        return [line]
    # The first line starts with the lead, so its words get less room; the others are set in a little.
    words = _options(command.split(" "))
    head = joined(words, " ", width - len(lead) - 3)[0]
    tail = joined(_options(command[len(head) :].split()), " ", width - 6)
    return [f"{lead} {head} \\", *(f"    {part} \\" for part in tail[:-1]), *(f"    {part}" for part in tail[-1:])]


def _options(words: Iterable[str]) -> list[str]:
    """The words of a command, each option together with its values."""
    pieces: list[str] = []
    for word in words:
        if pieces and pieces[-1].startswith("-") and not word.startswith("-"):
            pieces[-1] += " " + word
        else:
            pieces.append(word)
    return pieces


def _cut(words: Iterable[str], width: int) -> Iterable[str]:
    for word in words:
        for start in range(0, len(word), width):
            yield word[start : start + width]
