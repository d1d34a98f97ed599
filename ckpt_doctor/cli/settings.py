"""``ckpt-doctor settings``."""

from __future__ import annotations

import os

import click

from ckpt_doctor.core.wording import from_here

from .console import write
from .messages import say
from .settings_options import read_settings, settings_options


@click.command("settings", short_help="Show which settings hold.")
@click.argument("paths", metavar="[PATH]...", nargs=-1, type=click.Path())
@click.option(
    "--output-format", type=click.Choice(("text", "json")), default="text", show_default=True, help="How to show them."
)
@settings_options
def command(paths: tuple[str, ...], output_format: str, config: str | None, no_config: bool) -> None:
    """Show the settings that hold for a look at each PATH from here, and where each of them comes from.

    The default PATH is the current directory. Options win over the environment (CKPT_DOCTOR_FAIL_ON and its like), the
    environment over the settings file, and that over the defaults.
    """
    from ckpt_doctor.reporting.settings_page import document, lines
    from ckpt_doctor.settings.overview import overview, unknown_variables

    settings = read_settings(config, no_config)
    infos = overview(settings)
    file = None if settings.file is None else from_here(settings.file)
    passed_over = [from_here(path) for path in settings.passed_over]
    write([document(file, passed_over, infos)] if output_format == "json" else lines(file, passed_over, infos))
    for name, close in unknown_variables(os.environ):
        say(f"{name} is no variable of ckpt-doctor{close}")
