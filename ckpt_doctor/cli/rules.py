"""``ckpt-doctor rules``."""

from __future__ import annotations

import click

from .console import color_option, presentation, write


@click.command("rules", short_help="List the rules.")
@click.option(
    "--output-format", type=click.Choice(("text", "json")), default="text", show_default=True, help="How to list."
)
@color_option
def command(output_format: str, color: str) -> None:
    """List every rule: code, name, default severity, whether it offers a fix, and what it reads."""
    from ckpt_doctor.reporting.rule_pages import document, table
    from ckpt_doctor.rules import RULES

    infos = [rule.info() for rule in RULES]
    write([document(infos)] if output_format == "json" else table(infos, presentation(color)))
