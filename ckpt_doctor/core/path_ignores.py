"""Rules that are to be left out where a path fits."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from typing import NamedTuple

from .checkpoint import Checkpoint


class PathIgnore(NamedTuple):
    """Codes, code prefixes or names of ``rules`` that are left out where ``pattern`` fits.

    ``base`` is the absolute folder that the pattern is relative to. A pattern without a slash means every file and
    folder of that name, and what covers a folder covers everything in it.
    """

    base: str
    pattern: str
    rules: tuple[str, ...]

    def covers(self, checkpoint: Checkpoint, path: str | None) -> bool:
        """True if the pattern fits a file of the checkpoint, or without ``path`` the checkpoint as a whole."""
        return any(self._fits(words) for words in self._relative(checkpoint, path))

    def _relative(self, checkpoint: Checkpoint, path: str | None) -> Iterator[list[str]]:
        """The path below ``base``, word by word, as it was typed and where links lead; nothing for what lies elsewhere.

        What a file is called in its checkpoint is taken as it stands: whoever made the checkpoint chose it.
        """
        top = checkpoint.path if path is None and checkpoint.kind.grain == "file" else checkpoint.root
        for resolved in (os.path.abspath, os.path.realpath):
            folders = Path(os.path.relpath(resolved(top), resolved(self.base))).parts
            if os.pardir not in folders:
                yield [*folders, *(path.split("/") if path is not None else ())]

    def _fits(self, words: list[str]) -> bool:
        wanted = self.pattern.removeprefix("./").strip("/").split("/")
        if len(wanted) == 1 and wanted != ["**"]:
            return any(fnmatchcase(word, wanted[0]) for word in words)
        return any(_fit(wanted, words[:end]) for end in range(1, len(words) + 1))


def _fit(wanted: Sequence[str], words: Sequence[str]) -> bool:
    """True if the words are the wanted ones, where ``**`` matches any number of them.

    >>> _fit(["runs", "**", "*.pt"], ["runs", "old", "weaver", "projections.pt"]), _fit(["runs", "*.pt"], ["runs"])
    (True, False)
    """
    reached = {0}
    for pattern in wanted:
        if pattern == "**":
            reached = set(range(min(reached, default=len(words) + 1), len(words) + 1))
        else:
            reached = {at + 1 for at in reached if at < len(words) and fnmatchcase(words[at], pattern)}
    return len(words) in reached
