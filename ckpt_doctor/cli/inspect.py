"""``ckpt-doctor inspect``."""

from __future__ import annotations

import click

from ckpt_doctor.reporting import report_lines

from .exit_codes import end_with
from .inspect_options import InspectOptions, inspect_options
from .messages import say


@click.command("inspect", short_help="Diagnose checkpoints.")
@click.argument("paths", metavar="[PATH]...", nargs=-1, type=click.Path())
@click.option(
    "--verbose", is_flag=True, help="Say on standard error why each folder was or was not taken for a checkpoint."
)
@inspect_options
def command(paths: tuple[str, ...], verbose: bool, options: InspectOptions) -> None:
    """Diagnose the checkpoints at each PATH: a file, a checkpoint directory, or a tree of them.

    The default PATH is the current directory. RULES are separated by commas, and the option can be repeated.
    Exit code: 0 if nothing is at or above --fail-on, 1 if something is, 2 if nothing could be judged.
    """
    # Imported here so that --help and usage errors do not pay for the rules.
    from ckpt_doctor.inspection import inspect

    from .progress import ByteProgress, CountProgress

    outputs, policy = options.outputs, options.policy
    outputs.check(read=options.against)
    paths = paths or (".",)
    if verbose:
        from .recognition import recognition

        for line in recognition(paths, policy):
            say(line)
    with ByteProgress() as progress, CountProgress("inspecting") as counter:
        report = inspect(
            paths,
            policy,
            standard=options.standard,
            progress=progress,
            counter=counter,
            jobs=options.processes,
        )
    outputs.write(lambda output: report_lines(report, output.format, options.look(output)), lambda: report.checkpoints)
    options.point_to_files(report)
    outcome = report.outcome(policy.fail_on)
    if outcome == "not judged":
        say(f"nothing was judged: {', '.join(report.unjudged)}")
    end_with(outcome)
