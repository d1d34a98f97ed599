"""Adapters whose base could be built as several classes: the one that has their modules is taken, and said."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import peft
import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file

import ckpt_doctor
from ckpt_doctor.verification import verify
from support.zoo.common import quiet

# PEFT asks transformers for a property that will have another name some day.
pytestmark = pytest.mark.filterwarnings(
    "ignore:.*is_gradient_checkpointing:FutureWarning", "ignore:.*save_embedding_layers.*:UserWarning"
)
TEXT = {
    "vocab_size": 64,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
}
LINEAR = {"linear_num_key_heads": 2, "linear_num_value_heads": 2, "linear_key_head_dim": 8, "linear_value_head_dim": 8}


def qwen(**more: Any) -> Any:
    config = {key: value for key, value in TEXT.items() if key != "head_dim"}
    return transformers.Qwen2ForCausalLM(transformers.Qwen2Config(**{**config, "num_hidden_layers": 2, **more}))


def wrapper() -> Any:
    vision = {"depth": 1, "hidden_size": 32, "intermediate_size": 32, "num_heads": 2, "out_hidden_size": 32}
    config = transformers.Qwen3_5Config(
        text_config={**TEXT, **LINEAR},
        vision_config={**vision, "patch_size": 4, "num_position_embeddings": 16},
        image_token_id=60,
        video_token_id=61,
        vision_start_token_id=62,
        vision_end_token_id=63,
    )
    return transformers.Qwen3_5ForConditionalGeneration(config)


def bert() -> Any:
    config = {"vocab_size": 64, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2}
    return transformers.BertForMaskedLM(transformers.BertConfig(**config, num_attention_heads=4))


def adapter(directory: Path, base: Any, *, rows: int | None = None, save: Any = "auto", **settings: Any) -> Path:
    """A trained LoRA on ``base``, whose folder it names; ``rows`` resizes the embeddings before the training."""

    def write(where: Path) -> Path:
        base.save_pretrained(where / "base")
        model = type(base).from_pretrained(where / "base")
        if rows is not None:
            model.resize_token_embeddings(rows, mean_resizing=False)
        adapted = peft.get_peft_model(model, peft.LoraConfig(**{"r": 2, **settings}))
        for name, value in adapted.named_parameters():
            if "lora_B" in name:
                torch.nn.init.normal_(value, std=0.05)
        adapted.peft_config["default"].base_model_name_or_path = str(where / "base")
        adapted.save_pretrained(where / "adapter", save_embedding_layers=save)
        return where

    quiet(write)(directory)
    return directory / "adapter"


@pytest.mark.slow
@pytest.mark.parametrize("target", [r".*language_model.*\.(q_proj|v_proj)", ["q_proj", "v_proj"]], ids=type)
@pytest.mark.parametrize("task", ["CAUSAL_LM", None])
def test_a_wrapper_class_keeps_its_adapter(target: Any, task: str | None, tmp_path: Path) -> None:
    path = adapter(tmp_path, wrapper(), target_modules=target, task_type=task)
    assert not ckpt_doctor.inspect(path).findings
    for mode in ("keys", "load"):
        coverage = verify(path, mode=mode)
        assert coverage.complete, [mode, *coverage.table(), *coverage.findings]
        assert not coverage.findings
        chosen = coverage.model_class
        assert chosen is not None
        assert chosen.name == "Qwen3_5ForConditionalGeneration"
        assert chosen.modules == chosen.found == 2
        assert chosen.usual == ("Qwen3_5ForCausalLM" if task else "Qwen3_5ForConditionalGeneration")
        text = " ".join(chosen.lines())
        assert ("AutoPeftModelForCausalLM builds Qwen3_5ForCausalLM" in text) is (task is not None)
    assert json.loads(coverage.to_json())["model_class"]["name"] == "Qwen3_5ForConditionalGeneration"


def test_the_class_of_the_task_is_not_left_without_need(tmp_path: Path) -> None:
    path = adapter(tmp_path, qwen(), target_modules=["q_proj"], task_type="CAUSAL_LM")
    chosen = verify(path, mode="keys").model_class
    assert chosen is not None
    assert (chosen.name, chosen.usual, chosen.differs) == ("Qwen2ForCausalLM", "Qwen2ForCausalLM", False)
    assert "task_type CAUSAL_LM" in chosen.reason


def test_a_head_that_only_another_class_has(tmp_path: Path) -> None:
    path = adapter(tmp_path, bert(), target_modules=["query"], modules_to_save=["cls"], task_type="FEATURE_EXTRACTION")
    coverage = verify(path, mode="keys")
    assert coverage.complete, coverage.findings
    assert coverage.model_class is not None
    assert coverage.model_class.name == "BertForMaskedLM"
    assert coverage.model_class.usual == "BertModel"


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["keys", "load"])
def test_modules_that_no_class_has(mode: str, tmp_path: Path) -> None:
    path = adapter(tmp_path, qwen(), target_modules=["q_proj"], task_type="CAUSAL_LM")
    file = path / "adapter_model.safetensors"
    renamed = {name.replace("model.layers", "model.decoder.layers"): value for name, value in load_file(file).items()}
    save_file(renamed, file, {"format": "pt"})
    coverage = verify(path, mode=mode)
    assert not coverage.complete
    assert coverage.model_class is not None
    assert coverage.model_class.found == 0
    (finding,) = [item for item in coverage.findings if item.code == "CKD001"]
    assert "without `decoder`" in finding.message
    assert "key_mapping" in finding.message


@pytest.mark.slow
def test_a_base_with_fewer_layers(tmp_path: Path) -> None:
    path = adapter(tmp_path, qwen(), target_modules=["q_proj"], task_type="CAUSAL_LM")
    quiet(lambda where: qwen(num_hidden_layers=1).save_pretrained(where))(tmp_path / "base")
    coverage = verify(path, mode="keys")
    assert not coverage.complete
    (finding,) = [item for item in coverage.findings if item.code == "CKD001"]
    assert (
        "1 module of the adapter (model.layers.1.self_attn.q_proj) does not exist in Qwen2ForCausalLM"
        in finding.message
    )
    assert "--model" in finding.message


def tokenizer(folder: Path, tokens: int) -> None:
    from tokenizers import Tokenizer, models

    made = Tokenizer(models.WordLevel({f"t{number}": number for number in range(tokens)}, unk_token="t0"))
    transformers.PreTrainedTokenizerFast(tokenizer_object=made, unk_token="t0").save_pretrained(folder)


RESIZED: list[tuple[int, dict[str, Any], int | None, bool]] = [
    (72, {}, None, False),
    (72, {}, 72, True),
    (72, {}, 70, False),
    (128, {}, 72, False),  # padded
    (60, {}, 60, False),  # AutoPeftModel makes no base smaller
    (72, {"modules_to_save": ["embed_tokens", "lm_head"]}, None, False),
    (72, {"modules_to_save": ["embed_tokens", "lm_head"]}, 72, True),
    (72, {"trainable_token_indices": [70], "save": False}, None, False),
    (72, {"trainable_token_indices": [70], "save": False}, 72, True),
]


@pytest.mark.slow
@pytest.mark.parametrize(("rows", "settings", "tokens", "loads"), RESIZED)
def test_a_resized_embedding(
    rows: int, settings: dict[str, Any], tokens: int | None, loads: bool, tmp_path: Path
) -> None:
    base = qwen(tie_word_embeddings=False)
    path = adapter(
        tmp_path, base, rows=rows, task_type="CAUSAL_LM", **{"target_modules": ["q_proj"], "save": True, **settings}
    )
    if tokens is not None:
        quiet(lambda where: tokenizer(where, tokens))(path)
    codes = {item.code for item in ckpt_doctor.inspect(path).findings}
    assert codes == (set() if loads else {"CKD518"})
    for mode in ("keys", "load"):
        coverage = verify(path, mode=mode)
        assert coverage.complete is loads, [mode, *coverage.table(), *coverage.findings]
        assert ("CKD518" in {item.code for item in coverage.findings}) is not loads
        assert bool(coverage.departures) is loads


@pytest.mark.slow
def test_the_resized_base_is_named(tmp_path: Path) -> None:
    base = qwen(tie_word_embeddings=False, vocab_size=72)
    path = adapter(tmp_path, base, task_type="CAUSAL_LM", target_modules=["q_proj"], save=True)
    assert not ckpt_doctor.inspect(path).findings
    for mode in ("keys", "load"):
        coverage = verify(path, mode=mode)
        assert coverage.complete
        assert not coverage.departures


def whole(directory: Path, change: Any) -> Path:
    quiet(lambda where: qwen(tie_word_embeddings=False).save_pretrained(where))(directory)
    tensors = change(load_file(directory / "model.safetensors"))
    save_file(tensors, directory / "model.safetensors", {"format": "pt"})
    return directory


@pytest.mark.slow
def test_a_value_head_is_named_with_its_class(tmp_path: Path) -> None:
    path = whole(tmp_path, lambda tensors: {**tensors, "v_head.summary.weight": torch.ones(1, 32)})
    (finding,) = [item for item in verify(path, mode="keys").findings if item.code == "CKD001"]
    assert "AutoModelForCausalLMWithValueHead" in finding.message


def test_a_score_head_is_named_with_its_class(tmp_path: Path) -> None:
    def scored(tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        del tensors["lm_head.weight"]
        return {**tensors, "score.weight": torch.ones(2, 32)}

    (finding,) = [item for item in verify(whole(tmp_path, scored), mode="keys").findings if item.code == "CKD001"]
    assert "load it with Qwen2ForSequenceClassification.from_pretrained" in finding.message


def test_names_of_a_compiled_model_do_not_fit(tmp_path: Path) -> None:
    path = whole(tmp_path, lambda tensors: {f"_orig_mod.{name}": value for name, value in tensors.items()})
    coverage = verify(path, mode="keys")
    assert not coverage.complete
    (finding,) = [item for item in coverage.findings if item.code == "CKD001"]
    assert "without `_orig_mod`" in finding.message
    assert "--select CKD304" in finding.message


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["keys", "load"])
@pytest.mark.parametrize("rank", [2, 3, 8])
def test_a_lora_on_the_classifier_itself_is_no_classifier(rank: int, mode: str, tmp_path: Path) -> None:
    settings = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 1, "num_attention_heads": 4}
    config = transformers.ViTConfig(**settings, image_size=16, patch_size=8, num_labels=3)
    folder = adapter(
        tmp_path, transformers.ViTForImageClassification(config), r=rank, target_modules=["q_proj", "classifier"]
    )
    coverage = verify(folder, mode=mode)
    assert coverage.complete and not coverage.departures, [*coverage.findings, *coverage.departures]


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["keys", "load"])
def test_an_adapter_of_another_architecture_is_judged_in_every_mode(mode: str, tmp_path: Path) -> None:
    folder = adapter(tmp_path, qwen(), task_type="CAUSAL_LM", target_modules=["q_proj"])
    settings = {"vocab_size": 64, "n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 32}
    quiet(transformers.GPT2LMHeadModel(transformers.GPT2Config(**settings)).save_pretrained)(tmp_path / "other")
    coverage = verify(folder, str(tmp_path / "other"), mode=mode)
    assert (coverage.restored, coverage.expected) == (0, 4)
    assert [item.code for item in coverage.findings] == ["CKD002"]
    assert coverage.findings[0].message.endswith("Name the base that the adapter was trained on with --model.")


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["keys", "load"])
def test_a_lost_tensor_comes_with_a_next_step(mode: str, tmp_path: Path) -> None:
    folder = adapter(tmp_path, qwen(), task_type="CAUSAL_LM", target_modules=["q_proj"])
    tensors = load_file(folder / "adapter_model.safetensors")
    tensors.pop(min(tensors))
    save_file(tensors, folder / "adapter_model.safetensors", metadata={"format": "pt"})
    (finding,) = verify(folder, mode=mode).findings
    assert finding.code == "CKD003" and "keeps its initial value. Save it again" in finding.message


@pytest.mark.slow
def test_a_base_that_cannot_be_saved_under_other_names(tmp_path: Path) -> None:
    """As transformers keeps it for a base that was read in the quantised form of bitsandbytes."""
    from transformers.core_model_loading import ConversionOps, WeightConverter

    class OneWay(ConversionOps):  # type: ignore[misc]
        def convert(self, *args: Any, **kwargs: Any) -> Any:
            raise AssertionError("nothing is converted here")

    folder = adapter(tmp_path, qwen(), task_type="CAUSAL_LM", target_modules=["q_proj"])

    def load(path: str) -> Any:
        model = peft.PeftModel.from_pretrained(
            quiet(transformers.Qwen2ForCausalLM.from_pretrained)(tmp_path / "base"), path
        )
        model.get_base_model()._weight_conversions = [WeightConverter("absent.codes", "absent.weight", [OneWay()])]
        return model

    coverage = verify(folder, load)
    assert coverage.complete, [*coverage.findings, *coverage.not_restored()]
