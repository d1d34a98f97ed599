"""Code of others, run so that what it says is kept and what it does to the process is not."""

from __future__ import annotations

import faulthandler
import logging
import subprocess
import sys
import warnings
from collections.abc import Callable
from typing import Any, NoReturn

import pytest

from ckpt_doctor.verification.hosting.isolation import run


class Mute:
    """Says nothing of itself."""

    def __str__(self) -> NoReturn:
        raise OSError("no words")

    __repr__ = __str__


class MuteError(Exception):
    def __str__(self) -> NoReturn:
        raise RuntimeError("no words")


def raising(error: BaseException) -> Callable[[], Any]:
    def call() -> NoReturn:
        raise error

    return call


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (MuteError(), "MuteError: MuteError"),
        (SystemExit(Mute()), "it called sys.exit(Mute)"),
        (SystemExit(3), "it called sys.exit(3)"),
        (GeneratorExit(), "GeneratorExit"),
        (ValueError("two\nlines"), "ValueError: two lines"),
    ],
    ids=["mute", "mute-exit", "exit", "generator", "lines"],
)
def test_every_exception_is_a_value(error: BaseException, said: str) -> None:
    assert run(raising(error)).failure == said


def test_a_long_message_is_cut() -> None:
    assert len(run(raising(ValueError("x" * 1_000_000))).failure) < 3000


def test_a_file_that_was_wanted_is_named() -> None:
    assert run(raising(FileNotFoundError(2, "no", "weights.bin"))).wanted_file == "weights.bin"
    assert run(raising(MuteError())).wanted_file is None


def test_streams_are_real_ones(capfd: pytest.CaptureFixture[str]) -> None:
    def call() -> None:
        for stream in (sys.stdout, sys.stderr):
            stream.reconfigure(line_buffering=True)
            stream.buffer.write(b"bytes\xff\n")
            assert stream.fileno() in (1, 2) or stream.fileno() > 2
            assert not stream.isatty()
        print("text without an end", end="")
        subprocess.run([sys.executable, "-c", "print('from a child')"], stdout=sys.stdout, check=True, timeout=120)
        faulthandler.enable()
        faulthandler.disable()

    outcome = run(call)
    assert outcome.error is None, outcome.failure
    assert outcome.lines == ["bytes\ufffd", "text without an end"]
    assert "from a child" in capfd.readouterr().out


def test_a_closed_stream_does_no_harm() -> None:
    outcome = run(lambda: (print("before"), sys.stdout.close()))
    assert (outcome.error, outcome.lines) == (None, ["before"])


def test_records_that_cannot_be_told_are_kept_as_far_as_they_can() -> None:
    def call() -> None:
        logger = logging.getLogger("theirs")
        logger.warning("value %s", Mute())
        logger.warning("%d", "no number")
        logger.error(Mute())
        warnings.warn("beware", stacklevel=1)

    outcome = run(call)
    assert outcome.error is None
    assert outcome.lines == ["warning: value %s", "warning: %d", "error: Mute", "UserWarning: beware"]
