"""``kill -9`` at every call that changes something: the next run finds the checkpoint as it was, or repaired."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ckpt_doctor.core.policy import Policy
from ckpt_doctor.repair import fix, undo
from support.children import LIMIT, environment, running
from support.repaired import content
from support.scenes import SCENES, shards

CHANGING = [
    "open",
    "write",
    "pwrite",
    "copy_file_range",
    "fsync",
    "link",
    "replace",
    "rename",
    "unlink",
    "mkdir",
    "rmdir",
    "chmod",
    "chown",
]
NOTHING = Policy(select=("CKD602",))
REPOSITORY = Path(__file__).parents[2]


def killed(act: Callable[[], object], at: int) -> bool:
    """Run in a child process that kills itself before its ``at``-th changing call; whether it came that far."""
    child = os.fork()
    if child == 0:
        status = 70
        try:
            count = 0

            def deadly(real: Any) -> Callable[..., Any]:
                def call(*args: Any, **options: Any) -> Any:
                    nonlocal count
                    count += 1
                    if count == at:
                        os.kill(os.getpid(), signal.SIGKILL)
                    return real(*args, **options)

                return call

            for name in CHANGING:
                if hasattr(os, name):
                    setattr(os, name, deadly(getattr(os, name)))
            act()
            status = 0
        finally:
            os._exit(status)
    _, status = os.waitpid(child, 0)
    assert os.WIFSIGNALED(status) or os.WEXITSTATUS(status) == 0, "the child failed by itself"
    return os.WIFSIGNALED(status)


def path_in(folder: Path) -> Path:
    (found,) = [item for item in folder.iterdir() if item.name != ".ckpt-doctor"]
    return found


# A forked child of a process with threads is warned about from Python 3.12 on; it runs nothing of theirs.
@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("scene", SCENES, ids=lambda scene: scene.__name__)
def test_killed_while_repairing(tmp_path: Path, scene: Callable[[Path], Path]) -> None:
    template = tmp_path / "template"
    template.mkdir()
    scene(template)
    before = content(template)
    wanted = Path(shutil.copytree(template, tmp_path / "wanted"))
    fix(path_in(wanted))
    after = content(wanted)
    here, at, states = tmp_path / "here", 0, set()
    while True:
        at += 1
        shutil.copytree(template, here)
        path = path_in(here)
        if not killed(lambda path=path: fix(path), at):
            break
        for name, data in content(here).items():
            assert data in (before.get(name), after.get(name)), f"{name} at {at}"
        fix(here, NOTHING)
        states.add("before" if content(here) == before else "after")
        assert content(here) in (before, after), at
        fix(path_in(here))
        assert content(here) == after
        shutil.rmtree(here)
    assert "before" in states
    assert at > 20


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_killed_while_undoing(tmp_path: Path) -> None:
    at = 0
    while True:
        at += 1
        folder = tmp_path / str(at)
        folder.mkdir()
        model = shards(folder)
        before = content(folder)
        (repair,) = fix(model).repairs
        after = content(folder)
        if not killed(lambda backup=repair.backup: undo(backup), at):
            break
        fix(model, NOTHING)
        assert content(folder) in (before, after), at
        if repair.backup and Path(repair.backup).exists():
            undo(repair.backup)
        assert content(folder) == before
    assert at > 5


def test_interrupted_by_the_keyboard(tmp_path: Path) -> None:
    here = tmp_path / "here"
    here.mkdir()
    model = shards(here)
    before = content(here)
    whole = shutil.copytree(here, tmp_path / "whole")
    fix(whole / model.relative_to(here))
    after = content(whole)
    command = [sys.executable, "-m", "ckpt_doctor", "fix", str(model)]
    env = environment()
    codes = set()
    for delay in (0.05, 0.1, 0.15, 0.2, 0.25, 0.3):
        with running(command, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
            time.sleep(delay)
            process.send_signal(signal.SIGINT)
            process.communicate(timeout=LIMIT)
        codes.add(process.returncode)
        found = content(here)
        assert found in (before, after)
        if found == after:  # it was done, and only its report was cut short, or not even that
            break
        assert process.returncode != 0
    assert codes <= {0, 130, 1, -signal.SIGINT}
