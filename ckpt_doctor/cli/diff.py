"""``ckpt-doctor diff``."""

from __future__ import annotations

import click

from .console import color_option, presentation, write
from .exit_codes import end_with
from .settings_options import settings_for, settings_options


@click.command("diff", short_help="Say how two checkpoints differ.")
@click.argument("a", type=click.Path())
@click.argument("b", type=click.Path())
@click.option("--values", is_flag=True, help="Also compare the values of the tensors that both have.")
@click.option(
    "--output-format",
    type=click.Choice(("text", "json")),
    default="text",
    show_default=True,
    help="Format of the report.",
)
@click.option("-q", "--quiet", is_flag=True, help="Print nothing if both are equal.")
@color_option
@settings_options
def command(
    a: str,
    b: str,
    values: bool,
    output_format: str,
    quiet: bool,
    color: str,
    config: str | None,
    no_config: bool,
) -> None:
    """Compare the checkpoints or weight files A and B, tensor by tensor, in any format.

    Names, shapes and dtypes are compared, and the settings of adapters; with --values every element, too. Files that
    cannot be read are never equal.

    Exit code: 0 if both are equal, 1 if not, 2 if there is nothing to compare.
    """
    from ckpt_doctor.contracts import diff
    from ckpt_doctor.reporting.difference_text import lines

    from .progress import ByteProgress

    layouts = settings_for(config, no_config).policy.layouts
    with ByteProgress("comparing") as progress:
        difference = diff(a, b, values=values, layouts=layouts, progress=progress)
    look = presentation(color, quiet=quiet)
    write([difference.to_json()] if output_format == "json" else lines(difference, look))
    end_with("passed" if difference.equal else "failed")
