"""What reading the bytes says about files: checksums, files that change, missing bytes, hostile overlap."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from collections.abc import Iterable
from pathlib import Path

import pytest

from ckpt_doctor.core.checkpoint import Checkpoint
from ckpt_doctor.core.defects import DefectKind
from ckpt_doctor.core.dtypes import BY_NAME
from ckpt_doctor.core.parts import Part
from ckpt_doctor.core.weight_file import Record, Storage, TensorInfo, WeightFile
from ckpt_doctor.formats import read_weight_file
from ckpt_doctor.layouts.registry import FILE, PEFT
from ckpt_doctor.scanning import bytes_to_scan, scan

torch = pytest.importorskip("torch")
from safetensors.torch import save_file  # noqa: E402


def checkpoint_of(root: Path, *files: WeightFile) -> Checkpoint:
    return Checkpoint(root, root.name, FILE, "", (Part("file", "file", files=files),))


def read(root: Path, names: Iterable[str]) -> Checkpoint:
    return checkpoint_of(root, *(read_weight_file(root / name, name) for name in names))


def flip(path: Path, offset: int) -> None:
    with path.open("r+b") as file:
        file.seek(offset)
        byte = file.read(1)[0]
        file.seek(offset)
        file.write(bytes([byte ^ 1]))


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    torch.save({"a": torch.ones(1000), "b": torch.full((70000,), 2.0), "c": torch.zeros(3)}, tmp_path / "m.bin")
    return tmp_path / "m.bin"


def test_an_intact_file_has_no_new_defects(saved: Path) -> None:
    before = read(saved.parent, ["m.bin"])
    after = scan(before)
    assert after.files[0].defects == before.files[0].defects
    assert after.files[0]._replace(scans=None) == before.files[0]


def test_one_flipped_bit_is_found_and_named(saved: Path) -> None:
    before = read(saved.parent, ["m.bin"])
    tensor = before.files[0].by_name["b"]
    assert tensor.byte_range is not None
    flip(saved, tensor.byte_range[0] + 200_001)
    found = [defect for defect in scan(before).files[0].defects if defect.kind is DefectKind.CHECKSUM]
    assert [defect.tensors for defect in found] == [("b",)]
    assert [member["name"] for member in found[0].evidence["members"]] == [tensor.storage.record]
    assert str(tensor.storage.record) in found[0].message


def test_a_member_that_no_tensor_uses_is_checked_too(saved: Path) -> None:
    before = read(saved.parent, ["m.bin"])
    version = next(record for record in before.files[0].records if record.name.endswith("/version"))
    flip(saved, version.offset)
    found = [defect for defect in scan(before).files[0].defects if defect.kind is DefectKind.CHECKSUM]
    assert len(found) == 1
    assert found[0].tensors == ()
    assert version.name in found[0].message


def test_a_checksum_that_was_not_computed_is_not_compared(saved: Path) -> None:
    before = read(saved.parent, ["m.bin"])
    file = before.files[0]
    without = file._replace(records=tuple(record._replace(crc32=None) for record in file.records))
    flip(saved, (file.by_name["b"].byte_range or (0, 0))[0])
    assert scan(checkpoint_of(saved.parent, without)).files[0].defects == file.defects


@pytest.mark.parametrize("change", ["shorter", "gone", "longer"])
def test_a_file_that_changes_is_unreadable(saved: Path, change: str) -> None:
    before = read(saved.parent, ["m.bin"])
    if change == "gone":
        saved.unlink()
    else:
        os.truncate(saved, saved.stat().st_size + (-1 if change == "shorter" else 1))
    file = scan(before).files[0]
    assert file.has_defect(DefectKind.UNREADABLE)
    assert file.scans == {}


def test_a_file_that_is_written_meanwhile_is_unreadable(saved: Path) -> None:
    before = read(saved.parent, ["m.bin"])

    def overwrite(done: int, total: int) -> None:
        flip(saved, saved.stat().st_size - 1)
        os.utime(saved, (1, 1))

    assert scan(before, progress=overwrite).files[0].has_defect(DefectKind.UNREADABLE)


def test_progress_reaches_the_end_and_never_goes_back(saved: Path) -> None:
    torch.save({"a": torch.ones(1000)}, saved.parent / "n.bin")
    checkpoint = read(saved.parent, ["m.bin", "n.bin"])
    seen: list[tuple[int, int]] = []
    scan(checkpoint, progress=lambda done, total: seen.append((done, total)))
    total = bytes_to_scan(checkpoint)
    assert total == sum(file.nbytes for file in checkpoint.files)
    assert seen[-1] == (total, total)
    assert [done for done, _ in seen] == sorted(done for done, _ in seen)


def test_only_names_in_several_files_of_a_part_get_digests(tmp_path: Path) -> None:
    same = torch.arange(10.0)
    torch.save({"both": same, "only here": same.clone()}, tmp_path / "m.bin")
    save_file({"both": same}, tmp_path / "m.safetensors")
    torch.save({"both": same + 1}, tmp_path / "other.bin")
    pair = [read_weight_file(tmp_path / name, name) for name in ("m.bin", "m.safetensors")]
    other = read_weight_file(tmp_path / "other.bin", "other.bin")
    parts = (Part("adapter", "adapter", files=tuple(pair)), Part("side", "file", files=(other,)))
    after = scan(Checkpoint(tmp_path, "x", PEFT, "", parts))
    left, right, third = (file.scans or {} for file in after.files)
    assert left["both"].digest == right["both"].digest
    assert left["both"].digest is not None
    assert left["only here"].digest is None
    assert third["both"].digest is None


def test_bytes_that_are_not_there_give_no_scan(tmp_path: Path) -> None:
    save_file({"a": torch.ones(4), "b": torch.ones(4)}, tmp_path / "m.safetensors")
    os.truncate(tmp_path / "m.safetensors", (tmp_path / "m.safetensors").stat().st_size - 1)
    file = scan(read(tmp_path, ["m.safetensors"])).files[0]
    assert set(file.scans or {}) == {"a"}
    assert [defect.kind for defect in file.defects] == [DefectKind.SAFETENSORS_TRUNCATED]


def test_a_file_without_tensors_counts_as_looked_at(tmp_path: Path) -> None:
    (tmp_path / "m.bin").write_text("<html>")
    assert scan(read(tmp_path, ["m.bin"])).files[0].scans == {}


FLOAT32 = BY_NAME["float32"]


def handmade(root: Path, nbytes: int, tensors: Iterable[TensorInfo], records: Iterable[Record] = ()) -> Checkpoint:
    (root / "m.bin").write_bytes(bytes(nbytes))
    return checkpoint_of(root, WeightFile("m.bin", "torch-zip", nbytes, tensors=tuple(tensors), records=tuple(records)))


def test_hostile_overlap_ends_with_a_defect(tmp_path: Path) -> None:
    storage = Storage("0", 1 << 20, 0)
    count = (1 << 18) - 2000
    shifted = [TensorInfo(f"t{n}", FLOAT32, (count,), (1,), storage, n) for n in range(2000)]
    file = scan(handmade(tmp_path, 1 << 20, shifted)).files[0]
    assert [defect.kind for defect in file.defects] == [DefectKind.RESOURCE_BOMB]
    assert 0 < len(file.scans or {}) < 2000


@pytest.mark.slow
@pytest.mark.parametrize(
    ("shape", "stride"),
    [((1 << 17, 1 << 17), (1, 1)), ((1 << 40, 2, 3), (0, 3, 1)), ((1 << 62,), (0,)), ((512, 512, 512), (1, 2, 3))],
)
def test_hostile_views_end_quickly(tmp_path: Path, shape: tuple[int, ...], stride: tuple[int, ...]) -> None:
    checkpoint = handmade(tmp_path, 1 << 20, [TensorInfo("t", FLOAT32, shape, stride, Storage("0", 1 << 20, 0))])
    file = scan(checkpoint, wants_digest=lambda path, name: True).files[0]
    if file.has_defect(DefectKind.RESOURCE_BOMB):
        assert file.scans == {}
    else:
        assert (file.scans or {})["t"].zero
        assert (file.scans or {})["t"].digest is None


def test_overlapping_members_end_with_a_defect(tmp_path: Path) -> None:
    records = [Record(f"r{n}", 0, 1 << 20, 1) for n in range(1000)]
    file = scan(handmade(tmp_path, 1 << 20, (), records)).files[0]
    assert {defect.kind for defect in file.defects} == {DefectKind.RESOURCE_BOMB, DefectKind.CHECKSUM}


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="needs Linux's record of peak memory")
def test_memory_stays_bounded(tmp_path: Path) -> None:
    """1 GB, once contiguous and once transposed, in a file that takes no room on the disk."""
    path = tmp_path / "m.safetensors"
    side = 16 << 10
    header = b'{"a":{"dtype":"F32","shape":[%d,%d],"data_offsets":[0,%d]}}' % (side, side, side * side * 4)
    with path.open("wb") as file:
        file.write(len(header).to_bytes(8, "little") + header)
        file.truncate(8 + len(header) + side * side * 4)
    program = textwrap.dedent("""
        import sys
        from pathlib import Path
        from ckpt_doctor.core.checkpoint import Checkpoint
        from ckpt_doctor.core.parts import Part
        from ckpt_doctor.layouts.registry import FILE
        from ckpt_doctor.formats import read_weight_file
        from ckpt_doctor.scanning import scan
        file = read_weight_file(Path(sys.argv[1]), "m.safetensors")
        a = file.tensors[0]
        file = file._replace(tensors=(a, a._replace(name="t", stride=a.stride[::-1])))
        parts = (Part("file", "file", files=(file,)),)
        file = scan(Checkpoint(Path(sys.argv[1]).parent, "x", FILE, "", parts)).files[0]
        assert file.scans["a"].zero and file.scans["t"].zero, file
        # Not ru_maxrss: that starts from what the test process, with torch in it, needed before exec.
        status = Path("/proc/self/status").read_text()
        print(next(int(line.split()[1]) // 1024 for line in status.splitlines() if line.startswith("VmHWM")))
    """)
    done = subprocess.run(
        [sys.executable, "-c", program, path], capture_output=True, text=True, check=True, timeout=120
    )
    assert int(done.stdout) < 200  # MB
