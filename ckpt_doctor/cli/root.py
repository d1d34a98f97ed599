"""The group of commands, each imported only when it is asked for."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import Any, NoReturn

import click

from ckpt_doctor.core.version import __version__
from ckpt_doctor.reporting.escape import printable

from .exit_codes import FAILED, report_error
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

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """See :class:`click.Group`; without arguments the help is shown, and nothing was done: exit code 2."""
        # click before 8.2 ends with 0 here; after it, it raises an error whose message is the help.
        if not args and not ctx.resilient_parsing:
            click.echo(ctx.get_help(), err=True)
            ctx.exit(FAILED)
        return super().parse_args(ctx, args)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """See :class:`click.Group`; a path instead of a command, and a typo, get a hint."""
        word = args[0]
        if word not in COMMANDS and not word.startswith("-") and not ctx.resilient_parsing:
            if _is_path(word):
                ctx.fail(f"No such command {word!r}. Did you mean: ckpt-doctor inspect {printable(word)}")
            near = _near(word)
            ctx.fail(f"No such command {word!r}. " + (f"Did you mean {near}?" if near else "See ckpt-doctor --help."))
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


# What other programs call the same thing.
_ALSO_CALLED = {
    **dict.fromkeys(("check", "lint", "scan", "diagnose", "validate", "test"), "inspect"),
    **dict.fromkeys(("list", "show", "tensors"), "ls"),
    **dict.fromkeys(("repair", "heal"), "fix"),
    **dict.fromkeys(("load", "coverage"), "verify"),
    **dict.fromkeys(("run", "exec"), "gate"),
    **dict.fromkeys(("compare", "cmp"), "diff"),
    **dict.fromkeys(("rule", "why"), "explain"),
    **dict.fromkeys(("config", "configuration"), "settings"),
    **dict.fromkeys(("pin", "contract"), "lock"),
    **dict.fromkeys(("newest", "last"), "latest"),
    "help": "--help",
    "version": "--version",
}


def _near(word: str) -> str | None:
    """The command that was probably meant, if one comes close."""
    from difflib import get_close_matches

    word = word.lower().replace("_", "-")
    if word in _ALSO_CALLED:
        return _ALSO_CALLED[word]
    return next(iter(get_close_matches(word, COMMANDS, n=1)), None)


def _is_path(word: str) -> bool:
    try:
        return Path(word).exists()
    except (OSError, ValueError):
        return False


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

    Files are read as data: nothing in a checkpoint is executed unless you tell verify or gate to trust it. convert
    writes new weight files, fix replaces files and keeps the originals, and lock writes a contract; the other commands
    only write reports. verify and gate --model run your code for the model and its loader, and gate runs your command
    if the checkpoint passes.

    Exit codes: 0 nothing at or above --fail-on, 1 findings, 2 nothing was judged or done, 130 interrupted. gate ends
    with the exit code of its command.
    """
