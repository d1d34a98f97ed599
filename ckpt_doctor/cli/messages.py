"""What is said on standard error, and text that a workflow's runner may read along.

The runner of a GitHub workflow takes ``::`` that begins a line, and ``##[`` anywhere, for commands. A name from a
checkpoint must not set the output of a step, or hide a word from the log.
"""

from __future__ import annotations

import os
import re
import sys

from ckpt_doctor.reporting.escape import printable

_AT_THE_BEGINNING = re.compile(r"^([^\S\n]*)::", re.MULTILINE)


def say(text: str) -> None:
    """One line on standard error, if there is one."""
    if sys.stderr is not None:
        sys.stderr.write(inert(printable(text)) + "\n")
        sys.stderr.flush()


def inert(text: str) -> str:
    """``text`` without commands, where a runner listens. What is written instead means the same in JSON."""
    if os.environ.get("GITHUB_ACTIONS") != "true":
        return text
    return _AT_THE_BEGINNING.sub(r"\1\\u003a:", text.replace("##[", "#\\u0023["))
