"""Programs that tests start: none outlives its test."""

from __future__ import annotations

import contextlib
import subprocess
from collections.abc import Iterator, Sequence
from typing import Any

LIMIT = 120
"""Seconds that a test waits for a program: far more than any takes on a busy machine, and an end to all that hang."""


@contextlib.contextmanager
def running(command: Sequence[Any], **options: Any) -> Iterator[subprocess.Popen[Any]]:
    """A program that runs beside the test, and is killed where the test ends before it does, as after a failure."""
    with subprocess.Popen(command, **options) as process:
        try:
            yield process
        finally:
            if process.poll() is None:
                process.kill()
