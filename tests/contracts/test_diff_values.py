"""``diff --values``, compared with what torch says about the same tensors."""

from __future__ import annotations

import math
import os
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import ckpt_doctor
from ckpt_doctor.contracts.contents import Both, Held
from ckpt_doctor.contracts.values import compare_values
from ckpt_doctor.core.difference import Difference
from ckpt_doctor.core.dtypes import BY_NAME
from ckpt_doctor.core.weight_file import Storage, TensorInfo, WeightFile
from support.states import save_as

REAL = [
    *(torch.float64, torch.float32, torch.float16, torch.bfloat16),
    *(torch.float8_e4m3fn, torch.float8_e4m3fnuz, torch.float8_e5m2, torch.float8_e5m2fnuz, torch.float8_e8m0fnu),
    *(torch.int32, torch.int16, torch.int8, torch.uint32, torch.uint16, torch.uint8, torch.bool),
]
BITS = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64, 16: torch.int64}


def compared(a: Any, b: Any, folder: Path, suffixes: tuple[str, str] = (".bin", ".bin")) -> Difference:
    paths = [folder / f"{name}{suffix}" for name, suffix in zip("ab", suffixes, strict=True)]
    return ckpt_doctor.diff(save_as({"w": a}, paths[0]), save_as({"w": b}, paths[1]), values=True)


def expected(a: torch.Tensor, b: torch.Tensor) -> tuple[int, int | None, float | None, int]:
    """Number of differing elements, first one, largest difference, those without: the slow and obvious way."""
    if not a.numel():
        return 0, None, None, 0
    wide = torch.complex128 if a.dtype.is_complex or b.dtype.is_complex else torch.float64
    ours, theirs = a.reshape(-1).to(wide), b.reshape(-1).to(wide)
    if a.dtype == b.dtype:
        words = [t.contiguous().reshape(-1).view(BITS[t.element_size()]).reshape(t.numel(), -1) for t in (a, b)]
        differ = (words[0] != words[1]).any(dim=1)
    else:
        differ = ~((ours == theirs) | (ours.isnan() & theirs.isnan()))
    apart = (ours - theirs).abs()[differ]
    finite = apart[apart.isfinite()]
    first = int(differ.nonzero()[0]) if differ.any() else None
    return int(differ.sum()), first, float(finite.max()) if len(finite) else None, len(apart) - len(finite)


def check(a: torch.Tensor, b: torch.Tensor, folder: Path, suffixes: tuple[str, str] = (".bin", ".bin")) -> None:
    found = compared(a, b, folder, suffixes)
    differing, first, largest, nonfinite = expected(a, b)
    assert found.compared == 1
    assert not found.problems
    if not differing:
        assert found.differing == ()
        assert found.equal == (a.dtype == b.dtype)
        return
    (row,) = found.differing
    assert (row.differing, row.first, row.nonfinite) == (differing, first, nonfinite)
    assert row.elements == a.numel()
    assert row.largest == largest if largest is None else math.isclose(row.largest or 0, largest, rel_tol=1e-12)


def patterns(dtype: torch.dtype, seed: int, count: int = 3000) -> torch.Tensor:
    """Arbitrary bit patterns, NaN and infinities among them."""
    generator = torch.Generator().manual_seed(seed)
    if dtype is torch.bool:
        return torch.randint(0, 2, (count,), generator=generator).bool()
    data = torch.randint(0, 256, (count * dtype.itemsize,), generator=generator, dtype=torch.uint8)
    return data.view(dtype)


@pytest.mark.parametrize("dtype", [*REAL, torch.int64, torch.uint64, torch.complex64, torch.complex128], ids=str)
def test_every_dtype_with_itself(dtype: torch.dtype, tmp_path: Path) -> None:
    a = patterns(dtype, 1)
    b = a.clone()
    check(a, b, tmp_path)
    b[100:200] = patterns(dtype, 2)[100:200]
    if dtype in (torch.int64, torch.uint64):  # of which torch knows the difference no more exactly than a float64 does
        (row,) = compared(a, b, tmp_path).differing
        exact = max(abs(int(x) - int(y)) for x, y in zip(a.tolist(), b.tolist(), strict=True))
        assert row.differing == sum(x != y for x, y in zip(a.tolist(), b.tolist(), strict=True))
        assert row.largest == float(exact)
    else:
        check(a, b, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("first", REAL, ids=str)
def test_every_dtype_with_every_other(first: torch.dtype, tmp_path: Path) -> None:
    for number, second in enumerate(REAL):
        if first != second:
            a = patterns(first, number)
            check(a, a.double().to(second), tmp_path)


@pytest.mark.parametrize(
    ("a", "b", "differing"),
    [
        (torch.tensor([2**53 + 1, 5]), torch.tensor([2.0**53, 5.0], dtype=torch.float64), 1),
        (torch.tensor([2**62 + 1, -1, 7]), torch.tensor([2**62 + 1, 2**64 - 1, 7], dtype=torch.uint64), 1),
        (torch.tensor([2**63 - 1]), torch.tensor([2.0**63], dtype=torch.float64), 1),
        (torch.tensor([2**64 - 1], dtype=torch.uint64), torch.tensor([2.0**64], dtype=torch.float64), 1),
        (torch.tensor([1.0, 2.0]), torch.tensor([1 + 0j, 2 + 1j]), 1),
        (torch.tensor([0.0, float("nan")]), torch.tensor([-0.0, float("nan")], dtype=torch.bfloat16), 0),
    ],
)
def test_numbers_of_different_dtypes_are_compared_exactly(
    a: torch.Tensor, b: torch.Tensor, differing: int, tmp_path: Path
) -> None:
    found = compared(a, b, tmp_path)
    assert sum(row.differing for row in found.differing) == differing
    assert [row.name for row in found.dtypes] == ["w"]


def test_nans_of_the_same_bits_are_equal_and_others_are_not(tmp_path: Path) -> None:
    bits = torch.tensor([0x7FC00000, 0x7FC00001, 0x7F800000, 0x3F800000, 0], dtype=torch.int32)
    a = bits.view(torch.float32)
    assert compared(a, a.clone(), tmp_path, (".bin", ".safetensors")).equal
    b = bits.clone()
    b[1] ^= 2  # another NaN
    b[2] = 0x3F800000  # infinity to one
    b[4] = -(2**31)  # zero to minus zero
    (row,) = compared(a, b.view(torch.float32), tmp_path).differing
    assert (row.differing, row.first, row.nonfinite, row.largest) == (3, 1, 2, 0.0)


MATRIX = torch.arange(40 * 70, dtype=torch.float32).reshape(40, 70)
VIEWS = {
    "transposed": MATRIX.t(),
    "sliced": MATRIX[3:30:2, 5:50:7],
    "expanded": MATRIX[:1, :3].expand(64, 3),
    "windows that overlap": MATRIX.flatten().unfold(0, 11, 3),
    "of no dimension": MATRIX[4, 4],
    "empty": MATRIX[:0],
}


@pytest.mark.parametrize("name", VIEWS)
def test_views(name: str, tmp_path: Path) -> None:
    check(VIEWS[name], VIEWS[name], tmp_path)
    check(VIEWS[name], VIEWS[name].contiguous(), tmp_path, (".bin", ".safetensors"))
    other = VIEWS[name].contiguous().clone()
    if other.numel():
        other.view(-1)[other.numel() // 2] += 1
    check(VIEWS[name], other, tmp_path)
    check(other, VIEWS[name], tmp_path)
    check(VIEWS[name], other.double(), tmp_path)


@settings(max_examples=60, deadline=None)
@given(
    shape=st.lists(st.integers(0, 6), max_size=3),
    strides=st.tuples(*[st.integers(0, 40)] * 3),
    positions=st.lists(st.integers(0, 300), max_size=3),
)
def test_any_view_of_any_storage(
    shape: list[int], strides: tuple[int, ...], positions: list[int], tmp_path_factory: pytest.TempPathFactory
) -> None:
    base = torch.arange(700, dtype=torch.int16)
    view = base.as_strided(shape, strides[: len(shape)], 3) if all(shape) else torch.zeros(shape, dtype=torch.int16)
    other = view.contiguous().clone()
    for position in positions:
        if other.numel():
            other.view(-1)[position % other.numel()] += position + 1
    check(view, other, tmp_path_factory.mktemp("views"))


def test_large_tensors_are_cut_and_put_together_again(tmp_path: Path) -> None:
    a = torch.zeros(5 << 20, dtype=torch.bfloat16).repeat(4)  # 40 MB: two stretches
    b = a.clone()
    for position, value in ((0, 1.0), (262_144, -3.0), (17 << 20, 2.0), (len(a) - 1, 0.5)):
        b[position] = value
    (row,) = compared(a, b, tmp_path).differing
    assert (row.differing, row.first, row.largest, row.elements) == (4, 0, 3.0, len(a))
    b[0] = 0
    (row,) = compared(a, b, tmp_path).differing
    assert (row.differing, row.first) == (3, 262_144)


def test_big_endian_files(tmp_path: Path) -> None:
    numbers = torch.tensor([1.0, -2.0, 0.5])
    swapped = torch.from_numpy(numbers.numpy().byteswap())
    little, big = save_as({"w": numbers}, tmp_path / "little.bin"), save_as({"w": swapped}, tmp_path / "big.bin")
    files = [ckpt_doctor.open_checkpoint(path).files[0] for path in (little, big)]
    files[1] = files[1]._replace(metadata={"byteorder": "big"})
    held = [Held(file, file.tensors[0], "float32", (3,)) for file in files]
    found = compare_values(tmp_path, tmp_path, [Both("part", "w", *held)], None)
    assert (found.tensor_count, found.differing, found.problems) == (1, (), ())


@pytest.mark.filterwarnings("ignore:torch.quantize_per_tensor:UserWarning")
def test_4_bit_and_quantised_elements(tmp_path: Path) -> None:
    a = torch.tensor([0x21, 0x43], dtype=torch.uint8)
    b = torch.tensor([0x21, 0x47], dtype=torch.uint8)
    (row,) = compared(a.view(torch.float4_e2m1fn_x2), b.view(torch.float4_e2m1fn_x2), tmp_path).differing
    assert (row.elements, row.differing, row.first, row.largest) == (4, 1, 2, 4.5)
    quantised = [torch.quantize_per_tensor(torch.tensor([x, 2.0]), 0.5, 0, torch.qint8) for x in (1.0, 3.0)]
    (row,) = compared(*quantised, tmp_path).differing
    assert (row.differing, row.first, row.largest) == (1, 0, None)
    packed = a.view(torch.float4_e2m1fn_x2)
    for first, second, dtypes in (
        (quantised[0], torch.ones(2), "qint8 and float32"),
        (packed, torch.ones(4), "float4_e2m1 and float32"),
    ):
        found = compared(first, second, tmp_path)
        assert [(problem.reason, problem.tensors) for problem in found.problems] == [
            (f"cannot compare {dtypes}", ("w",))
        ]
        assert not found.equal


def test_what_cannot_be_read_is_never_equal(tmp_path: Path) -> None:
    conjugated = torch.tensor([1 + 2j, 3 + 4j]).conj()
    found = compared(conjugated, conjugated, tmp_path)
    assert (found.equal, found.compared) == (False, 0)
    assert "the stored bytes are not the values" in found.problems[0].reason
    path = save_as({"w": torch.ones(100), "v": torch.ones(1)}, tmp_path / "w.safetensors")
    os.truncate(path, path.stat().st_size - 1)
    found = ckpt_doctor.diff(path, path, values=True)
    assert (found.equal, found.compared) == (False, 1)
    assert {problem.side for problem in found.problems} == {"a", "b"}
    # Without its values, too: the names and shapes of a damaged file are no reason to call it equal.
    assert not ckpt_doctor.diff(path, path).equal


def test_a_file_that_changes_meanwhile_is_no_equal_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from ckpt_doctor.contracts import values

    path = save_as({"w": torch.ones(100)}, tmp_path / "w.safetensors")

    class Crew(values.Crew):  # type: ignore[type-arg]
        def work_off(self, advance: Any) -> str | None:
            with path.open("ab") as file:
                file.write(b"more")
            return super().work_off(advance)

    monkeypatch.setattr(values, "Crew", Crew)
    found = ckpt_doctor.diff(path, path, values=True)
    assert not found.equal
    assert "something is still writing it" in found.problems[0].reason


def test_views_that_overlap_without_end_are_left(tmp_path: Path) -> None:
    path = tmp_path / "w.bin"
    path.write_bytes(bytes(1 << 16))
    file = WeightFile("w.bin", "torch-zip", 1 << 16)
    both = []
    for number, (shape, stride) in enumerate([((1 << 40,), (0,)), ((1 << 14, 1 << 14), (1, 0)), ((4,), (1,))]):
        info = TensorInfo(f"t{number}", BY_NAME["int32"], shape, stride, Storage("0", 1 << 16, 0))
        held = Held(file, info, "int32", shape)
        both.append(Both("part", info.name, held, held))
    found = compare_values(tmp_path, tmp_path, both, None)
    assert found.tensor_count == 1
    (problem,) = found.problems
    assert (problem.tensors, "overlap so much" in problem.reason) == (("t0", "t1"), True)


def test_tensors_that_share_their_bytes_are_compared_once(tmp_path: Path) -> None:
    shared = torch.ones(1 << 20)
    state = {f"w{number}": shared for number in range(50)}
    seen: list[tuple[int, int]] = []
    a, b = save_as(state, tmp_path / "a.bin"), save_as({**state, "w7": shared + 1}, tmp_path / "b.bin")
    found = ckpt_doctor.diff(a, b, values=True, progress=lambda done, total: seen.append((done, total)))
    assert [(row.name, row.largest) for row in found.differing] == [("w7", 1.0)]
    assert (found.compared, seen[-1]) == (50, (16 << 20, 16 << 20))
    assert seen == sorted(seen)


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="needs Linux's record of peak memory")
def test_memory_stays_bounded(tmp_path: Path) -> None:
    """256 MB against its transposed self, in a file that takes no room on the disk."""
    side = 8 << 10
    header = b'{"a":{"dtype":"F32","shape":[%d,%d],"data_offsets":[0,%d]}}' % (side, side, side * side * 4)
    path = tmp_path / "m.safetensors"
    with path.open("wb") as file:
        file.write(len(header).to_bytes(8, "little") + header)
        file.truncate(8 + len(header) + side * side * 4)
    program = textwrap.dedent("""
        import sys
        from pathlib import Path
        from ckpt_doctor.contracts.contents import Both, Held
        from ckpt_doctor.contracts.values import compare_values
        from ckpt_doctor.formats import read_weight_file
        file = read_weight_file(Path(sys.argv[1]), "m.safetensors")
        a = file.tensors[0]
        t = a._replace(stride=a.stride[::-1])
        held = [Held(file, item, "float32", item.shape) for item in (a, t)]
        both = [Both("p", "a", held[0], held[0]), Both("p", "t", held[0], held[1])]
        found = compare_values(Path(sys.argv[1]).parent, Path(sys.argv[1]).parent, both, None)
        assert found == (2, (), ()), found
        status = Path("/proc/self/status").read_text()
        print(next(int(line.split()[1]) // 1024 for line in status.splitlines() if line.startswith("VmHWM")))
    """)
    done = subprocess.run(
        [sys.executable, "-c", program, path], capture_output=True, text=True, check=True, timeout=120
    )
    assert int(done.stdout) < 150  # MB
