"""Defaults, a settings file and the environment as one: what is above wins, key by key."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from ckpt_doctor.core.policy import Policy

from .search import CONFIG_VARIABLE, PREFIX, Search, read, search

if TYPE_CHECKING:
    from ckpt_doctor.reporting import OutputFormat


class Settings(NamedTuple):
    """What holds where no option says otherwise.

    ``values`` are the keys of a settings file that somebody has set, with their values, and ``sources`` says of each
    where. ``file`` is the settings file that was read, and ``inside`` says that it lies below a path that is inspected.
    ``passed_over`` are files that were not read, because they lie in a checkpoint that is.
    """

    values: Mapping[str, Any]
    sources: Mapping[str, str]
    file: Path | None = None
    inside: bool = False
    passed_over: tuple[Path, ...] = ()

    @property
    def policy(self) -> Policy:
        """What ``ckpt_doctor.inspect`` is to expect."""
        given = {key.replace("-", "_"): value for key, value in self.values.items()}
        return Policy(**{name: value for name, value in given.items() if name in Policy._fields})

    @property
    def output_format(self) -> tuple[OutputFormat, ...]:
        """The formats of reports; empty if nothing was said."""
        formats: tuple[OutputFormat, ...] = self.values.get("output-format", ())
        return formats

    def overlaid(self, values: Mapping[str, Any], sources: Mapping[str, str]) -> Settings:
        """These settings with other ``values`` instead of theirs; ``sources`` says of each key where from.

        What a ``select`` asks for is not left out because of an ``ignore`` from below it.
        """
        merged = {**self.values, **values}
        if "select" in values and "ignore" not in values and "ignore" in merged:
            from ckpt_doctor.rules._kit.choices import codes_of

            asked = [codes_of(choice) for choice in values["select"]]
            merged["ignore"] = tuple(
                choice for choice in merged["ignore"] if not any(codes <= codes_of(choice) for codes in asked)
            )
        named = {key: sources[key] for key in values}
        return self._replace(values=merged, sources={**self.sources, **named})


_NOTHING = Settings({}, {})


def load_settings(
    start: str | os.PathLike[str] | None = None,
    *,
    file: str | os.PathLike[str] | None = None,
    isolated: bool = False,
    inspected: Sequence[str | os.PathLike[str]] = (),
    environment: Mapping[str, str] | None = None,
) -> Settings:
    """The settings that hold in the folder ``start``, by default the current one.

    They come from ``file``, from the one that ``CKPT_DOCTOR_CONFIG`` names, or from the nearest ``ckpt-doctor.toml`` or
    ``pyproject.toml`` with ``[tool.ckpt-doctor]`` upwards; none is read if ``isolated``. ``inspected`` are the paths
    that will be looked at: a file that lies in one of those checkpoints is skipped. The variables of the
    ``environment`` (``os.environ``) win over the file. Raises ``SettingsError``.
    """
    environment = os.environ if environment is None else environment
    found = _find(start, file, environment, isolated=isolated, inspected=inspected)
    settings = _NOTHING._replace(inside=found.inside, passed_over=found.passed_over)
    if found.file is None and not any(name.startswith(PREFIX) for name in environment):
        return settings
    # Imported here because most runs find nothing.
    from .keys import KEYS, parse_environment, parse_file
    from .values import Place

    if found.file is not None:
        place = Place(found.file.shown, found.file.keys)
        values = parse_file(found.file.document, place)
        settings = settings.overlaid(values, dict.fromkeys(values, str(place)))._replace(file=found.file.path)
    variables = {key.name: key.variable for key in KEYS}
    return settings.overlaid(parse_environment(environment, settings.policy.layouts), variables)


def _find(
    start: str | os.PathLike[str] | None,
    file: str | os.PathLike[str] | None,
    environment: Mapping[str, str],
    *,
    isolated: bool,
    inspected: Sequence[str | os.PathLike[str]],
) -> Search:
    if isolated:
        return Search(None)
    file = file or environment.get(CONFIG_VARIABLE, "").strip()
    if file:
        return Search(read(Path(file)))
    try:
        folder = Path(os.path.abspath(start or "."))
    except FileNotFoundError:  # the current folder is gone, and so is everything above it
        return Search(None)
    return search(folder, inspected)
