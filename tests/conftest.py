"""What a test run inherits from whoever started it must not decide what the tests find.

A shell starts a job in the background with Ctrl-C ignored, ``nohup`` ignores the end of the terminal, and both hand
that on to every program below; so does an environment, where a workflow or a person has set what we read.
"""

from __future__ import annotations

import contextlib
import os
import signal

# Ours, those that decide about colours and widths, and those by which a workflow of GitHub is recognised.
_PREFIXES = ("CKPT_DOCTOR_", "GITHUB_")
_NAMES = ("NO_COLOR", "FORCE_COLOR", "PYTHONIOENCODING", "PYTHONPATH")
# Python itself ignores these two, and takes that back for the programs that it starts.
_PYTHONS_OWN = (signal.SIGPIPE, signal.SIGXFSZ) if os.name == "posix" else ()


def _do_nothing(*_: object) -> None:
    """Ignore a signal; unlike ``SIG_IGN``, a program that is started does not inherit this."""


def _programs_get_signals() -> None:
    """Let the programs that tests start see each signal, and let the test run itself ignore what it was told to."""
    for number in signal.valid_signals():
        if signal.getsignal(number) is signal.SIG_IGN and number not in _PYTHONS_OWN:
            # One that nobody may change is nothing that a test could depend on.
            with contextlib.suppress(OSError, ValueError):
                signal.signal(number, signal.SIG_DFL if number == signal.SIGCHLD else _do_nothing)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())


def _nothing_is_set() -> None:
    for name in tuple(os.environ):
        if name in _NAMES or name.startswith(_PREFIXES):
            del os.environ[name]
    os.environ["COLUMNS"] = "80"
    # Tests make their own models; the libraries read these two when they are imported.
    os.environ["HF_HUB_OFFLINE"] = "1"
    os.environ["TOKENIZERS_PARALLELISM"] = "false"


if os.name == "posix":
    _programs_get_signals()
_nothing_is_set()
