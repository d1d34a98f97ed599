"""Names from a checkpoint are written by whoever made it: what of them may reach a terminal."""

from __future__ import annotations

LONGEST_MESSAGE = 2000
"""Characters of a message that are shown; a file can hold a tensor name of a megabyte."""


def printable(text: str) -> str:
    r"""``text`` on one line, with everything that a terminal would act upon written as an escape.

    Control characters, line and paragraph separators, bidirectional overrides, zero-width characters and halves of
    surrogate pairs become ``\n``, ``\x1b``, ``\u202e`` and so on; letters of any script stay. A backslash stays too:
    the result is for reading, not for decoding.

    >>> printable("weaver\x1b[2J\nlora_A")
    'weaver\\x1b[2J\\nlora_A'
    """
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() else _escaped(char) for char in text)


def shortened(text: str, limit: int = LONGEST_MESSAGE) -> str:
    """The beginning of a long text, and how much is left out.

    >>> shortened("lora_A.weight", 6)
    'lora_A… and 7 more characters (see --output-format json)'
    """
    rest = len(text) - limit
    return text if rest <= 0 else f"{text[:limit]}… and {rest:,} more characters (see --output-format json)"


def _escaped(char: str) -> str:
    return char.encode("unicode_escape").decode("ascii")
