"""Processes that judge checkpoints at the same time, each looked after by a thread.

When one of them dies, the checkpoint that it read is known, and the others go on.
"""

from __future__ import annotations

import contextlib
import pickle
import subprocess
import threading
from collections import deque
from collections.abc import Iterator, Sequence
from queue import SimpleQueue
from types import TracebackType

from ckpt_doctor.core.policy import Policy
from ckpt_doctor.core.results import Diagnosis
from ckpt_doctor.layouts import Found
from ckpt_doctor.runtime.cores import available_cores
from ckpt_doctor.runtime.processes import how_it_ended, receive, send, start

from .diagnosis import Standard
from .worker import READY, UNABLE

Terms = tuple[Policy, Standard | None]
"""What each is judged by."""

Outcome = Diagnosis | str
"""A diagnosis, or why there is none."""


class Workers:
    """``size`` processes that judge those of ``found`` whose indexes are in ``waiting``, each by its own ``terms``.

    What none of them can do stays in ``waiting``. A context manager: at its end every process has ended.
    """

    def __init__(self, found: Sequence[Found], terms: Sequence[Terms], waiting: deque[int], size: int) -> None:
        self._found = found
        self._terms = terms
        self._waiting = waiting
        self._left: list[int] = []
        self._scan_threads = max(1, available_cores() // size)
        self._results: SimpleQueue[tuple[int, Outcome] | BaseException | None] = SimpleQueue()
        self._lock = threading.Lock()
        self._running: set[subprocess.Popen[bytes]] = set()
        self._stopped = False
        self._threads = [threading.Thread(target=self._look_after) for _ in range(size)]

    def outcomes(self) -> Iterator[tuple[int, Outcome]]:
        """Index and outcome of each, as they come."""
        for thread in self._threads:
            thread.start()
        working = len(self._threads)
        while working:
            result = self._results.get()
            if isinstance(result, BaseException):
                raise result
            if result is None:
                working -= 1
            else:
                yield result
        self._waiting.extend(sorted(self._left))

    def __enter__(self) -> Workers:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._lock:
            self._stopped = True
            for process in self._running:
                process.kill()
        for thread in self._threads:
            if thread.ident is not None:
                thread.join()

    def _look_after(self) -> None:
        try:
            process = None
            while (index := self._next()) is not None:
                process = process or self._started()
                if process is None:
                    self._left.append(index)
                    break
                outcome = self._asked(process, index)
                if isinstance(outcome, str):
                    process = None  # it died of this one
                if outcome is None:
                    self._left.append(index)
                else:
                    self._results.put((index, outcome))
            if process is not None:
                self._ended(process)
        except BaseException as error:  # raised again where somebody can catch it
            self._results.put(error)
        self._results.put(None)

    def _next(self) -> int | None:
        try:
            return None if self._stopped else self._waiting.popleft()
        except IndexError:
            return None

    def _started(self) -> subprocess.Popen[bytes] | None:
        """A process that said it is ready, or ``None`` if none can be had."""
        with self._lock:
            if self._stopped:
                return None
            try:
                process = start("ckpt_doctor.inspection.worker")
            except OSError:
                return None
            self._running.add(process)
        assert process.stdout is not None
        if receive(process.stdout) == READY:
            return process
        self._ended(process)
        return None

    def _asked(self, process: subprocess.Popen[bytes], index: int) -> Outcome | None:
        """What the process says of one checkpoint, or how it died; ``None`` if it cannot say."""
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            request = pickle.dumps(
                (self._found[index], self._terms[index], self._scan_threads), pickle.HIGHEST_PROTOCOL
            )
        except (pickle.PicklingError, AttributeError, TypeError, RecursionError):
            return None
        try:
            send(process.stdin, request)
            answer = receive(process.stdout)
        except BrokenPipeError:
            answer = None
        if answer is None:
            return f"the process that read it {how_it_ended(self._ended(process))}. Inspect it alone to see why."
        if answer == UNABLE:
            return None
        diagnosis: Diagnosis = pickle.loads(answer)
        return diagnosis

    def _ended(self, process: subprocess.Popen[bytes]) -> int:
        """Let a process end, and return its exit code."""
        with process:
            if process.stdin is not None:
                with contextlib.suppress(BrokenPipeError):
                    process.stdin.close()
        with self._lock:
            self._running.discard(process)
        return process.returncode
