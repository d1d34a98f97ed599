"""Progress bars for what takes a while, on standard error and on a terminal only."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from types import TracebackType
from typing import Any, ClassVar

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


class LoadProgress:
    """One line about a load that is judged: what goes on, and of comparing how far it is. It is erased at the end.

    A context manager. Importing torch alone takes seconds, so that the first line is there before it.
    """

    _WORDS: ClassVar[Mapping[str, str]] = {
        "preparing": "importing torch",
        "building": "building {}",
        "loading": "loading: {}",
        "judging": "comparing with {}",
    }

    def __init__(self) -> None:
        self._visible = sys.stderr is not None and sys.stderr.isatty()
        self._text = ""
        self._shown = ""

    def stage(self, kind: str, name: str) -> None:
        """Show what begins."""
        self._text = self._WORDS.get(kind, kind).format(name)
        self._show(f"{self._text} ...")

    def __call__(self, done: int, total: int) -> None:
        """Show how far the comparison is."""
        if total > 0:
            self._show(f"{self._text} ... {done * 100 // total} %")

    def __enter__(self) -> LoadProgress:
        return self

    def __exit__(self, *_: object) -> None:
        self._show("")

    def _show(self, text: str) -> None:
        if not self._visible or text == self._shown:
            return
        import shutil  # with its compression libraries it takes 2 ms, and most runs draw nothing

        width = shutil.get_terminal_size().columns - 1
        # Names may hold whatever a file system allows, and must not steer the terminal.
        text = "".join(char if char.isprintable() else "?" for char in text)[:width]
        self._shown = text
        click.echo(f"\r\x1b[K{text}", file=sys.stderr, nl=False, color=True)
        sys.stderr.flush()
