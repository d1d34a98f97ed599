"""``ckpt-doctor lock``."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from ckpt_doctor.reporting.presentation import Presentation

from .console import write
from .exit_codes import OF_OUTCOMES
from .messages import say
from .settings_options import settings_for, settings_options

if TYPE_CHECKING:
    from ckpt_doctor.core.contract import Contract
    from ckpt_doctor.core.results import Outcome


@click.command("lock", short_help="Write down what a good checkpoint holds.")
@click.argument("path", type=click.Path())
@click.option("-o", "--output", metavar="FILE", help="Write the contract to this file instead of standard output.")
@click.option("--values", is_flag=True, help="Pin the values too, by a SHA-256 of each tensor.")
@click.option("--layout", metavar="NAME", help="Kind of checkpoint.  [default: recognised]")
@click.option("--ignore", metavar="RULES", multiple=True, help="Lock despite errors of these codes or names.")
@settings_options
def command(
    path: str,
    output: str | None,
    values: bool,
    layout: str | None,
    ignore: tuple[str, ...],
    config: str | None,
    no_config: bool,
) -> None:
    """Write a contract: the tensors that the checkpoint at PATH holds, with shapes and dtypes, part by part.

    `ckpt-doctor inspect --against FILE` compares other checkpoints with it, in any format. A checkpoint
    with errors is refused; one that cannot be read is refused even with --ignore.

    Exit code: 0 if the contract was written, 1 if the checkpoint was refused, 2 if there is no checkpoint
    or only files that this tool does not read.
    """
    from ckpt_doctor.contracts import locked
    from ckpt_doctor.core.errors import LockRefusedError
    from ckpt_doctor.inspection import open_checkpoint
    from ckpt_doctor.reporting import report_lines

    from .output_file import check_output_file, files_of, write_file
    from .progress import ByteProgress

    policy = settings_for(config, no_config, layout=layout, ignore=ignore).policy
    to_file = output is not None and output != "-"
    if output is not None and to_file:
        check_output_file(output, "contract")
    checkpoint = open_checkpoint(path, policy.layout, layouts=policy.layouts)
    try:
        with ByteProgress() as progress:
            contract = locked(checkpoint, policy, values=values, progress=progress)
    except LockRefusedError as refused:
        for line in report_lines(refused.report, "text", Presentation()) if refused.report.findings else ():
            say(line)
        say(f"error: {refused}")
        outcome: Outcome = "failed" if checkpoint.judged else "not judged"
        raise click.exceptions.Exit(OF_OUTCOMES[outcome]) from None
    if output is not None and to_file:
        write_file(output, [contract.to_json()], protected=files_of([checkpoint]), what="contract")
        say(_summary(contract, output, values=values))
    else:
        write([contract.to_json()])


def _summary(contract: Contract, output: str, *, values: bool) -> str:
    from ckpt_doctor.core.wording import counted, shell

    pinned = "names, shapes, dtypes and values" if values else "names, shapes and dtypes"
    next_step = shell("inspect", "PATH", *(["--deep"] if values else []), "--against", output)
    tensors = counted(contract.tensors, "tensor")
    return f"{output} pins {pinned} of {tensors} in {counted(len(contract.parts), 'part')}; next: `{next_step}`"
