"""``ckpt-doctor fix``."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import TYPE_CHECKING

import click

from ckpt_doctor.core.policy import EXPECTATIONS, FAIL_ON

from .console import color_option, presentation, write
from .exit_codes import end_with
from .messages import say
from .settings_options import settings_for, settings_options

if TYPE_CHECKING:
    from ckpt_doctor.repair import Repair, Repairs
    from ckpt_doctor.reporting.presentation import Presentation


@click.command("fix", short_help="Repair what inspect finds.")
@click.argument("path", metavar="PATH", required=False, type=click.Path())
@click.option("--dry-run", is_flag=True, help="Only print the plan; exit code 1 if there is something to do.")
@click.option("--unsafe-fixes", is_flag=True, help="Also apply fixes that may lose something.")
@click.option("--select", metavar="RULES", multiple=True, help="Repair only these codes, code prefixes or names.")
@click.option("--ignore", metavar="RULES", multiple=True, help="Do not repair these codes, code prefixes or names.")
@click.option(
    "--expect",
    type=click.Choice(EXPECTATIONS),
    help="Format that adapter and model weights must have.  [default: safetensors for weaver and trigger, else any]",
)
@click.option("--layout", metavar="NAME", help="Kind of checkpoint.  [default: recognised]")
@click.option(
    "--deep/--no-deep", default=None, help="Read the tensor bytes too: some fixes need to know that copies are equal."
)
@click.option("--no-backup", is_flag=True, help="Do not keep the originals.")
@click.option("--undo", metavar="BACKUP", help="Put back the originals of this backup; takes no PATH.")
@click.option(
    "--fail-on", type=click.Choice(FAIL_ON), help="Least severity that makes the exit code 1.  [default: error]"
)
@click.option(
    "--output-format",
    type=click.Choice(("text", "json")),
    default="text",
    show_default=True,
    help="Format of the report.",
)
@color_option
@settings_options
def command(
    path: str | None,
    dry_run: bool,
    unsafe_fixes: bool,
    select: tuple[str, ...],
    ignore: tuple[str, ...],
    expect: str | None,
    layout: str | None,
    deep: bool | None,
    no_backup: bool,
    undo: str | None,
    fail_on: str | None,
    output_format: str,
    color: str,
    config: str | None,
    no_config: bool,
) -> None:
    """Apply the safe fixes of what inspect finds at PATH.

    A checkpoint is repaired as a whole or not at all: the new files are written aside, compared with their sources,
    judged again, and only then moved into place. The originals go to a backup under .ckpt-doctor/.

    Exit code: 0 if nothing at or above --fail-on remains, 1 if something does or a dry run has something to do, 2 if
    nothing could be done or judged.
    """
    if undo is not None:
        if path is not None:
            raise click.UsageError("--undo takes a backup and no PATH")
        _put_back(undo)
        return
    if path is None:
        raise click.UsageError("Missing argument 'PATH'.")

    from ckpt_doctor.repair import fix

    from .progress import ByteProgress

    given = {"expect": expect, "layout": layout, "deep": deep, "select": select, "ignore": ignore, "fail_on": fail_on}
    policy = settings_for(config, no_config, **given).policy
    with ByteProgress("repairing") as progress:
        result = fix(path, policy, unsafe=unsafe_fixes, dry_run=dry_run, backup=not no_backup, progress=progress)
    if output_format == "json":
        import json

        write([json.dumps(result.to_dict(), indent=2)])
    else:
        write(_lines(result, presentation(color)))
    for repair in result.failed:
        say(f"error: {repair.path}: {repair.error}")
    outcome = result.outcome(policy.fail_on)
    if outcome == "not judged" and not result.failed:
        say(f"nothing was judged: {path}")
    end_with(outcome)


def _put_back(backup: str) -> None:
    from ckpt_doctor.core.wording import counted
    from ckpt_doctor.repair import undo
    from ckpt_doctor.reporting.escape import printable

    paths = undo(backup)
    write([*(printable(_shown(path)) for path in paths), f"{counted(len(paths), 'file')} put back"])


def _lines(result: Repairs, look: Presentation) -> Iterator[str]:
    from ckpt_doctor.reporting import report_lines
    from ckpt_doctor.reporting.escape import printable

    for name in result.rolled_back:
        say(f"an interrupted repair was undone: {name}")
    for repair in result.repairs:
        if repair.steps or repair.rejected:
            yield from map(printable, _repair_lines(repair, look, dry_run=result.dry_run))
            yield ""
    if not result.changes_anything:
        yield "nothing to repair"
        yield ""
    if result.dry_run and result.changes_anything:
        yield "afterwards:"
    yield from report_lines(result.remaining, "text", look)


def _repair_lines(repair: Repair, look: Presentation, *, dry_run: bool) -> Iterator[str]:
    from ckpt_doctor.core.wording import counted, listed, shell

    done = "repair to do" if dry_run else "repair done"
    plural = "repairs to do" if dry_run else "repairs done"
    yield f"{repair.path}{look.separator}{counted(len(repair.steps), done, plural)}"
    for step in repair.steps:
        yield f"  {step.finding.code} {step.finding.name}  {step.finding.path or '.'}: {step.title}"
    if repair.changes:
        yield from (f"    {line}" for line in _changed_files(repair))
    for item in repair.rejected:
        yield f"  not repaired: {item.finding.code} {item.finding.name}  {item.finding.path or '.'}: {item.reason}"
    if repair.backup is not None:
        shown = _shown(repair.backup)
        yield f"  the originals are in {shown}; to put them back: {shell('fix', '--undo', shown)}"
    elif repair.steps and not dry_run:
        gone = [change.path for change in repair.changes if change.before is not None and change.action != "copied"]
        yield f"  no backup was kept of {listed(gone)}" if gone else "  nothing was replaced"


def _changed_files(repair: Repair) -> Iterator[str]:
    from tabulate import tabulate

    from ckpt_doctor.core.wording import byte_size

    rows = []
    for change in repair.changes:
        after = "" if change.after is None else f"{'' if change.exact else 'about '}{byte_size(change.after)}"
        before = "" if change.before is None else byte_size(change.before)
        action = change.action if change.source is None else f"{change.action} from {change.source}"
        rows.append((change.path, action, before, after))
    table = tabulate(rows, ("file", "", "before", "after"), tablefmt="plain", disable_numparse=True, colalign=_COLUMNS)
    yield from table.splitlines()


_COLUMNS = ("left", "left", "right", "right")


def _shown(path: str) -> str:
    """The path from the current folder, where it lies below that."""
    try:
        relative = os.path.relpath(path)
    except OSError:
        return path  # the current folder is gone: it was ours, and empty
    return path if relative.startswith("..") else relative
