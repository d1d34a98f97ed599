"""The group of commands, each imported only when it is asked for."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import Any, NoReturn

import click

from ckpt_doctor.reporting.escape import printable
from ckpt_doctor.version import __version__

from .errors import report_error
from .table import COMMANDS


class CommandTable(click.Group):
    """A group that finds its commands in :data:`COMMANDS` and turns every error into an exit code of the contract."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """See :class:`click.Group`."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """See :class:`click.Group`."""
        if cmd_name not in COMMANDS:
            return None
        command: click.Command = import_module(f".{COMMANDS[cmd_name]}", __package__).command
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """See :class:`click.Group`; a path in the place of a command gets a hint."""
        if args[0] not in COMMANDS and Path(args[0]).exists():
            ctx.fail(f"No such command {args[0]!r}. Did you mean: ckpt-doctor inspect {printable(args[0])}")
        return super().resolve_command(ctx, args)

    def main(
        self, args: Sequence[str] | None = None, prog_name: str | None = "ckpt-doctor", *_: Any, **extra: Any
    ) -> NoReturn:
        """Run, and end the process: click's own handling knows neither 130 nor errors that are no usage errors."""
        _never_fail_to_encode()
        extra["standalone_mode"] = False
        try:
            code = super().main(args, prog_name, **extra)
        # Everything ends here on purpose: an unexpected exception must not look like "findings" (exit code 1).
        except BaseException as error:
            if isinstance(error, SystemExit):
                raise
            sys.exit(report_error(error))
        sys.exit(code if isinstance(code, int) else 0)


def _never_fail_to_encode() -> None:
    """Let names that the terminal's encoding lacks come out as escapes instead of an exception."""
    for stream in (sys.stdout, sys.stderr):
        reconfigure = getattr(stream, "reconfigure", None)
        if reconfigure is not None:
            reconfigure(errors="backslashreplace")


@click.command("ckpt-doctor", cls=CommandTable, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="ckpt-doctor", message="%(prog)s %(version)s")
def cli() -> None:
    """Say what is wrong with a model checkpoint before an evaluation does.

    Headers and configs are read as data; nothing from a checkpoint is ever executed, and nothing is written.

    Exit codes: 0 nothing at or above --fail-on, 1 findings, 2 nothing could be judged, 130 interrupted.
    """
