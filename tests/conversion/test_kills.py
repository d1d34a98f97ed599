"""``kill -9`` at many moments: whatever bears a final name is whole, and the next run tidies up."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

import pytest
import torch

from ckpt_doctor import convert
from support.children import LIMIT, environment, running
from support.states import filled, save, snapshot

pytestmark = pytest.mark.slow

REPOSITORY = Path(__file__).parents[2]

# Kills itself at the n-th call of anything that changes a file or a folder: no moment of interest is missed.
AT_CALL = """
import os, signal, sys
from ckpt_doctor import convert

count, at = 0, int(sys.argv[2])
def deadly(real, after):
    def call(*args, **options):
        global count
        count += 1
        if count == at and not after:
            os.kill(os.getpid(), signal.SIGKILL)
        result = real(*args, **options)
        if count == at and after:
            os.kill(os.getpid(), signal.SIGKILL)
        return result
    return call
for name in "open write pwrite copy_file_range fsync link replace unlink mkdir rmdir chmod".split():
    setattr(os, name, deadly(getattr(os, name), after=sys.argv[3] == "after"))
convert(sys.argv[1], to="safetensors", overwrite=sys.argv[4] == "overwrite")
print(count)
"""


def start(code: str, *args: object) -> AbstractContextManager[subprocess.Popen[bytes]]:
    command = [sys.executable, "-c", code, *map(str, args)]
    env = environment()
    return running(command, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE)


def assert_whole(folder: Path, before: dict[str, bytes], after: dict[str, bytes]) -> None:
    """Every file is as it was before, or as it is in the end."""
    for path, data in snapshot(folder).items():
        if ".ckpt-doctor" not in path:
            assert data in (before.get(path), after.get(path)), path
    assert all((folder / path).exists() for path in before)


@pytest.mark.parametrize("overwrite", ["overwrite", "new"])
def test_killed_at_every_call(tmp_path: Path, overwrite: str) -> None:
    state = {"large": filled((1 << 16,), torch.float32), "small": torch.ones(3)}
    source = save(state, tmp_path / "a.bin")
    target = tmp_path / "a.safetensors"
    convert(source, to="safetensors")
    after = snapshot(tmp_path)
    at, calls = 0, 1
    while at < calls:
        at += 1
        for when in ("before", "after"):
            target.unlink(missing_ok=True)
            if overwrite == "overwrite":
                target.write_bytes(b"what was there before")
            before = snapshot(tmp_path)
            with start(AT_CALL, source, at, when, overwrite) as process:
                out, err = process.communicate(timeout=LIMIT)
            if process.returncode == 0:
                calls = min(calls, int(out))
                continue
            assert process.returncode == -signal.SIGKILL, err
            calls = at + 1
            assert_whole(tmp_path, before, after)
            convert(source, to="safetensors", overwrite=True)
            assert snapshot(tmp_path) == after
    assert at > 8


def test_killed_at_any_time(tmp_path: Path) -> None:
    """Some twenty moments between the start and the end of a conversion that takes a while."""
    source = save({f"w{i}": filled((1 << 19,), torch.float32, i) for i in range(24)}, tmp_path / "a.bin")
    convert(source, to="safetensors")
    after = snapshot(tmp_path)
    target = tmp_path / "a.safetensors"
    target.unlink()
    before = snapshot(tmp_path)
    command = "import sys; from ckpt_doctor import convert; convert(sys.argv[1], to='safetensors')"

    def run(pause: Callable[[], None] | None) -> float:
        started = time.perf_counter()
        with start(command, source) as process:
            if pause is not None:
                pause()
                process.kill()
            process.communicate(timeout=LIMIT)
        return time.perf_counter() - started

    whole = run(None)
    target.unlink()
    for moment in range(20):
        run(lambda moment=moment: time.sleep(whole * (moment + 1) / 20))  # type: ignore[misc]
        assert_whole(tmp_path, before, after)
        target.unlink(missing_ok=True)
    convert(source, to="safetensors")
    assert snapshot(tmp_path) == after
