"""Every system call of the write path fails once, at every place; and the disk is full, read-only, or changes."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from ckpt_doctor import ConversionError, convert
from ckpt_doctor.core.errors import CkptDoctorError
from support.states import filled, load, save, snapshot

CALLS: list[tuple[ModuleType, str]] = [
    *(
        (os, name)
        for name in (
            *("open", "write", "pread", "preadv", "pwrite", "copy_file_range", "fsync"),
            *("close", "fstat", "stat", "lstat"),
            *("link", "replace", "unlink", "mkdir", "rmdir", "chmod", "chown", "statvfs", "scandir", "urandom"),
        )
        if hasattr(os, name)
    ),
    (fcntl, "flock"),
]
IDS = [name for _, name in CALLS]


def one_file(folder: Path) -> Callable[[], object]:
    state = {"large": filled((1 << 17,), torch.float32), "small": torch.ones(3), "view": filled((9, 8), torch.int8).t()}
    save(state, folder / "a.bin")
    return lambda: convert(folder / "a.bin", to="safetensors")


def replaced_file(folder: Path) -> Callable[[], object]:
    one_file(folder)
    (folder / "a.safetensors").write_bytes(b"what was there before")
    return lambda: convert(folder / "a.bin", to="safetensors", overwrite=True)


def to_bin(folder: Path) -> Callable[[], object]:
    save_file({"large": filled((1 << 17,), torch.float32), "b": torch.ones(3)}, folder / "a.safetensors")
    return lambda: convert(folder / "a.safetensors", to="bin")


def shards(folder: Path) -> Callable[[], object]:
    names = [f"pytorch_model-0000{i}-of-00002.bin" for i in (1, 2)]
    for i, name in enumerate(names):
        save({f"w{i}": filled((300, 300), torch.float32, i)}, folder / name)
    index = {"metadata": {}, "weight_map": {f"w{i}": name for i, name in enumerate(names)}}
    (folder / "pytorch_model.bin.index.json").write_text(json.dumps(index))
    (folder / "config.json").write_text("{}")
    return lambda: convert(folder, to="safetensors")


def replaced_shards(folder: Path) -> Callable[[], object]:
    shards(folder)
    (folder / "model-00001-of-00002.safetensors").write_bytes(b"old")
    (folder / "model.safetensors.index.json").write_text('{"weight_map": {}}')
    return lambda: convert(folder, to="safetensors", overwrite=True)


def elsewhere(folder: Path) -> Callable[[], object]:
    (folder / "source").mkdir()
    shards(folder / "source")
    return lambda: convert(folder / "source", folder / "new" / "target", to="safetensors")


SCENES = [one_file, replaced_file, to_bin, shards, replaced_shards, elsewhere]


def run_with_fault(act: Callable[[], object], module: ModuleType, name: str, at: int) -> tuple[bool, int]:
    """Run with the ``at``-th call of one function failing; whether that went well, and how many calls there were."""
    real = getattr(module, name)
    calls = 0

    def call(*args: Any, **options: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls - 1 == at:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return real(*args, **options)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, name, call)
        try:
            act()
        except CkptDoctorError:
            return False, calls
    return True, calls


def leftovers(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if ".ckpt-doctor" in path.parts]


@pytest.mark.slow
@pytest.mark.parametrize("scene", SCENES, ids=lambda scene: scene.__name__)
@pytest.mark.parametrize(("module", "name"), CALLS, ids=IDS)
def test_all_or_nothing(
    tmp_path: Path, scene: Callable[[Path], Callable[[], object]], module: ModuleType, name: str
) -> None:
    template, wanted = tmp_path / "template", tmp_path / "wanted"
    template.mkdir()
    wanted.mkdir()
    scene(template)
    before = snapshot(template)
    scene(wanted)()
    after = snapshot(wanted)
    assert after.keys() > before.keys() or after != before
    folder = tmp_path / "here"
    at, calls = 0, 1
    while at < calls:
        folder.mkdir()
        act = scene(folder)
        well, calls = run_with_fault(act, module, name, at)
        now = {path: data for path, data in snapshot(folder).items() if ".ckpt-doctor" not in path}
        assert now == (after if well else before), f"{name} failed at call {at} of {calls}"
        # Only what could not be removed may be left, and the next run sweeps it.
        if name not in ("unlink", "rmdir"):
            assert not leftovers(folder), f"{name} failed at call {at} of {calls}"
        if leftovers(folder) and not well:
            act()
            assert snapshot(folder) == after
            assert not leftovers(folder)
        shutil.rmtree(folder)
        at += 1
    assert at >= calls


def test_a_full_disk_is_noticed_before_anything_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    act = one_file(tmp_path)
    real = os.statvfs(tmp_path)
    monkeypatch.setattr(os, "statvfs", lambda _: os.statvfs_result((*real[:3], 100, 100, *real[5:])))
    before = snapshot(tmp_path)
    with pytest.raises(ConversionError, match=r"no space left for 512.*are free"):
        act()
    assert snapshot(tmp_path) == before
    assert not leftovers(tmp_path)


def test_a_disk_that_is_full_in_the_middle(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for scene in (one_file, to_bin):
        folder = tmp_path / scene.__name__
        folder.mkdir()
        act = scene(folder)
        before = snapshot(folder)

        def full(*_: Any, **__: Any) -> int:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

        with monkeypatch.context() as patch:
            patch.setattr(os, "copy_file_range", full, raising=False)
            patch.setattr(os, "write", full)
            patch.setattr(os, "pwrite", full, raising=False)
            with pytest.raises(ConversionError, match="No space left on device"):
                act()
        assert snapshot(folder) == before
        assert not leftovers(folder)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_read_only_folder(tmp_path: Path) -> None:
    act = one_file(tmp_path)
    before = snapshot(tmp_path)
    tmp_path.chmod(0o500)
    try:
        with pytest.raises(ConversionError, match="Permission denied"):
            act()
    finally:
        tmp_path.chmod(0o700)
    assert snapshot(tmp_path) == before


@pytest.mark.parametrize("change", ["longer", "shorter", "replaced", "touched", "gone"])
@pytest.mark.parametrize("check", [True, False])
def test_a_source_that_changes_meanwhile(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: str, check: bool
) -> None:
    one_file(tmp_path)
    source = tmp_path / "a.bin"
    real = os.copy_file_range

    def copy(*args: Any, **options: Any) -> int:
        if change == "longer":
            with source.open("ab") as file:
                file.write(b"x")
        elif change == "shorter":
            os.truncate(source, 3000)
        elif change == "replaced":
            shutil.copy2(source, tmp_path / "new")
            (tmp_path / "new").replace(source)
        elif change == "touched":
            os.utime(source, ns=(0, 0))
        else:
            source.unlink()
        return real(*args, **options)

    monkeypatch.setattr(os, "copy_file_range", copy)
    with pytest.raises(ConversionError):
        convert(source, to="safetensors", check=check)
    assert not (tmp_path / "a.safetensors").exists()
    assert not leftovers(tmp_path)


def test_a_target_that_appears_meanwhile_is_not_replaced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    act = shards(tmp_path)
    real = os.link

    def link(source: Any, target: Any) -> None:
        if str(target).endswith("00002-of-00002.safetensors"):
            Path(target).write_bytes(b"somebody else's")
        real(source, target)

    monkeypatch.setattr(os, "link", link)
    before = snapshot(tmp_path)
    with pytest.raises(ConversionError, match="is there already"):
        act()
    assert snapshot(tmp_path) == {**before, "model-00002-of-00002.safetensors": b"somebody else's"}


@pytest.mark.parametrize("scene", [one_file, replaced_file, shards])
def test_file_systems_without_hard_links(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, scene: Callable[[Path], Callable[[], object]]
) -> None:
    def link(*_: Any) -> None:
        raise OSError(errno.EPERM, os.strerror(errno.EPERM))

    monkeypatch.setattr(os, "link", link)
    act = scene(tmp_path)
    act()
    assert not leftovers(tmp_path)
    if scene is not shards:
        assert load_file(tmp_path / "a.safetensors").keys() == load(tmp_path / "a.bin").keys()


def test_file_systems_without_locks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def flock(*_: Any) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(fcntl, "flock", flock)
    one_file(tmp_path)()
    assert not leftovers(tmp_path)


@pytest.mark.parametrize("at", range(12))
def test_ctrl_c_at_any_time(tmp_path: Path, at: int) -> None:
    """Progress is reported all along: an interrupt there is an interrupt anywhere."""
    save({f"w{i}": filled((60_000,), torch.float32, i) for i in range(6)}, tmp_path / "a.bin")
    before = snapshot(tmp_path)
    calls = 0

    def progress(done: int, total: int) -> None:
        nonlocal calls
        calls += 1
        assert 0 <= done <= total
        if calls == at + 1:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        convert(tmp_path / "a.bin", to="safetensors", progress=progress)
    assert snapshot(tmp_path) == before
    assert not leftovers(tmp_path)
