"""Paths in a layout: none leaves the checkpoint, and none lies too deep for the checkpoint to be found from it."""

from __future__ import annotations

from .values import Place

_MOST_FOLDERS = 3  # as far as a search goes up from the folder that a user names
_OWN_FOLDER = ".ckpt-doctor"


def relative_path(path: str, place: Place, *, own: bool = False) -> str:
    """A plain path below the checkpoint, without a slash at its end. ``own`` allows ``.``, which becomes empty.

    Raises ``SettingsError`` for what is absolute, what leaves the checkpoint, and for globs.
    """
    plain = path.rstrip("/")
    if plain == "." and own:
        return ""
    words = plain.split("/")
    if path.startswith("/") or "\\" in path or ":" in path or any(word in ("", ".", "..") for word in words):
        raise place.wrong(f"{path!r} must be a path below the checkpoint, such as heads/value.pt")
    if not path.isprintable() or _OWN_FOLDER in words or any(letter in path for letter in "*?["):
        raise place.wrong(f"{path!r} must be the plain name of a file or folder; list alternatives one by one")
    return plain


def below(folder: str, place: Place, *, nested: bool = False) -> None:
    """Raise ``SettingsError`` where a folder lies too deep; ``nested`` says that PEFT may write into one below it."""
    depth = len(folder.split("/")) if folder else 0
    if depth + nested > _MOST_FOLDERS:
        raise place.wrong(f"{folder} lies too deep: at most {_MOST_FOLDERS - nested} folders below the checkpoint")
