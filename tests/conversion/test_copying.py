"""Every way of getting bytes from file to file, forced in turn."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from ckpt_doctor import ConversionError, convert
from support.states import filled, save

CALLS = ("copy_file_range", "sendfile")
LARGE = 1 << 20  # elements


@pytest.fixture
def source(tmp_path: Path) -> Path:
    state = {
        "large": filled((LARGE,), torch.float32),
        "small": torch.ones(5),
        "view": filled((40, 50), torch.int16).t(),
    }
    return save(state, tmp_path / "a.bin")


@pytest.fixture
def expected(source: Path) -> bytes:
    target = source.with_name("expected.safetensors")
    convert(source, target, to="safetensors")
    return target.read_bytes()


def failing(code: int) -> Callable[..., int]:
    def call(*_: Any, **__: Any) -> int:
        raise OSError(code, os.strerror(code))

    return call


def counting(patch: pytest.MonkeyPatch, name: str) -> list[int]:
    """Count what a system call copied; it goes on working."""
    if not hasattr(os, name):
        pytest.skip(f"no os.{name} here")
    real, counts = getattr(os, name), []

    def call(*args: Any, **options: Any) -> int:
        counts.append(real(*args, **options))
        return counts[-1]

    patch.setattr(os, name, call)
    return counts


def test_inside_the_kernel_by_default(source: Path, expected: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    counts = counting(monkeypatch, "copy_file_range")
    convert(source, to="safetensors")
    assert source.with_suffix(".safetensors").read_bytes() == expected
    assert sum(counts) == 4 * LARGE


@pytest.mark.parametrize("code", [errno.ENOSYS, errno.EXDEV, errno.EINVAL, errno.EOPNOTSUPP, errno.EPERM])
def test_sendfile_where_ranges_cannot_be_copied(
    source: Path, expected: bytes, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    counts = counting(monkeypatch, "sendfile")
    monkeypatch.setattr(os, "copy_file_range", failing(code), raising=False)
    convert(source, to="safetensors")
    assert source.with_suffix(".safetensors").read_bytes() == expected
    assert sum(counts) == 4 * LARGE


@pytest.mark.parametrize("how", ["absent", "unsupported", "zero"])
def test_a_buffer_where_the_kernel_cannot(
    source: Path, expected: bytes, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    for name in CALLS:
        if how == "absent":
            monkeypatch.delattr(os, name, raising=False)
        else:
            call = failing(errno.EOPNOTSUPP) if how == "unsupported" else lambda *_, **__: 0
            monkeypatch.setattr(os, name, call, raising=False)
    counts = counting(monkeypatch, "write")
    convert(source, to="safetensors")
    assert source.with_suffix(".safetensors").read_bytes() == expected
    assert sum(counts) == len(expected)


def test_the_way_is_changed_in_the_middle_of_a_tensor(
    source: Path, expected: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = os.copy_file_range
    calls: list[int] = []

    def call(src: int, dst: int, count: int, **options: Any) -> int:
        calls.append(count)
        if len(calls) > 3:
            raise OSError(errno.EXDEV, "")
        return real(src, dst, min(count, 100_001), **options)

    monkeypatch.setattr(os, "copy_file_range", call)
    convert(source, to="safetensors")
    assert source.with_suffix(".safetensors").read_bytes() == expected
    assert len(calls) == 4


def test_calls_that_do_less_than_asked(source: Path, expected: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    """Any of these calls may; for a signal, or because the file is on a network."""
    write, pread, preadv = os.write, os.pread, os.preadv
    monkeypatch.setattr(os, "write", lambda fd, data: write(fd, bytes(data[:70_001])))
    monkeypatch.setattr(os, "pread", lambda fd, count, offset: pread(fd, min(count, 60_007), offset))
    monkeypatch.setattr(os, "preadv", lambda fd, views, offset: preadv(fd, [views[0][:50_021]], offset))
    for name in CALLS:
        monkeypatch.delattr(os, name, raising=False)
    convert(source, to="safetensors")
    assert source.with_suffix(".safetensors").read_bytes() == expected


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EIO, errno.EDQUOT, errno.EFBIG])
@pytest.mark.parametrize("name", CALLS)
def test_real_failures_are_not_tried_again(source: Path, monkeypatch: pytest.MonkeyPatch, name: str, code: int) -> None:
    if name == "sendfile":
        monkeypatch.delattr(os, "copy_file_range", raising=False)
    monkeypatch.setattr(os, name, failing(code), raising=False)
    with pytest.raises(ConversionError, match=os.strerror(code)):
        convert(source, to="safetensors")
    assert [path.name for path in source.parent.iterdir()] == ["a.bin"]


@pytest.mark.parametrize("target", ["source", "copy"])
def test_a_difference_is_noticed(source: Path, monkeypatch: pytest.MonkeyPatch, target: str) -> None:
    """A bit that flips in the new file, and a source that is written to in place, with its times put back."""
    real = os.copy_file_range

    def corrupt(src: int, dst: int, count: int, **options: Any) -> int:
        done = real(src, dst, count, **options)
        if target == "copy":
            os.pwrite(dst, b"\x55\xaa\x55", os.lseek(dst, 0, os.SEEK_CUR) - 100)
        else:
            status = source.stat()
            with source.open("r+b") as file:
                file.seek(options["offset_src"] + 1000)
                file.write(b"\x55\xaa\x55")
            os.utime(source, ns=(status.st_atime_ns, status.st_mtime_ns))
        return done

    monkeypatch.setattr(os, "copy_file_range", corrupt)
    with pytest.raises(ConversionError, match=r"differ from the source|CKD603"):
        convert(source, to="safetensors")
    assert [path.name for path in source.parent.iterdir()] == ["a.bin"]
