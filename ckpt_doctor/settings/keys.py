"""The keys of a settings file: what each may hold, and its default."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from ckpt_doctor.core.errors import SettingsError, UnknownNameError
from ckpt_doctor.core.findings import FailOn, Severity
from ckpt_doctor.core.layout import Expectation, Layout
from ckpt_doctor.core.path_ignores import PathIgnore
from ckpt_doctor.core.policy import EXPECTATIONS, FAIL_ON
from ckpt_doctor.layouts import LAYOUTS
from ckpt_doctor.rules._kit.choices import codes_of, find_rule, rule_choices

from .layout_tables import layouts
from .search import PREFIX
from .values import Place, flag, nearest, one_of, table, text, texts

if TYPE_CHECKING:
    from ckpt_doctor.reporting import OutputFormat


class Key(NamedTuple):
    """A key: ``parse`` makes its value of what TOML gives, and ``default`` says in words what it is else.

    ``simple`` ones can stand in the environment, too.
    """

    name: str
    parse: Callable[[Any, Place], Any]
    default: str
    simple: bool = True

    @property
    def variable(self) -> str:
        """The environment variable that has the same meaning."""
        return PREFIX + self.name.upper().replace("-", "_")

    def from_text(self, value: str) -> Any:
        """The value of the environment variable."""
        place = Place(self.variable)
        if self.parse is not flag:
            return self.parse(value, place)
        if value.lower() not in _FLAGS:
            raise place.wrong(f"{value!r} is not one of {', '.join(_FLAGS)}")
        return _FLAGS[value.lower()]


_FLAGS = {"1": True, "true": True, "yes": True, "on": True, "0": False, "false": False, "no": False, "off": False}


def _expect(value: Any, place: Place) -> Expectation:
    return one_of(value, place, EXPECTATIONS)


def _fail_on(value: Any, place: Place) -> FailOn:
    return one_of(value, place, FAIL_ON)


def _rules(value: Any, place: Place) -> tuple[str, ...]:
    try:
        return rule_choices(texts(value, place), str(place))
    except UnknownNameError as error:
        raise SettingsError(str(error)) from None


def _formats(value: Any, place: Place) -> tuple[OutputFormat, ...]:
    from ckpt_doctor.reporting import FORMATS

    names = [name.strip() for item in texts(value, place) for name in item.split(",")]
    return tuple(one_of(name, place, FORMATS) for name in names)


def _severity(value: Any, place: Place) -> Mapping[str, Severity]:
    found: dict[str, Severity] = {}
    for name, word in table(value, place).items():
        try:
            code = find_rule(name).code
        except UnknownNameError as error:
            several = len(codes_of(name)) > 1
            raise place.at(name).wrong("this means several rules: name one" if several else str(error)) from None
        if code in found:
            raise place.at(name).wrong(f"{code} has a severity already")
        found[code] = Severity(one_of(word, place.at(name), [severity.value for severity in Severity]))
    return found


def _per_path_ignores(value: Any, place: Place) -> tuple[PathIgnore, ...]:
    base = str(Path(os.path.abspath(place.source)).parent)
    found = []
    for pattern, rules in table(value, place).items():
        here = place.at(pattern)
        parts = Path(text(pattern, here)).parts
        if pattern.startswith(("/", "~")) or Path(pattern).is_absolute() or ".." in parts:
            raise here.wrong("a pattern is relative to the folder of the settings file and cannot leave it")
        found.append(PathIgnore(base, pattern, _rules(rules, here)))
    return tuple(found)


KEYS = (
    Key("expect", _expect, "safetensors for weaver and trigger, else any"),
    Key("layout", text, "recognised"),
    Key("select", _rules, "every rule"),
    Key("ignore", _rules, "none"),
    Key("fail-on", _fail_on, "error"),
    Key("output-format", _formats, "text"),
    Key("deep", flag, "yes for gate and latest, else no"),
    Key("severity", _severity, "each rule's own", simple=False),
    Key("per-path-ignores", _per_path_ignores, "none", simple=False),
    Key("layouts", layouts, "none", simple=False),
)
"""Every key, in the order in which they are shown."""


def parse_file(document: Any, place: Place) -> dict[str, Any]:
    """Key to value, for all that stand in a settings file. Raises ``SettingsError``."""
    found = table(document, place, [key.name for key in KEYS])
    values = {key.name: key.parse(found[key.name], place.at(key.name)) for key in KEYS if key.name in found}
    _refuse_unknown_layout(values, values.get("layouts", ()), place.at("layout"))
    return values


def parse_environment(environment: Mapping[str, str], own: Iterable[Layout]) -> dict[str, Any]:
    """Key to value, for all that stand in the environment; an empty variable says nothing.

    ``own`` are the layouts of the settings file. Raises ``SettingsError``.
    """
    values = {
        key.name: key.from_text(environment[key.variable].strip())
        for key in KEYS
        if key.simple and environment.get(key.variable, "").strip()
    }
    _refuse_unknown_layout(values, own, Place(f"{PREFIX}LAYOUT"))
    return values


def _refuse_unknown_layout(values: Mapping[str, Any], own: Iterable[Layout], place: Place) -> None:
    name = values.get("layout")
    known = (*LAYOUTS, *(definition.name for definition in own))
    if name is not None and name not in known:
        raise place.wrong(f"there is no layout {name!r}{nearest(name, known)}; there are {', '.join(known)}")
