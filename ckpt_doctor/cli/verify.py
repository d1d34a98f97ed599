"""``ckpt-doctor verify``."""

from __future__ import annotations

import click

from .console import color_option, presentation, write
from .errors import FINDINGS
from .load_options import LoadOptions, load_options


@click.command("verify", short_help="Load a checkpoint and say which tensors arrived.")
@click.argument("path", metavar="[PATH]", default=".", type=click.Path())
@load_options
@click.option("--layout", metavar="NAME", help="Kind of checkpoint.  [default: recognised]")
@click.option(
    "--output-format", type=click.Choice(("text", "json")), default="text", show_default=True, help="How to report."
)
@click.option("--output-file", metavar="FILE", help="Write the report there instead of to standard output.")
@click.option("-q", "--quiet", is_flag=True, help="Say nothing about a load that is complete.")
@color_option
def command(
    path: str,
    load: LoadOptions,
    layout: str | None,
    output_format: str,
    output_file: str | None,
    quiet: bool,
    color: str,
) -> None:
    """Load the checkpoint at PATH and prove which of its tensors reached the model.

    Without --model it is loaded into the base that it names, if that is a folder here. A function for --model that has
    a required parameter is given PATH and returns a model that is loaded already.

    Exit code: 0 if every tensor arrived, 1 if not, 2 if nothing could be judged.
    """
    from ckpt_doctor.reporting.coverage_text import lines

    from .output_file import check_output_file, write_file
    from .progress import ByteProgress

    to_file = output_file is not None and output_file != "-"
    look = presentation(color, quiet=quiet, to_file=to_file)
    if output_file is not None and to_file:
        check_output_file(output_file)
    with ByteProgress("comparing") as progress:
        coverage = load.verify(path, layout, progress)
    pieces = [coverage.to_json()] if output_format == "json" else list(lines(coverage, look))
    if output_file is not None and to_file:
        write_file(output_file, pieces)
    else:
        write(pieces)
    if not coverage.complete:
        raise click.exceptions.Exit(FINDINGS)
