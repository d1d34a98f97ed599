"""What cannot be converted faithfully is refused, with a sentence that helps, and nothing is written."""

from __future__ import annotations

import argparse
import collections
import os
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from ckpt_doctor import (
    ConversionError,
    NoCheckpointError,
    PathNotFoundError,
    UnknownNameError,
    convert,
)
from support.hostile import PACKAGE, Foreign, foreign_package
from support.states import filled, load, same, save, snapshot


def refused(source: Path, *words: str, to: str = "safetensors", **options: Any) -> None:
    before = snapshot(source.parent)
    with pytest.raises(ConversionError) as caught:
        convert(source, to=to, **options)
    assert all(word in str(caught.value) for word in words), str(caught.value)
    assert snapshot(source.parent) == before
    assert not (source.parent / ".ckpt-doctor").exists()


def rewritten(source: Path, target: Path, change: Callable[[zipfile.ZipInfo, bytes], bytes], method: int = 0) -> Path:
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(target, "w", method) as new:
        for info in old.infolist():
            new.writestr(info.filename, change(info, old.read(info)))
    return target


def with_member(name: str, source: Path, target: Path) -> Path:
    rewritten(source, target, lambda _, data: data)
    with zipfile.ZipFile(target, "a") as archive:
        archive.writestr(name, b"")
    return target


@pytest.fixture
def good(tmp_path: Path) -> Path:
    return save({"w": filled((300, 7), torch.float32), "v": torch.ones(3)}, tmp_path / "good.bin")


def test_a_deflated_archive(tmp_path: Path, good: Path) -> None:
    refused(rewritten(good, tmp_path / "deflated.bin", lambda _, data: data, zipfile.ZIP_DEFLATED), "compressed")


def test_deflated_records_alone(tmp_path: Path, good: Path) -> None:
    target = tmp_path / "some.bin"
    with zipfile.ZipFile(good) as old, zipfile.ZipFile(target, "w") as new:
        for info in old.infolist():
            new.writestr(info.filename, old.read(info), zipfile.ZIP_DEFLATED if "/data/" in info.filename else None)
    refused(target, "compressed", "w")


@pytest.mark.parametrize("place", ["w", "v", "unused"])
def test_a_flipped_bit(tmp_path: Path, place: str) -> None:
    """In a large tensor, in a small one, and in a part of a storage that no tensor uses."""
    state = {"w": torch.full((50_000,), 2.0), "v": torch.full((3,), 3.0), "u": torch.full((64,), 4.0)[:8]}
    source = save(state, tmp_path / "a.bin")
    data = bytearray(source.read_bytes())
    pattern = {"w": b"\x00\x00\x00\x40" * 9, "v": b"\x00\x00\x40\x40" * 3, "unused": b"\x00\x00\x80\x40" * 64}[place]
    data[data.index(pattern) + (200 if place == "unused" else 2)] ^= 1
    source.write_bytes(data)
    refused(source, "CKD603", "checksum")
    # Who asks not to check gets the bytes as they are.
    assert convert(source, to="safetensors", check=False).tensors == 3


def test_a_flipped_bit_in_the_pickle(tmp_path: Path, good: Path) -> None:
    data = bytearray(good.read_bytes())
    data[data.index(b"cpu")] = ord("C")
    good.write_bytes(data)
    refused(good, "CKD603", "data.pkl")


def test_cut_short(tmp_path: Path, good: Path) -> None:
    whole = good.read_bytes()
    for nbytes in (len(whole) - 1, len(whole) // 2, 100, 0):
        cut = tmp_path / f"cut{nbytes}.bin"
        cut.write_bytes(whole[:nbytes])
        refused(cut, "has errors")
    save_file({"a": torch.ones(9)}, tmp_path / "a.safetensors")
    (tmp_path / "b.safetensors").write_bytes((tmp_path / "a.safetensors").read_bytes()[:-1])
    refused(tmp_path / "b.safetensors", "has errors", to="bin")


@pytest.mark.parametrize("options", [{}, {"drop_non_tensors": True}, {"check": False, "overwrite": True}])
def test_foreign_names_are_refused_whatever_the_options(tmp_path: Path, options: dict[str, Any]) -> None:
    with foreign_package() as calls:
        path = save({"w": torch.ones(1), "x": Foreign()}, tmp_path / "a.bin")
        refused(path, "CKD901", PACKAGE, **options)
    assert calls == []


def test_ambiguous_and_executable_archives(tmp_path: Path, good: Path) -> None:
    trailing = tmp_path / "trailing.bin"
    trailing.write_bytes(good.read_bytes() + b"more")
    refused(trailing, "CKD902")
    refused(with_member("good/../outside", good, tmp_path / "escaping.bin"), "CKD905")
    refused(with_member("good/code/__torch__.py", good, tmp_path / "script.bin"), "CKD904")


@pytest.mark.parametrize(
    "content", [b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n", b"<html>", b""]
)
def test_what_holds_no_weights(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.bin").write_bytes(content)
    refused(tmp_path / "a.bin", "has errors")


def test_values_that_json_cannot_hold_are_named_or_left_out(tmp_path: Path) -> None:
    state = {"w": torch.ones(2), "args": argparse.Namespace(lr=1), "raw": b"bytes", "deep": {"c": 1 + 2j, "epoch": 3}}
    source = save(state, tmp_path / "a.pt")
    refused(source, "3 values", "args", "raw", "deep.c", "--drop-non-tensors")
    result = convert(source, to="safetensors", drop_non_tensors=True)
    assert set(result.files[0].dropped) == {"args", "raw", "deep.c"}
    convert(tmp_path / "a.safetensors", tmp_path / "b.pt", to="bin")
    assert same(load(tmp_path / "b.pt"), {"w": torch.ones(2), "deep": {"epoch": 3}})


def test_nothing_of_a_plain_file_is_recorded_when_values_are_left_out(tmp_path: Path) -> None:
    source = save({"w": torch.ones(2), "raw": b"bytes"}, tmp_path / "a.pt")
    convert(source, to="safetensors", drop_non_tensors=True)
    save_file({"w": torch.ones(2)}, tmp_path / "plain.safetensors", metadata={"format": "pt"})
    assert (tmp_path / "a.safetensors").read_bytes() == (tmp_path / "plain.safetensors").read_bytes()


def test_a_place_in_a_list_is_kept_when_its_value_is_left_out(tmp_path: Path) -> None:
    source = save([b"bytes", torch.ones(2)], tmp_path / "a.pt")
    convert(source, to="safetensors", drop_non_tensors=True)
    convert(tmp_path / "a.safetensors", tmp_path / "b.pt", to="bin")
    assert same(load(tmp_path / "b.pt"), [None, torch.ones(2)])


@pytest.mark.parametrize("drop", [False, True])
def test_tensors_inside_objects_are_never_lost_silently(tmp_path: Path, drop: bool) -> None:
    source = save({"w": torch.ones(2), "args": argparse.Namespace(mask=torch.ones(3))}, tmp_path / "a.pt")
    refused(source, "args.mask", drop_non_tensors=drop)


def test_sparse_and_quantised_tensors(tmp_path: Path) -> None:
    refused(save({"s": torch.eye(3).to_sparse()}, tmp_path / "sparse.pt"), "s.")
    refused(save({"c": torch.ones(2, dtype=torch.complex128)}, tmp_path / "complex.pt"), "c (complex128)")


def test_tensors_of_the_meta_device(tmp_path: Path) -> None:
    refused(save({"m": torch.empty(3, device="meta")}, tmp_path / "a.pt"), "m", "never stored", "meta")


@pytest.mark.parametrize(
    ("state", "word"),
    [
        ({"a": {"b": torch.ones(1)}, "a.b": torch.zeros(1)}, "a.b"),
        ({0: torch.ones(1), "0": torch.zeros(1)}, "0"),
        ({"__metadata__": torch.ones(1)}, "__metadata__"),
        ({"\ud800": torch.ones(1)}, "surrogate"),
        ({("a", "b"): torch.ones(1)}, "key"),
    ],
)
def test_names_that_safetensors_cannot_hold(tmp_path: Path, state: dict[Any, torch.Tensor], word: str) -> None:
    refused(save(state, tmp_path / "a.pt"), word)


def test_objects_that_contain_themselves(tmp_path: Path) -> None:
    ring: dict[str, Any] = {"w": torch.ones(1)}
    ring["self"] = ring
    refused(save(ring, tmp_path / "ring.pt"), "contains itself")
    deep: Any = torch.ones(1)
    for _ in range(300):
        deep = [deep]
    refused(save(deep, tmp_path / "deep.pt"), "nested")


def test_big_endian_archives(tmp_path: Path, good: Path) -> None:
    def change(info: zipfile.ZipInfo, data: bytes) -> bytes:
        return b"big" if info.filename.endswith("byteorder") else data

    refused(rewritten(good, tmp_path / "big.bin", change), "big-endian")


def test_an_ordered_dictionary_with_attributes_is_a_dictionary(tmp_path: Path) -> None:
    state = collections.OrderedDict(w=torch.ones(1))
    state._metadata = {"": {"version": 1}}  # type: ignore[attr-defined]
    assert convert(save(state, tmp_path / "a.pt"), to="safetensors").files[0].dropped == ()


def test_wrong_arguments(tmp_path: Path, good: Path) -> None:
    with pytest.raises(UnknownNameError, match="onnx"):
        convert(good, to="onnx")
    with pytest.raises(UnknownNameError, match="maybe"):
        convert(good, to="safetensors", shared="maybe")
    with pytest.raises(PathNotFoundError):
        convert(tmp_path / "absent", to="safetensors")
    (tmp_path / "empty").mkdir()
    with pytest.raises(NoCheckpointError):
        convert(tmp_path / "empty", to="safetensors")
    refused(good, "ends in .safetensors", target=tmp_path / "other.bin")
    refused(good, "does not exist", target=tmp_path / "no" / "a.safetensors")
    refused(good, "folder", target=tmp_path / "empty" / ".." / "empty" / "a.safetensors" / "b.safetensors")


def test_a_dtype_that_torch_does_not_have(tmp_path: Path) -> None:
    header = b'{"x":{"dtype":"F6_E2M3","shape":[4],"data_offsets":[0,3]}}'
    (tmp_path / "a.safetensors").write_bytes(len(header).to_bytes(8, "little") + header + b"abc")
    refused(tmp_path / "a.safetensors", "F6_E2M3", to="bin")


def test_without_torch_nothing_is_missing(tmp_path: Path, good: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "torch", None)
    convert(good, to="safetensors")
    convert(tmp_path / "good.safetensors", tmp_path / "b.bin", to="bin")
    monkeypatch.undo()
    assert same(load_file(tmp_path / "good.safetensors"), load(good))
    assert same(load(tmp_path / "b.bin"), load(good))


def test_values_that_torch_computes_on_reading(tmp_path: Path) -> None:
    """A conjugated or negated view is stored with the bytes of what it is a view of."""
    numbers = torch.complex(filled((3, 4), torch.float32), filled((3, 4), torch.float32, 1))
    lazy = {"conj": numbers.conj(), "neg": numbers.conj().imag}
    for name, tensor in lazy.items():
        for legacy in (False, True):
            source = save({"w": tensor}, tmp_path / f"{name}-{legacy}.bin", legacy=legacy)
            refused(source, "w is stored with", name, "resolve it")
    # Its bytes are those of the other tensor, and its values are not.
    refused(save({"a": numbers, "b": numbers.conj()}, tmp_path / "both.bin"), "b is stored with", shared="drop")
    parameter = torch.nn.Parameter(numbers.conj())
    refused(save({"w": parameter}, tmp_path / "parameter.bin"), "w is stored with")
    resolved = save({"w": numbers.conj().resolve_conj()}, tmp_path / "resolved.bin")
    convert(resolved, to="safetensors")
    assert torch.equal(load_file(tmp_path / "resolved.safetensors")["w"], numbers.conj())


def test_integers_that_torch_would_not_read_again(tmp_path: Path) -> None:
    source = save({"w": torch.ones(1), "fits": 2**2000 - 1, "low": -(2**1999)}, tmp_path / "fits.bin")
    convert(source, to="safetensors")
    convert(tmp_path / "fits.safetensors", tmp_path / "back.bin", to="bin")
    assert same(load(tmp_path / "back.bin"), load(source))
    torch.save({"w": torch.ones(1), "large": 2**2100}, tmp_path / "large.bin")
    refused(tmp_path / "large.bin", "large (int)")


def test_targets_that_mean_something_else(tmp_path: Path, good: Path) -> None:
    refused(good, "empty path", target="")
    refused(good, "the folder", "out/ does not exist", target=f"{tmp_path}/out/")
    (tmp_path / "out").mkdir()
    convert(good, f"{tmp_path}/out/", to="safetensors")
    assert load_file(tmp_path / "out" / "good.safetensors").keys() == {"w", "v"}


def test_special_files(tmp_path: Path, good: Path) -> None:
    """A rename would take them away, and as root even a device."""
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    for overwrite in (False, True):
        with pytest.raises(ConversionError, match="pipe is not a regular file"):
            convert(good, pipe, to="safetensors", overwrite=overwrite)
    assert pipe.is_fifo()
    with pytest.raises(ConversionError, match=r"cannot convert .*pipe: it is not a regular file"):
        convert(pipe, tmp_path / "a.safetensors", to="safetensors")
