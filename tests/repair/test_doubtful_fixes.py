"""Repairs that are refused because more than one state could be meant, and those that need more than one look."""

from __future__ import annotations

import json
import re
from collections import OrderedDict
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from ckpt_doctor import inspect
from ckpt_doctor.core.policy import Policy
from ckpt_doctor.repair import Repairs, fix
from support.hostile import Foreign, foreign_package
from support.places import copied
from support.repaired import bits, content, tensors_of


def steps(result: Repairs) -> list[str]:
    return [step.finding.code for repair in result.repairs for step in repair.steps]


def renamed_adapter(folder: Path, *pairs: tuple[str, str], task: str | None = "CAUSAL_LM") -> Path:
    """A copy of the LoRA fixture of which each tensor is there once for each pair (old text, new text)."""
    adapter = copied("peft/lora", folder)
    file = adapter / "adapter_model.safetensors"
    state = {}
    for number, (old, new) in enumerate(pairs):
        state.update({name.replace(old, new, 1): tensor + number for name, tensor in load_file(file).items()})
    save_file(state, file, {"format": "pt"})
    config = adapter / "adapter_config.json"
    config.write_text(json.dumps({**json.loads(config.read_text()), "task_type": task}))
    return adapter


ROOT = "base_model.model."


@pytest.mark.parametrize(
    "pairs",
    [
        ((".weight", ".weaver.weight"), (".weight", ".trigger.weight")),
        ((ROOT, f"{ROOT}_orig_mod."), (ROOT, f"{ROOT}_fsdp_wrapped_module.")),
        ((ROOT, f"{ROOT}_orig_mod."), (ROOT, ROOT)),
        ((ROOT, ROOT * 2), (ROOT, ROOT)),
        ((ROOT, ""), (ROOT, ROOT)),
    ],
    ids=["two adapters", "two wrappers", "with and without wrapper", "double and single", "absent and present"],
)
def test_of_two_candidates_neither_is_chosen(tmp_path: Path, pairs: tuple[tuple[str, str], ...]) -> None:
    adapter = renamed_adapter(tmp_path, *pairs)
    before = content(tmp_path)
    assert steps(fix(adapter)) == []
    assert content(tmp_path) == before
    assert not inspect(adapter).healthy


@pytest.mark.parametrize(
    ("new", "task", "sure"),
    [
        ("", "CAUSAL_LM", True),  # model.layers.0: a module of Qwen2ForCausalLM
        ("model.", "CAUSAL_LM", False),  # model.model.layers.0: only base_model. is gone
        ("", "FEATURE_EXTRACTION", False),  # or a module of a Qwen2Model under what is left of the prefix
        ("", None, False),
    ],
)
def test_the_prefix_is_put_back_only_where_that_is_sure(tmp_path: Path, new: str, task: str | None, sure: bool) -> None:
    adapter = renamed_adapter(tmp_path, (ROOT, new), task=task)
    assert "CKD306" in {finding.code for finding in inspect(adapter).findings}
    assert steps(fix(adapter)) == (["CKD306"] if sure else [])


def test_the_prefix_is_put_before_every_name(tmp_path: Path) -> None:
    adapter = copied("peft/lora_with_embeddings_and_head", tmp_path)
    file = adapter / "adapter_model.safetensors"
    healthy = load_file(file)
    save_file({name.removeprefix(ROOT): tensor for name, tensor in healthy.items()}, file, {"format": "pt"})
    assert steps(fix(adapter)) == ["CKD306"]
    assert load_file(file).keys() == healthy.keys()


def test_what_was_refused_is_tried_again_after_another_repair(tmp_path: Path) -> None:
    adapter = copied("peft/lora_bin", tmp_path)
    file = adapter / "adapter_model.bin"
    state = {f"module.{name}": tensor for name, tensor in torch.load(file, weights_only=True).items()}
    with foreign_package():
        torch.save({**state, "more": Foreign()}, file)
    result = fix(adapter, unsafe=True)
    assert steps(result) == ["CKD901", "CKD304"]
    assert not result.remaining.findings
    assert not fix(adapter, unsafe=True).changes_anything
    healthy = tensors_of(copied("peft/lora_bin", tmp_path / "healthy") / "adapter_model.bin")
    repaired = tensors_of(file)
    assert {name: bits(tensor) for name, tensor in repaired.items()} == {n: bits(t) for n, t in healthy.items()}


def test_a_second_format_goes_only_where_the_values_were_compared(tmp_path: Path) -> None:
    adapter = copied("peft/lora", tmp_path)
    state = load_file(adapter / "adapter_model.safetensors")
    torch.save(state, adapter / "adapter_model.bin")
    assert steps(fix(adapter, unsafe=True)) == []
    assert steps(fix(adapter, Policy(deep=True), unsafe=True)) == ["CKD204"]
    torch.save({name: tensor + 1 for name, tensor in state.items()}, adapter / "adapter_model.bin")
    assert steps(fix(adapter, unsafe=True)) == []
    assert steps(fix(adapter, Policy(deep=True, expect="bin"), unsafe=True)) == ["CKD204"]
    assert not (adapter / "adapter_model.safetensors").exists()


def test_an_adapter_that_moves_is_judged_where_it_is(tmp_path: Path) -> None:
    adapter = copied("peft/lora", tmp_path)
    for file in copied("transformers/single_safetensors", tmp_path / "model").iterdir():
        if not (adapter / file.name).exists():
            file.rename(adapter / file.name)
    result = fix(adapter, unsafe=True)
    assert steps(result) == ["CKD207"]
    assert not result.remaining.findings
    assert {checkpoint.layout for checkpoint in result.remaining.checkpoints} == {"peft", "transformers"}


def test_types_survive_being_saved_again(tmp_path: Path) -> None:
    module = torch.nn.Sequential(torch.nn.BatchNorm1d(3), torch.nn.Linear(3, 3))
    state = {
        "model": module.state_dict(),
        "latents": torch.nn.Parameter(torch.randn(2, 3)),
        "frozen": torch.nn.Parameter(torch.randn(2), requires_grad=False),
        "leaf": torch.randn(2, requires_grad=True),
        "view": torch.arange(12.0).reshape(3, 4).t(),
        "values": [1, 2.5, None, True, "text", b"bytes", (1, [2])],
        7: {"dtype": torch.bfloat16},
    }
    file = tmp_path / "state.pt"
    torch.save(state, file)
    assert steps(fix(file, Policy(select=("CKD403",)))) == ["CKD403"]
    again = torch.load(file, weights_only=True)
    assert type(again["model"]) is OrderedDict
    assert again["model"]._metadata == state["model"]._metadata
    for name in ("latents", "frozen", "leaf"):
        assert type(again[name]) is type(state[name]), name
        assert again[name].requires_grad == state[name].requires_grad
        assert torch.equal(again[name], state[name])
    assert torch.equal(again["view"], state["view"])
    assert again["view"].is_contiguous()
    assert again["values"] == state["values"]
    assert again[7] == state[7]
    module.load_state_dict(again["model"])


@pytest.mark.filterwarnings("ignore:torch.quantize_per_tensor")
@pytest.mark.parametrize("make", [lambda t: t.conj(), lambda t: torch.quantize_per_tensor(t.real, 0.1, 0, torch.qint8)])
def test_what_bytes_do_not_say_is_left_alone(tmp_path: Path, make: object) -> None:
    odd = make(torch.randn(4, dtype=torch.complex64))  # type: ignore[operator]
    file = tmp_path / "state.pt"
    torch.save({"odd": odd, "view": torch.arange(12.0).reshape(3, 4).t()}, file)
    before = content(tmp_path)
    result = fix(file)
    assert steps(result) == []
    assert result.repairs[0].rejected[0].reason
    assert content(tmp_path) == before


def test_no_rank_is_offered_where_both_halves_were_exchanged(tmp_path: Path) -> None:
    """With the rank that the tensors then seem to have, PEFT would still refuse them."""
    adapter = copied("peft/lora", tmp_path)
    file = adapter / "adapter_model.safetensors"
    other = {"lora_A": "lora_B", "lora_B": "lora_A"}
    save_file(
        {re.sub("lora_[AB]", lambda found: other[found[0]], name): t for name, t in load_file(file).items()}, file
    )
    findings = [finding for finding in inspect(adapter).findings if finding.code == "CKD501"]
    assert [finding.fix for finding in findings] == [None]
