"""``ckpt-doctor inspect``."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import click

from ckpt_doctor.reporting import report_lines

from .console import write
from .errors import FINDINGS, say
from .inspect_options import InspectOptions, inspect_options

if TYPE_CHECKING:
    from ckpt_doctor.results import Report


@click.command("inspect", short_help="Diagnose checkpoints.")
@click.argument("paths", metavar="[PATH]...", nargs=-1, type=click.Path())
@inspect_options
def command(paths: tuple[str, ...], options: InspectOptions) -> None:
    """Diagnose the checkpoints at each PATH: a file, a checkpoint directory, or a tree of them.

    The default PATH is the current directory. RULES are separated by commas, and the option can be repeated.
    Exit code: 0 if nothing is at or above --fail-on, 1 if something is, 2 if nothing could be judged.
    """
    # Imported here so that --help and usage errors do not pay for the rules.
    from ckpt_doctor.inspection import inspect

    from .output_file import check_output_file
    from .progress import ByteProgress, CountProgress

    policy = options.policy
    if options.output_file is not None and options.to_file:
        check_output_file(options.output_file)
    with ByteProgress() as progress, CountProgress("inspecting") as counter:
        report = inspect(paths or (".",), policy, progress=progress, counter=counter, jobs=options.processes)
    lines = report_lines(report, options.output_format, options.look)
    if not written_to_file(lines, report, options):
        write(lines)
    if any(report.failing(policy.fail_on)):
        raise click.exceptions.Exit(FINDINGS)


def written_to_file(lines: Iterable[str], report: Report, options: InspectOptions) -> bool:
    """Write the report to the file that was asked for, if one was."""
    from .output_file import write_file

    if options.output_file is None or not options.to_file:
        return False
    write_file(options.output_file, lines, protected=_files(report))
    if report.findings and not options.quiet:
        say(f"{len(report.findings):,} findings: see {options.output_file}")
    return True


def _files(report: Report) -> Iterator[Path]:
    for checkpoint in report.checkpoints:
        yield from (checkpoint.root / file.path for file in checkpoint.files)
        yield from (checkpoint.root / other.path for other in checkpoint.others)
        for part in checkpoint.parts:
            if part.config is not None:
                yield checkpoint.root / part.config.path
            yield from (checkpoint.root / index.path for index in part.indexes)
