"""The summary of a GitHub workflow's step: Markdown, appended to a file that the runner names."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from pathlib import Path

from ckpt_doctor.core.wording import complaint

from .messages import say

VARIABLE = "GITHUB_STEP_SUMMARY"
LIMIT = 1024 * 1024
"""Bytes; of a summary that is longer the runner shows nothing at all."""

_CUT = "\nThe rest of this report was cut: GitHub takes 1 MiB. The log has all of it.\n"
# Other commands of the same step may have something to say after this one.
_ROOM_FOR_OTHERS = 1024


def append_step_summary(render: Callable[[str], Iterable[str]], protected: Iterable[Path] = ()) -> None:
    """Append the pieces that ``render`` gives for the file, as far as there is room; nothing outside of a workflow.

    What goes wrong is said on standard error and changes no verdict.
    """
    name = os.environ.get(VARIABLE)
    if not name:
        return
    target = Path(name)
    try:
        if target.resolve() in {path.resolve() for path in protected}:
            say(f"no step summary was written: {name} is a file of the checkpoint")
            return
        with target.open("ab") as stream:
            # What stands there already may not end its last line.
            before = b"\n" if stream.tell() else b""
            data = fitting(render(name), LIMIT - _ROOM_FOR_OTHERS - stream.tell() - len(before))
            stream.write(before + data if data else b"")
        if not data:
            say(f"no step summary was written: {name} is full")
    except OSError as error:
        say(f"no step summary was written: {complaint(error)}")


def fitting(pieces: Iterable[str], room: int) -> bytes:
    """The pieces, each with a newline, in at most ``room`` bytes: all, or the first ones and a line that says so.

    Nothing if there is no room for any.
    """
    data = bytearray()
    whole = 0
    for piece in pieces:
        data += (piece + "\n").encode("utf-8", errors="backslashreplace")
        if len(data) > room:
            return bytes(data[:whole]) + _CUT.encode() if whole else b""
        if len(data) + len(_CUT) <= room:
            whole = len(data)
    return bytes(data)
