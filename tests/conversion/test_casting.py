"""Casts are those of torch, bit by bit, in bounded memory; what would become infinite is refused."""

from __future__ import annotations

import itertools
import re
import subprocess
import sys
import textwrap
from pathlib import Path

import hypothesis.strategies as st
import pytest
import torch
from hypothesis import given, settings

from ckpt_doctor.conversion.casting import cast, refuse_overflow
from ckpt_doctor.conversion.editing import FLOATS
from ckpt_doctor.core.dtypes import BY_NAME
from ckpt_doctor.core.errors import ConversionError
from ckpt_doctor.core.weight_file import Storage, TensorInfo
from support.states import bits

PAIRS = list(itertools.permutations(FLOATS, 2))
INTEGERS = {8: torch.int64, 4: torch.int32, 2: torch.int16}


def words(name: str) -> torch.Tensor:
    """The bits of numbers that are hard to round, and of many others, as integers."""
    dtype = getattr(torch, name)
    every = torch.arange(1 << 16, dtype=torch.int32).to(torch.int16)
    if dtype.itemsize == 2:
        return every
    hard = [torch.tensor([torch.inf, -torch.inf, torch.nan, -0.0, 5e-324], dtype=dtype).view(INTEGERS[dtype.itemsize])]
    for narrow in (torch.float16, torch.bfloat16):
        exact = every.view(narrow).to(dtype)
        exact = exact[exact.isfinite()].sort().values
        # Halfway between two neighbours, and as close to that as can be.
        for numbers in (exact, (exact[1:] + exact[:-1]) / 2):
            at = numbers.view(INTEGERS[dtype.itemsize])
            hard += [at, at + 1, at - 1]
    if dtype is torch.float64:
        single = torch.randint(-(2**31), 2**31, (50_000,), dtype=torch.int64).to(torch.int32).view(torch.float32)
        low = torch.arange(1, 2_000, dtype=torch.int32).view(torch.float32)  # subnormal
        for numbers in (single.double(), low.double(), low.double() + 2.0**-150):
            at = numbers.view(torch.int64)
            hard += [at, at + 1, at - 1, at + (1 << 28), at + (1 << 28) + 1]
    size = 2 ** (8 * dtype.itemsize - 1)
    hard.append(torch.randint(-size, size - 1, (100_000,), dtype=torch.int64).to(INTEGERS[dtype.itemsize]))
    return torch.cat(hard)


def numbers(source: str, target: str) -> torch.Tensor:
    """The same as numbers, without those that are too large for ``target``."""
    torch.manual_seed(0)
    found = words(source).view(getattr(torch, source))
    return found[~(found.isfinite() & found.to(getattr(torch, target)).isinf())]


def info(tensor: torch.Tensor, offset: int = 0) -> TensorInfo:
    dtype = BY_NAME[str(tensor.dtype).removeprefix("torch.")]
    storage = Storage("0", dtype.nbytes(tensor.untyped_storage().nbytes()), offset)
    return TensorInfo("layer.weight", dtype, tuple(tensor.shape), tensor.stride(), storage, tensor.storage_offset())


def stored(tensor: torch.Tensor) -> bytes:
    """The bytes of the storage behind a tensor."""
    return torch.empty(0, dtype=torch.uint8).set_(tensor.untyped_storage()).numpy().tobytes()


def after(tensor: torch.Tensor, target: str, folder: Path, before: bytes = b"") -> torch.Tensor:
    """The tensor as it was cast from a file in which its storage stands behind ``before``."""
    file = folder / "storage"
    file.write_bytes(before + stored(tensor))
    with file.open("rb") as opened:
        blocks = [bytes(b) for b in cast(opened.fileno(), info(tensor, len(before)), BY_NAME[target])]
    data = bytearray(b"".join(blocks))
    return torch.frombuffer(data, dtype=getattr(torch, target)).reshape(tensor.shape)


def alike(found: torch.Tensor, expected: torch.Tensor) -> bool:
    """Bit by bit; NaNs only need to be NaNs."""
    nan = expected.isnan()
    same = bits(found.masked_fill(nan, 0)) == bits(expected.masked_fill(nan, 0))
    return found.dtype == expected.dtype and torch.equal(found.isnan(), nan) and same


@pytest.mark.slow
@pytest.mark.parametrize(("source", "target"), PAIRS)
def test_equals_torch(source: str, target: str, tmp_path: Path) -> None:
    tensor = numbers(source, target).clone()
    assert tensor.isnan().any()
    assert tensor.isinf().any()
    assert ((tensor != 0) & (tensor.abs() < torch.finfo(tensor.dtype).tiny)).any(), "no subnormal numbers"
    assert alike(after(tensor, target, tmp_path), tensor.to(getattr(torch, target)))


@pytest.mark.slow
@pytest.mark.parametrize(("source", "target"), PAIRS)
def test_every_nan_is_the_plain_one(source: str, target: str, tmp_path: Path) -> None:
    tensor = numbers(source, target)
    tensor = tensor[tensor.isnan()].clone()
    assert bits(after(tensor, target, tmp_path)) == bits(
        torch.full_like(tensor, torch.nan, dtype=getattr(torch, target))
    )


@pytest.mark.slow
@pytest.mark.parametrize(("source", "target"), PAIRS)
def test_views_that_are_not_contiguous(source: str, target: str, tmp_path: Path) -> None:
    tensor = numbers(source, target)[:30_000].clone().reshape(100, 300)
    for view in (tensor.t(), tensor[3:90:2, 5::7], tensor[:, 4], tensor[:1].expand(5, 300), tensor[7, 9]):
        assert alike(after(view, target, tmp_path, b"abc"), view.to(getattr(torch, target)))


@pytest.mark.slow
@settings(max_examples=200, deadline=None)
@given(
    value=st.floats(allow_nan=False, allow_infinity=False),
    pair=st.sampled_from([p for p in PAIRS if p[0] == "float64"]),
)
def test_any_number(value: float, pair: tuple[str, str], tmp_path_factory: pytest.TempPathFactory) -> None:
    tensor = torch.tensor([value], dtype=torch.float64)
    expected = tensor.to(getattr(torch, pair[1]))
    folder = tmp_path_factory.mktemp("number")
    if expected.isinf().any():
        with pytest.raises(ConversionError, match=r"^1 finite value of "):
            after(tensor, pair[1], folder)
    else:
        assert alike(after(tensor, pair[1], folder), expected)


@pytest.mark.slow
@pytest.mark.parametrize(("source", "target"), PAIRS)
def test_what_is_too_large_is_counted(source: str, target: str, tmp_path: Path) -> None:
    tensor = words(source).view(getattr(torch, source)).clone()
    result = tensor.to(getattr(torch, target))
    count = int((tensor.isfinite() & result.isinf()).sum())
    file = tmp_path / "storage"
    file.write_bytes(stored(tensor))
    with file.open("rb") as opened:
        if count == 0:
            refuse_overflow(opened.fileno(), info(tensor), BY_NAME[target])
            assert alike(after(tensor, target, tmp_path), result)
            return
        message = f"^{count:,} finite values of layer.weight would become infinite in {target}$"
        with pytest.raises(ConversionError, match=message):
            refuse_overflow(opened.fileno(), info(tensor), BY_NAME[target])
        with pytest.raises(ConversionError, match=message):
            list(cast(opened.fileno(), info(tensor), BY_NAME[target]))


def test_which_pairs_may_overflow(tmp_path: Path) -> None:
    # Those for which nothing is read, so that an empty file does not matter.
    file = tmp_path / "empty"
    file.touch()
    unread = set()
    for source, target in PAIRS:
        with file.open("rb") as opened:
            try:
                refuse_overflow(opened.fileno(), info(torch.ones(3, dtype=getattr(torch, source))), BY_NAME[target])
            except ConversionError as error:
                assert re.search("became shorter", str(error))
            else:
                unread.add((source, target))
    largest = {name: torch.finfo(getattr(torch, name)).max for name in FLOATS}
    assert unread == {
        (a, b) for a, b in PAIRS if torch.tensor(largest[a], dtype=torch.float64).to(getattr(torch, b)).isfinite()
    }


@pytest.mark.slow
def test_memory_does_not_grow_with_the_tensor(tmp_path: Path) -> None:
    file = tmp_path / "zeros"
    with file.open("wb") as opened:
        opened.truncate(800 << 20)
    script = f"""
    import os, resource
    from ckpt_doctor.core.weight_file import Storage, TensorInfo
    from ckpt_doctor.conversion import casting
    from ckpt_doctor.core.dtypes import BY_NAME
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    shape, stride = (100, 1 << 20), (1 << 20, 1)
    tensor = TensorInfo("x", BY_NAME["float64"], shape, stride, Storage("0", 800 << 20, 0))
    descriptor = os.open({str(file)!r}, os.O_RDONLY)
    assert sum(map(len, casting.cast(descriptor, tensor, BY_NAME["bfloat16"]))) == 200 << 20
    print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) >> 10)
    """
    command = [sys.executable, "-c", textwrap.dedent(script)]
    megabytes = int(subprocess.run(command, check=True, capture_output=True, timeout=120).stdout)
    assert megabytes < 60
