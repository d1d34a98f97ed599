"""Threads that work off a list of jobs, on every core that this process may use."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import Generic, TypeVar

from .cores import available_cores

_MAX_THREADS = 8  # more than the memory bus of most machines can feed
_POLL = 0.1  # seconds between two reports of progress

Tool = TypeVar("Tool")
"""What a thread needs for the jobs: its own way to the bytes of one open file, or of several."""

Stopped = Callable[[], bool]
"""Tells whether to give up."""

OnRead = Callable[[int], None]
"""Told how many more bytes were read."""


class Crew(Generic[Tool]):
    """Threads that work off the jobs; each may raise ``OSError``, and ``tool`` is called once in each thread.

    By default there is one for each core. Plain threads, because ``concurrent.futures`` brings ``logging`` along, which
    takes longer than scanning an adapter.
    """

    def __init__(
        self,
        jobs: Sequence[Callable[[Tool, Stopped], None]],
        tool: Callable[[OnRead], Tool],
        threads: int | None = None,
    ) -> None:
        self._jobs = iter(jobs)
        self._tool = tool
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._complaints: list[str] = []
        self._failures: list[BaseException] = []
        size = min(_MAX_THREADS, threads or available_cores(), len(jobs))
        self._counts = [0] * size
        self._threads = [threading.Thread(target=self._work, args=(number,)) for number in range(size)]

    def work_off(self, advance: Callable[[int], None]) -> str | None:
        """Run all jobs; returns what the operating system complained about, if it did.

        A job that fails does not keep the others from running. ``advance`` hears the number of bytes read so far.
        """
        try:
            for thread in self._threads:
                thread.start()
            for thread in self._threads:
                while True:
                    thread.join(_POLL)
                    advance(sum(self._counts))
                    if not thread.is_alive():
                        break
        finally:
            self._stop.set()  # after Ctrl-C nobody waits for the rest of a large file
            for thread in self._threads:
                if thread.ident is not None:
                    thread.join()
        if self._failures:
            raise self._failures[0]
        return self._complaints[0] if self._complaints else None

    def _work(self, number: int) -> None:
        def on_read(nbytes: int) -> None:
            self._counts[number] += nbytes

        try:
            tool = self._tool(on_read)
            while (job := self._next()) is not None:
                complaint = _attempt(job, tool, self._stop.is_set)
                if complaint is not None:
                    self._complaints.append(complaint)
        except BaseException as error:  # raised again where somebody can catch it
            self._failures.append(error)
            self._stop.set()

    def _next(self) -> Callable[[Tool, Stopped], None] | None:
        with self._lock:
            return next(self._jobs, None)


def _attempt(job: Callable[[Tool, Stopped], None], tool: Tool, stopped: Stopped) -> str | None:
    try:
        job(tool, stopped)
    except OSError as error:
        return error.strerror or str(error)
    return None
