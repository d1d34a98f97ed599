from __future__ import annotations

import pytest

from ckpt_doctor.core.coverage import MISSING, RESTORED, Coverage, TensorCoverage
from ckpt_doctor.core.findings import Finding, Fix, Severity
from ckpt_doctor.core.results import Diagnosis, Report
from support.hand_made import ATTACKS, HOSTILE, attacked, checkpoint, tensor


@pytest.fixture
def healthy() -> Diagnosis:
    return Diagnosis(checkpoint("runs/good/weaver", tensor("lora_A.weight", 16, 64)), (), deep=True)


@pytest.fixture
def broken() -> Diagnosis:
    return Diagnosis(
        checkpoint("weaver", tensor("lora_A.weight", 16, 64), tensor("lora_B.weight", 64, 16)),
        (
            Finding(
                "CKD201",
                "weights-format-mismatch",
                Severity.ERROR,
                ".bin where .safetensors is expected: a loader that opens weaver_lora/adapter_model.safetensors by "
                "name will not find it. The 2 tensors share no storage, so nothing stands against converting.",
                path="weaver_lora/adapter_model.bin",
                evidence={"expected": "safetensors"},
                fix=Fix("convert to safetensors", "safe", "ckpt-doctor convert weaver --to safetensors"),
            ),
            Finding(
                "CKD202",
                "side-file-missing",
                Severity.ERROR,
                "Without it both projections and both query latents stay at random initialisation.",
                path="projections.pt",
            ),
            Finding(
                "CKD309",
                "base-weights-in-adapter",
                Severity.WARNING,
                "1 tensor of the base model: base_model.model.model.layers.0.self_attn.q_proj.base_layer.weight.",
                path="weaver_lora/adapter_model.bin",
                tensors=("base_model.model.model.layers.0.self_attn.q_proj.base_layer.weight",),
                tensor_count=1,
                fix=Fix("drop them", "unsafe", "ckpt-doctor fix weaver --select CKD309 --unsafe-fixes"),
            ),
            Finding("CKD508", "base-path-unusable", Severity.NOTE, "The base model is on another machine."),
        ),
    )


@pytest.fixture
def hostile() -> Diagnosis:
    finding = Finding(
        "CKD311",
        "unexpected-key",
        Severity.ERROR,
        f"The layout does not know {HOSTILE}.",
        path=f"{HOSTILE}.bin",
        tensors=(HOSTILE, "\udcff"),
        tensor_count=2,
        evidence={HOSTILE: HOSTILE},
        fix=Fix(HOSTILE, "safe", f"ckpt-doctor fix '{HOSTILE}'"),
    )
    return Diagnosis(checkpoint(HOSTILE, tensor(HOSTILE, 2), tensor("\udcff", 2), name=f"{HOSTILE}.bin"), (finding,))


@pytest.fixture
def report(healthy: Diagnosis, broken: Diagnosis) -> Report:
    return Report((healthy, broken))


@pytest.fixture
def clean(healthy: Diagnosis) -> Report:
    return Report((healthy,))


@pytest.fixture
def attack() -> Report:
    """Every attack in every place, in a checkpoint for each."""
    return Report(tuple(attacked(text) for text in ATTACKS.values()))


@pytest.fixture
def partial() -> Coverage:
    """A load that restored some tensors, and of which no rule says so."""
    return Coverage(
        path="runs/weaver/weaver_lora",
        layout="weaver",
        model="eval.py:build",
        loader="eval.py:load",
        mode="load",
        tensors=(
            TensorCoverage("q_proj.lora_A.weight", "weaver_lora/adapter_model.bin", "weaver adapter", MISSING),
            TensorCoverage("q_proj.lora_B.weight", "weaver_lora/adapter_model.bin", "weaver adapter", MISSING),
            TensorCoverage(
                "projections.weight", "projections.pt", "projections", RESTORED, "weaver.projections.weight"
            ),
        ),
        log=("info: Loaded 0 weaver adapter weights",),
        root="runs/weaver",
    )
