"""``ckpt-doctor verify``."""

from __future__ import annotations

from collections.abc import Iterator

import click

from ckpt_doctor.reporting import OutputFormat

from .console import color_option, presentation
from .exit_codes import end_with
from .load_options import LoadOptions, load_options
from .messages import say
from .outputs import Output, Outputs, output_options
from .settings_options import settings_for, settings_options


@click.command("verify", short_help="Load a checkpoint and say which tensors arrived.")
@click.argument("path", metavar="[PATH]", default=".", type=click.Path())
@load_options
@click.option("--layout", metavar="NAME", help="Kind of checkpoint.  [default: recognised]")
@output_options
@click.option(
    "-q",
    "--quiet",
    is_flag=True,
    help="Print nothing about a complete load; json, sarif and junit always list all.",
)
@color_option
@settings_options
def command(
    path: str,
    load: LoadOptions,
    layout: str | None,
    output_format: tuple[OutputFormat, ...],
    output_file: tuple[str, ...],
    quiet: bool,
    color: str,
    config: str | None,
    no_config: bool,
) -> None:
    """Load the checkpoint at PATH and prove which of its tensors reached the model.

    Without --model, the model is the base that the checkpoint names, if that is a local folder. If the function for
    --model has a required parameter, it is called with PATH and must return a loaded model.

    Exit code: 0 if every tensor arrived, 1 if not, 2 if nothing could be judged.
    """
    from ckpt_doctor.inspection import open_checkpoint
    from ckpt_doctor.reporting import report_lines

    from .progress import LoadProgress

    settings = settings_for(config, no_config, layout=layout)
    policy = settings.policy
    outputs = Outputs.parse(output_format or settings.output_format, output_file)
    outputs.check()
    with LoadProgress() as progress:
        coverage = load.verify(path, policy, progress)

    def render(output: Output) -> Iterator[str]:
        look = presentation(color, quiet=quiet, to_file=output.file is not None)
        return report_lines(coverage, output.format, look)

    outputs.write(render, lambda: [open_checkpoint(path, policy.layout, layouts=policy.layouts)])
    if coverage.outcome == "not judged":
        say(f"error: the forward pass could not be judged: {coverage.unjudged}. --mode load judges the load alone")
    end_with(coverage.outcome)
