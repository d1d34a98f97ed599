"""The modules that an adapter can be on, by the ``config.json`` of its base."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from .expected import Expected, Row, key_of, settings_for, table_for
from .settings import Settings

_NUMBERED = "*"


class BaseModules:
    """The modules of every class that a model of some config can be loaded as."""

    def __init__(self, model_type: str, classes: Iterable[Expected]) -> None:
        self.model_type = model_type
        self._rows: dict[str, tuple[Row, Settings]] = {}
        self._others: set[str] = set()
        for expected in classes:
            for row in expected.rows:
                for module in _modules(row.name):
                    self._rows.setdefault(key_of(module), (row, expected.settings))
            hidden = {name for names in expected.tied.values() for name in names} | expected.inside
            self._others |= {module for name in hidden for module in _modules(name)}

    def has(self, path: str) -> bool:
        """True if some class has a module, or a parameter, at this path."""
        key = key_of(path)
        if key in self._others:
            return True
        found = self._rows.get(key)
        return found is not None and _exists(path, *found)

    def features(self, path: str) -> tuple[int, int] | None:
        """The inputs and outputs of a linear module, where both are certain and neither is the vocabulary's size."""
        row, settings = self._rows.get(key_of(f"{path}.weight"), (None, None))
        if row is None or settings is None or row.shape is None or len(row.shape) != 2 or row.local:
            return None
        if any(isinstance(dim, str) and dim.endswith("vocab_size") for dim in row.shape):
            return None
        outputs, inputs = map(settings.number, row.shape)
        return None if outputs is None or inputs is None else (inputs, outputs)

    def nearest(self, path: str) -> str | None:
        """A module whose path ends alike, with ``*`` for the index of a layer."""
        words = key_of(path).split(".")
        for length in range(len(words) - 1, 0, -1):
            end = ".".join(words[-length:])
            found = sorted(key for key in self._rows if key == end or key.endswith(f".{end}"))
            if found:
                return found[0]
        return None


def base_modules(config: Mapping[str, Any]) -> BaseModules | None:
    """The modules of a base, or ``None`` if its type, or that of a part of it, is not known."""
    classes = _classes(config)
    if classes is None:
        return None
    for name, section in config.items():
        # A wrapper's text model can be loaded by itself, and then has the names of its own type.
        if isinstance(section, Mapping) and isinstance(section.get("model_type"), str) and name.endswith("text_config"):
            inner = _classes(section)
            if inner is None:
                return None
            classes += inner
    return BaseModules(str(config.get("model_type")), classes)


def _classes(config: Mapping[str, Any]) -> list[Expected] | None:
    table = table_for(config)
    if table is None:
        return None
    settings = settings_for(config, table)
    return [Expected(name, table, settings) for name in table["classes"]]


def _modules(name: str) -> Iterable[str]:
    """The path of a parameter and of everything that it lies in."""
    words = name.split(".")
    return (".".join(words[:length]) for length in range(1, len(words) + 1))


def _exists(path: str, row: Row, settings: Settings) -> bool:
    """True if each index in the path is one that its list of layers has."""
    place: list[int] = []
    for wanted, word in zip(row.name.split("."), path.split("."), strict=False):
        if wanted != _NUMBERED:
            continue
        length = settings.number(row.axes[len(place)], place)
        if length is None:
            return True
        if len(word) > 9 or int(word) >= length:
            return False
        place.append(int(word))
    return True
