"""``ckpt-doctor inspect``."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import click

from ckpt_doctor.policy import EXPECTATIONS, FAIL_ON, Policy
from ckpt_doctor.reporting import FORMATS, report_lines

from .console import color_option, presentation, write
from .errors import FINDINGS, say

if TYPE_CHECKING:
    from ckpt_doctor.results import Report


@click.command("inspect", short_help="Diagnose checkpoints.")
@click.argument("paths", metavar="[PATH]...", nargs=-1, type=click.Path())
@click.option(
    "--expect",
    type=click.Choice(EXPECTATIONS),
    help="Format that adapter and model weights must have.  [default: safetensors for weaver and trigger, else any]",
)
@click.option("--layout", metavar="NAME", help="Kind of checkpoint.  [default: recognised]")
@click.option("--deep", is_flag=True, help="Read the tensor bytes too: NaN, Inf, zeros, checksums.")
@click.option("--preview", is_flag=True, help="Also run rules that are not stable yet.")
@click.option("--select", metavar="RULES", multiple=True, help="Run only these codes, code prefixes or names.")
@click.option("--ignore", metavar="RULES", multiple=True, help="Leave these codes, code prefixes or names out.")
@click.option(
    "--fail-on", type=click.Choice(FAIL_ON), default="error", show_default=True, help="What makes the exit code 1."
)
@click.option(
    "--output-format", type=click.Choice(FORMATS), default=FORMATS[0], show_default=True, help="How to report."
)
@click.option("--output-file", metavar="FILE", help="Write the report there instead of to standard output.")
@click.option("--statistics", is_flag=True, help="Count by rule; in json, beside the findings.")
@click.option("-q", "--quiet", is_flag=True, help="Say nothing about what is healthy.")
@color_option
def command(
    paths: tuple[str, ...],
    expect: str | None,
    layout: str | None,
    deep: bool,
    preview: bool,
    select: tuple[str, ...],
    ignore: tuple[str, ...],
    fail_on: str,
    output_format: str,
    output_file: str | None,
    statistics: bool,
    quiet: bool,
    color: str,
) -> None:
    """Diagnose the checkpoints at each PATH: a file, a checkpoint directory, or a tree of them.

    The default PATH is the current directory. RULES are separated by commas, and the option can be repeated.
    Exit code: 0 if nothing is at or above --fail-on, 1 if something is, 2 if nothing could be judged.
    """
    # Imported here so that --help and usage errors do not pay for the rules.
    from ckpt_doctor.inspection import inspect

    from .progress import ByteProgress
    from .selection import rule_choices

    policy = Policy(
        expect=expect,
        layout=layout,
        deep=deep,
        preview=preview,
        select=rule_choices(select, "--select"),
        ignore=rule_choices(ignore, "--ignore"),
        fail_on=fail_on,
    )
    to_file = output_file is not None and output_file != "-"
    look = presentation(color, quiet=quiet, statistics=statistics, to_file=to_file)
    if output_file is None or not to_file:
        with ByteProgress() as progress:
            report = inspect(paths or (".",), policy, progress=progress)
        write(report_lines(report, output_format, look))
    else:
        from .output_file import check_output_file, write_file

        check_output_file(output_file)
        with ByteProgress() as progress:
            report = inspect(paths or (".",), policy, progress=progress)
        write_file(output_file, report_lines(report, output_format, look), protected=_files(report))
        if report.findings and not quiet:
            say(f"{len(report.findings):,} findings: see {output_file}")
    if any(report.failing(fail_on)):
        raise click.exceptions.Exit(FINDINGS)


def _files(report: Report) -> Iterator[Path]:
    for checkpoint in report.checkpoints:
        yield from (checkpoint.root / file.path for file in checkpoint.files)
        yield from (checkpoint.root / other.path for other in checkpoint.others)
        for part in checkpoint.parts:
            if part.config is not None:
                yield checkpoint.root / part.config.path
            yield from (checkpoint.root / index.path for index in part.indexes)
