"""Names from a checkpoint are written by whoever made it: what of them may reach a terminal."""

from __future__ import annotations


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


def _escaped(char: str) -> str:
    return char.encode("unicode_escape").decode("ascii")
