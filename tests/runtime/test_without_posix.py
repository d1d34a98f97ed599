"""Inspecting, converting and repairing where the system lacks what only POSIX has, as on Windows.

The calls are taken away in another process before the package is imported.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from ckpt_doctor.runtime import file_access, file_lock, folders
from ckpt_doctor.runtime.disk_space import free_bytes
from support.children import LIMIT

HEALTHY = Path(__file__).parents[2] / "fixtures" / "healthy"

# What Windows lacks. It also refuses to open a folder, and to remove or rename a file that is open.
WITHOUT_POSIX = """
import os, shutil, signal, sys
shutil._use_fd_functions = False
sys.modules["fcntl"] = None
for module, names in (
    (os, "pread preadv pwrite statvfs chown copy_file_range sendfile sched_getaffinity killpg O_DIRECTORY O_NOFOLLOW"
         " O_NONBLOCK O_CLOEXEC"),
    (signal, "SIGKILL"),
):
    for name in names.split():
        if hasattr(module, name):
            delattr(module, name)
opened = {}
def taking_note(path, *args, real=os.open, **options):
    if os.path.isdir(path) and options.get("dir_fd") is None:
        raise PermissionError(13, "Permission denied", str(path))
    descriptor = real(path, *args, **options)
    opened[descriptor] = os.path.abspath(path)
    return descriptor
def closing(descriptor, real=os.close):
    opened.pop(descriptor, None)
    real(descriptor)
def unless_open(real):
    def call(path, *args, **options):
        if os.path.abspath(path) in opened.values():
            raise PermissionError(13, "The process cannot access the file", str(path))
        return real(path, *args, **options)
    return call
os.supports_dir_fd = set()
os.open, os.close = taking_note, closing
for name in ("unlink", "replace", "rename"):
    setattr(os, name, unless_open(getattr(os, name)))
"""


def command(*words: Any, code: int) -> str:
    """What ``ckpt-doctor`` prints in such a process."""
    program = f"{WITHOUT_POSIX}\nfrom ckpt_doctor.cli import main\nmain()"
    done = subprocess.run(
        [sys.executable, "-c", program, *map(str, words)], capture_output=True, text=True, timeout=LIMIT, check=False
    )
    assert done.returncode == code, done.stdout + done.stderr
    return done.stdout


def test_inspect_reads_headers_and_values(tmp_path: Path) -> None:
    save_file({"w": torch.tensor([1.0, float("nan")])}, tmp_path / "a.safetensors")
    torch.save({"w": torch.ones(2)}, tmp_path / "b.bin")
    found = json.loads(command("inspect", tmp_path / "a.safetensors", "--deep", "--output-format", "json", code=1))
    (checkpoint,) = found["checkpoints"]
    assert {finding["code"] for finding in checkpoint["findings"]} >= {"CKD601"}
    assert "b.bin" in command("inspect", tmp_path / "b.bin", code=0)


def test_inspect_reads_a_whole_folder(tmp_path: Path) -> None:
    model = shutil.copytree(HEALTHY / "transformers/sharded_safetensors", tmp_path / "model")
    assert "healthy" in command("inspect", model, "--deep", code=0)


@pytest.mark.parametrize("options", [(), ("--overwrite",)], ids=["new", "overwriting"])
def test_convert(tmp_path: Path, options: tuple[str, ...]) -> None:
    tensor = torch.arange(200_000, dtype=torch.float32)
    torch.save({"w": tensor, "view": tensor[::2], "small": tensor[:3].clone()}, tmp_path / "a.bin")
    if options:
        (tmp_path / "a.safetensors").write_bytes(b"something else")
    command("convert", tmp_path / "a.bin", "--to", "safetensors", *options, code=0)
    assert torch.equal(load_file(tmp_path / "a.safetensors")["view"], tensor[::2])
    assert {path.name for path in tmp_path.iterdir()} == {"a.bin", "a.safetensors"}


@pytest.mark.slow
def test_convert_back(tmp_path: Path) -> None:
    save_file({"w": torch.ones(3)}, tmp_path / "a.safetensors")
    command("convert", tmp_path / "a.safetensors", "--to", "bin", code=0)
    assert torch.load(tmp_path / "a.bin")["w"].tolist() == [1.0, 1.0, 1.0]


def test_fix_and_undo(tmp_path: Path) -> None:
    save_file({f"module.w{i}": torch.ones(3) for i in range(2)}, tmp_path / "a.safetensors")
    before = (tmp_path / "a.safetensors").read_bytes()
    told = command("fix", tmp_path / "a.safetensors", "--unsafe-fixes", code=0)
    assert set(load_file(tmp_path / "a.safetensors")) == {"w0", "w1"}, told
    (backup,) = (tmp_path / ".ckpt-doctor").glob("backup-*")
    assert not (tmp_path / ".ckpt-doctor" / "lock").exists()
    command("fix", "--undo", backup, code=0)
    assert (tmp_path / "a.safetensors").read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == ["a.safetensors"]


def test_a_lock_file_keeps_the_second_repair_out(tmp_path: Path) -> None:
    save_file({"module.w": torch.ones(3)}, tmp_path / "a.safetensors")
    lock = tmp_path / ".ckpt-doctor" / "lock"
    lock.parent.mkdir()
    lock.touch()
    before = (tmp_path / "a.safetensors").read_bytes()
    command("fix", tmp_path / "a.safetensors", "--unsafe-fixes", code=2)
    assert (tmp_path / "a.safetensors").read_bytes() == before
    assert lock.exists()


def test_reading_a_range_leaves_the_position_where_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(os, "pread", raising=False)
    monkeypatch.delattr(os, "preadv", raising=False)
    (tmp_path / "file").write_bytes(bytes(range(100)))
    descriptor = file_access.open_to_read(tmp_path / "file")
    try:
        os.lseek(descriptor, 7, os.SEEK_SET)
        assert file_access.read_at(descriptor, 5, 20) == bytes(range(20, 25))
        target = bytearray(10)
        assert file_access.read_into(descriptor, memoryview(target), 95) == 5
        assert target[:5] == bytes(range(95, 100))
        assert file_access.read_at(descriptor, 5, 100) == b""
        assert os.lseek(descriptor, 0, os.SEEK_CUR) == 7
    finally:
        os.close(descriptor)


def test_unknown_disk_space(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(os, "statvfs", raising=False)
    assert free_bytes(tmp_path) is None


def test_a_lock_file_stands_in_for_the_lock_of_the_kernel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "fcntl", None)
    assert not file_lock.has_locks()
    folder = tmp_path / "own"
    folder.mkdir()
    lock = file_lock.FolderLock(folder)
    with pytest.raises(BlockingIOError) as caught:
        file_lock.FolderLock(folder)
    assert caught.value.filename == str(folder / "lock")
    lock.release()
    assert not folder.exists()
    with pytest.raises(FileNotFoundError):
        file_lock.FolderLock(folder)


def test_folders_that_cannot_be_opened_are_not_synced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(os, "O_DIRECTORY", raising=False)
    folders.sync_folder(tmp_path / "not even there")
