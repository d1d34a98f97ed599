"""TorchScript archives: one finding, their tensors, and nothing in them taken for a pickle that is none."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import ckpt_doctor
from ckpt_doctor.core.defects import DefectKind
from ckpt_doctor.core.weight_file import WeightFile
from ckpt_doctor.formats import read_weight_file

pytestmark = pytest.mark.filterwarnings("ignore")  # torch.jit is deprecated, and still what many files are made by


class WithConstants(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(3))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * self.weight + torch.tensor([1.0, 2.0, 3.0])


def saved(module: Any, path: Path, **options: Any) -> Path:
    torch.jit.save(module, str(path), **options)
    return path


def kinds(path: Path) -> list[DefectKind]:
    return [defect.kind for defect in read(path).defects]


def read(path: Path) -> WeightFile:
    return read_weight_file(path, path.name)


def script(path: Path, **options: Any) -> Path:
    return saved(torch.jit.script(nn.Sequential(nn.Linear(2, 3), nn.LSTM(3, 2))), path, **options)


def added(path: Path, name: str, data: bytes) -> Path:
    """The archive with one more member in its folder, written as torch writes archives."""
    with zipfile.ZipFile(path) as archive:
        members = [(info.filename, archive.read(info)) for info in archive.infolist()]
    folder = members[0][0].partition("/")[0]
    with zipfile.ZipFile(path, "w") as archive:
        for member, content in [*members, (f"{folder}/{name}", data)]:
            archive.writestr(member, content)
    return path


def test_one_finding(tmp_path: Path) -> None:
    (finding,) = ckpt_doctor.inspect(script(tmp_path / "model.pt")).findings
    assert finding.code == "CKD904"
    assert "convert" in finding.message and "--tensors-only" in finding.message


def test_files_that_were_added_are_text(tmp_path: Path) -> None:
    # Lines that begin with "c" read like names of modules.
    files = {"labels.txt": "cat\ndog\ncow\nhorse\n", "config.json": '{"classes": 4}', "empty": ""}
    path = script(tmp_path / "model.pt", _extra_files=files)
    assert kinds(path) == [DefectKind.EXECUTABLE_ARCHIVE]


def test_a_pickle_that_was_added_is_judged(tmp_path: Path) -> None:
    path = added(script(tmp_path / "model.pt"), "extra/state", b"\x80\x02cno_such_package_here\nname\n.")
    assert sorted(kinds(path)) == sorted([DefectKind.EXECUTABLE_ARCHIVE, DefectKind.UNSAFE_GLOBAL])


@pytest.mark.slow
@pytest.mark.parametrize("name", ["constants.pkl", "data.pkl"])
def test_other_names_are_still_refused(name: str, tmp_path: Path) -> None:
    path = script(tmp_path / "model.pt")
    with zipfile.ZipFile(path) as archive:
        members = [(info.filename, archive.read(info)) for info in archive.infolist()]
    with zipfile.ZipFile(path, "w") as archive:
        for member, data in members:
            if member.endswith(f"/{name}"):
                data = data[:2] + b"cno_such_package_here\nname\n0" + data[2:]
            archive.writestr(member, data)
    assert DefectKind.UNSAFE_GLOBAL in kinds(path)


def test_names_of_scripts_are_no_names_of_torch_save(tmp_path: Path) -> None:
    torch.save({"w": torch.ones(2)}, tmp_path / "model.pt")
    with zipfile.ZipFile(tmp_path / "model.pt") as archive:
        members = [(info.filename, archive.read(info)) for info in archive.infolist()]
    with zipfile.ZipFile(tmp_path / "model.pt", "w") as archive:
        for member, data in members:
            if member.endswith("/data.pkl"):
                data = data[:2] + b"c__torch__.own\nModel\n0" + data[2:]
            archive.writestr(member, data)
    assert DefectKind.UNSAFE_GLOBAL in kinds(tmp_path / "model.pt")


def test_constants(tmp_path: Path) -> None:
    traced = torch.jit.trace(WithConstants(), torch.ones(3))
    file = read(saved(traced, tmp_path / "traced.pt"))
    assert [tensor.name for tensor in file.tensors] == ["weight", "CONSTANTS.c0"]
    assert file.outside == ("CONSTANTS.c0",)
    by_name = file.by_name
    assert by_name["weight"].storage.key != by_name["CONSTANTS.c0"].storage.key


def test_a_frozen_module_is_all_constants(tmp_path: Path) -> None:
    frozen = torch.jit.freeze(torch.jit.script(nn.Linear(3, 2).eval()))
    path = saved(frozen, tmp_path / "frozen.pt")
    names = {tensor.name for tensor in read(path).tensors}
    assert names and all(name.startswith("CONSTANTS.c") for name in names)
    ckpt_doctor.convert(path, to="safetensors", tensors_only=True)
    assert {t.name for t in read(tmp_path / "frozen.safetensors").tensors} == names


@pytest.mark.slow
@pytest.mark.parametrize("debug", [False, True])
def test_for_the_lite_interpreter(debug: bool, tmp_path: Path) -> None:
    module = torch.jit.script(nn.Sequential(nn.Linear(2, 3), nn.LSTM(3, 2)))
    path = tmp_path / "lite.ptl"
    module._save_for_lite_interpreter(str(path), _save_mobile_debug_info=debug)
    assert kinds(path) == [DefectKind.EXECUTABLE_ARCHIVE]
    assert [tensor.name for tensor in read(path).tensors] == list(module.state_dict())


def test_a_function_has_no_tensors(tmp_path: Path) -> None:
    def double(x: torch.Tensor) -> torch.Tensor:
        return x + x

    path = saved(torch.jit.script(double), tmp_path / "function.pt")
    assert kinds(path) == [DefectKind.EXECUTABLE_ARCHIVE]
    assert read(path).tensors == ()


def test_cut_and_damaged_archives_are_still_found(tmp_path: Path) -> None:
    path = script(tmp_path / "model.pt")
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2])
    assert DefectKind.TORCH_TRUNCATED in kinds(path)


def test_attributes_that_only_look_like_a_module(tmp_path: Path) -> None:
    # A dictionary with the keys of a module is a dictionary.
    torch.save({"_parameters": {"w": torch.ones(1)}, "_buffers": {}, "_modules": {}}, tmp_path / "x.pt")
    assert [tensor.name for tensor in read(tmp_path / "x.pt").tensors] == ["_parameters.w"]


def test_shared_dictionaries_cost_what_they_take(tmp_path: Path) -> None:
    from ckpt_doctor.formats.pickle_machine import run
    from ckpt_doctor.formats.pickle_values import Budget
    from ckpt_doctor.formats.torch_pickle import walk

    # 300 modules, all with the same 3,000 keys that are no names: 0.9 million steps, from a few kilobytes.
    keys = b"".join(b"M" + number.to_bytes(2, "little") + b"N" for number in range(3000))
    shared = b"}q\x00(" + keys + b"u0"
    empty = b"X\x08\x00\x00\x00_modules}X\x08\x00\x00\x00_buffers}"
    module = b"cno_such_package_here\nModule\n)\x81}(X\x0b\x00\x00\x00_parametersh\x00" + empty + b"ub"
    outcome = run(b"\x80\x02" + shared + b"](" + module * 300 + b"e.", Budget.for_stored(1 << 20))
    assert outcome.error is None
    _, problem = walk(outcome.root, Budget(1 << 20, 100_000, 1 << 20))
    assert problem is not None and problem.kind is DefectKind.RESOURCE_BOMB


def test_bytes_that_are_missing_are_said_once(tmp_path: Path) -> None:
    torch.save({name: torch.ones(64) for name in "abcd"}, tmp_path / "x.pt")
    data = bytearray((tmp_path / "x.pt").read_bytes())
    start = data.index(b"PK\x03\x04", data.index(b"data/1") - 64)
    data[start - 16 : start + 200] = bytes(216)  # the end of one record, and the header of the next
    (tmp_path / "x.pt").write_bytes(data)
    codes = [finding.code for finding in ckpt_doctor.inspect(tmp_path / "x.pt").findings]
    assert codes.count("CKD107") == 1 and "CKD902" not in codes


def test_too_few_elements_are_said_once(tmp_path: Path) -> None:
    torch.save({"a": torch.ones(4)}, tmp_path / "x.pt", _use_new_zipfile_serialization=False)
    data = bytearray((tmp_path / "x.pt").read_bytes())
    assert data[-24:-16] == (4).to_bytes(8, "little")
    data[-24:-16] = (2).to_bytes(8, "little")
    (tmp_path / "x.pt").write_bytes(data)
    codes = [finding.code for finding in ckpt_doctor.inspect(tmp_path / "x.pt").findings]
    assert "CKD107" in codes and "CKD902" not in codes
    (tmp_path / "x.pt").write_bytes(data + b"more")
    assert "CKD902" in [finding.code for finding in ckpt_doctor.inspect(tmp_path / "x.pt").findings]
