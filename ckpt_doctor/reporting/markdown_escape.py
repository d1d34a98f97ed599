r"""Text that somebody else wrote, in GitHub's Markdown: whatever could mean something there stands in a code span.

Backslashes would not do. GitHub looks for ``@mentions``, ``#1`` and addresses in what was rendered, where they are
gone; in code it looks for nothing.
"""

from __future__ import annotations

import re

from .escape import printable

_LONGEST_NAME = 200
_RUN = re.compile(r"`+")
# Word by word, with a bracket or quote in front and punctuation behind. A command in backticks is one; so is a shape.
_WORD = re.compile(r"""([("']?)(?:`([^`]+)`|(\[\d[\d, ]*\]|\S+?))([.,;:?!)"']*)(?=\s|$)""")
_HARMLESS = re.compile(r"[^\W_]+(?:[-'][^\W_]+)*|\d+(?:[.,]\d+)+|[·…]")
# What looks like a commit, or like the key of an issue in some tracker.
_LINKED = re.compile(r"[0-9a-f]{7,40}|.+-\d+", re.IGNORECASE)


def code(text: str) -> str:
    r"""``text`` as a code span that nothing in it can end, on one line and not too long.

    >>> code("lora_A.weight"), code("a`b\n")
    ('`lora_A.weight`', '``a`b\\n``')
    """
    text = printable(text[: _LONGEST_NAME + 1])
    if len(text) > _LONGEST_NAME:
        text = f"{text[:_LONGEST_NAME]}…"
    fence = "`" * (max(map(len, _RUN.findall(text)), default=0) + 1)
    # A space beside the fence is taken off again; without one a backtick there would belong to it.
    padding = " " if not text or text[0] in "` " or text[-1] in "` " else ""
    return f"{fence}{padding}{text}{padding}{fence}"


def cell(text: str) -> str:
    r"""A code span for a cell of a table, which a ``|`` would end though it stands in code.

    >>> cell("a|b")
    '`a\\x7cb`'
    """
    return code(_in_cell(text))


def prose(text: str) -> str:
    """A message: words as they are; names, and whatever else has signs inside, as code.

    >>> prose("1 tensor of the base model (layers.0.q_proj.weight): see `ckpt-doctor ls`, or ask @somebody.")
    '1 tensor of the base model (`layers.0.q_proj.weight`): see `ckpt-doctor ls`, or ask `@somebody`.'
    >>> prose("q_proj is [16, 64], so rank(16).")
    '`q_proj` is `[16, 64]`, so `rank(16)`.'
    """
    words = _WORD.findall(printable(text))
    return " ".join(_word(*parts, first=number == 0) for number, parts in enumerate(words))


def prose_cell(text: str) -> str:
    """A message for a cell of a table."""
    return prose(_in_cell(text))


def _word(before: str, quoted: str, plain: str, after: str, *, first: bool) -> str:
    # A number and a full stop at the beginning would be an item of a list.
    item = first and plain.isdigit() and after
    if _HARMLESS.fullmatch(plain) and not _LINKED.fullmatch(plain) and not item:
        return f"{before}{plain}{after}"
    # A bracket or quote that was opened inside is closed inside.
    closing = after.rstrip(".,;:?!") if any(sign in plain for sign in "(\"'") else ""
    return f"{before}{code(quoted or plain + closing)}{after.removeprefix(closing)}"


def _in_cell(text: str) -> str:
    return text.replace("|", "\\x7c")
