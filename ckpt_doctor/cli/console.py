"""What the commands know about their terminal, and how they write to it."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from ckpt_doctor.core.errors import OutputError
from ckpt_doctor.reporting.presentation import Presentation

from .messages import inert

if TYPE_CHECKING:
    from ckpt_doctor.core.findings import FailOn
    from ckpt_doctor.core.results import RuleInfo

_COLOUR_CHOICES = ("auto", "always", "never")
_WIDTH = 80
_NARROWEST, _WIDEST = 40, 100

Command = TypeVar("Command", bound=Callable[..., Any])


def color_option(command: Command) -> Command:
    """The option ``--color``, the same for every command."""
    return click.option(
        "--color",
        type=click.Choice(_COLOUR_CHOICES),
        default="auto",
        show_default=True,
        help="Colours in text; auto honours NO_COLOR, FORCE_COLOR and whether this is a terminal.",
    )(command)


def presentation(
    color: str,
    *,
    quiet: bool = False,
    statistics: bool = False,
    to_file: bool = False,
    aside: bool = False,
    fail_on: FailOn = "error",
) -> Presentation:
    """How a report for people should look on standard output, in a file, or ``aside``: on standard error."""
    stream = sys.stderr if aside else sys.stdout
    return Presentation(
        width=_WIDTH if to_file else _columns(stream),
        colour=_wants_colour(color, stream, to_file=to_file),
        ascii_only=not to_file and not _encodes("·─…", stream),
        quiet=quiet,
        statistics=statistics,
        fail_on=fail_on,
        rule=_rule_info,
    )


def _rule_info(code: str) -> RuleInfo | None:
    from ckpt_doctor.rules._kit.choices import rule_info

    return rule_info(code)


def write(pieces: Iterable[str], *, commands: bool = False) -> None:
    """Write each piece and a newline to standard output. ``commands`` says that they are for a workflow's runner.

    A reader that went away (``| head``) ends the output and nothing else: the verdict stands. Raises ``OutputError``
    where the output cannot be written for another reason.
    """
    if sys.stdout is None:
        raise OutputError("standard output is closed")
    try:
        for piece in pieces:
            sys.stdout.write((piece if commands else inert(piece)) + "\n")
        sys.stdout.flush()
    except OSError as error:
        _discard_output()
        if not isinstance(error, BrokenPipeError):
            raise OutputError(f"cannot write to standard output: {error.strerror or error}") from error


def write_aside(pieces: Iterable[str], *, commands: bool = False) -> None:
    """Write the same to standard error, where standard output is for somebody else."""
    if sys.stderr is None:
        return
    # The reader may be gone, and what comes next matters more.
    with contextlib.suppress(OSError):
        for piece in pieces:
            sys.stderr.write((piece if commands else inert(piece)) + "\n")
        sys.stderr.flush()


def _discard_output() -> None:
    # What is still in the buffer would fail again when the interpreter ends, and turn the exit code into 120.
    with Path(os.devnull).open("wb") as devnull:
        os.dup2(devnull.fileno(), sys.stdout.fileno())


def _columns(stream: Any) -> int:
    if not _is_terminal(stream):
        return _WIDTH
    try:
        columns = os.get_terminal_size(stream.fileno()).columns
    except OSError:
        return _WIDTH
    # Some terminals say 0 when they do not know.
    return min(max(columns, _NARROWEST), _WIDEST) if columns else _WIDTH


def _wants_colour(choice: str, stream: Any, *, to_file: bool) -> bool:
    if choice != "auto":
        return choice == "always"
    if to_file or os.environ.get("NO_COLOR"):
        return False
    if os.environ.get("FORCE_COLOR", "0") not in ("", "0"):
        return True
    return _is_terminal(stream) and os.environ.get("TERM") != "dumb"


def _is_terminal(stream: Any) -> bool:
    return stream is not None and stream.isatty()


def _encodes(text: str, stream: Any) -> bool:
    try:
        text.encode(getattr(stream, "encoding", None) or "utf-8")
    except UnicodeEncodeError:
        return False
    return True
