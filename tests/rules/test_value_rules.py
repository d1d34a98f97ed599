"""CKD6xx."""

from __future__ import annotations

import pytest

from ckpt_doctor.core.defects import Defect, DefectKind
from ckpt_doctor.core.parts import Adapter, ConfigFile, Part
from ckpt_doctor.core.weight_file import TensorScan
from ckpt_doctor.knowledge.peft_types import PEFT_TYPES
from ckpt_doctor.rules.all_zero_tensor import AllZeroTensor
from ckpt_doctor.rules.non_finite import NonFinite
from ckpt_doctor.rules.untrained_adapter import UntrainedAdapter
from support.builders import file, part, run, scan, severities, tensor

ROOT = "base_model.model.layers.0.q_proj."


def scanned(
    name: str, result: TensorScan, *, shape: tuple[int, ...] = (4, 8), dtype: str = "float32", role: str = "model"
) -> Part:
    return part(file("model.safetensors", tensor(name, shape, dtype=dtype), scans={name: result}), role=role)


def test_non_finite_values_are_counted_and_the_first_is_placed() -> None:
    tensors = (tensor("a", (4, 8)), tensor("b", (2, 2, 3)), tensor("c"))
    scans = {"a": scan(), "b": scan(2, 10), "c": scan(1, 0)}
    (finding,) = run(NonFinite, part(file("model.safetensors", *tensors, scans=scans)))
    assert finding.severity.value == "error"
    assert finding.message.startswith(
        "3 of 44 values in 2 tensors are NaN or Inf: b, c; the first of b is at [1, 1, 1]."
    )
    assert finding.evidence["tensors"][0] == {"name": "b", "nonfinite": 2, "first": 10}


def test_a_scalar_that_is_not_finite_has_no_index() -> None:
    (finding,) = run(NonFinite, scanned("scale", scan(1, 0), shape=()))
    assert "1 of 1 values in 1 tensor is NaN or Inf: scale. Use" in finding.message


@pytest.mark.parametrize(
    "name",
    ["h.0.attn.masked_bias", "causal_mask", "act_quant.min_val", "callbacks.EarlyStopping.best_score"],
)
def test_infinities_that_may_be_meant_are_a_note(name: str) -> None:
    assert severities(run(NonFinite, scanned(name, scan(3, 1)))) == ["note"]


def test_finite_values_unread_files_and_training_state_are_left_alone() -> None:
    assert run(NonFinite, scanned("w", scan())) == []
    assert run(NonFinite, part(file("model.safetensors", "w"))) == []
    assert run(NonFinite, scanned("w", scan(1, 0), role="training-state")) == []


def adapter(*names: str, zero: tuple[str, ...], peft_type: str | None = "LORA", **fields: object) -> Part:
    scans = {name: scan(zero=name in zero) for name in names}
    config = ConfigFile("adapter_config.json", {"peft_type": peft_type}) if peft_type else None
    return part(file("adapter_model.safetensors", *names, scans=scans, **fields), role="adapter", config=config)


A, B, B2 = f"{ROOT}lora_A.weight", f"{ROOT}lora_B.weight", "base_model.model.layers.1.q_proj.lora_B.weight"


@pytest.mark.parametrize("peft_type", ["LORA", None])
def test_an_adapter_whose_zero_half_is_all_zero_is_untrained(peft_type: str | None) -> None:
    (finding,) = run(UntrainedAdapter, adapter(A, B, B2, zero=(B, B2), peft_type=peft_type))
    assert finding.severity.value == "error"
    assert finding.tensors == (B, B2)
    assert finding.message.startswith("All 2 zero-initialised tensors of the LORA adapter")


def test_one_layer_that_was_trained_is_enough() -> None:
    assert run(UntrainedAdapter, adapter(A, B, B2, zero=(B,))) == []


def test_a_numbered_parameter_is_recognised(monkeypatch: pytest.MonkeyPatch) -> None:
    kind = PEFT_TYPES["LORA"]._replace(value="NUMBERED", prefix="bank_", zero_init=("bank_B.*",))
    monkeypatch.setitem(PEFT_TYPES, "NUMBERED", kind)
    names = (f"{ROOT}bank_A.0", f"{ROOT}bank_B.0", f"{ROOT}bank_B.1")
    (finding,) = run(UntrainedAdapter, adapter(*names, zero=names[1:], peft_type="NUMBERED"))
    assert finding.tensors == names[1:]


def test_other_trained_tensors_make_it_a_warning() -> None:
    head = "base_model.model.score.weight"
    (finding,) = run(UntrainedAdapter, adapter(A, B, head, zero=(B,)))
    assert finding.severity.value == "warning"
    assert f"({head})" in finding.message


def test_an_adapter_that_merely_lies_beside_is_a_warning() -> None:
    assert severities(run(UntrainedAdapter, adapter(A, B, zero=(B,))._replace(adapter=Adapter(secondary=True)))) == [
        "warning"
    ]


@pytest.mark.parametrize(("active", "severity"), [(False, "note"), (True, "error"), (None, "error")])
def test_a_trigger_waits_for_its_stage_only_if_the_config_says_so(active: bool | None, severity: str) -> None:
    trigger = adapter(A, B, zero=(B,))._replace(name="trigger adapter")
    config = ConfigFile("config.json", {} if active is None else {"trigger_active": active})
    assert severities(run(UntrainedAdapter, trigger, layout="memgen", config=config)) == [severity]
    weaver = trigger._replace(name="weaver adapter")
    assert severities(run(UntrainedAdapter, weaver, layout="memgen", config=config)) == ["error"]


def test_types_that_do_not_start_at_zero_and_unknown_types_are_left_alone() -> None:
    assert run(UntrainedAdapter, adapter("q.ia3_l", zero=("q.ia3_l",), peft_type="IA3")) == []
    assert run(UntrainedAdapter, adapter(A, B, zero=(B,), peft_type="FUTURE")) == []
    assert run(UntrainedAdapter, adapter("x", zero=("x",), peft_type=None)) == []


def test_an_adapter_that_was_not_read_whole_is_not_judged() -> None:
    short = (Defect(DefectKind.TORCH_TRUNCATED, "It is short."),)
    assert run(UntrainedAdapter, adapter(A, B, zero=(B,), defects=short)) == []
    unread = part(file("adapter_model.safetensors", A, B), role="adapter")
    assert run(UntrainedAdapter, unread) == []
    partly = part(file("adapter_model.safetensors", A, B, scans={B: scan(zero=True)}), role="adapter")
    assert run(UntrainedAdapter, partly) == []


def test_a_weight_of_zeros_is_a_warning() -> None:
    (finding,) = run(AllZeroTensor, scanned("reasoner_to_weaver.weight", scan(zero=True)))
    assert (finding.severity.value, finding.tensors) == ("warning", ("reasoner_to_weaver.weight",))


@pytest.mark.parametrize(
    ("name", "shape"),
    [
        (A, (4, 8)),
        (A, (1, 8)),
        (f"{ROOT}lora_embedding_B", (8, 4)),
        (f"{ROOT}ia3_l", (8, 1)),
        ("lora_unet_mid_block_attn1_to_q.lora_down.weight", (4, 8)),
    ],
)
def test_the_half_of_an_adapter_that_never_starts_at_zero_is_a_warning(name: str, shape: tuple[int, ...]) -> None:
    (finding,) = run(AllZeroTensor, scanned(name, scan(zero=True), shape=shape, role="adapter"))
    assert (finding.severity.value, finding.tensors) == ("warning", (name,))


@pytest.mark.parametrize("name", [B, f"{ROOT}lora_embedding_A", f"{ROOT}lora_A.bias", f"{ROOT}hada_w2_b"])
def test_the_half_of_an_adapter_that_starts_at_zero_is_left_alone(name: str) -> None:
    assert run(AllZeroTensor, scanned(name, scan(zero=True), role="adapter")) == []


@pytest.mark.parametrize(
    ("name", "shape", "dtype"),
    [
        ("q_proj.bias", (64,), "float32"),
        ("norm.weight", (64,), "float32"),
        ("attn.relative_bias", (4, 8), "float32"),
        ("embeddings.position_ids", (1, 8), "int64"),
        ("mlp.qzeros", (4, 8), "float16"),
        ("attn.masked_bias", (4, 8), "float32"),
        (B, (8, 4), "float32"),
        ("embeddings.token_type_embeddings.weight", (2, 8), "float32"),
        ("optimizer_states.0.exp_avg", (4, 8), "float32"),
        ("scale", (1, 1), "float32"),
    ],
)
def test_zeros_that_are_nothing_unusual(name: str, shape: tuple[int, ...], dtype: str) -> None:
    assert run(AllZeroTensor, scanned(name, scan(zero=True), shape=shape, dtype=dtype)) == []


def test_zeros_of_training_state_and_weights_that_are_not_zero_are_left_alone() -> None:
    assert run(AllZeroTensor, scanned("w", scan(zero=True), role="training-state")) == []
    assert run(AllZeroTensor, scanned("w", scan())) == []
