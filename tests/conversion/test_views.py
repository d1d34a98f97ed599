"""Strided, expanded and overlapping tensors: equal to what torch makes contiguous, in bounded memory."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from functools import partial
from pathlib import Path

import hypothesis.strategies as st
import pytest
import torch
from hypothesis import given, settings
from safetensors.torch import load_file

from ckpt_doctor import convert
from ckpt_doctor.conversion.copying import read_exactly
from ckpt_doctor.core.dtypes import BY_NAME
from ckpt_doctor.core.weight_file import Storage, TensorInfo
from ckpt_doctor.scanning import gather as gather_module
from support.states import DTYPES, bits, filled, same, save

MATRIX = filled((37, 53), torch.float32)
VIEWS = {
    "transposed": MATRIX.t(),
    "sliced": MATRIX[3:30:2, 5:50:7],
    "column": MATRIX[:, 4],
    "diagonal": MATRIX.diagonal(),
    "expanded": MATRIX[:1, :3].expand(64, 3),
    "expanded in the middle": MATRIX[:3, :1].unsqueeze(1).expand(3, 5, 7),
    "windows that overlap": MATRIX.flatten().unfold(0, 11, 3),
    "permuted": MATRIX[:36, :50].reshape(4, 9, 50).permute(2, 0, 1),
    "one element of a column": MATRIX[:1, 3],
    "channels last": filled((2, 3, 4, 5), torch.float32).contiguous(memory_format=torch.channels_last),
}


@pytest.mark.parametrize("name", VIEWS)
@pytest.mark.parametrize("legacy", [False, True])
def test_each_kind_of_view(tmp_path: Path, name: str, legacy: bool) -> None:
    save({"view": VIEWS[name], "other": torch.ones(3)}, tmp_path / "a.bin", legacy=legacy)
    convert(tmp_path / "a.bin", to="safetensors")
    assert same(load_file(tmp_path / "a.safetensors")["view"], VIEWS[name].contiguous())


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_transposed_in_every_dtype(tmp_path: Path, dtype: torch.dtype) -> None:
    tensor = filled((5, 9), dtype)
    save({"view": tensor.t()}, tmp_path / "a.bin")
    convert(tmp_path / "a.bin", to="safetensors")
    raw = (tmp_path / "a.safetensors").read_bytes()
    assert raw.endswith(bits(tensor.t()))


def test_views_of_one_storage_each_get_their_own_bytes(tmp_path: Path) -> None:
    base = filled((64, 64), torch.bfloat16)
    state = {"whole": base, "transposed": base.t(), "part": base[10:20], "same": base}
    save(state, tmp_path / "a.bin")
    result = convert(tmp_path / "a.bin", to="safetensors")
    loaded = load_file(tmp_path / "a.safetensors")
    assert all(same(loaded[name], state[name].contiguous()) for name in state)
    (alias,) = result.files[0].aliases
    assert (set(alias.names), alias.action, alias.nbytes) == (set(state), "cloned", 64 * 64 * 2 * 2 + 10 * 64 * 2)


dims = st.lists(st.tuples(st.integers(1, 9), st.integers(0, 40)), min_size=1, max_size=4)


@settings(max_examples=150, deadline=None)
@given(dims=dims, offset=st.integers(0, 20), limits=st.sampled_from([(8, 16, 4), (64, 64, 16), (1 << 20, 1 << 20, 1)]))
def test_any_strides_and_any_limits(
    tmp_path_factory: pytest.TempPathFactory, dims: list[tuple[int, int]], offset: int, limits: tuple[int, int, int]
) -> None:
    """The limits decide how a tensor is cut and read, never what comes out."""
    shape, stride = tuple(size for size, _ in dims), tuple(step for _, step in dims)
    base = torch.arange(offset + 1 + sum((size - 1) * step for size, step in dims), dtype=torch.int16)
    expected = base.as_strided(shape, stride, offset)
    path = tmp_path_factory.mktemp("view") / "raw"
    path.write_bytes(b"head" + bits(base))
    info = TensorInfo("x", BY_NAME["int16"], shape, stride, Storage("0", 2 * len(base), 4), offset)
    with pytest.MonkeyPatch.context() as patch, path.open("rb") as file:
        for name, value in zip(("_PIECE", "_READ", "_GAP"), limits, strict=True):
            patch.setattr(gather_module, name, value)
        assert b"".join(map(bytes, gather_module.gather(partial(read_exactly, file.fileno()), info))) == bits(expected)


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="needs /proc")
def test_memory_stays_bounded(tmp_path: Path) -> None:
    """A transposed, a sliced and an expanded tensor of 200 MB and more, in a process of its own."""
    base = torch.randint(0, 1 << 15, (10_000, 10_000), dtype=torch.int16)
    save({"t": base.t(), "step": base[:, ::2], "wide": base[:1].expand(20_000, 10_000)}, tmp_path / "a.bin")
    code = """
        import pathlib, sys
        from ckpt_doctor import convert
        convert(sys.argv[1], to="safetensors")
        # Not ru_maxrss, in which the process that started this one counts too.
        (line,) = (line for line in pathlib.Path("/proc/self/status").open() if line.startswith("VmHWM"))
        print(int(line.split()[1]) // 1024)
    """
    command = [sys.executable, "-c", textwrap.dedent(code), tmp_path / "a.bin"]
    megabytes = int(subprocess.run(command, check=True, capture_output=True, timeout=120).stdout)
    assert megabytes < 100
    loaded = load_file(tmp_path / "a.safetensors")
    assert torch.equal(loaded["t"], base.t())
    assert torch.equal(loaded["step"], base[:, ::2])
    assert torch.equal(loaded["wide"], base[:1].expand(20_000, 10_000))
