"""How numbers and lists are put into words, the same everywhere."""

from __future__ import annotations

import os
import shlex
from collections.abc import Iterable, Sequence


def listed(names: Iterable[str], limit: int = 3) -> str:
    """The first few names and how many more there are.

    >>> listed(["a", "b", "c", "d", "e"])
    'a, b, c and 2 more'
    """
    everything = list(names)
    shown = ", ".join(everything[:limit])
    rest = len(everything) - limit
    return f"{shown} and {rest} more" if rest > 0 else shown


HEADERS_ONLY = "headers only"
"""What is said of a healthy checkpoint of which no value was read."""


def healthy(*, deep: bool) -> str:
    """The word for a checkpoint without errors, which promises no more than was read.

    >>> healthy(deep=True), healthy(deep=False)
    ('healthy', 'healthy, headers only')
    """
    return "healthy" if deep else f"healthy, {HEADERS_ONLY}"


def counted(count: int, noun: str, plural: str | None = None) -> str:
    """A number with its noun.

    >>> counted(1, "tensor"), counted(1200, "tensor"), counted(2, "alias", "aliases")
    ('1 tensor', '1,200 tensors', '2 aliases')
    """
    return f"{count:,} {noun if count == 1 else plural or noun + 's'}"


def capital(text: str) -> str:
    """The text with a capital in front, unless it begins with a name, which keeps its spelling.

    >>> capital("the pickle ends early"), capital("weaver_lora/data.pkl: it ends early"), capital("data: it ends early")
    ('The pickle ends early', 'weaver_lora/data.pkl: it ends early', 'data: it ends early')
    """
    first = text.partition(" ")[0]
    return text[:1].upper() + text[1:] if first.isalpha() else text


def scaled(count: int) -> str:
    """A large number of things in thousands, millions or billions.

    >>> scaled(812), scaled(4_600), scaled(7_240_000_000)
    ('812', '4.6 K', '7.2 B')
    """
    return _scaled(float(count), ("", " K", " M", " B", " T"), 1000)


def byte_size(count: int) -> str:
    """A number of bytes in binary units, named as people name them.

    >>> byte_size(443), byte_size(18432), byte_size(2_791_728_742)
    ('443 B', '18 KB', '2.6 GB')
    """
    return _scaled(float(count), (" B", " KB", " MB", " GB", " TB"), 1024)


def _scaled(value: float, units: Sequence[str], base: int) -> str:
    step = 0
    while value >= base * 0.9995 and step < len(units) - 1:
        value /= base
        step += 1
    return f"{value:.1f}".removesuffix(".0") + units[step]


def shell(*words: str) -> str:
    """A command line that a person can paste: ``ckpt-doctor`` and the words, quoted where they must be.

    >>> shell("fix", "my runs/weaver")
    "ckpt-doctor fix 'my runs/weaver'"
    """
    return shlex.join(["ckpt-doctor", *words])


def complaint(error: OSError) -> str:
    """What the operating system said, with the path that it was about, where it named one.

    >>> complaint(PermissionError(13, "Permission denied", "weaver"))
    'weaver: Permission denied'
    """
    place = f"{os.fsdecode(error.filename)}: " if isinstance(error.filename, (str, bytes)) else ""
    return f"{place}{error.strerror or error}"


def from_here(path: str | os.PathLike[str]) -> str:
    """The path as it is called from the current folder; unchanged where that folder is gone.

    >>> from_here(os.path.abspath("pyproject.toml"))
    'pyproject.toml'
    """
    try:
        return os.path.relpath(path)
    except FileNotFoundError:
        return os.fspath(path)


def shape(dims: Sequence[int]) -> str:
    """A shape as torch prints it.

    >>> shape((4, 32)), shape((8,)), shape(())
    ('[4, 32]', '[8]', '[]')
    """
    return str(list(dims))
