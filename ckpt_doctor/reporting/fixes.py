"""How a fix is put: as something to type, where the command for it exists."""

from __future__ import annotations

import shlex
from collections.abc import Iterable

from ckpt_doctor.core.findings import Fix

from .escape import printable
from .presentation import Presentation


def lead(fix: Fix) -> str:
    """What stands in front of it."""
    return "fix:" if fix.safety == "safe" else "unsafe fix:"


def typed(fix: Fix, look: Presentation) -> str | None:
    """The command line, or ``None`` where it would name a command that does not exist."""
    return printable(fix.command) if _command(fix) in look.commands else None


def in_words(fix: Fix, look: Presentation) -> str:
    """The fix on one line, whether it can be typed or not."""
    later = f"{printable(fix.title)} (`ckpt-doctor {_command(fix)}` comes with a later release)"
    return f"{lead(fix)} {typed(fix, look) or later}"


def shared_options(fixes: Iterable[Fix]) -> list[str]:
    """What ``ckpt-doctor fix`` must be told to offer these fixes again, as words of its command line."""
    expect, deep = [], []
    for fix in fixes:
        words = shlex.split(fix.command)
        if "--expect" in words:
            expect = words[words.index("--expect") :][:2]
        if "--deep" in words:
            deep = ["--deep"]
    return [*expect, *deep]


def _command(fix: Fix) -> str:
    return printable(fix.command.split(" ", 2)[1])
