"""How a command ends: the one place where outcomes and exceptions become exit codes."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import TYPE_CHECKING

import click

from ckpt_doctor.core.errors import CkptDoctorError
from ckpt_doctor.core.wording import complaint

from .messages import say

if TYPE_CHECKING:
    from ckpt_doctor.core.results import Outcome

FINDINGS = 1
"""Exit code: findings at or above ``--fail-on``, or something that could not be read."""
FAILED = 2
"""Exit code: nothing was judged or done."""
INTERRUPTED = 130
"""Exit code: Ctrl-C."""

OF_OUTCOMES: Mapping[Outcome, int] = {"passed": 0, "failed": FINDINGS, "not judged": FAILED}
"""The exit code of each outcome of a run."""

DEBUG_VARIABLE = "CKPT_DOCTOR_DEBUG"


def end_with(outcome: Outcome) -> None:
    """End the command with the exit code of this outcome; go on where it passed."""
    code = OF_OUTCOMES[outcome]
    if code:
        raise click.exceptions.Exit(code)


def report_error(error: BaseException) -> int:
    """Say on standard error what went wrong, and return the exit code."""
    if isinstance(error, click.Abort) and error.__context__ is not None:
        # click makes Abort of Ctrl-C, and of EOFError, which here could only be a mistake in our code.
        error = error.__context__
    if isinstance(error, (KeyboardInterrupt, click.Abort)):
        say("interrupted")
        return INTERRUPTED
    if isinstance(error, click.ClickException):
        # Not error.show(): the message may quote what was typed, and a file name can hold control characters.
        context = getattr(error, "ctx", None)
        for line in context.get_usage().splitlines() if context is not None else ():
            say(line)
        if context is not None:
            say(f"Try '{context.command_path} --help' for help.\n".rstrip())
        say(f"Error: {error.format_message()}")
        return FAILED
    if os.environ.get(DEBUG_VARIABLE):
        import traceback

        traceback.print_exception(error)
    say(_message(error))
    return FAILED


def _message(error: BaseException) -> str:
    if isinstance(error, CkptDoctorError):
        return f"error: {error}"
    if isinstance(error, OSError) and error.strerror:
        return f"error: {complaint(error)}"
    return (
        f"internal error: {type(error).__name__}: {error}. This is a bug in ckpt-doctor: please report it with the "
        f"command you ran and what it prints with {DEBUG_VARIABLE}=1."
    )
