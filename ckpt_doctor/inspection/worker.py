"""The process that judges checkpoints for another one; ``workers.py`` starts it.

It reads requests from standard input and answers on standard output until the input ends: that is also so when the
other process is gone, however it ended.
"""

from __future__ import annotations

import os
import pickle
import sys
from typing import IO

READY = b"ready"
"""The first answer."""
UNABLE = b""
"""The answer where something went wrong that has a better place to be told: the process that asked."""

_LENGTH = 8  # bytes in front of each message, a number in little-endian order


def main() -> None:
    """Answer until nobody asks any more."""
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what a library prints must not stand among the answers
    try:
        send(answers, READY)
        while (request := receive(sys.stdin.buffer)) is not None:
            send(answers, _answer(request))
    except BrokenPipeError:
        os._exit(1)  # nobody is there to be told


def _answer(request: bytes) -> bytes:
    from .diagnosis import judge_one

    found, policy, threads = pickle.loads(request)
    try:
        return pickle.dumps(judge_one(found, policy, threads=threads), pickle.HIGHEST_PROTOCOL)
    except Exception:  # raised again where it is tried again
        return UNABLE


def send(stream: IO[bytes], message: bytes) -> None:
    """Write one message. Raises ``OSError``."""
    stream.write(len(message).to_bytes(_LENGTH, "little") + message)
    stream.flush()


def receive(stream: IO[bytes]) -> bytes | None:
    """The next message, or ``None`` where the stream ends before its end."""
    head = stream.read(_LENGTH)
    if len(head) < _LENGTH:
        return None
    length = int.from_bytes(head, "little")
    message = stream.read(length)
    return message if len(message) == length else None
