"""A load judged in a process of its own, so that nothing that the user's code does can take the verdict with it.

``os._exit``, a crash in C, a loader that writes to file descriptor 1 or leaves threads behind: the command line and the
gate must survive all of it, and say so. The new process is spawned, not forked: torch may run threads in this one.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import tempfile
import threading
import time
import traceback
from multiprocessing.connection import Connection
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ckpt_doctor.coverage import Coverage
from ckpt_doctor.errors import CkptDoctorError, VerificationError

from .isolation import said
from .run import ended, verify

if TYPE_CHECKING:
    from .assess import Progress

_ANSWER, _PROGRESS = "answer", "progress"
_LOOK = 0.2
"""Seconds between two looks at whether the process is still there; what it sends arrives at once."""
_PATIENCE = 3.0
"""Seconds that a process may take to end once nothing is wanted of it any more."""
_MOST_OUTPUT = 1 << 20
"""Bytes of raw output that are read for the report."""


def verify_apart(path: str, model: str | None, *, progress: Progress | None = None, **options: Any) -> Coverage:
    """What ``verify`` returns and raises, for specifications in words, from a process of its own.

    A loader that ends the process is CKD002, whatever exit code it chose. Ctrl-C ends that process too.
    """
    context = multiprocessing.get_context("spawn")
    receiver, sender = context.Pipe(duplex=False)
    with tempfile.TemporaryDirectory(prefix="ckpt-doctor-") as folder:
        output = Path(folder) / "output"
        request = {"path": path, "model": model, **options}
        child = context.Process(target=_work, args=(sender, str(output), request, progress is not None))
        child.start()
        sender.close()
        try:
            kind, name, answer = _listen(receiver, child, progress)
        finally:
            _end(child)
            receiver.close()
        lines = _raw_lines(output)
    if isinstance(answer, Coverage):
        return answer._replace(log=(*answer.log, *(line for line in lines if line not in answer.log)))
    if isinstance(answer, BaseException):
        raise answer
    how = _how(child.exitcode or 0)
    if kind != "loading":
        last = f" (its last words: {lines[-1]})" if lines else ""
        raise VerificationError(f"nothing was judged: while {kind} {name} the process {how}{last}")
    return ended(path, model, name, how, lines, **options)


def _listen(receiver: Connection, child: Any, progress: Progress | None) -> tuple[str, str, Any]:
    """What the process did last, and to what, and its answer; ``None`` where it ended without one."""
    stage = ("preparing", "the load")
    while True:
        # Not by the end of the pipe: children of the loader may hold it open.
        gone = not child.is_alive()
        if not receiver.poll(0 if gone else _LOOK):
            if gone:
                return *stage, None
            continue
        try:
            kind, *words = receiver.recv()
        except EOFError:
            child.join(_PATIENCE)
            return *stage, None
        if kind == _ANSWER:
            return *stage, words[0]
        if kind == _PROGRESS:
            if progress is not None:
                progress(*words)
        else:
            stage = (kind, words[0])


def _end(child: Any) -> None:
    """Wait for a process that has nothing left to do, and no longer than that takes."""
    for stop in (None, child.terminate, child.kill):
        if stop is not None and child.is_alive():
            stop()
        child.join(_PATIENCE)


def _how(code: int) -> str:
    if code >= 0:
        return f"was ended with exit code {code}, as by os._exit"
    try:
        name = signal.Signals(-code).name
    except ValueError:
        name = f"signal {-code}"
    return f"was ended by {name}" + (", as where memory runs out" if name == "SIGKILL" else "")


def _raw_lines(output: Path) -> list[str]:
    """What reached the file descriptors themselves, past everything that Python could see."""
    try:
        with output.open("rb") as stream:
            data = stream.read(_MOST_OUTPUT)
    except FileNotFoundError:
        return []
    return said(data.decode("utf-8", errors="replace"))


def _work(sender: Connection, output: str, request: dict[str, Any], shows_progress: bool) -> None:
    """The other process: its own output into a file, the answer through the pipe."""
    descriptor = os.open(output, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    os.dup2(descriptor, 1)
    os.dup2(descriptor, 2)
    threading.Thread(target=_leave_with_parent, daemon=True).start()
    latest = 0.0

    def progress(done: int, total: int) -> None:
        nonlocal latest
        now = time.monotonic()
        if done == total or now - latest > _LOOK:
            latest = now
            sender.send((_PROGRESS, done, total))

    answer: Any
    try:
        answer = verify(
            **request,
            progress=progress if shows_progress else None,
            stage=lambda kind, name: sender.send((kind, name)),
        )
    except (CkptDoctorError, OSError) as error:
        answer = error
    except KeyboardInterrupt:
        os._exit(128 + signal.SIGINT)
    # A mistake of ours must be told as one in the process that was asked, and may not survive the way there itself.
    except Exception as error:
        traceback.print_exception(error)
        answer = RuntimeError(f"{type(error).__name__}: {error}")
    sys.stdout.flush()
    sys.stderr.flush()
    sender.send((_ANSWER, answer))


def _leave_with_parent() -> None:
    """End this process when the one that asked was killed: nobody would stop a loader that hangs."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
