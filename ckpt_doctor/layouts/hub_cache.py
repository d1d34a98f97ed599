"""Models that the hub's client has stored on this machine."""

from __future__ import annotations

import os
import re
from pathlib import Path

_ID = re.compile(r"[\w-][\w.-]*(?:/[\w-][\w.-]*)?", re.ASCII)
_REVISION = re.compile(r"[\w-][\w.-]*", re.ASCII)


def cached_file(model: str, revision: object, name: str) -> Path | None:
    """The file of this name in the snapshot of a model that a load would take; ``None`` if there is none.

    ``revision`` is a branch, tag or commit; what is no text means ``main``. huggingface_hub keeps a model in
    ``models--OWNER--NAME``, with the commit of each branch in ``refs`` and its files in ``snapshots/COMMIT``.
    """
    wanted = revision if isinstance(revision, str) and revision else "main"
    if _ID.fullmatch(model) is None or _REVISION.fullmatch(wanted) is None:
        return None
    folder = _cache() / f"models--{model.replace('/', '--')}"
    commit = _text(folder / "refs" / wanted) or wanted
    file = folder / "snapshots" / commit / name
    return file if _REVISION.fullmatch(commit) and os.path.isfile(file) else None  # noqa: PTH113


def _cache() -> Path:
    """Where huggingface_hub keeps models, by the variables that it reads."""
    for variable in ("HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE"):
        if os.environ.get(variable):
            return Path(os.environ[variable])
    if os.environ.get("HF_HOME"):
        return Path(os.environ["HF_HOME"], "hub")
    home = os.environ.get("XDG_CACHE_HOME") or os.path.join(os.path.expanduser("~"), ".cache")  # noqa: PTH111, PTH118
    return Path(home, "huggingface", "hub")


def _text(path: Path) -> str | None:
    try:
        with path.open("rb") as file:
            return file.read(100).decode("ascii", "replace").strip()
    except OSError:
        return None
