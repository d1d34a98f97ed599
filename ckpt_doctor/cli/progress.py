"""Progress bars for what takes a while, on standard error and on a terminal only."""

from __future__ import annotations

import sys
from types import TracebackType
from typing import Any

import click


class ByteProgress:
    """Called with the bytes done so far and the bytes in all. A context manager that tidies up behind it."""

    _shows_numbers = False

    def __init__(self, label: str = "reading tensors") -> None:
        self._label = label
        self._bar: Any = None
        self._visible = sys.stderr is not None and sys.stderr.isatty()

    def __call__(self, done: int, total: int) -> None:
        """Show how far the work is."""
        if not self._visible or total <= 0:
            return
        if self._bar is None:
            self._bar = click.progressbar(
                length=total, label=self._label, file=sys.stderr, show_pos=self._shows_numbers
            )
            self._bar.__enter__()
        self._bar.update(done - self._bar.pos)

    def __enter__(self) -> ByteProgress:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.__exit__(kind, error, trace)


class CountProgress(ByteProgress):
    """Called with the number of things done so far and their number in all, and shows both."""

    _shows_numbers = True
