"""Threads that work off one list of jobs: what copying and checking do on every core."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Generic, TypeVar

from ckpt_doctor.runtime.cores import available_cores

_MAX_THREADS = 8  # more than the memory bus of most machines can feed
_POLL = 0.1  # seconds between two looks at a pressed Ctrl-C

GATHERING = threading.Semaphore(2)
"""Held by a thread while it gathers a tensor: each needs some 20 MB for it."""

Desk = TypeVar("Desk")
"""What one thread works with, made for it; a job gets it as its argument."""


def work_off(
    jobs: Sequence[Callable[[Desk], None]],
    desk: Callable[[threading.Event], Desk],
    *,
    beside: Callable[[], None] | None = None,
) -> None:
    """Do all jobs on every core, and ``beside``, which waits for something else than a core, in one more thread.

    ``desk`` is given the event that is set once a long job should end early. Raises what the first that failed raised.
    """
    _Crew(iter(jobs), desk).run(min(_MAX_THREADS, available_cores(), len(jobs)), beside)


def one_at_a_time(report: Callable[[int], None]) -> Callable[[int], None]:
    """``report``, to be called by several threads."""
    lock = threading.Lock()

    def guarded(nbytes: int) -> None:
        with lock:
            report(nbytes)

    return guarded


class _Crew(Generic[Desk]):
    """Threads that stop at the first job that fails."""

    def __init__(self, jobs: Iterator[Callable[[Desk], None]], desk: Callable[[threading.Event], Desk]) -> None:
        self._jobs = jobs
        self._desk = desk
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._problems: list[BaseException] = []

    def run(self, threads: int, beside: Callable[[], None] | None) -> None:
        """Do all jobs in ``threads`` threads, and ``beside`` in one more. Raises what the first that failed raised."""
        work = [self._work] * threads + ([beside] if beside is not None else [])
        crew = [threading.Thread(target=self._guarded, args=(task,), daemon=True) for task in work]
        try:
            for thread in crew:
                thread.start()
            for thread in crew:
                while thread.is_alive():
                    thread.join(_POLL)
        finally:
            # After Ctrl-C nobody waits for the rest of a large file, but the files stay open until nobody reads them.
            self._stop.set()
            for thread in crew:
                if thread.ident is not None:
                    thread.join()
        if self._problems:
            raise self._problems[0]

    def _guarded(self, task: Callable[[], None]) -> None:
        # Handed over to the thread that waits, whatever it is.
        try:
            task()
        except BaseException as problem:
            self._problems.append(problem)
            self._stop.set()

    def _work(self) -> None:
        desk = self._desk(self._stop)
        while not self._stop.is_set():
            with self._lock:
                job = next(self._jobs, None)
            if job is None:
                return
            job(desk)
