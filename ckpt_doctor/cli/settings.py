"""``ckpt-doctor settings``."""

from __future__ import annotations

import os

import click

from ckpt_doctor.core.wording import from_here

from .console import write
from .messages import say
from .settings_options import read_settings, settings_options


@click.command("settings", short_help="Show the settings in force.")
@click.argument("paths", metavar="[PATH]...", nargs=-1, type=click.Path())
@click.option(
    "--output-format",
    type=click.Choice(("text", "json")),
    default="text",
    show_default=True,
    help="Format of the list.",
)
@settings_options
def command(paths: tuple[str, ...], output_format: str, config: str | None, no_config: bool) -> None:
    """Show the settings in force for each PATH, and where each setting comes from.

    The default PATH is the current directory. Options win over environment variables (such as CKPT_DOCTOR_FAIL_ON),
    these over the settings file, and the file over the defaults.
    """
    from ckpt_doctor.reporting.settings_page import document, lines
    from ckpt_doctor.settings.overview import overview, unknown_variables

    settings = read_settings(config, no_config)
    infos = overview(settings)
    file = None if settings.file is None else from_here(settings.file)
    passed_over = [from_here(path) for path in settings.passed_over]
    write([document(file, passed_over, infos)] if output_format == "json" else lines(file, passed_over, infos))
    for name, close in unknown_variables(os.environ):
        say(f"{name} is not a variable of ckpt-doctor{close}")
