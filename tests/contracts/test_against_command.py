"""``ckpt-doctor inspect --against``: what departs from a contract, and how it ends."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from shlex import quote

import pytest
import torch

import ckpt_doctor
from ckpt_doctor.core.errors import ContractError
from ckpt_doctor.core.findings import Severity
from ckpt_doctor.core.policy import Policy
from support.command_line import run
from support.places import HEALTHY, copied
from support.states import save_as

FIXTURE = "weaver_safetensors/weaver"


@pytest.fixture
def contract(tmp_path: Path) -> Path:
    path = tmp_path / "weaver.ckpt.json"
    path.write_text(ckpt_doctor.lock(HEALTHY / FIXTURE).to_json())
    return path


@pytest.fixture
def valued(tmp_path: Path) -> Path:
    path = tmp_path / "values.ckpt.json"
    path.write_text(ckpt_doctor.lock(HEALTHY / FIXTURE, values=True).to_json())
    return path


def codes(*args: object) -> list[str]:
    read = json.loads(run("inspect", *args, "--output-format", "json").stdout)
    return [finding["code"] for checkpoint in read["checkpoints"] for finding in checkpoint["findings"]]


def test_what_fulfils_its_contract_is_healthy(contract: Path) -> None:
    result = run("inspect", HEALTHY / FIXTURE, "--against", contract)
    assert (result.exit_code, result.stderr) == (0, "")
    assert result.stdout.rstrip().endswith("healthy, headers only")


def test_what_departs_is_1_and_named(contract: Path, tmp_path: Path) -> None:
    weaver = copied(FIXTURE, tmp_path)
    state = torch.load(weaver / "projections.pt", weights_only=True)
    state["prompt_query_latents"] = state["prompt_query_latents"].detach()[:4].clone()
    torch.save(state, weaver / "projections.pt")
    result = run("inspect", weaver, "--against", contract, "--output-format", "json")
    assert result.exit_code == 1
    (finding,) = json.loads(result.stdout)["checkpoints"][0]["findings"]
    assert (finding["code"], finding["path"], finding["tensors"], finding["tensor_count"]) == (
        "CKD853",
        "projections.pt",
        ["prompt_query_latents"],
        1,
    )
    assert finding["message"] == (
        f"1 tensor differs in shape from {contract}: prompt_query_latents is [4, 32] instead of [8, 32]. Load it "
        "with the settings of its training; if this checkpoint is right, renew the contract: "
        f"`ckpt-doctor lock {quote(str(weaver))} -o {quote(str(contract))}`"
    )
    assert finding["evidence"]["shapes"] == [{"name": "prompt_query_latents", "pinned": [8, 32], "found": [4, 32]}]
    assert run("inspect", weaver).exit_code == 0


def test_select_ignore_and_fail_on_apply(contract: Path, tmp_path: Path) -> None:
    weaver = copied(FIXTURE, tmp_path)
    (weaver / "projections.pt").unlink()
    assert codes(weaver, "--against", contract) == ["CKD202", "CKD851"]
    assert codes(weaver, "--against", contract, "--select", "CKD85") == ["CKD851"]
    assert codes(weaver, "--against", contract, "--ignore", "contract-tensor-missing") == ["CKD202"]
    assert run("inspect", weaver, "--against", contract, "--ignore", "CKD202,CKD851").exit_code == 0
    assert run("inspect", weaver, "--against", contract, "--fail-on", "never").exit_code == 0


def test_severities_can_be_set(contract: Path, tmp_path: Path) -> None:
    weaver = copied(FIXTURE, tmp_path)
    state = torch.load(weaver / "projections.pt", weights_only=True)
    torch.save({**state, "more": torch.ones(2)}, weaver / "projections.pt")
    for severity in (Severity.WARNING, Severity.ERROR):
        policy = Policy(severity={"CKD852": severity}, select=("CKD852",))
        (finding,) = ckpt_doctor.inspect_against(weaver, contract, policy).findings
        assert (finding.severity, finding.tensors) == (severity, ("more",))


def test_what_could_not_be_compared_is_never_green(contract: Path, tmp_path: Path) -> None:
    weaver = copied(FIXTURE, tmp_path)
    (weaver / "weaver_lora" / "adapter_model.safetensors").write_bytes(b"\0" * 40)
    result = run(
        "inspect", weaver, "--against", contract, "--select", "CKD85", "--ignore", "CKD858", "--fail-on", "never"
    )
    assert result.exit_code == 1
    assert "Nothing of the weaver adapter was compared" in " ".join(result.stdout.split())


def test_values_are_compared_with_deep_and_else_it_says_that_they_were_not(valued: Path, tmp_path: Path) -> None:
    weaver = copied(FIXTURE, tmp_path)
    assert codes(weaver, "--against", valued) == ["CKD858"]
    assert codes(weaver, "--against", valued, "--deep") == []
    state = torch.load(weaver / "projections.pt", weights_only=True)
    state["reasoner_to_weaver"]["weight"].data[0, 0] += 1
    torch.save(state, weaver / "projections.pt")
    assert codes(weaver, "--against", valued) == ["CKD858"]
    assert run("inspect", weaver, "--against", valued).exit_code == 0
    assert run("inspect", weaver, "--against", valued, "--fail-on", "note").exit_code == 1
    assert codes(weaver, "--against", valued, "--deep") == ["CKD855"]


def test_every_checkpoint_of_a_tree_is_compared(contract: Path, tmp_path: Path) -> None:
    for step in ("1", "2", "3"):
        shutil.copytree(HEALTHY / FIXTURE, tmp_path / "run" / step / "weaver")
    (tmp_path / "run/2/weaver/projections.pt").unlink()
    read = json.loads(run("inspect", tmp_path / "run", "--against", contract, "--output-format", "json").stdout)
    found = {item["path"]: [finding["code"] for finding in item["findings"]] for item in read["checkpoints"]}
    assert list(found.values()) == [[], ["CKD202", "CKD851"], []]


def test_layout_picks_the_kind_that_is_compared(contract: Path) -> None:
    assert "CKD857" in codes(HEALTHY / "trigger_run", "--against", contract)
    assert codes(HEALTHY / "trigger_run", "--layout", "weaver", "--against", contract) == []


def test_a_lone_file_beside_the_contract_of_another_lone_file(tmp_path: Path) -> None:
    state = {"w": torch.ones(2, 3)}
    path = tmp_path / "c.json"
    path.write_text(ckpt_doctor.lock(save_as(state, tmp_path / "a.bin")).to_json())
    assert codes(save_as(state, tmp_path / "b.safetensors"), "--against", path) == []
    assert codes(save_as({"v": torch.ones(1)}, tmp_path / "c.safetensors"), "--against", path) == ["CKD851", "CKD852"]


@pytest.mark.parametrize("text", [None, "", "{", "[]", "{}", '{"schema_version": 1, "checkpoints": []}'])
def test_a_contract_that_is_none_is_2_and_nothing_is_judged(text: str | None, tmp_path: Path) -> None:
    path = tmp_path / "c.json"
    if text is not None:
        path.write_text(text)
    result = run("inspect", HEALTHY / FIXTURE, "--against", path, "--output-format", "json")
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr.startswith("error: ")
    assert str(path) in result.stderr


def test_a_report_can_go_to_a_file(contract: Path, tmp_path: Path) -> None:
    weaver = copied(FIXTURE, tmp_path)
    (weaver / "projections.pt").unlink()
    target = tmp_path / "report"
    assert run("inspect", weaver, "--against", contract, "--output-file", target).exit_code == 1
    assert "CKD851 contract-tensor-missing  projections.pt" in target.read_text(encoding="utf-8")


def test_a_report_never_overwrites_the_contract(contract: Path) -> None:
    before = contract.read_text()
    result = run("inspect", HEALTHY / FIXTURE, "--against", contract, "--output-file", contract)
    assert (result.exit_code, result.stdout, contract.read_text()) == (2, "", before)
    assert "is what it is to be held against" in result.stderr


def test_every_finding_has_a_fingerprint_of_its_own(valued: Path, tmp_path: Path) -> None:
    weaver = copied(FIXTURE, tmp_path)
    (weaver / "weaver_lora" / "adapter_model.safetensors").write_bytes(b"{")
    (weaver / "weaver_lora" / "adapter_config.json").write_text("{")
    found = ckpt_doctor.inspect_against(weaver, valued).findings
    assert len({finding.fingerprint for finding in found}) == len(found)
    assert [finding.path for finding in found if finding.code == "CKD858"] == [
        "weaver_lora/adapter_config.json",
        "weaver_lora/adapter_model.safetensors",
        None,
    ]


def test_many_tensors_are_counted_and_twenty_named(tmp_path: Path) -> None:
    contract = ckpt_doctor.lock(save_as({f"w{n:03}": torch.ones(1) for n in range(50)}, tmp_path / "a.safetensors"))
    other = save_as({f"w{n:03}": torch.ones(2, dtype=torch.float16) for n in range(49)}, tmp_path / "b.safetensors")
    found = {item.code: item for item in ckpt_doctor.inspect_against(other, contract).findings}
    assert found.keys() == {"CKD851", "CKD853", "CKD854"}
    assert (len(found["CKD853"].tensors), found["CKD853"].tensor_count) == (20, 49)
    assert len(found["CKD853"].evidence["shapes"]) == 20
    assert "`ckpt-doctor lock " in found["CKD851"].message
    assert found["CKD851"].message.endswith("-o FILE`")


def test_names_cannot_break_out(tmp_path: Path) -> None:
    hostile = "a\n\x1b[2J\u202e`b`"
    contract = tmp_path / "c\n\x1b[2J.json"
    contract.write_text(ckpt_doctor.lock(save_as({hostile: torch.ones(1)}, tmp_path / "a.bin")).to_json())
    other = save_as({hostile + "2": torch.ones(1)}, tmp_path / "b.bin")
    for output_format in ("text", "concise"):
        result = run("inspect", other, "--against", contract, "--output-format", output_format)
        assert result.exit_code == 1
        assert not {"\x1b", "\u202e"} & set(result.output)
    assert len(run("inspect", other, "--against", contract, "--output-format", "concise").stdout.splitlines()) == 2


def test_from_python(contract: Path) -> None:
    with pytest.raises(ContractError):
        ckpt_doctor.inspect_against(HEALTHY / FIXTURE, HEALTHY / FIXTURE / "projections.pt")
    assert ckpt_doctor.inspect_against([HEALTHY / FIXTURE], os.fspath(contract)).healthy
    report = ckpt_doctor.inspect_against(HEALTHY / "weaver_bin", contract, Policy(expect="bin"))
    assert report.healthy
    assert report.checkpoints[0].comparison is not None
    assert ckpt_doctor.inspect(HEALTHY / FIXTURE).checkpoints[0].comparison is None


def test_an_adapter_that_merely_lies_beside_is_held_against_nothing(tmp_path: Path) -> None:
    two = shutil.copytree(HEALTHY / "peft" / "two_adapters", tmp_path / "two")
    assert run("lock", two, "--values", "-o", tmp_path / "two.json").exit_code == 0
    result = run("inspect", two, "--deep", "--against", tmp_path / "two.json")
    assert (result.exit_code, result.stdout.count("healthy")) == (0, 3)
