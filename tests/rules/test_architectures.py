"""Whole models against their config: what transformers saves is healthy, what is dropped or changed is named."""

from __future__ import annotations

import importlib
import json
import time
from pathlib import Path
from typing import Any

import pytest

import ckpt_doctor
from ckpt_doctor.analysis.architecture.adapters import base_modules
from ckpt_doctor.analysis.architecture.expected import expected
from ckpt_doctor.core.architecture import Architecture
from ckpt_doctor.core.findings import Severity
from ckpt_doctor.knowledge.architectures import known_types, table_of
from support.damages.edits import edit_json, edit_tensors, renamed, without
from support.damages.models import BASE
from support.places import HEALTHY

MODEL = HEALTHY / "transformers" / "single_safetensors"
QWEN2 = {**BASE, "model_type": "qwen2", "tie_word_embeddings": False}
QUICK = ("gpt2", "mixtral")
SAMPLE = ("llama", "qwen3_moe", "deepseek_v3", "bert", "t5", "whisper", "vit", "clip", "qwen2_vl", "opt")
ODD: tuple[Any, ...] = (None, [], [None], {}, "text", True, -1, 0, 1.5, 10**12, 10**40, [10**12], {"a": [1]})
OURS = {"CKD303", "CKD316", "CKD317", "CKD318", "CKD320", "CKD510", "CKD513"}


def architecture(path: Path) -> Architecture | None:
    (diagnosis,) = ckpt_doctor.inspect(path).diagnoses
    return diagnosis.checkpoint.parts[0].architecture


def copied(tmp_path: Path, fixture: Path = MODEL) -> Path:
    copy = tmp_path / "model"
    copy.mkdir()
    for file in fixture.iterdir():
        (copy / file.name).write_bytes(file.read_bytes())
    return copy


def codes(path: Path) -> set[str]:
    return {finding.code for finding in ckpt_doctor.inspect(path).findings}


def errors(path: Path) -> list[str]:
    return [f.message for f in ckpt_doctor.inspect(path).findings if f.severity is Severity.ERROR]


# --- what transformers saves ----------------------------------------------------------------------------------------


def check(name: str) -> None:
    outcome = importlib.import_module("check_architectures").check(name, configs=1, seed="test")
    assert not outcome.faults
    assert outcome.counts["judged"] == outcome.counts["saved"] > 0
    assert not [word for word in outcome.counts if word.endswith("dropped: not found")]
    assert outcome.counts["key dropped: found"] and outcome.counts["shape changed: found"]


@pytest.mark.parametrize("name", QUICK)
def test_fresh_saves_are_healthy_and_damages_are_named(name: str) -> None:
    check(name)


@pytest.mark.slow
@pytest.mark.parametrize("name", SAMPLE)
def test_more_fresh_saves_are_healthy_and_damages_are_named(name: str) -> None:
    check(name)


@pytest.mark.slow
def test_a_table_is_what_the_script_makes(monkeypatch: pytest.MonkeyPatch) -> None:
    transformers = importlib.import_module("transformers")
    script = importlib.import_module("generate_architectures")
    if json.loads((script.TARGET / "index.json").read_text())["transformers"] != transformers.__version__:
        pytest.skip("the tables are those of another release")
    assert script.make_one("gptj").text == script.read_all()["gptj"]


# --- what the tables are --------------------------------------------------------------------------------------------


def test_there_are_tables_for_most_model_types_in_little_space() -> None:
    folder = Path(ckpt_doctor.__file__).parent / "knowledge" / "architectures"
    assert len(known_types()) >= 500
    assert sum(file.stat().st_size for file in folder.iterdir() if file.is_file()) < 1_500_000


def test_every_table_can_be_asked() -> None:
    for name in known_types():
        table = table_of(name)
        assert table is not None and table["type"] == name
        for cls in table["classes"]:
            wanted = expected({"model_type": name, "architectures": [cls]})
            assert wanted is not None and wanted.cls == cls


# --- what is not judged ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "change",
    [
        {"model_type": "bert"},
        {"model_type": "of_a_new_kind"},
        {"model_type": ["qwen2"]},
        {"model_type": "../qwen2"},
        {"auto_map": {"AutoModelForCausalLM": "modeling.Own"}},
        {"architectures": None},
        {"architectures": "Qwen2ForCausalLM"},
        {"architectures": ["OwnForCausalLM"]},
        {"architectures": ["OwnForCausalLM", "Qwen2ForCausalLM"]},
        {"quantization_config": {"quant_method": "fp8"}},
    ],
    ids=str,
)
def test_what_is_not_known_is_not_judged(change: dict[str, Any], tmp_path: Path) -> None:
    path = copied(tmp_path)
    edit_json(path / "config.json", lambda config: config.update(change))
    edit_tensors(path / "model.safetensors", without("up_proj"))
    assert architecture(path) is None
    assert not codes(path) & OURS


@pytest.mark.parametrize("odd", ODD, ids=str)
@pytest.mark.parametrize("field", ["num_hidden_layers", "hidden_size", "vocab_size", "layer_types", "num_labels"])
def test_odd_settings_cost_nothing_and_crash_nothing(field: str, odd: Any, tmp_path: Path) -> None:
    path = copied(tmp_path)
    edit_json(path / "config.json", lambda config: config.update({field: odd}))
    start = time.process_time()
    ckpt_doctor.inspect(path)
    base_modules(json.loads((path / "config.json").read_text()))
    assert time.process_time() - start < 5


def test_an_absurd_number_of_layers_is_counted_and_not_listed(tmp_path: Path) -> None:
    path = copied(tmp_path)
    edit_json(path / "config.json", lambda config: config.update(num_hidden_layers=10**12))
    (message,) = errors(path)
    assert "999,999,999,998 layers of 1,000,000,000,000 are missing: model.layers.2," in message


@pytest.mark.parametrize(
    "change",
    [
        {"of_another_tool": {"a": [1, None]}, "rope_scaling": None, "pad_token_id": -1},
        {"num_labels": 7, "id2label": {str(number): "x" for number in range(7)}},
        {"layer_types": None, "sliding_window": 4096, "use_cache": None},
    ],
    ids=str,
)
def test_settings_that_change_no_tensor_change_nothing(change: dict[str, Any], tmp_path: Path) -> None:
    path = copied(tmp_path)
    edit_json(path / "config.json", lambda config: config.update(change))
    assert architecture(path) is not None
    assert not codes(path)


# --- names that transformers reads all the same ---------------------------------------------------------------------


def test_a_base_model_under_the_names_of_a_class_with_a_head_is_healthy(tmp_path: Path) -> None:
    path = copied(tmp_path)
    edit_json(path / "config.json", lambda config: config.update(architectures=["Qwen2Model"]))
    fit = architecture(path)
    assert fit is not None and not fit.missing
    assert fit.unmatched == ("lm_head.weight",)
    assert not codes(path)


def test_a_base_model_saved_by_itself_is_healthy(tmp_path: Path) -> None:
    path = copied(tmp_path)
    edit_json(path / "config.json", lambda config: config.update(architectures=["Qwen2Model"]))
    edit_tensors(path / "model.safetensors", without("lm_head"))
    edit_tensors(path / "model.safetensors", renamed("model.", ""))
    fit = architecture(path)
    assert fit is not None and not fit.bare
    assert not codes(path)


def test_a_tied_matrix_may_lie_under_either_name(tmp_path: Path) -> None:
    path = copied(tmp_path, HEALTHY / "transformers" / "tied_safetensors")
    edit_tensors(path / "model.safetensors", renamed("model.embed_tokens", "lm_head"))
    assert codes(path) == {"CKD404"}  # a warning about readers of version 4; no table misses the other matrix


def test_fused_experts_are_another_form_and_not_missing() -> None:
    from ckpt_doctor.analysis.architecture.comparing import compared
    from ckpt_doctor.core.dtypes import BY_NAME
    from ckpt_doctor.core.weight_file import Storage, TensorInfo

    wanted = expected(
        {**BASE, "model_type": "mixtral", "architectures": ["MixtralForCausalLM"], "num_local_experts": 4}
    )
    assert wanted is not None
    names = [row.named(place) for row in wanted.rows if "experts" not in row.name for place in wanted.required(row)]
    names += [f"model.layers.{layer}.mlp.experts.{part}" for layer in (0, 1) for part in ("gate_up_proj", "down_proj")]
    tensors = [("f", TensorInfo(name, BY_NAME["int8"], (1,), (1,), Storage("0", 1, 0))) for name in names]
    assert not compared(wanted, tensors).missing


# --- what is said ---------------------------------------------------------------------------------------------------


def test_each_missing_tensor_is_named_once(tmp_path: Path) -> None:
    path = copied(tmp_path)
    edit_tensors(path / "model.safetensors", without("layers.0.mlp.down_proj", "layers.1.self_attn.q_proj.bias"))
    (finding,) = ckpt_doctor.inspect(path).findings
    names = ("model.layers.0.mlp.down_proj.weight", "model.layers.1.self_attn.q_proj.bias")
    assert (finding.code, finding.tensors) == ("CKD320", names)
    assert "config.json" in finding.message


def test_a_stale_vocabulary_is_repaired_on_request(tmp_path: Path) -> None:
    path = copied(tmp_path)
    edit_json(path / "config.json", lambda config: config.update(vocab_size=60))
    (finding,) = ckpt_doctor.inspect(path).findings
    assert finding.fix is not None and finding.fix.safety == "unsafe"
    assert finding.tensors == ("lm_head.weight", "model.embed_tokens.weight")
    assert finding.evidence["field"] == "vocab_size" and finding.evidence["size"] == 64


def test_matrices_that_disagree_about_the_vocabulary_are_not_repaired(tmp_path: Path) -> None:
    path = copied(tmp_path)
    edit_tensors(
        path / "model.safetensors", lambda tensors: {**tensors, "lm_head.weight": tensors["lm_head.weight"][:60]}
    )
    (finding,) = ckpt_doctor.inspect(path).findings
    assert finding.code == "CKD513" and finding.fix is None


def _cut(tensors: dict[str, Any], shapes: dict[str, tuple[int, int]]) -> dict[str, Any]:
    return {name: tensors[name][:rows, :columns] for name, (rows, columns) in shapes.items()}


def test_modules_of_every_class_of_the_base_are_known() -> None:
    modules = base_modules(QWEN2)
    assert modules is not None
    assert all(map(modules.has, ("model.layers.1.mlp.up_proj", "layers.0.self_attn.q_proj", "score", "lm_head")))
    assert not any(map(modules.has, ("model.layers.2.mlp.up_proj", "model.layers.1.mlp.c_fc", "h.0")))
    assert modules.features("model.layers.0.mlp.up_proj") == (32, 64)
    assert modules.nearest("language_model.layers.0.mlp.up_proj") is not None
