"""``ckpt-doctor ls``."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from .console import color_option, presentation, write
from .exit_codes import end_with
from .messages import say
from .settings_options import settings_for, settings_options

if TYPE_CHECKING:
    from ckpt_doctor.core.checkpoint import Checkpoint


@click.command("ls", short_help="List the tensors of checkpoints.")
@click.argument("path", type=click.Path(), default=".")
@click.option("--filter", "pattern", metavar="GLOB", help="Only tensors whose whole name matches, such as '*lora_B*'.")
@click.option("--layout", metavar="NAME", help="Kind of checkpoint.  [default: recognised]")
@click.option(
    "--output-format",
    type=click.Choice(("text", "json")),
    default="text",
    show_default=True,
    help="Format of the list.",
)
@color_option
@settings_options
def command(
    path: str,
    pattern: str | None,
    layout: str | None,
    output_format: str,
    color: str,
    config: str | None,
    no_config: bool,
) -> None:
    """List the tensors at PATH: name, dtype, shape, bytes, file, and the names that share its bytes.

    The default PATH is the current directory. Files that cannot be read are named on standard error.

    Exit code: 0 if everything was read, 1 if not, 2 if there are only files that this tool does not read.
    """
    from ckpt_doctor.analysis.listing import gaps, listing
    from ckpt_doctor.layouts import discover
    from ckpt_doctor.reporting.listing import document, table

    policy = settings_for(config, no_config, layout=layout).policy
    checkpoints = discover(path, policy.layout, layouts=policy.layouts)
    listings = [listing(checkpoint, pattern) for checkpoint in checkpoints]
    write([document(listings)] if output_format == "json" else table(listings, presentation(color)))
    problems = [problem for checkpoint in checkpoints for problem in gaps(checkpoint)]
    for problem in problems:
        say(f"error: {problem}")
    if problems:
        end_with("not judged" if all(map(_is_of_other_kinds, checkpoints)) else "failed")


def _is_of_other_kinds(checkpoint: Checkpoint) -> bool:
    return not checkpoint.judged and bool(checkpoint.not_judged)
