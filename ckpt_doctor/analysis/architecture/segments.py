"""True if all names would fit with one part of their path more, or less."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence

from ckpt_doctor.core.architecture import Segment

from .expected import key_of

_DEEPEST = 4
_MOST_NAMES = 400
# Wrappers put these into names, which is a finding of its own (CKD304).
_WRAPPERS = frozenset(("_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module", "_forward_module"))


def is_wrapped(name: str) -> bool:
    """True if a name carries what a wrapper puts in front of names or into them."""
    words = name.split(".")
    return words[0] == "module" or not _WRAPPERS.isdisjoint(words)


def segment_off(names: Sequence[str], expected: Collection[str]) -> Segment | None:
    """The one word that all ``names`` have too much near their start, or lack, so that they are not the expected ones.

    ``expected`` are patterns with ``*`` for numbers.
    """
    wanted = {key_of(name) for name in expected}
    keys = sorted({key_of(name) for name in names})[:_MOST_NAMES]
    found = {segment for segment in _candidates(keys[0], wanted) if _fit(keys, segment, wanted)} if keys else set()
    return found.pop() if len(found) == 1 else None


def renamed(name: str, segment: Segment) -> str:
    """A name with the surplus word taken out, or the lacking one put in."""
    words = name.split(".")
    if segment.inserted:
        if words[segment.position : segment.position + 1] == [segment.word]:
            del words[segment.position]
    else:
        words.insert(segment.position, segment.word)
    return ".".join(words)


def _fit(keys: Sequence[str], segment: Segment, wanted: Collection[str]) -> bool:
    """True if all names are expected ones afterwards; those that the segment does not touch must be so already."""
    after = [renamed(key, segment) for key in keys]
    if segment.inserted:
        return all(key in wanted for key in after) and any(old != new for old, new in zip(keys, after, strict=True))
    return all(new in wanted or old in wanted for old, new in zip(keys, after, strict=True))


def _candidates(key: str, wanted: Collection[str]) -> Iterator[Segment]:
    words = key.split(".")
    for position in range(min(_DEEPEST, len(words) - 1)):
        if not is_wrapped(words[position]):
            yield Segment(words[position], position, True)
        for word in {name.split(".")[position] for name in wanted if name.count(".") >= position}:
            yield Segment(word, position, False)
