"""All settings with their values and where these come from."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from difflib import get_close_matches
from typing import Any

from ckpt_doctor.core.results import SettingInfo

from .keys import KEYS
from .loading import Settings
from .search import CONFIG_VARIABLE, PREFIX

DEFAULT = "default"
"""The source of a value that is not set."""

# Read by the command line itself, and given to a command behind the gate.
_OTHER_VARIABLES = (CONFIG_VARIABLE, PREFIX + "DEBUG", PREFIX + "CHECKPOINT")


def overview(settings: Settings) -> list[SettingInfo]:
    """Every key of a settings file, in the order in which they are documented."""
    return [
        SettingInfo(
            key.name,
            _plain(key.name, settings.values[key.name]) if key.name in settings.values else None,
            settings.sources.get(key.name, DEFAULT),
            key.default,
        )
        for key in KEYS
    ]


def unknown_variables(environment: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    """Variables that look like ours and are none, each with the one that comes close."""
    known = [*(key.variable for key in KEYS if key.simple), *_OTHER_VARIABLES]
    for name in sorted(environment):
        if name.startswith(PREFIX) and name not in known:
            close = get_close_matches(name, known, n=1, cutoff=0.8)
            yield name, f"; did you mean {close[0]}?" if close else ""


def _plain(name: str, value: Any) -> Any:
    """A value as JSON has it."""
    if name == "severity":
        return {code: severity.value for code, severity in value.items()}
    if name == "per-path-ignores":
        return {item.pattern: list(item.rules) for item in value}
    if name == "layouts":
        return [definition.name for definition in value]
    return list(value) if isinstance(value, tuple) else value
