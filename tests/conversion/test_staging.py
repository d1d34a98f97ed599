"""Temporaries: where they lie, who may sweep them, and what becomes of modes, links and folders."""

from __future__ import annotations

import fcntl
import os
import stat
from pathlib import Path

import pytest
import torch

from ckpt_doctor import ConversionError, convert
from ckpt_doctor.conversion.staging import Staging, sweep
from support.states import load, save, snapshot


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return save({"w": torch.ones(4)}, tmp_path / "a.bin")


def own(folder: Path, name: str) -> Path:
    (folder / ".ckpt-doctor").mkdir(exist_ok=True)
    path = folder / ".ckpt-doctor" / name
    path.write_bytes(b"left over")
    return path


def test_left_overs_are_swept_and_other_files_are_not(tmp_path: Path, source: Path) -> None:
    left = [own(tmp_path, name) for name in ("convert-0123.tmp", "convert-0123.old.tmp")]
    others = [own(tmp_path, name) for name in ("backup-1.bin", "convert-notes.txt", "journal.json")]
    convert(source, to="safetensors")
    assert not any(path.exists() for path in left)
    assert all(path.exists() for path in others)


def test_what_is_in_use_is_not_swept(tmp_path: Path, source: Path) -> None:
    in_use = own(tmp_path, "convert-0123.tmp")
    with in_use.open("rb") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        convert(source, to="safetensors")
        assert in_use.exists()
    convert(source, to="safetensors", overwrite=True)
    assert not in_use.exists()
    assert not (tmp_path / ".ckpt-doctor").exists()


def test_two_at_once_in_one_folder(tmp_path: Path, source: Path) -> None:
    with Staging(overwrite=False) as staging:
        staged = staging.create(tmp_path / "b.safetensors", mode=0o644)
        convert(source, to="safetensors")
        assert staged.temporary.exists()
        os.write(staged.descriptor, b"whole")
        staging.commit()
    assert (tmp_path / "b.safetensors").read_bytes() == b"whole"
    assert sorted(snapshot(tmp_path)) == ["a.bin", "a.safetensors", "b.safetensors"]


def test_sweeping_follows_no_links(tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_bytes(b"precious")
    folder = tmp_path / "x" / ".ckpt-doctor"
    folder.mkdir(parents=True)
    (folder / "convert-1.tmp").symlink_to(victim)
    sweep(folder)
    assert victim.read_bytes() == b"precious"
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "convert-1.tmp").write_bytes(b"precious")
    (tmp_path / ".ckpt-doctor").symlink_to(elsewhere)
    sweep(tmp_path / ".ckpt-doctor")
    assert (elsewhere / "convert-1.tmp").exists()


@pytest.mark.parametrize("kind", ["link", "file"])
def test_our_own_folder_must_be_one(tmp_path: Path, source: Path, kind: str) -> None:
    if kind == "link":
        (tmp_path / "elsewhere").mkdir()
        (tmp_path / ".ckpt-doctor").symlink_to("elsewhere")
    else:
        (tmp_path / ".ckpt-doctor").write_bytes(b"")
    before = snapshot(tmp_path)
    with pytest.raises(ConversionError, match="is not a folder"):
        convert(source, to="safetensors")
    assert snapshot(tmp_path) == before


@pytest.mark.parametrize("dangling", [False, True])
@pytest.mark.parametrize("overwrite", [False, True])
def test_nothing_is_written_through_a_link(tmp_path: Path, source: Path, dangling: bool, overwrite: bool) -> None:
    victim = tmp_path / "victim"
    if not dangling:
        victim.write_bytes(b"precious")
    (tmp_path / "a.safetensors").symlink_to(victim)
    with pytest.raises(ConversionError, match="is a link to"):
        convert(source, to="safetensors", overwrite=overwrite)
    assert (victim.read_bytes() if not dangling else b"precious") == b"precious"
    assert victim.exists() != dangling


def test_a_replaced_file_leaves_its_other_names_alone(tmp_path: Path, source: Path) -> None:
    target, other = tmp_path / "a.safetensors", tmp_path / "other"
    target.write_bytes(b"old")
    other.hardlink_to(target)
    convert(source, to="safetensors", overwrite=True)
    assert other.read_bytes() == b"old"


def test_the_source_cannot_be_the_target(tmp_path: Path, source: Path) -> None:
    (tmp_path / "same.safetensors").hardlink_to(source)
    with pytest.raises(ConversionError, match="same file"):
        convert(source, tmp_path / "same.safetensors", to="safetensors", overwrite=True)
    assert load(source).keys() == {"w"}
    with pytest.raises(ConversionError, match="is a folder"):
        (tmp_path / "a.safetensors").mkdir()
        convert(source, to="safetensors", overwrite=True)


def test_modes(tmp_path: Path, source: Path) -> None:
    """A new file may be read by whom the source may be read by; a replaced one keeps its own."""
    old = os.umask(0o027)
    try:
        for mode, expected in ((0o600, 0o600), (0o666, 0o640), (0o400, 0o400)):
            source.chmod(mode)
            convert(source, tmp_path / f"{mode:o}.safetensors", to="safetensors")
            assert stat.S_IMODE((tmp_path / f"{mode:o}.safetensors").stat().st_mode) == expected
        kept = tmp_path / "kept.safetensors"
        kept.write_bytes(b"")
        kept.chmod(0o664)
        convert(source, kept, to="safetensors", overwrite=True)
        assert stat.S_IMODE(kept.stat().st_mode) == 0o664
    finally:
        os.umask(old)


def test_folders_that_were_made_go_again(tmp_path: Path, source: Path) -> None:
    with pytest.raises(RuntimeError), Staging(overwrite=False) as staging:
        staging.make_folder(tmp_path / "x" / "y")
        staging.create(tmp_path / "x" / "y" / "file", mode=0o600)
        raise RuntimeError
    assert sorted(snapshot(tmp_path)) == ["a.bin"]
    assert not (tmp_path / "x").exists()
