"""What the bytes of tensors say, compared with what torch says about the same tensors."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ckpt_doctor.core.checkpoint import Checkpoint
from ckpt_doctor.core.parts import Part
from ckpt_doctor.core.weight_file import TensorScan, WeightFile
from ckpt_doctor.formats import read_weight_file
from ckpt_doctor.layouts.registry import FILE
from ckpt_doctor.scanning import scan

torch = pytest.importorskip("torch")

FLOATS = (
    torch.float64,
    torch.float32,
    torch.float16,
    torch.bfloat16,
    torch.float8_e4m3fn,
    torch.float8_e4m3fnuz,
    torch.float8_e5m2,
    torch.float8_e5m2fnuz,
)
UNSIGNED = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}


def scanned(path: Path) -> WeightFile:
    checkpoint = Checkpoint(
        path.parent, path.name, FILE, "", (Part("file", "file", files=(read_weight_file(path, path.name),)),)
    )
    return scan(checkpoint, wants_digest=lambda file, name: True).files[0]


def expected(tensor: torch.Tensor) -> TensorScan:
    """The slow and obvious way, with torch."""
    # Copied, because torch leaves odd strides on dimensions of one element, and then will not view it as bytes.
    whole = torch.empty(tensor.numel(), dtype=tensor.dtype).copy_(tensor.detach().reshape(-1))
    data = whole.view(torch.uint8).numpy().tobytes() if whole.numel() else b""
    values = whole
    if whole.dtype.is_floating_point:
        values = whole.to(torch.float64)
    elif whole.dtype.is_complex:
        values = whole.to(torch.complex128)
    bad = ~torch.isfinite(values)
    size = whole.element_size()
    return TensorScan(
        nonfinite=int(bad.sum()),
        first_nonfinite=int(bad.nonzero()[0]) if bad.any() else None,
        zero=bool(whole.numel()) and bool((values == 0).all()),
        constant=bool(data) and data == data[:size] * whole.numel(),
        digest=hashlib.sha256(data).hexdigest(),
    )


def check(tensors: dict[str, torch.Tensor], folder: Path) -> None:
    path = folder / "weights.bin"
    torch.save(tensors, path)
    file = scanned(path)
    assert file.scans is not None
    assert dict(file.scans) == {name: expected(tensor) for name, tensor in tensors.items()}


@pytest.mark.slow
@pytest.mark.parametrize("dtype", FLOATS, ids=str)
def test_every_bit_pattern_of_a_float_type(dtype: torch.dtype, tmp_path: Path) -> None:
    width = torch.empty(0, dtype=dtype).element_size()
    if width <= 2:
        patterns = torch.arange(1 << (8 * width)).to(UNSIGNED[width])
    else:
        exponents = torch.randint(-(2**31), 2**31, (4096,), generator=torch.Generator().manual_seed(7)).to(torch.int64)
        patterns = exponents << 32 if width == 8 else exponents.to(torch.int32)
    every = patterns.view(dtype)
    finite = every.to(torch.float64).isfinite()
    tensors = {"every": every, "finite": every.view(UNSIGNED[width])[finite].view(dtype)}
    # Each pattern on its own: no neighbour hides a mistake. All of them for one byte, a sample for wider types.
    step = max(1, len(patterns) // 512)
    tensors |= {f"one{index}": every[index : index + 1].clone() for index in range(0, len(patterns), step)}
    check(tensors, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("dtype", FLOATS, ids=str)
@pytest.mark.parametrize("pattern", ["inf", "-inf", "nan"])
def test_one_bad_element_anywhere(dtype: torch.dtype, pattern: str, tmp_path: Path) -> None:
    tensors = {}
    for position in (0, 1, 4095, 262143, 262144, 300000):
        tensor = torch.full((300001,), 0.5).to(dtype)
        tensor[position] = torch.tensor(float(pattern)).to(dtype)
        tensors[f"at{position}"] = tensor
    check(tensors, tmp_path)


def test_e8m0_is_a_bare_exponent_without_zero(tmp_path: Path) -> None:
    path = tmp_path / "weights.bin"
    exponents = torch.tensor([0, 1, 127, 255], dtype=torch.uint8).view(torch.float8_e8m0fnu)
    torch.save({"e": exponents, "smallest": exponents[:1].clone()}, path)
    scans = scanned(path).scans or {}
    assert (scans["e"].nonfinite, scans["e"].first_nonfinite) == (1, 3)
    assert (scans["smallest"].zero, scans["smallest"].constant) == (False, True)


def test_complex_integer_and_bool(tmp_path: Path) -> None:
    nan, inf = float("nan"), float("inf")
    check(
        {
            "c64": torch.tensor([1 + 1j, complex(0, nan), complex(inf, nan), 0], dtype=torch.complex64),
            "c128": torch.tensor([0, 0, complex(0, inf)], dtype=torch.complex128),
            "c128 constant": torch.tensor([1 + 2j] * 7, dtype=torch.complex128),
            "c64 halves": torch.tensor([1 + 2j, 2 + 1j], dtype=torch.complex64),
            "c64 zero": torch.zeros(9, dtype=torch.complex64),
            "i64": torch.tensor([0x7FF0_0000_0000_0000, -1]),
            "i16": torch.tensor([0x7C00, -1], dtype=torch.int16),
            "u8": torch.tensor([255, 255], dtype=torch.uint8),
            "bool": torch.tensor([False, False]),
            "minus zero": torch.tensor([-0.0, 0.0]),
            "empty": torch.empty(0, 4),
            "scalar": torch.tensor(float("nan")),
        },
        tmp_path,
    )


def test_views_in_the_order_of_their_own_shape(tmp_path: Path) -> None:
    base = torch.arange(720, dtype=torch.float32)
    base[[5, 77, 700]] = float("nan")
    cube = base.view(8, 9, 10)
    check(
        {
            "whole": cube,
            "transposed": cube.permute(2, 0, 1),
            "sliced": cube[1:, ::2, 3:7],
            "column": cube[:, 0, 5],
            "expanded": base[4:7].unsqueeze(1).expand(3, 5),
            "expanded first": base[4:7].expand(6, 3),
            "expanded scalar": base[5].expand(2, 2),
            "windows": base.unfold(0, 10, 3),
            "singletons": cube[:, :1].transpose(0, 1),
        },
        tmp_path,
    )


def test_large_views(tmp_path: Path) -> None:
    base = torch.ones(1100, 1300, dtype=torch.float16)
    base[900, 17] = float("inf")
    base[3, 1200] = float("nan")
    zeros = torch.zeros(700, 900, dtype=torch.bfloat16)
    check(
        {
            "transposed": base.t(),
            "left": base[:, :640],
            "right": base[:, 640:].t(),
            "strided": base[::3, ::400],
            "zeros": zeros.t(),
            "row": base[3],
        },
        tmp_path,
    )


@pytest.mark.slow
def test_a_view_of_more_than_is_held_at_once_has_a_digest(tmp_path: Path) -> None:
    base = torch.arange(5000 * 5000, dtype=torch.int32).reshape(5000, 5000)  # 100 MB
    check({"transposed": base.t()}, tmp_path)


@settings(max_examples=40, deadline=None)
@given(data=st.data())
def test_any_view_of_any_storage(data: st.DataObject, tmp_path_factory: pytest.TempPathFactory) -> None:
    dtype = data.draw(st.sampled_from([*FLOATS, torch.complex64, torch.int32]))
    numbers = (0.0, -0.0, 1.0, 2.0) + (() if dtype == torch.int32 else (float("nan"), float("inf")))
    base = torch.tensor(data.draw(st.lists(st.sampled_from(numbers), min_size=40, max_size=40))).to(dtype)
    shape = data.draw(st.lists(st.integers(1, 4), min_size=0, max_size=3))
    offset = data.draw(st.integers(0, 8))
    strides = data.draw(st.lists(st.integers(0, 3), min_size=len(shape), max_size=len(shape)))
    folder = tmp_path_factory.mktemp("views")
    check({"view": torch.as_strided(base, shape, strides, offset), "base": base}, folder)


def test_big_endian_files(tmp_path: Path) -> None:
    path = tmp_path / "weights.bin"
    big = torch.tensor([1.0, float("inf"), 0.5], dtype=torch.float32)
    swapped = torch.from_numpy(big.numpy().byteswap())
    torch.save({"a": swapped, "t": swapped.expand(2, 3)}, path)
    little = read_weight_file(path, path.name)
    file = little._replace(metadata={"byteorder": "big"})
    checkpoint = Checkpoint(tmp_path, "weights.bin", FILE, "", (Part("file", "file", files=(file,)),))
    scans = scan(checkpoint, wants_digest=lambda file, name: True).files[0].scans or {}
    assert scans["a"] == expected(big)
    assert scans["t"] == expected(big.expand(2, 3))


def test_safetensors_and_sub_byte_elements(tmp_path: Path) -> None:
    header = {
        "f4 minus zero": {"dtype": "F4", "shape": [4], "data_offsets": [0, 2]},
        "f4 constant": {"dtype": "F4", "shape": [4], "data_offsets": [2, 4]},
        "f4 pairs": {"dtype": "F4", "shape": [4], "data_offsets": [4, 6]},
        "f6": {"dtype": "F6_E2M3", "shape": [4], "data_offsets": [6, 9]},
        "nothing": {"dtype": "BF16", "shape": [0, 3], "data_offsets": [9, 9]},
        "unaligned": {"dtype": "F32", "shape": [2], "data_offsets": [9, 17]},
    }
    text = json.dumps(header).encode()
    data = bytes.fromhex("8800 3333 1212 000000 0000803f 0000807f")
    path = tmp_path / "weights.safetensors"
    path.write_bytes(len(text).to_bytes(8, "little") + text + data)
    scans = scanned(path).scans or {}
    assert {name: (found.nonfinite, found.zero, found.constant) for name, found in scans.items()} == {
        "f4 minus zero": (0, True, False),
        "f4 constant": (0, False, True),
        "f4 pairs": (0, False, False),
        "f6": (0, True, False),
        "nothing": (0, False, False),
        "unaligned": (1, False, False),
    }
    assert scans["unaligned"].first_nonfinite == 1
