"""Options, environment and settings file: what a command is to go by, the same for every command."""

from __future__ import annotations

from collections.abc import Callable
from shlex import quote
from typing import TYPE_CHECKING, Any, TypeVar

import click

from ckpt_doctor.core.wording import from_here

from .messages import say

if TYPE_CHECKING:
    from ckpt_doctor.settings import Settings

Command = TypeVar("Command", bound=Callable[..., Any])

_OPTIONS = (
    click.option(
        "--config",
        metavar="FILE",
        help="Settings file.  [default: ckpt-doctor.toml or pyproject.toml, looked for from here upwards]",
    ),
    click.option("--no-config", is_flag=True, help="Read no settings file."),
)


def settings_options(command: Command) -> Command:
    """The options ``--config`` and ``--no-config``."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


def settings_for(config: str | None, no_config: bool, **options: Any) -> Settings:
    """The settings that hold for the running command, with the ``options`` that were given instead of theirs.

    Says on standard error which settings file is not used, and which one lies below the paths that are looked at.
    """
    settings = read_settings(config, no_config)
    for path in settings.passed_over:
        shown = from_here(path)
        say(f"{shown} is not used, as it lies in a checkpoint that is looked at; to use it: --config {quote(shown)}")
    if settings.file is not None and settings.inside:
        say(f"using the settings of {from_here(settings.file)}; --no-config goes without them")
    elif settings.file is not None and config is None and settings.policy.silences:
        # It may have come with what is looked at, from a folder above that is not known to belong to it.
        say(f"using the settings of {from_here(settings.file)}, which leave findings out")
    given = _given(options)
    return settings.overlaid(given, dict.fromkeys(given, "the command line"))


def read_settings(config: str | None, no_config: bool) -> Settings:
    """The settings of file and environment that hold for the running command."""
    from ckpt_doctor.settings import load_settings

    if config is not None and no_config:
        raise click.UsageError("--config and --no-config exclude each other")
    if config == "":
        raise click.UsageError("--config is empty: is a variable unset?")
    return load_settings(file=config, isolated=no_config, inspected=_asked_paths())


def _given(options: dict[str, Any]) -> dict[str, Any]:
    """The options that were given, under the key of the settings file that has the same meaning."""
    found = {name.replace("_", "-"): value for name, value in options.items() if value is not None and value != ()}
    for name in ("select", "ignore"):
        if name in found:
            from ckpt_doctor.rules._kit.choices import rule_choices

            found[name] = rule_choices(found[name], f"--{name}")
    return found


def _asked_paths() -> list[str]:
    """The paths that the running command is to look at; the current folder where none is named."""
    context = click.get_current_context()
    arguments = [item for item in context.command.params if isinstance(item, click.Argument)]
    found: list[str] = []
    for argument in arguments:
        value = context.params.get(argument.name or "") if isinstance(argument.type, click.Path) else None
        found += [value] if isinstance(value, str) else value or ()
    return found or ["."]
