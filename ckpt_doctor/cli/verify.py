"""``ckpt-doctor verify``."""

from __future__ import annotations

from collections.abc import Iterator

import click

from ckpt_doctor.coverage import MODES

from .console import color_option, presentation
from .errors import FAILED, FINDINGS, say
from .outputs import Output, Outputs, output_options
from .settings_options import settings_for, settings_options


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
@output_options
@click.option(
    "-q",
    "--quiet",
    is_flag=True,
    help="Say nothing about a load that is complete; json, sarif and junit are always whole.",
)
@color_option
@settings_options
def command(
    path: str,
    model: str | None,
    loader: str | None,
    mode: str,
    weaver_model: str | None,
    layout: str | None,
    trust_checkpoint: bool,
    output_format: tuple[str, ...],
    output_file: tuple[str, ...],
    quiet: bool,
    color: str,
    config: str | None,
    no_config: bool,
) -> None:
    """Load the checkpoint at PATH and prove which of its tensors reached the model.

    A function for --model that has a required parameter is given PATH and returns a model that is loaded already.
    Exit code: 0 if every tensor arrived, 1 if not, 2 if nothing could be judged.
    """
    from ckpt_doctor.inspection import open_checkpoint
    from ckpt_doctor.reporting import coverage_lines
    from ckpt_doctor.verification import verify_apart

    from .progress import ByteProgress

    settings = settings_for(config, no_config, layout=layout)
    policy = settings.policy
    outputs = Outputs.parse(output_format or settings.output_format, output_file)
    outputs.check()
    with ByteProgress("comparing") as progress:
        coverage = verify_apart(
            path,
            model,
            loader=loader,
            mode=mode,
            weaver_model=weaver_model,
            layout=policy.layout,
            layouts=policy.layouts,
            trust_checkpoint=trust_checkpoint,
            progress=progress,
        )

    def render(output: Output) -> Iterator[str]:
        look = presentation(color, quiet=quiet, to_file=output.file is not None)
        return coverage_lines(coverage, output.format, look)

    outputs.write(render, lambda: [open_checkpoint(path, policy.layout, layouts=policy.layouts)])
    if coverage.arrived and coverage.unjudged:
        say(f"error: the forward pass could not be judged: {coverage.unjudged}. --mode load judges the load alone")
        raise click.exceptions.Exit(FAILED)
    if not coverage.complete:
        raise click.exceptions.Exit(FINDINGS)
