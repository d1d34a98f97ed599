"""Saves of MemGen that were killed: after each of the files, and in the middle of each."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

import ckpt_doctor
from ckpt_doctor.core.findings import Severity
from ckpt_doctor.core.results import Report
from support.zoo.common import quiet
from support.zoo.upstream import ORDER, Upstream, base

_COMPLETE = ORDER.index("trigger/trigger/adapter_config.json") + 1
"""Files up to which the tensors are not all there; what follows concerns no load."""


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    build = quiet(lambda where: Upstream(base("qwen2", 24), base("qwen2", 16), base("qwen2", 24)).save(where))
    return build(tmp_path_factory.mktemp("memgen") / "model")


def cut(whole: Path, directory: Path, files: int, *, half: bool) -> Path:
    """The first ``files`` files of a save, and half of the next one."""
    for number, name in enumerate(ORDER[: files + half]):
        (directory / name).parent.mkdir(parents=True, exist_ok=True)
        content = (whole / name).read_bytes()
        (directory / name).write_bytes(content[: len(content) // 2] if number == files else content)
    return directory


def errors(report: Report) -> set[str]:
    return {item.code for item in report.findings if item.severity is Severity.ERROR}


@pytest.mark.slow
@pytest.mark.parametrize("half", [False, True])
@pytest.mark.parametrize("files", range(len(ORDER)))
def test_killed_after_any_file(whole: Path, tmp_path: Path, files: int, half: bool) -> None:
    if not files and not half:
        return
    report = ckpt_doctor.inspect(cut(whole, tmp_path / "model", files, half=half))
    (checkpoint,) = report.checkpoints
    assert checkpoint.layout == "memgen"
    # Half of an adapter's config is an error of its own, and half of a model card none.
    if files < _COMPLETE - 1:
        assert "CKD208" in errors(report)
    assert bool(errors(report)) == (files < _COMPLETE)


def test_a_whole_save_is_healthy(whole: Path) -> None:
    assert not ckpt_doctor.inspect(whole).findings


@pytest.mark.parametrize("name", [name for name in ORDER[:_COMPLETE] if not name.endswith((".md", "config.json"))])
def test_a_file_that_was_removed_is_no_interrupted_save(whole: Path, tmp_path: Path, name: str) -> None:
    model = Path(shutil.copytree(whole, tmp_path / "model"))
    (model / name).unlink()
    (expected,) = {"CKD206"} if name.endswith(".safetensors") else {"CKD202"}
    assert errors(ckpt_doctor.inspect(model)) == {expected}


@pytest.mark.parametrize("active", [False, True])
def test_a_run_without_a_trigger(tmp_path: Path, active: bool) -> None:
    def save(where: Path) -> Path:
        return Upstream(base("qwen2", 24), base("qwen2", 16), base("qwen2", 24), trigger_active=active).save(where)

    model = quiet(save)(tmp_path / "model")
    assert not errors(ckpt_doctor.inspect(model))
    assert not errors(ckpt_doctor.inspect(model, ckpt_doctor.Policy(deep=True)))
    shutil.rmtree(model / "trigger")
    assert errors(ckpt_doctor.inspect(model)), "MemGen writes the adapter whether it trains it or not"
    (model / "trigger.bin").unlink()
    assert bool(errors(ckpt_doctor.inspect(model))) == active


def test_a_config_of_another_kind_is_no_memgen(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"model_type": "qwen2"}')
    with pytest.raises(ckpt_doctor.CkptDoctorError):
        ckpt_doctor.inspect(tmp_path)
