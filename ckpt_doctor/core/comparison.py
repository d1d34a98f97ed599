"""The differences between a checkpoint and its contract, part by part."""

from __future__ import annotations

from typing import Any, NamedTuple


class Change(NamedTuple):
    """A shape or dtype of which the contract says ``pinned``, and the file at ``path`` in the checkpoint ``found``."""

    name: str
    path: str
    pinned: Any
    found: Any


class Setting(NamedTuple):
    """A setting of which the contract says ``pinned`` and the checkpoint ``found``; ``None`` if it is not set."""

    name: str
    pinned: Any
    found: Any


class PartComparison(NamedTuple):
    """One part of a checkpoint beside what a contract says of it.

    ``contract`` is how messages name that. ``path`` is the part's only file, or the folder of several, relative to the
    checkpoint; ``None`` if nothing says where it would lie. ``pinned`` counts the tensors of the contract, and
    ``valued`` those whose values it pins. ``missing`` are names that are not there, and ``tied`` others that loaders
    restore, each with the tensor of the same values that is there. ``differing`` holds the tensors whose values are
    others, each with its file, and ``unread_values`` those whose bytes were not read. ``unread`` says why the tensors,
    and ``unread_config`` why the settings could not be compared, which stand in ``config_path``.
    """

    contract: str
    name: str
    role: str
    path: str | None
    pinned: int
    valued: int
    missing: tuple[str, ...] = ()
    tied: tuple[tuple[str, str], ...] = ()
    unexpected: tuple[str, ...] = ()
    shapes: tuple[Change, ...] = ()
    dtypes: tuple[Change, ...] = ()
    differing: tuple[tuple[str, str], ...] = ()
    unread_values: tuple[str, ...] = ()
    config: tuple[Setting, ...] = ()
    config_path: str | None = None
    unread: str | None = None
    unread_config: str | None = None


class Comparison(NamedTuple):
    """A checkpoint beside a contract: ``contract`` is how messages name that, ``layout`` the one that it pins."""

    contract: str
    layout: str
    parts: tuple[PartComparison, ...]
