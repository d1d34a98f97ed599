"""``ckpt-doctor verify``."""

from __future__ import annotations

import click

from ckpt_doctor.coverage import MODES

from .console import color_option, presentation, write
from .errors import FAILED, FINDINGS, say


@click.command("verify", short_help="Load a checkpoint and say which tensors arrived.")
@click.argument("path", metavar="[PATH]", default=".", type=click.Path())
@click.option(
    "--model",
    metavar="SPEC",
    help="Base model (folder or hub id), MemGen *.yaml, or MODULE:NAME or FILE.py:NAME of a function that returns the "
    "model.  [default: the base that the checkpoint names, if it is a folder here]",
)
@click.option(
    "--loader",
    metavar="auto|SPEC",
    help="The loader to judge: MODULE:NAME or FILE.py:NAME, called as function(model, PATH).  "
    "[default: auto, the ecosystem's own loader for this layout]",
)
@click.option(
    "--mode",
    type=click.Choice(MODES),
    default=MODES[0],
    show_default=True,
    help="load compares values; keys only names and shapes, without memory for weights; forward also runs one pass.",
)
@click.option("--weaver-model", metavar="SPEC", help="MemGen: base model of the weaver, where it is another one.")
@click.option("--layout", metavar="NAME", help="Kind of checkpoint.  [default: recognised]")
@click.option("--trust-checkpoint", is_flag=True, help="Let your own loader read files that could run code.")
@click.option(
    "--output-format", type=click.Choice(("text", "json")), default="text", show_default=True, help="How to report."
)
@click.option("--output-file", metavar="FILE", help="Write the report there instead of to standard output.")
@click.option("-q", "--quiet", is_flag=True, help="Say nothing about a load that is complete.")
@color_option
def command(
    path: str,
    model: str | None,
    loader: str | None,
    mode: str,
    weaver_model: str | None,
    layout: str | None,
    trust_checkpoint: bool,
    output_format: str,
    output_file: str | None,
    quiet: bool,
    color: str,
) -> None:
    """Load the checkpoint at PATH and prove which of its tensors reached the model.

    A function for --model that has a required parameter is given PATH and returns a model that is loaded already.
    Exit code: 0 if every tensor arrived, 1 if not, 2 if nothing could be judged.
    """
    from ckpt_doctor.reporting.coverage_text import lines
    from ckpt_doctor.verification import verify_apart

    from .output_file import check_output_file, write_file
    from .progress import ByteProgress

    to_file = output_file is not None and output_file != "-"
    look = presentation(color, quiet=quiet, to_file=to_file)
    if output_file is not None and to_file:
        check_output_file(output_file)
    with ByteProgress("comparing") as progress:
        coverage = verify_apart(
            path,
            model,
            loader=loader,
            mode=mode,
            weaver_model=weaver_model,
            layout=layout,
            trust_checkpoint=trust_checkpoint,
            progress=progress,
        )
    pieces = [coverage.to_json()] if output_format == "json" else list(lines(coverage, look))
    if output_file is not None and to_file:
        write_file(output_file, pieces)
    else:
        write(pieces)
    if coverage.arrived and coverage.unjudged:
        say(f"error: the forward pass could not be judged: {coverage.unjudged}. --mode load judges the load alone")
        raise click.exceptions.Exit(FAILED)
    if not coverage.complete:
        raise click.exceptions.Exit(FINDINGS)
