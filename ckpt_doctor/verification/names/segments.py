"""Names that all fit once the same part of each path is put in, left out or called otherwise."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple

_LONGEST = 3  # words that may be put in or left out: base_model.model is two
_MOST = 8  # edits that are tried


class Edit(NamedTuple):
    """``removed`` words become ``added`` ones behind the words ``before``; a number there means any number.

    ``example`` is a name before and after, ``changed`` how many of the ``total`` names need it, and ``follow`` the
    words that come next in those.
    """

    before: tuple[str, ...]
    removed: tuple[str, ...]
    added: tuple[str, ...]
    example: tuple[str, str] = ("", "")
    changed: int = 0
    total: int = 0
    follow: tuple[str, ...] = ()

    def apply(self, name: str) -> str | None:
        """The name with this edit; ``None`` if it has no place for it."""
        words = tuple(name.split("."))
        start, end = len(self.before), len(self.before) + len(self.removed)
        same = len(words) > end and all(map(_alike, words, self.before)) and words[start:end] == self.removed
        return ".".join((*words[:start], *self.added, *words[end:])) if same else None

    def words(self, noun: str) -> str:
        """One sentence: what is to be changed, and what a name becomes by it."""
        old, new = ".".join(self.removed), ".".join(self.added)
        if not self.added:
            what = f"without `{old}`"
        elif not self.removed:
            what = f"with `{new}` put in"
        else:
            what = f"with `{new}` instead of `{old}`"
        return f"All {self.total:,} {noun} match {what}: {self.example[0]} -> {self.example[1]}."

    def for_peft(self) -> str:
        """How to load an adapter by this edit."""
        return f"Load it with PeftModel.from_pretrained(…, key_mapping={self.key_mapping('base_model.model.')!r})."

    def for_transformers(self) -> str:
        """How to load a whole model by this edit."""
        return f"Load it with from_pretrained(…, key_mapping={self.key_mapping()!r})."

    def key_mapping(self, prefix: str = "") -> dict[str, str]:
        """The edit as PEFT and transformers take it, for names without ``prefix``: a pattern and what replaces it."""
        root = tuple(word for word in prefix.split(".") if word)
        before = self.before[len(root) :] if self.before[: len(root)] == root else self.before
        pattern = "".join(r"(\d+)\." if word.isdecimal() else rf"{word}\." for word in before)
        numbers = iter(range(1, 10))
        kept = "".join(rf"\{next(numbers)}." if word.isdecimal() else f"{word}." for word in before)
        old, new = "".join(rf"{word}\." for word in self.removed), "".join(f"{word}." for word in self.added)
        # What comes next keeps the pattern from names that fit as they are.
        after = f"(?={'|'.join(self.follow)})" if self.changed < self.total or not old else ""
        return {f"^{pattern}{old}{after}": f"{kept}{new}"}


def one_edit(names: Mapping[str, Any], there: Mapping[str, Any]) -> Edit | None:
    """The edit after which every one of ``names`` is in ``there`` with the same value (a shape), and no two are one.

    Names that are there already stay as they are. ``None`` if no single edit does it for all of the others.
    """
    lost = [name for name in names if name not in there]
    if not lost:
        return None
    kept = {name for name in names if name in there}
    if any(names[name] != there[name] for name in kept):
        return None
    for edit in _edits(lost[0], there):
        after = {name: edit.apply(name) for name in lost}
        fits = all(new in there and there[new] == names[name] for name, new in after.items() if new is not None)
        fresh = set(after.values())
        if None not in fresh and fits and len(fresh) == len(lost) and fresh.isdisjoint(kept):
            end = len(edit.before) + len(edit.removed)
            follow = tuple(sorted({name.split(".")[end] for name in lost}))
            example = (lost[0], after[lost[0]] or "")
            return edit._replace(example=example, changed=len(lost), total=len(names), follow=follow)
    return None


def _edits(name: str, there: Iterable[str]) -> Iterator[Edit]:
    """The edits that make ``name`` one of those that are there, the smallest first."""
    words = name.split(".")
    numbers = [word for word in words if word.isdecimal()]
    found: dict[Edit, int] = {}
    for other in there:
        theirs = other.split(".")
        if theirs[-1] != words[-1] or [word for word in theirs if word.isdecimal()] != numbers:
            continue
        edit = _difference(words, theirs)
        if edit is not None:
            found[edit] = len(edit.removed) + len(edit.added) + (len(edit.removed) > 0 < len(edit.added))
    yield from sorted(found, key=lambda edit: (found[edit], edit))[:_MOST]


def _difference(words: list[str], theirs: list[str]) -> Edit | None:
    start = 0
    while start < min(len(words), len(theirs)) and words[start] == theirs[start]:
        start += 1
    end = 0
    while end < min(len(words), len(theirs)) - start and words[-1 - end] == theirs[-1 - end]:
        end += 1
    removed, added = words[start : len(words) - end], theirs[start : len(theirs) - end]
    if max(len(removed), len(added)) > _LONGEST or any(word.isdecimal() for word in (*removed, *added)):
        return None
    return Edit(tuple(words[:start]), tuple(removed), tuple(added))


def _alike(word: str, pattern: str) -> bool:
    return word == pattern or (word.isdecimal() and pattern.isdecimal())
