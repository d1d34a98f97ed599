"""Every system call of a repair and of its undoing fails once, at every place: then all is as it was before."""

from __future__ import annotations

import errno
import fcntl
import os
import resource
import shutil
import signal
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from ckpt_doctor.core.errors import CkptDoctorError
from ckpt_doctor.core.policy import Policy
from ckpt_doctor.repair import fix, undo
from ckpt_doctor.repair.carrying_out import CarryingOut
from support.repaired import content, own_files
from support.scenes import SCENES, shards

CALLS: list[tuple[ModuleType, str]] = [
    *(
        (os, name)
        for name in (
            *("open", "write", "pread", "preadv", "pwrite", "copy_file_range", "fsync"),
            *("close", "fstat", "stat", "lstat"),
            *("link", "replace", "rename", "unlink", "mkdir", "rmdir", "chmod", "chown", "statvfs", "scandir"),
            *("listdir", "urandom", "readlink"),
        )
        if hasattr(os, name)
    ),
    (fcntl, "flock"),
]
IDS = [name for _, name in CALLS]
# A rule that finds nothing here: such a run repairs nothing, and takes back what was interrupted.
NOTHING = Policy(select=("CKD602",))


def with_fault(
    act: Callable[[], Any], module: ModuleType, name: str, at: int, *, from_start: bool = False
) -> tuple[Any, int]:
    """Run with the ``at``-th call of one function failing: what came of it, and how many calls there were.

    Calls are counted from the first one that prepares to write, unless ``from_start``.
    """
    real = getattr(module, name)
    carry_out = CarryingOut.run
    calls = 0
    counting = from_start

    def begin(*args: Any, **options: Any) -> Any:
        nonlocal counting
        counting = True
        return carry_out(*args, **options)

    def call(*args: Any, **options: Any) -> Any:
        nonlocal calls
        calls += counting
        if counting and calls - 1 == at:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return real(*args, **options)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, name, call)
        patch.setattr(CarryingOut, "run", begin)
        try:
            return act(), calls
        except CkptDoctorError:
            return None, calls


def path_in(folder: Path) -> Path:
    """What the scene in ``folder`` is repaired by, under the name that it has now."""
    (found,) = [item for item in folder.iterdir() if item.name != ".ckpt-doctor"]
    return found


@pytest.mark.slow
@pytest.mark.parametrize("scene", SCENES, ids=lambda scene: scene.__name__)
@pytest.mark.parametrize(("module", "name"), CALLS, ids=IDS)
def test_all_or_nothing(tmp_path: Path, scene: Callable[[Path], Path], module: ModuleType, name: str) -> None:
    template = tmp_path / "template"
    template.mkdir()
    scene(template)
    before = content(template)
    wanted = Path(shutil.copytree(template, tmp_path / "wanted"))
    assert fix(path_in(wanted)).changes_anything
    after = content(wanted)
    assert after != before
    here = tmp_path / "here"
    at, calls = 0, 1
    while at < calls:
        shutil.copytree(template, here)
        path = path_in(here)
        result, calls = with_fault(lambda path=path: fix(path), module, name, at)
        state = content(here)
        assert state in ((before, after) if result is None else (after,)), f"{name} at {at}"
        # Whatever is left over is swept or taken back by the next run.
        fix(path_in(here), NOTHING)
        assert content(here) == state
        if state == before:
            assert not own_files(here)
        fix(path_in(here))
        assert content(here) == after
        shutil.rmtree(here)
        at += max(1, calls // 20)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["open", "pread", "fstat", "scandir"])
def test_reading_fails(tmp_path: Path, name: str) -> None:
    template = tmp_path / "template"
    template.mkdir()
    shards(template)
    before = content(template)
    at, calls = 0, 1
    while at < calls:
        result, calls = with_fault(lambda: fix(path_in(template), dry_run=True), os, name, at, from_start=True)
        found = [] if result is None else result.remaining.findings
        # Told as an error, or as a finding that no setting silences; or else all is planned as it should be.
        complete = result is not None and not found and len(result.repairs[0].steps) == 5
        assert result is None or complete or any(finding.always_fails for finding in found), f"{name} at {at}"
        assert content(template) == before
        at += max(1, calls // 40)


@pytest.mark.slow
@pytest.mark.parametrize(("module", "name"), CALLS, ids=IDS)
def test_undoing_fails(tmp_path: Path, module: ModuleType, name: str) -> None:
    template = tmp_path / "template"
    template.mkdir()
    shards(template)
    before = content(template)
    fix(path_in(template))
    after = content(template)
    here = tmp_path / "here"
    at, calls = 0, 1
    while at < calls:
        # The identity of the files counts, so the copy is repaired anew.
        shutil.copytree(template, here, ignore=lambda *_: [".ckpt-doctor"])
        for file, (_, data) in before.items():
            (here / file).write_bytes(data)
        (repair,) = fix(path_in(here)).repairs
        result, calls = with_fault(lambda backup=repair.backup: undo(backup), module, name, at, from_start=True)
        if result is not None:
            assert content(here) == before
        # What was begun is brought to its end by the next run.
        fix(path_in(here), NOTHING)
        assert content(here) in (before, after)
        shutil.rmtree(here)
        at += max(1, calls // 20)


@pytest.mark.slow
@pytest.mark.parametrize("code", [errno.EPERM, errno.EOPNOTSUPP, errno.EMLINK])
@pytest.mark.parametrize("scene", SCENES, ids=lambda scene: scene.__name__)
def test_file_systems_without_links(tmp_path: Path, scene: Callable[[Path], Path], code: int) -> None:
    scene(tmp_path)
    before = content(tmp_path)

    def refuse(*args: Any, **options: Any) -> None:
        raise OSError(code, os.strerror(code))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "link", refuse)
        (repair,) = fix(path_in(tmp_path)).repairs
        assert repair.steps
        assert repair.backup
        assert content(tmp_path) != before
        undo(repair.backup)
    assert content(tmp_path) == before


def test_a_full_disk(tmp_path: Path) -> None:
    model = shards(tmp_path)
    before = content(tmp_path)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    ignored = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (8192, hard))
    try:
        with pytest.raises(CkptDoctorError, match="Nothing was changed"):
            fix(model)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, ignored)
    assert content(tmp_path) == before
    assert not own_files(tmp_path)
