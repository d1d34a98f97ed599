"""The outputs of a step of a GitHub workflow: what later steps can ask for, in a file that the runner names."""

from __future__ import annotations

import os
from pathlib import Path

from ckpt_doctor.core.wording import complaint

from .messages import say

VARIABLE = "GITHUB_OUTPUT"


def set_step_output(name: str, value: str) -> None:
    """Let later steps read ``value`` as the output ``name`` of this step; nothing outside of a workflow.

    What goes wrong is said on standard error and changes no verdict.
    """
    target = os.environ.get(VARIABLE)
    if not target:
        return
    # A random line ends the value: a path cannot contain it and set another output.
    end = f"end_{os.urandom(16).hex()}"
    try:
        with Path(target).open("ab") as stream:
            stream.write(os.fsencode(f"{name}<<{end}\n{value}\n{end}\n"))
    except OSError as error:
        say(f"the output {name} was not set: {complaint(error)}")
