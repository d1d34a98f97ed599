"""Programs that tests start: none outlives its test, and each finds the modules that tests import."""

from __future__ import annotations

import contextlib
import os
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from support.places import IMPORTED

LIMIT = 120
"""Seconds that a test waits for a program: far more than any takes on a busy machine, and an end to all that hang."""


def environment(*first: Path, **more: str) -> dict[str, str]:
    """The environment for a program. It imports from the folders in ``first``, then from those that tests import."""
    return {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, (*first, *IMPORTED))), **more}


@contextlib.contextmanager
def running(command: Sequence[Any], **options: Any) -> Iterator[subprocess.Popen[Any]]:
    """A program that runs beside the test, and is killed where the test ends before it does, as after a failure."""
    with subprocess.Popen(command, **options) as process:
        try:
            yield process
        finally:
            if process.poll() is None:
                process.kill()
