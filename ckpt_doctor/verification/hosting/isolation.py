"""Code of others (loaders, factories, libraries) run so it cannot take us with it.

An exception or ``sys.exit`` becomes a value; what such code prints, warns and logs is collected; global state that it
changes is put back: torch's default dtype and device, gradient mode, global hooks, the working directory, log levels
and handlers; at the end of a verification also ``sys.path`` and the environment, on which pieces of it may rely. What
no process can hold against its own code (``os._exit``, a crash in C) is not held here: ``apart.py`` has the command
line's loads judged in a process of their own.
"""

from __future__ import annotations

import contextlib
import io
import logging
import os
import re
import sys
import traceback
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any

_MOST_LINES = 200
_LONGEST = 2000
"""Characters of one message that are kept."""
# Colours, cursor movements and window titles, as ECMA-48 and xterm write them.
_TERMINAL_CODES = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)|[@-Z\\^_])")
_HOOKS = (
    "_global_backward_pre_hooks",
    "_global_backward_hooks",
    "_global_forward_pre_hooks",
    "_global_forward_hooks",
    "_global_forward_hooks_always_called",
    "_global_forward_hooks_with_kwargs",
    "_global_module_registration_hooks",
    "_global_parameter_registration_hooks",
    "_global_buffer_registration_hooks",
)


@dataclass
class Outcome:
    """What a call did: its result or its error, and every line that it said. ``place`` is ``file:line``."""

    result: Any = None
    error: BaseException | None = None
    place: str = ""
    lines: list[str] = field(default_factory=list)

    @property
    def failure(self) -> str:
        """The error in words, on one line."""
        error = self.error
        if isinstance(error, SystemExit):
            return f"it called sys.exit({_text(error.code, repr)})"
        text = " ".join(_text(error).split())
        return f"{type(error).__name__}: {text}" if text else type(error).__name__

    @property
    def wanted_file(self) -> str | None:
        """The file that the error is about, where it is one of the operating system's."""
        name = self.error.filename if isinstance(self.error, OSError) else None
        return os.fsdecode(name) if isinstance(name, (str, bytes)) else None


def _text(value: Any, how: Callable[[Any], str] = str) -> str:
    """The text that an object of other code says of itself, up to a limit; its class where it cannot."""
    try:
        text = how(value)
    # The code is not ours: whatever it raises, there is nothing that it says.
    except Exception:
        text = type(value).__name__
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}…"


def run(call: Callable[[], Any], *, own_file: str | None = None) -> Outcome:
    """Call ``call`` in isolation. Only ``KeyboardInterrupt`` gets through.

    ``own_file`` is the user's file: the last line of it in a traceback is where the error is said to be.
    """
    outcome = Outcome()
    with isolated(outcome.lines):
        try:
            outcome.result = call()
        except KeyboardInterrupt:
            raise
        # The code is not ours: whatever it raises is the finding, sys.exit included.
        except BaseException as error:
            outcome.error = error
            outcome.place = _place(error.__traceback__, own_file)
            # Frames hold the loader's tensors.
            traceback.clear_frames(error.__traceback__)
    return outcome


@contextlib.contextmanager
def isolated(lines: list[str]) -> Iterator[None]:
    """Within this block output, warnings and log records go to ``lines``; afterwards global state is as it was."""
    collector = _Collector(lines)
    with _torch_state(), _process_state(), _logging_to(collector), warnings.catch_warnings():
        warnings.simplefilter("default")
        warnings.showwarning = collector.warning
        out, err = _stream(collector, sys.stdout), _stream(collector, sys.stderr)
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            yield
        for stream in (out, err):
            with contextlib.suppress(ValueError):  # the code may have closed it
                stream.flush()
            stream.buffer.raw.finish()


def said(text: str) -> list[str]:
    """The lines of raw output as they are shown: without colours, repetitions and progress bars, up to a limit."""
    lines: list[str] = []
    _Collector(lines).add(text)
    return lines


@contextlib.contextmanager
def _torch_state() -> Iterator[None]:
    torch = sys.modules.get("torch")
    if torch is None:
        yield
        return
    modules = sys.modules["torch.nn.modules.module"]
    dtype, device = torch.get_default_dtype(), _default_device(torch)
    gradients = torch.is_grad_enabled()
    hooks = {name: dict(getattr(modules, name)) for name in _HOOKS if hasattr(modules, name)}
    threads = torch.get_num_threads()
    try:
        yield
    finally:
        torch.set_default_dtype(dtype)
        if _default_device(torch) != device:
            torch.set_default_device(device)
        torch.set_grad_enabled(gradients)
        torch.set_num_threads(threads)
        for name, before in hooks.items():
            current = getattr(modules, name)
            current.clear()
            current.update(before)


def _default_device(torch: Any) -> Any:
    current = getattr(torch._GLOBAL_DEVICE_CONTEXT, "device_context", None)
    return None if current is None else current.device


@contextlib.contextmanager
def _process_state() -> Iterator[None]:
    folder = Path.cwd()
    stdin = sys.stdin
    try:
        # Do not wait for an answer to a question that is not shown.
        with Path(os.devnull).open(encoding="utf-8") as sys.stdin:
            yield
    finally:
        sys.stdin = stdin
        os.chdir(folder)


@contextlib.contextmanager
def surroundings_put_back() -> Iterator[None]:
    """Afterwards ``sys.path`` and the environment are as before. Within, each piece of code sees what others left."""
    path = list(sys.path)
    environment = dict(os.environ)
    try:
        yield
    finally:
        sys.path[:] = path
        if dict(os.environ) != environment:
            os.environ.clear()
            os.environ.update(environment)


@contextlib.contextmanager
def _logging_to(collector: _Collector) -> Iterator[None]:
    """Send every record from INFO on to ``collector`` only; levels and handlers are put back."""
    root = logging.getLogger()
    loggers = [item for item in logging.Logger.manager.loggerDict.values() if isinstance(item, logging.Logger)]
    before = [(item, item.level, item.handlers[:], item.propagate, item.disabled) for item in (root, *loggers)]
    for item, *_ in before:
        # Those that keep their records to themselves (transformers does) get our handler too.
        item.handlers[:] = [collector] if item is root or (item.handlers and not item.propagate) else []
    root.setLevel(logging.INFO)
    disabled = root.manager.disable
    logging.disable(logging.NOTSET)
    try:
        yield
    finally:
        logging.disable(disabled)
        for item, level, handlers, propagate, off in before:
            item.setLevel(level)
            item.handlers[:] = handlers
            item.propagate, item.disabled = propagate, off


class _Collector(logging.Handler):
    """Keeps lines, without repeating one, up to a limit."""

    def __init__(self, lines: list[str]) -> None:
        super().__init__(logging.INFO)
        self._lines = lines
        self._seen: set[str] = set()

    def add(self, text: str) -> None:
        """Keep each line of ``text``; of a progress bar only its last state."""
        for line in text.split("\n"):
            line = _TERMINAL_CODES.sub("", line).rstrip("\r").rsplit("\r", 1)[-1].rstrip()
            if line and line not in self._seen and not _is_progress(line) and len(self._lines) < _MOST_LINES:
                self._seen.add(line)
                self._lines.append(line)

    def emit(self, record: logging.LogRecord) -> None:
        """See :class:`logging.Handler`."""
        message = _text(record, logging.LogRecord.getMessage)
        if message == type(record).__name__:  # its arguments do not fit its format, or raise
            message = _text(record.msg)
        self.add(f"{record.levelname.lower()}: {message}")

    def warning(
        self, message: Any, category: type[Warning], filename: str, lineno: int, file: Any = None, line: Any = None
    ) -> None:
        """In the place of ``warnings.showwarning``; what a library will change some day is no news about this load."""
        if not issubclass(category, (FutureWarning, DeprecationWarning, PendingDeprecationWarning)):
            self.add(f"{category.__name__}: {_text(message)}")


def _is_progress(line: str) -> bool:
    return "it/s" in line or "%|" in line


class _Lines(io.RawIOBase):
    """Passes output in whole lines to a collector. It has the descriptor of the stream in whose place it stands."""

    def __init__(self, collector: _Collector, original: Any) -> None:
        self._collector = collector
        self._original = original
        self._rest = b""

    def writable(self) -> bool:
        return True

    def fileno(self) -> int:
        """See :class:`io.RawIOBase`: a child process may be given it."""
        if self._original is None:
            raise io.UnsupportedOperation("fileno")
        number: int = self._original.fileno()
        return number

    def write(self, data: Any) -> int:
        data = bytes(data)
        *lines, rest = (self._rest + data).split(b"\n")
        self._rest = rest[-10_000:]
        for line in lines:
            self._collector.add(line.decode("utf-8", errors="replace"))
        return len(data)

    def finish(self) -> None:
        """Hand over what had no newline."""
        self._collector.add(self._rest.decode("utf-8", errors="replace"))
        self._rest = b""


def _stream(collector: _Collector, original: Any) -> Any:
    """A text stream as code expects one, with a buffer and a descriptor below it."""
    raw = _Lines(collector, original)
    return io.TextIOWrapper(
        io.BufferedWriter(raw), encoding="utf-8", errors="backslashreplace", line_buffering=True, write_through=True
    )


def _place(trace: TracebackType | None, own_file: str | None) -> str:
    frames = traceback.extract_tb(trace)
    own = [frame for frame in frames if own_file is not None and _same_file(frame.filename, own_file)]
    # Without the user's file the first frame that is not ours: the library's entry, rather than its depths.
    theirs = [frame for frame in frames if f"{os.sep}ckpt_doctor{os.sep}" not in frame.filename]
    chosen = own[-1] if own else theirs[0] if theirs else None
    return f"{chosen.filename}:{chosen.lineno}" if chosen is not None else ""


def _same_file(first: str, second: str) -> bool:
    return os.path.abspath(first) == os.path.abspath(second)
