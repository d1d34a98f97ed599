"""``ckpt-doctor lock``: what it writes, and what it refuses."""

from __future__ import annotations

import hashlib
import json
import os
import stat
from collections.abc import Callable
from pathlib import Path
from shlex import quote

import pytest
import torch

import ckpt_doctor
from ckpt_doctor.contracts import read_contract
from ckpt_doctor.core.errors import LockRefusedError
from support.command_line import run
from support.places import FAILURES, HEALTHY, copied
from support.states import save_as

WEAVER = HEALTHY / "weaver_bin" / "weaver"


def test_the_document(tmp_path: Path) -> None:
    path = save_as({"b": torch.zeros(2, 3), "a": torch.tensor(1.5, dtype=torch.bfloat16)}, tmp_path / "w.safetensors")
    digests = [hashlib.sha256(data).hexdigest() for data in (b"\xc0\x3f", bytes(24))]
    result = run("lock", path, "--values")
    assert (result.exit_code, result.stderr) == (0, "")
    assert (
        result.stdout
        == f"""{{
  "schema_version": 1,
  "kind": "ckpt-doctor contract",
  "tool": {{"name": "ckpt-doctor", "version": "{ckpt_doctor.__version__}"}},
  "layout": "file",
  "parts": [
    {{
      "role": "file",
      "name": "w.safetensors",
      "info": {{"files": {{"w.safetensors": "safetensors"}}}},
      "tensors": {{
        "a": {{"dtype": "bfloat16", "shape": [], "sha256": "{digests[0]}"}},
        "b": {{"dtype": "float32", "shape": [2, 3], "sha256": "{digests[1]}"}}
      }}
    }}
  ]
}}
"""
    )


def test_parts_and_settings_of_an_adapter() -> None:
    adapter, projections = json.loads(run("lock", WEAVER).stdout)["parts"]
    assert (adapter["role"], adapter["name"], len(adapter["tensors"])) == ("adapter", "weaver adapter", 8)
    assert adapter["config"] == {
        "base_model_name_or_path": "Qwen/Qwen2-tiny",
        "lora_alpha": 8,
        "peft_type": "LORA",
        "r": 4,
        "target_modules": ["q_proj", "v_proj"],
    }
    assert (projections["role"], len(projections["tensors"])) == ("projections", 6)
    assert "config" not in projections
    assert not any("sha256" in pin for pin in adapter["tensors"].values())


@pytest.mark.parametrize("inner", ["", "weaver", "weaver/weaver_lora", "weaver/weaver_lora/adapter_config.json"])
def test_every_way_to_name_a_checkpoint(inner: str) -> None:
    of = HEALTHY / "weaver_bin"
    if inner.endswith(".json"):
        assert json.loads(run("lock", of / inner).stdout)["layout"] == "weaver"
    else:
        assert run("lock", of / inner).stdout == run("lock", WEAVER).stdout


def test_the_order_of_the_tensors_in_the_file_does_not_matter(tmp_path: Path) -> None:
    state = {"a": torch.ones(2), "b": torch.zeros(3)}
    first = run("lock", save_as(state, tmp_path / "w.bin"), "--values").stdout
    again = run("lock", save_as(dict(reversed(state.items())), tmp_path / "w.bin"), "--values").stdout
    assert first == again


def test_the_file_is_written_whole_and_named(tmp_path: Path) -> None:
    target = tmp_path / "weaver.ckpt.json"
    result = run("lock", WEAVER, "-o", target)
    assert (result.exit_code, result.stdout) == (0, "")
    assert result.stderr == (
        f"{target} pins names, shapes and dtypes of 14 tensors in 2 parts; "
        f"next: `ckpt-doctor inspect PATH --against {quote(str(target))}`\n"
    )
    assert target.read_text() == run("lock", WEAVER).stdout == run("lock", WEAVER, "-o", "-").stdout
    target.chmod(0o640)
    assert run("lock", WEAVER, "--values", "--output", target).exit_code == 0
    assert len(read_contract(target).valued) == 14
    assert stat.S_IMODE(target.stat().st_mode) == 0o640
    assert list(tmp_path.iterdir()) == [target]


def test_an_error_while_writing_leaves_the_old_contract(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    target = tmp_path / "weaver.ckpt.json"
    target.write_text("old")

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    result = run("lock", WEAVER, "-o", target)
    assert (result.exit_code, target.read_text()) == (2, "old")
    assert "cannot write the contract" in result.stderr
    assert list(tmp_path.iterdir()) == [target]


@pytest.mark.parametrize("name", ["weaver_lora/adapter_model.bin", "projections.pt", "weaver_lora/adapter_config.json"])
def test_the_checkpoint_is_never_overwritten(name: str, tmp_path: Path) -> None:
    weaver = copied("weaver_bin/weaver", tmp_path)
    before = (weaver / name).read_bytes()
    result = run("lock", weaver, "-o", weaver / name)
    assert (result.exit_code, (weaver / name).read_bytes()) == (2, before)
    assert "is a file of the checkpoint" in result.stderr


def test_an_impossible_place_is_2(tmp_path: Path) -> None:
    for target in (tmp_path, tmp_path / "no" / "such" / "folder"):
        result = run("lock", WEAVER, "-o", target)
        assert (result.exit_code, result.stdout) == (2, "")
        assert "cannot write the contract" in result.stderr


def cut_off(weaver: Path) -> None:
    file = weaver / "weaver_lora" / "adapter_model.bin"
    file.write_bytes(file.read_bytes()[:600])


def without_projections(weaver: Path) -> None:
    (weaver / "projections.pt").unlink()


def odd_config(weaver: Path) -> None:
    file = weaver / "weaver_lora" / "adapter_config.json"
    file.write_text(file.read_text().replace('"lora_alpha": 8', '"lora_alpha": NaN'))


@pytest.mark.parametrize(
    ("harm", "reason"), [(cut_off, "CKD106"), (without_projections, "CKD202"), (odd_config, "lora_alpha")]
)
def test_what_is_broken_is_refused_and_nothing_written(
    harm: Callable[[Path], None], reason: str, tmp_path: Path
) -> None:
    weaver = copied("weaver_bin/weaver", tmp_path)
    harm(weaver)
    result = run("lock", weaver, "-o", tmp_path / "c.json")
    assert (result.exit_code, result.stdout) == (1, "")
    assert reason in result.stderr
    assert result.stderr.splitlines()[-1].startswith("error: no contract is made of ")
    assert not (tmp_path / "c.json").exists()


def test_values_that_are_broken_are_refused_where_they_are_pinned(tmp_path: Path) -> None:
    path = save_as({"w": torch.tensor([1.0, float("nan")])}, tmp_path / "w.safetensors")
    assert run("lock", path).exit_code == 0
    result = run("lock", path, "--values")
    assert (result.exit_code, result.stdout) == (1, "")
    assert "CKD601" in result.stderr
    assert run("lock", path, "--values", "--ignore", "non-finite").exit_code == 0


def test_ignore_names_the_errors_that_do_not_count_and_nothing_that_cannot_be_read(tmp_path: Path) -> None:
    failure = FAILURES / "no_projections" / "weaver"
    assert run("lock", failure).exit_code == 1
    assert len(json.loads(run("lock", failure, "--ignore", "CKD202").stdout)["parts"]) == 1
    weaver = copied("weaver_bin/weaver", tmp_path)
    cut_off(weaver)
    result = run("lock", weaver, "--ignore", "CKD")
    assert (result.exit_code, result.stdout) == (1, "")
    assert "weaver_lora/adapter_model.bin cannot be read" in result.stderr
    assert run("lock", weaver, "--ignore", "CKDX").exit_code == 2


def test_values_that_are_not_the_bytes_are_refused(tmp_path: Path) -> None:
    path = save_as({"w": torch.tensor([1 + 2j]).conj()}, tmp_path / "w.bin")
    assert run("lock", path).exit_code == 0
    result = run("lock", path, "--values")
    assert (result.exit_code, result.stdout) == (1, "")
    assert "the values of 1 tensor cannot be read as they are (w)" in result.stderr


def test_two_tensors_of_one_name_are_refused(tmp_path: Path) -> None:
    path = save_as({"a.b": torch.ones(1), "a": {"b": torch.ones(2)}}, tmp_path / "w.bin")
    result = run("lock", path)
    assert (result.exit_code, result.stdout) == (1, "")
    assert "more than one tensor is called a.b" in result.stderr


def test_nothing_there_is_2(tmp_path: Path) -> None:
    assert run("lock", tmp_path).exit_code == run("lock", tmp_path / "nowhere").exit_code == 2
    result = run("lock", FAILURES)
    assert (result.exit_code, result.stdout) == (2, "")
    assert "name one of them" in result.stderr


def test_names_cannot_break_out(tmp_path: Path) -> None:
    name = 'a"\n\x1b[2J\u202e\ud800'
    path = save_as({name: torch.ones(1)}, tmp_path / "w.bin")
    result = run("lock", path)
    assert result.stdout.isascii()
    assert "\x1b" not in result.stdout
    assert list(json.loads(result.stdout)["parts"][0]["tensors"]) == [name]


def test_from_python(tmp_path: Path) -> None:
    contract = ckpt_doctor.lock(WEAVER)
    assert (contract.layout, contract.tensors, contract.valued) == ("weaver", 14, frozenset())
    assert contract.to_json() + "\n" == run("lock", WEAVER).stdout
    with pytest.raises(LockRefusedError) as refused:
        ckpt_doctor.lock(FAILURES / "both" / "weaver")
    assert {finding.code for finding in refused.value.report.findings} == {"CKD202"}
