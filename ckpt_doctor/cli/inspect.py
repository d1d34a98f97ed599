"""``ckpt-doctor inspect``."""

from __future__ import annotations

from itertools import chain

import click

from ckpt_doctor.reporting import report_lines

from .console import write
from .errors import FINDINGS, say
from .inspect_options import InspectOptions, inspect_options


@click.command("inspect", short_help="Diagnose checkpoints.")
@click.argument("paths", metavar="[PATH]...", nargs=-1, type=click.Path())
@inspect_options
def command(paths: tuple[str, ...], options: InspectOptions) -> None:
    """Diagnose the checkpoints at each PATH: a file, a checkpoint directory, or a tree of them.

    The default PATH is the current directory. RULES are separated by commas, and the option can be repeated.
    Exit code: 0 if nothing is at or above --fail-on, 1 if something is, 2 if nothing could be judged.
    """
    from .output_file import check_output_file, files_of, write_file
    from .progress import ByteProgress

    policy = options.policy
    if options.output_file is not None and options.to_file:
        check_output_file(options.output_file, read=options.against)
    with ByteProgress() as progress:
        report = options.inspect(paths or (".",), policy, progress=progress)
    lines = report_lines(report, options.output_format, options.look)
    if options.output_file is not None and options.to_file:
        write_file(options.output_file, lines, protected=chain.from_iterable(map(files_of, report.checkpoints)))
        if report.findings and not options.quiet:
            say(f"{len(report.findings):,} findings: see {options.output_file}")
    else:
        write(lines)
    if any(report.failing(policy.fail_on)):
        raise click.exceptions.Exit(FINDINGS)
