"""``ckpt-doctor latest``."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import click

from ckpt_doctor.core.errors import NoCheckpointError, OutputError

from .console import write
from .gate import say_doubts, say_passed_over
from .inspect_options import InspectOptions, choice_options

if TYPE_CHECKING:
    from ckpt_doctor.gate import Choice


@click.command("latest", short_help="Print the path of the newest checkpoint.")
@click.argument("tree", metavar="ROOT", type=click.Path())
@click.option("--healthy", is_flag=True, help="Print the newest healthy one; newer ones are named on standard error.")
@choice_options
def command(tree: str, healthy: bool, options: InspectOptions) -> None:
    """Print the path of the newest checkpoint below ROOT, and nothing else.

    Numbers and times in the names of folders decide, then the time at which the weights were written. If a weaver and a
    trigger were saved together, the weaver is printed. The other options define what --healthy means.

    Exit code: 0 if a path was printed, 2 if there is no checkpoint, if the newest save is incomplete, or if it is
    unclear which save is the newest.
    """
    choice = _healthy(tree, options) if healthy else _newest(tree, options)
    if choice is not None:
        say_doubts(choice)
        _print(choice.path)


def _newest(tree: str, options: InspectOptions) -> Choice:
    from ckpt_doctor.gate import latest

    return latest(tree, options.policy)


def _healthy(tree: str, options: InspectOptions) -> Choice | None:
    from ckpt_doctor.gate import decide

    verdict = decide(tree, options.policy, latest=True, fallback=True)
    if verdict.error is not None:
        raise verdict.error
    if not verdict.passed:
        raise NoCheckpointError(f"no checkpoint in {tree} is healthy. The newest, {verdict.path}: {verdict.reason}")
    say_passed_over(verdict.passed_over, verdict.path)
    return verdict.choice


def _print(path: str) -> None:
    """Exactly the bytes of the path, and a newline. Raises ``OutputError`` if a script would read another path."""
    if any(ord(char) < 0x20 or 0x7F <= ord(char) < 0xA0 for char in path):
        raise OutputError(
            f"the name of {path} holds control characters, and a script would read something else: rename it"
        )
    reconfigure = getattr(sys.stdout, "reconfigure", None)
    if reconfigure is not None:
        reconfigure(encoding=sys.getfilesystemencoding(), errors="surrogateescape")
    # A path must not be taken for an option.
    write([f"./{path}" if path.startswith("-") else path])
