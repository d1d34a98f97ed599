"""The process that judges checkpoints for another one; ``workers.py`` starts it.

It reads requests from standard input and answers on standard output until the input ends: that is also so when the
other process is gone, however it ended.
"""

from __future__ import annotations

import os
import pickle
import sys

from ckpt_doctor.runtime.processes import answers, receive, send

READY = b"ready"
"""The first answer."""
UNABLE = b""
"""The answer where something went wrong that has a better place to be told: the process that asked."""


def main() -> None:
    """Answer until nobody asks any more."""
    stream = answers()
    try:
        send(stream, READY)
        while (request := receive(sys.stdin.buffer)) is not None:
            send(stream, _answer(request))
    except BrokenPipeError:
        os._exit(1)  # nobody is there to be told


def _answer(request: bytes) -> bytes:
    from .diagnosis import judge_one

    found, terms, threads = pickle.loads(request)
    try:
        return pickle.dumps(judge_one(found, *terms, threads=threads), pickle.HIGHEST_PROTOCOL)
    except Exception:  # raised again where it is tried again
        return UNABLE
