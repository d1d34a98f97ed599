"""Plain contiguous tensors become, byte for byte, what ``save_file`` writes."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from ckpt_doctor import convert
from support.states import DTYPES, filled, same, save

SHAPES = [(), (1,), (3, 5), (0,), (2, 0, 3), (4, 1, 2, 1)]
NAMES = ["b", "a", "a.b.weight", "é", "ß漢字", "😀", 'quo"te', "back\\slash", "tab\there\n\x01\x7f", "", " ", "/", "Z"]


def assert_identical(state: dict[str, torch.Tensor], folder: Path) -> None:
    for legacy in (False, True):
        source = save(state, folder / f"legacy{legacy}.bin", legacy=legacy)
        target = folder / f"ours{legacy}.safetensors"
        convert(source, target, to="safetensors")
        save_file(state, folder / "theirs.safetensors", metadata={"format": "pt"})
        assert target.read_bytes() == (folder / "theirs.safetensors").read_bytes()


def test_every_dtype_and_shape_at_once(tmp_path: Path) -> None:
    state = {
        f"{name}.{dtype}": filled(shape, dtype, seed)
        for seed, (name, shape) in enumerate(zip("abcdef", SHAPES, strict=True))
        for dtype in DTYPES
    }
    assert_identical(state, tmp_path)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_each_dtype_alone(tmp_path: Path, dtype: torch.dtype) -> None:
    state = {"x": filled((3, 7), dtype), "bool": filled((3,), torch.bool), "long": filled((2,), torch.int64)}
    assert_identical(state, tmp_path)


def test_names_in_any_script(tmp_path: Path) -> None:
    assert_identical({name: torch.full((2,), float(i)) for i, name in enumerate(NAMES)}, tmp_path)


def test_4_bit_floats_are_counted_one_by_one(tmp_path: Path) -> None:
    packed = torch.arange(8, dtype=torch.uint8).view(torch.float4_e2m1fn_x2).reshape(2, 4)
    state = {"packed": packed, "other": torch.zeros(3)}
    save(state, tmp_path / "a.bin")
    convert(tmp_path / "a.bin", to="safetensors")
    save_file(state, tmp_path / "theirs.safetensors", metadata={"format": "pt"})
    assert (tmp_path / "a.safetensors").read_bytes() == (tmp_path / "theirs.safetensors").read_bytes()
    convert(tmp_path / "a.safetensors", tmp_path / "back.bin", to="bin")
    back = torch.load(tmp_path / "back.bin", weights_only=True)["packed"]
    assert same(back.view(torch.uint8), packed.view(torch.uint8))


def test_no_tensors_at_all(tmp_path: Path) -> None:
    assert_identical({}, tmp_path)


@pytest.mark.slow
def test_tensors_large_and_small_and_parts_of_storages(tmp_path: Path) -> None:
    whole = filled((1 << 18,), torch.float32)
    state = {f"small{i}": filled((i % 50 + 1,), torch.float32, i) for i in range(3000)}
    state |= {"large": filled((3, 1 << 18), torch.bfloat16), "front": whole[: 1 << 17], "back": whole[1 << 17 :]}
    save(state, tmp_path / "a.bin")
    result = convert(tmp_path / "a.bin", to="safetensors")
    assert result.files[0].aliases == ()  # disjoint parts of one storage are no aliases
    # save_file itself refuses parts of one storage only if they overlap.
    save_file(state, tmp_path / "theirs.safetensors", metadata={"format": "pt"})
    assert (tmp_path / "a.safetensors").read_bytes() == (tmp_path / "theirs.safetensors").read_bytes()
    assert same(load_file(tmp_path / "a.safetensors"), state)


def test_parameters_and_ordered_dictionaries_are_plain(tmp_path: Path) -> None:
    model = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.BatchNorm1d(4))
    assert_identical(dict(model.state_dict()), tmp_path)
    save(model.state_dict(), tmp_path / "ordered.bin")
    convert(tmp_path / "ordered.bin", to="safetensors")
    save({name: torch.nn.Parameter(torch.ones(2)) for name in "ab"}, tmp_path / "parameters.bin")
    convert(tmp_path / "parameters.bin", to="safetensors")
    save_file({name: torch.ones(2) for name in "ab"}, tmp_path / "theirs.safetensors", metadata={"format": "pt"})
    assert (tmp_path / "ordered.safetensors").read_bytes() == (tmp_path / "oursTrue.safetensors").read_bytes()
    assert (tmp_path / "parameters.safetensors").read_bytes() == (tmp_path / "theirs.safetensors").read_bytes()
