"""A load judged in a separate process, so nothing that the user's code does can take the verdict with it.

``os._exit``, a crash in C, a loader that writes to file descriptor 1 or leaves threads behind: the command line and the
gate must survive all of it, and say so.
"""

from __future__ import annotations

import contextlib
import os
import pickle
import subprocess
import sys
import tempfile
import threading
import time
import traceback
from queue import Empty, SimpleQueue
from typing import IO, TYPE_CHECKING, Any

from ckpt_doctor.core.coverage import Coverage
from ckpt_doctor.core.errors import CkptDoctorError, VerificationError
from ckpt_doctor.runtime.processes import answers, how_it_ended, kill, receive, send, start

from .hosting.isolation import said
from .run import ended, verify
from .stages import untold

if TYPE_CHECKING:
    from .question import Progress
    from .stages import Stage

_ANSWER, _PROGRESS = "answer", "progress"
_FIRST = ("preparing", "the load")
_LOOK = 0.2
"""Seconds between two looks at whether the process is still there; what it sends arrives at once."""
_PATIENCE = 3.0
"""Seconds that a process may take to end by itself once it has answered."""
_MOST_OUTPUT = 1 << 20
"""Bytes of raw output that are read for the report."""


def verify_apart(
    path: str, model: str | None, *, progress: Progress | None = None, stage: Stage = untold, **options: Any
) -> Coverage:
    """What ``verify`` returns and raises, for specifications in words, from a separate process.

    ``stage`` is told ``preparing`` at once, and then what it is told there. A loader that ends the
    process is CKD002, whatever exit code it chose. Ctrl-C ends that process too.
    """
    stage(*_FIRST)
    with tempfile.TemporaryFile(prefix="ckpt-doctor-") as output:
        process = start(__name__, stderr=output)
        messages: SimpleQueue[bytes | None] = SimpleQueue()
        listener = threading.Thread(target=_listen, args=(process.stdout, messages), daemon=True)
        try:
            listener.start()
            request = {"path": path, "model": model, **options}
            kind, name, answer = _ask(process, (request, progress is not None), messages, progress, stage)
            if answer is not None:
                with contextlib.suppress(subprocess.TimeoutExpired):  # threads of the loader keep it alive
                    process.wait(_PATIENCE)
        finally:
            code = process.poll()
            kill(process)  # and what the loader started
            if listener.ident is not None:
                listener.join(_PATIENCE)
            with process, contextlib.suppress(BrokenPipeError):
                pass  # its pipes are closed
        lines = _raw_lines(output)
    if isinstance(answer, Coverage):
        return answer._replace(log=(*answer.log, *(line for line in lines if line not in answer.log)))
    if isinstance(answer, BaseException):
        raise answer
    how = how_it_ended(process.returncode if code is None else code)
    if kind != "loading":
        last = f" (its last words: {lines[-1]})" if lines else ""
        raise VerificationError(f"nothing was judged: while {kind} {name} the process {how}{last}")
    return ended(path, model, name, how, lines, **options)


def _ask(
    process: subprocess.Popen[bytes],
    request: Any,
    messages: SimpleQueue[bytes | None],
    progress: Progress | None,
    told: Stage,
) -> tuple[str, str, Any]:
    """What the process did last, and to what, and its answer; ``None`` if it ended without one."""
    stage = _FIRST
    assert process.stdin is not None
    try:
        send(process.stdin, pickle.dumps(request))
    except OSError:
        return *stage, None
    while True:
        # Not by the end of the pipe: children of the loader may hold it open.
        gone = process.poll() is not None
        try:
            message = messages.get(timeout=_LOOK)
        except Empty:
            if gone:
                return *stage, None
            continue
        if message is None:
            return *stage, None
        kind, *words = pickle.loads(message)
        if kind == _ANSWER:
            return *stage, words[0]
        if kind != _PROGRESS:
            stage = (kind, words[0])
            told(*stage)
        elif progress is not None:
            progress(*words)


def _listen(stream: IO[bytes], messages: SimpleQueue[bytes | None]) -> None:
    while (message := receive(stream)) is not None:
        messages.put(message)
    messages.put(None)


def _raw_lines(output: IO[bytes]) -> list[str]:
    """What reached the file descriptors themselves, past everything that Python could see."""
    output.seek(0)
    return said(output.read(_MOST_OUTPUT).decode("utf-8", errors="replace"))


def main() -> None:
    """The other process: one request, and one answer at the end."""
    stream = answers()
    message = receive(sys.stdin.buffer)
    if message is None:
        return
    threading.Thread(target=_leave_with_parent, daemon=True).start()
    request, shows_progress = pickle.loads(message)
    latest = 0.0

    def tell(*words: Any) -> None:
        send(stream, pickle.dumps(words))

    def progress(done: int, total: int) -> None:
        nonlocal latest
        now = time.monotonic()
        if done == total or now - latest > _LOOK:
            latest = now
            tell(_PROGRESS, done, total)

    answer: Any
    try:
        answer = verify(**request, progress=progress if shows_progress else None, stage=tell)
    except (CkptDoctorError, OSError) as error:
        answer = error
    # A mistake of ours must be told as one in the process that was asked, and may not survive the way there itself.
    except Exception as error:
        traceback.print_exception(error)
        answer = RuntimeError(f"{type(error).__name__}: {error}")
    for standard in (sys.stdout, sys.stderr):
        if standard is not None:
            standard.flush()
    tell(_ANSWER, answer)


def _leave_with_parent() -> None:
    """End this process when the one that asked is gone: nothing else would stop a loader that hangs."""
    # Not through the buffer of sys.stdin, whose lock the interpreter wants when it ends.
    while os.read(0, 1):
        pass
    os._exit(1)
