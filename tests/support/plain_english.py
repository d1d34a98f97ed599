"""Signs that a sentence for users has to be read twice: phrases and openings that have a plainer form."""

from __future__ import annotations

import re
from collections.abc import Iterator

PHRASES = (
    "nobody",
    "somebody",
    "is none",
    "are none",
    "has none",
    "have none",
    "in the place of",
    "stands",
    "lies beside",
    "lie beside",
    "lies there",
    "of its own",
    "of their own",
    "so that",
    "by which",
    "whatever",
    "without a word",
    "is not there",
    "are not there",
)
"""Each has a shorter form in the words of the user: file, folder, key, tensor, load."""

OPENINGS = ("What", "Whether", "Where", "Whoever", "Of")
"""A sentence that begins so puts its subject late. A question may."""

LONGEST = 45
"""In words. More than that are two sentences."""

_QUOTED = re.compile(r"`[^`]*`|'[^']*'")
_LIST = re.compile(r"[^\s,]*[._][^\s,]*(, | and \d+ more)?")
_SENTENCE = re.compile(r"[^.?!]+(?:[.?!](?!\s|$)[^.?!]*)*[.?!]?")


def signs(text: str) -> Iterator[str]:
    """What in ``text`` needs another look: a phrase, an opening or a length, with the sentence.

    >>> list(signs("Nobody reads it. Where is it? Where it stands."))
    ["opens with 'Where': Where it stands.", "'stands': Where it stands."]
    """
    for sentence in _sentences(text):
        words = sentence.split()
        if words and words[0] in OPENINGS and not sentence.endswith("?"):
            yield f"opens with {words[0]!r}: {sentence}"
        yield from (f"{phrase!r}: {sentence}" for phrase in PHRASES if re.search(rf"\b{phrase}\b", sentence))
        if len(_LIST.sub("", sentence).split()) > LONGEST and "/" not in sentence:  # a path may have any words
            yield f"{len(words)} words: {sentence}"


def _sentences(text: str) -> list[str]:
    """The sentences of ``text``, without what it quotes: names and code are not ours."""
    plain = _QUOTED.sub("X", " ".join(text.split()))
    return [found.strip() for found in _SENTENCE.findall(plain) if found.strip()]
