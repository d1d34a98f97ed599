"""The settings that hold, as a table and as a document."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from ckpt_doctor.core.envelope import envelope
from ckpt_doctor.core.results import SettingInfo

from .escape import printable


def lines(file: str | None, passed_over: Sequence[str], settings: Iterable[SettingInfo]) -> Iterator[str]:
    """What ``settings`` shows, line by line. ``file`` is the settings file that holds, if one does."""
    from tabulate import tabulate

    yield printable(f"settings file: {file or 'none'}")
    for path in passed_over:
        yield printable(f"not used, because it is inside a checkpoint: {path}")
    yield ""
    cells = [
        (info.key, printable(info.default if info.value is None else _shown(info.value)), printable(info.source))
        for info in settings
    ]
    yield from tabulate(cells, headers=("setting", "value", "from"), disable_numparse=True).splitlines()


def document(file: str | None, passed_over: Sequence[str], settings: Iterable[SettingInfo]) -> str:
    """What ``settings --output-format json`` shows: version 1. A value that is not set is null."""
    import json

    return json.dumps(
        {
            **envelope(),
            "file": file,
            "passed_over": list(passed_over),
            "settings": {
                info.key: {"value": info.value, "source": info.source, "default": info.default} for info in settings
            },
        },
        indent=2,
    )


def _shown(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, dict):
        return "; ".join(f"{key} = {_shown(item)}" for key, item in value.items())
    return (", ".join(map(str, value)) or "none") if isinstance(value, list) else str(value)
