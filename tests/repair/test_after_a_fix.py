"""What ``fix`` says at its end is what ``inspect`` says afterwards, with the same options."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from safetensors.torch import load_file, save_file

from ckpt_doctor import inspect
from ckpt_doctor.cli.root import cli
from ckpt_doctor.core.path_ignores import PathIgnore
from ckpt_doctor.core.policy import Policy
from ckpt_doctor.core.results import Report
from ckpt_doctor.repair import Repairs, fix
from support.damages.edits import edit_json, overwrite_tensors
from support.damages.record import Damage
from support.damages.table import INSPECTED
from support.places import HEALTHY, copied


def said(report: Report) -> list[tuple[str, ...]]:
    """What a person or a script sees of a report."""
    return [
        (
            item.checkpoint.path,
            item.checkpoint.layout,
            found.code,
            found.severity.value,
            found.path or "",
            found.message,
        )
        for item in report.diagnoses
        for found in item.findings or [None]
        if found is not None
    ] + [(item.checkpoint.path, item.checkpoint.layout) for item in report.diagnoses]


def assert_same(result: Repairs, path: Path, policy: Policy) -> Report:
    now = path if path.exists() else next(item for item in sorted(path.parent.iterdir()) if item.is_file())
    report = inspect(now, policy)
    assert said(result.remaining) == said(report)
    assert any(result.remaining.failing(policy.fail_on)) == any(report.failing(policy.fail_on))
    return report


@pytest.mark.slow
@pytest.mark.parametrize("unsafe", [False, True], ids=["safe", "unsafe, deep"])
@pytest.mark.parametrize("damage", INSPECTED, ids=str)
def test_every_damage(damage: Damage, unsafe: bool, tmp_path: Path) -> None:
    path = damage.make(tmp_path)
    policy = Policy(**{**damage.options, "deep": unsafe or damage.policy.deep})
    assert_same(fix(path, policy, unsafe=unsafe), path, policy)


def nan_under_the_wrong_name(folder: Path) -> Path:
    """Safetensors called .bin, with a NaN."""
    model = copied("transformers/single_safetensors", folder)
    tensors = load_file(model / "model.safetensors")
    tensors["model.norm.weight"][0] = float("nan")
    save_file(tensors, model / "pytorch_model.bin", {"format": "pt"})
    (model / "model.safetensors").unlink()
    return model


@pytest.mark.parametrize("fail_on", ["error", "warning", "note", "never"])
def test_values_of_a_file_that_was_renamed_are_judged_again(tmp_path: Path, fail_on: str) -> None:
    model = nan_under_the_wrong_name(tmp_path)
    policy = Policy(deep=True, fail_on=fail_on)
    result = fix(model, policy)
    assert [step.finding.code for repair in result.repairs for step in repair.steps] == ["CKD108"]
    assert "CKD601" in {finding.code for finding in assert_same(result, model, policy).findings}


def test_values_of_an_adapter_that_moves_or_is_copied(tmp_path: Path) -> None:
    outer = tmp_path / "checkpoint"
    adapter = outer / "adapter_model"
    shutil.copytree(HEALTHY / "peft/lora", adapter)
    overwrite_tensors(adapter / "adapter_model.safetensors", "layers.1.*lora_B", lambda old: b"\xff" * len(old))
    policy = Policy(deep=True)
    result = fix(outer, policy, unsafe=True)
    assert result.repairs[0].rejected, "a second copy of a NaN is one more error"
    codes = [finding.code for finding in assert_same(result, outer, policy).findings]
    assert "CKD601" in codes


@pytest.mark.slow
def test_a_tree_is_judged_as_a_tree(tmp_path: Path) -> None:
    """Two adapters nested one folder lower, a model and a lone file: one report, whatever was repaired."""
    for name in ("a", "b"):
        shutil.copytree(HEALTHY / "peft/lora", tmp_path / name / name)
    nan_under_the_wrong_name(tmp_path)
    shutil.copy(HEALTHY / "peft/lora/adapter_model.safetensors", tmp_path / "weights.pt")
    for policy in (
        Policy(),
        Policy(deep=True, fail_on="note"),
        Policy(select=("CKD108",)),
        Policy(ignore=("CKD601",), deep=True),
        Policy(layout="peft", fail_on="warning"),
        Policy(per_path_ignores=(PathIgnore(str(tmp_path), "a/**", ("CKD2",)),), fail_on="note"),
    ):
        assert_same(fix(tmp_path, policy, unsafe=True), tmp_path, policy)


def test_one_of_several_that_cannot_be_repaired(tmp_path: Path) -> None:
    nan_under_the_wrong_name(tmp_path)
    broken = copied("peft/lora", tmp_path)
    (broken / "adapter_model.safetensors").write_bytes(b"")
    for policy in (Policy(), Policy(deep=True)):
        report = assert_same(fix(tmp_path, policy), tmp_path, policy)
        assert not report.healthy


def test_a_repair_that_concerns_another_checkpoint(tmp_path: Path) -> None:
    """The adapter's base is a local folder whose index is repaired: both are judged as they lie there at the end."""
    model = copied("transformers/sharded_safetensors", tmp_path)
    index = model / "model.safetensors.index.json"
    document = json.loads(index.read_text())
    document["metadata"]["total_size"] = 1
    index.write_text(json.dumps(document))
    adapter = copied("peft/lora", tmp_path)
    edit_json(adapter / "adapter_config.json", lambda config: config.update(base_model_name_or_path=str(model)))
    assert_same(fix(tmp_path), tmp_path, Policy())


def test_a_new_name_does_not_make_the_folder_another_checkpoint(tmp_path: Path) -> None:
    """Under its better name the file would be an adapter without a configuration."""
    file = tmp_path / "adapter_model.pt"
    shutil.copy(HEALTHY / "peft/lora/adapter_model.safetensors", file)
    shutil.copy(HEALTHY / "peft/lora/adapter_model.safetensors", tmp_path / "other.safetensors")
    before = inspect(tmp_path)
    result = fix(tmp_path)
    assert file.exists()
    assert not result.changes_anything
    assert said(result.remaining) == said(before)
    assert_same(result, tmp_path, Policy())


def test_an_index_that_is_asked_for_and_goes(tmp_path: Path) -> None:
    model = copied("transformers/single_safetensors", tmp_path)
    index = model / "model.safetensors.index.json"
    names = dict.fromkeys(load_file(model / "model.safetensors"), "model-00001-of-00002.safetensors")
    index.write_text(json.dumps({"metadata": {"total_size": 1}, "weight_map": names}))
    result = fix(index)
    assert not index.exists()
    assert_same(result, model, Policy())


def run(*words: Any) -> tuple[int, Any]:
    done = CliRunner().invoke(cli, [str(word) for word in words])
    return done.exit_code, json.loads(done.stdout)


def test_exit_codes_of_the_commands(tmp_path: Path) -> None:
    model = nan_under_the_wrong_name(tmp_path)
    for options in (["--no-deep"], ["--deep"], ["--deep", "--ignore", "CKD6"], ["--deep", "--fail-on", "never"]):
        code, fixed = run("fix", model, "--no-config", "--output-format", "json", *options)
        again, report = run("inspect", model, "--no-config", "--output-format", "json", *options)
        assert code == again
        assert fixed["remaining"]["checkpoints"] == report["checkpoints"]
