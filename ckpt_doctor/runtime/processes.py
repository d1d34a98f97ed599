"""Other processes that do a part of the work: how one is started, spoken to, and said to have ended.

They are fresh interpreters, not forks: a program that uses this package may have threads. Nor are they those of
``multiprocessing``, which would run the caller's main module again and look for modules in the current directory, where
an untrusted checkpoint may lie.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from typing import IO, Any

_LENGTH = 8  # bytes in front of each message, a number in little-endian order
# In isolated mode neither the current directory nor the environment says what is imported: the caller's own path does.
_PROGRAM = "import sys; name = sys.argv[1]; sys.path[:] = sys.argv[2:]; __import__(name, fromlist=['main']).main()"


def start(module: str, stderr: int | IO[bytes] | None = None) -> subprocess.Popen[bytes]:
    """Start a process that runs ``main`` of ``module``, to be spoken to through its standard input and output.

    Raises ``OSError`` if none can be had. Ctrl-C at a terminal reaches the first process only: it ends the others.
    """
    if not sys.executable or getattr(sys, "frozen", False):
        raise OSError("there is no interpreter to start")
    options = ["-I", "-X", f"utf8={sys.flags.utf8_mode}"]
    return subprocess.Popen(
        [sys.executable, *options, "-c", _PROGRAM, module, *map(str, sys.path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=stderr,
        start_new_session=True,
        creationflags=getattr(subprocess, "CREATE_NEW_PROCESS_GROUP", 0),
    )


def answers() -> IO[bytes]:
    """For such a process: where its answers go. Whatever else is written to standard output goes to standard error."""
    stream = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    return stream


def send(stream: IO[bytes], message: bytes) -> None:
    """Write one message. Raises ``OSError``."""
    stream.write(len(message).to_bytes(_LENGTH, "little") + message)
    stream.flush()


def receive(stream: IO[bytes]) -> bytes | None:
    """The next message, or ``None`` if the stream ends before its end."""
    head = stream.read(_LENGTH)
    if len(head) < _LENGTH:
        return None
    length = int.from_bytes(head, "little")
    message = stream.read(length)
    return message if len(message) == length else None


def kill(process: subprocess.Popen[Any]) -> None:
    """End a process and, where the system knows groups, what it started."""
    if hasattr(os, "killpg") and hasattr(signal, "SIGKILL"):
        try:
            os.killpg(process.pid, signal.SIGKILL)
        except ProcessLookupError:
            return
    process.kill()


def how_it_ended(code: int) -> str:
    """What follows "the process", for an exit code as ``subprocess`` tells it.

    >>> how_it_ended(3), how_it_ended(-9)
    ('ended by itself with exit code 3', 'was ended by SIGKILL, as the system does when memory runs out')
    """
    if code >= 0:
        return f"ended by itself with exit code {code}"
    try:
        name = signal.Signals(-code).name
    except ValueError:
        name = f"signal {-code}"
    return f"was ended by {name}" + (", as the system does when memory runs out" if name == "SIGKILL" else "")
