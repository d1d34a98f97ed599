"""Adapters whose files hold more than the adapter's own parameters, or other things than those."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import peft
import pytest
import torch
import transformers

from support.zoo.adapters import build
from support.zoo.common import quiet
from support.zoo.models import MODELS

# isort: split
from peft_variants import Variant

import ckpt_doctor
from ckpt_doctor.verification import verify
from support.peft_saves import SAVED, edited, names, save

# PEFT asks transformers for a property that will have another name some day.
pytestmark = pytest.mark.filterwarnings(
    "ignore:.*is_gradient_checkpointing:FutureWarning", "ignore:.*save_embedding_layers.*:UserWarning"
)
ROWS = 70


def resized(kind: str, directory: Path, **settings: Any) -> tuple[Path, Path, Any]:
    """An adapter of a model whose vocabulary was enlarged, as PEFT saves it; its base, and the trained model."""
    made: dict[str, Any] = {}

    def write(where: Path) -> Path:
        MODELS[kind]().save_pretrained(where / "base")
        model = transformers.AutoModelForCausalLM.from_pretrained(where / "base")
        model.resize_token_embeddings(ROWS, mean_resizing=False)
        adapted = peft.get_peft_model(model, peft.LoraConfig(r=2, task_type="CAUSAL_LM", **settings))
        adapted.save_pretrained(where / "adapter", save_embedding_layers=True)
        made["model"] = adapted
        return where

    quiet(write)(directory)
    return directory / "adapter", directory / "base", made["model"]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "settings"),
    [
        ("llama", {"target_modules": ["q_proj"], "modules_to_save": ["embed_tokens", "lm_head"]}),
        ("llama", {"target_modules": ["q_proj", "embed_tokens"]}),
        ("qwen2-tied", {"target_modules": ["q_proj"]}),
        ("gpt2", {"target_modules": ["c_attn"]}),
        ("gpt-neox", {"target_modules": ["query_key_value"]}),
        ("opt", {"target_modules": ["q_proj", "embed_tokens"]}),
    ],
)
def test_embeddings_of_another_size(kind: str, settings: dict[str, Any], tmp_path: Path) -> None:
    adapter, base, trained = resized(kind, tmp_path, **settings)
    coverage = ckpt_doctor.load_coverage(trained, adapter)
    assert coverage.complete, [*coverage.table(), *coverage.findings, *coverage.log]
    assert not coverage.findings
    # PEFT's own loader raises on a base that is not resized.
    for coverage in (verify(adapter, str(base)), verify(adapter, str(base), mode="keys")):
        assert not coverage.complete
        assert "CKD518" in {item.code for item in coverage.findings}
    with torch.no_grad():
        trained.get_input_embeddings().weight[-1] += 1
    spoiled = ckpt_doctor.load_coverage(trained, adapter)
    assert not spoiled.complete
    assert all(len(trained.get_parameter(str(item.parameter))) == ROWS for item in spoiled.not_restored())


ABSENT = [
    ("vera", "base_model.vera_A"),
    ("pvera", "base_model.pvera_A"),
    ("delora", "base_model.model.model.layers.0.self_attn.q_proj.delora_w_norm"),
    ("vblora-topk", "base_model.model.model.layers.0.self_attn.q_proj.vblora_logits_A_topk_weights"),
    ("vblora-topk", "base_model.model.model.layers.0.self_attn.q_proj.vblora_logits_A_topk_indices"),
    ("lora-tied-modules-to-save", "base_model.model.model.embed_tokens.weight"),
]


@pytest.mark.slow
@pytest.mark.parametrize(("variant", "name"), ABSENT, ids=str)
def test_what_peft_asks_for_is_missed_without_a_load(variant: str, name: str, tmp_path: Path) -> None:
    adapter, base, _ = save(next(item for item in SAVED if item.name == variant), tmp_path)
    assert verify(adapter, base, mode="keys", loader="auto").complete
    with edited(adapter) as tensors:
        del tensors[name]
    for mode in ("keys", "load"):
        coverage = verify(adapter, base, mode=mode, loader="auto")
        assert not coverage.complete
        assert {item.code for item in coverage.findings} & {"CKD002", "CKD003"}
    keys = verify(adapter, base, mode="keys", loader="auto")
    (finding,) = [item for item in keys.findings if item.code == "CKD003"]
    assert len(finding.tensors) == 1


PROMPTS = [item for item in SAVED if item.name in ("p-tuning", "p-tuning-lstm", "prefix-tuning-projection", "cpt")]


@pytest.mark.parametrize("variant", PROMPTS, ids=names)
def test_a_prompt_whose_encoder_is_still_trained(variant: Variant, tmp_path: Path) -> None:
    made: dict[str, Any] = {}

    def write(where: Path) -> Path:
        made["model"] = build(variant).eval()
        made["model"].save_pretrained(where)
        return where

    quiet(write)(tmp_path)
    model = made["model"].train()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    coverage = ckpt_doctor.load_coverage(model, tmp_path)
    assert coverage.complete, [*coverage.table(), *coverage.findings]
    assert all(module.training for module in model.modules())
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    with torch.no_grad():
        for name, value in model.named_parameters():
            if name.startswith("prompt_encoder."):
                value.add_(0.5)
    assert [item.name for item in ckpt_doctor.load_coverage(model, tmp_path).not_restored()] == ["prompt_embeddings"]
