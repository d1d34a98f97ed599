"""Models that cannot be built or judged say so in one sentence, and files with unusual names are found."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

import ckpt_doctor
from ckpt_doctor.core.errors import VerificationError
from ckpt_doctor.verification import verify
from support.hostile import Foreign, foreign_package
from support.zoo import models
from support.zoo.common import quiet

BROKEN: list[Any] = [
    None,
    7,
    {"model_type": ["llama"]},
    {"hidden_size": "x"},
    {"hidden_size": -1},
    {"num_attention_heads": 0},
    {"quantization_config": 7},
    {"dtype": "os"},
]


@pytest.fixture(scope="module")
def llama(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return models.ANIMALS["llama"](tmp_path_factory.mktemp("llama"))


@pytest.mark.parametrize("change", BROKEN, ids=json.dumps)
@pytest.mark.parametrize("mode", ["keys", "load"])
def test_a_config_that_no_model_can_be_made_of(change: Any, mode: str, llama: Path) -> None:
    config = llama / "config.json"
    text = config.read_text()
    config.write_text(json.dumps({**json.loads(text), **change} if isinstance(change, dict) else change))
    try:
        with pytest.raises(VerificationError, match=rf"^{re.escape(str(config))} is not a model .*--model"):
            verify(llama, mode=mode)
    finally:
        config.write_text(text)


@pytest.mark.slow
@pytest.mark.parametrize("named", [[7], 7, ["LlamaConfig"], "LlamaForCausalLM", ["no_such_class"]])
def test_architectures_that_name_no_class(named: Any, llama: Path) -> None:
    config = llama / "config.json"
    text = config.read_text()
    config.write_text(json.dumps({**json.loads(text), "architectures": named}))
    try:
        assert verify(llama, mode="keys").complete
    finally:
        config.write_text(text)


@pytest.mark.slow
@pytest.mark.parametrize("variant", ["fp16", "my-var", "ema.fp16", "step-1000.ema"])
@pytest.mark.parametrize("size", ["1GB", "30KB"])
def test_variants_of_every_name(variant: str, size: str, tmp_path: Path) -> None:
    def write(where: Path) -> Path:
        models.MODELS["llama"]().save_pretrained(where, variant=variant, max_shard_size=size)
        return where

    quiet(write)(tmp_path)
    coverage = verify(tmp_path)
    assert coverage.complete, [*coverage.table(), *coverage.findings, *coverage.log]


@pytest.mark.parametrize("model", [None, {}, nn.Linear], ids=["none", "dict", "class"])
def test_what_is_no_model(model: Any, llama: Path) -> None:
    with pytest.raises(VerificationError, match=r"not a torch\.nn\.Module"):
        ckpt_doctor.load_coverage(model, llama)
    with pytest.raises(VerificationError, match=r"not a torch\.nn\.Module"), ckpt_doctor.watch_load(model, llama):
        pass


def test_parameters_that_are_not_there_yet(tmp_path: Path) -> None:
    model = nn.ModuleDict({"there": nn.Linear(2, 3), "later": nn.LazyLinear(2)})
    path = tmp_path / "both.safetensors"
    there = {name: value.clone() for name, value in model["there"].state_dict(prefix="there.").items()}
    state = {**there, "later.weight": torch.eye(2), "later.bias": torch.ones(2)}
    save_file(state, path)
    coverage = ckpt_doctor.load_coverage(model, path)
    assert {item.name for item in coverage.not_restored()} == {"later.weight", "later.bias"}
    with ckpt_doctor.watch_load(model, path) as watched:
        model.load_state_dict(state)
    assert {item.name for item in watched.tensors if item.arrived} >= {"there.weight", "there.bias"}


def test_a_foreign_name_in_a_file_whose_tensors_are_all_there(tmp_path: Path) -> None:
    model = nn.Linear(2, 2)
    path = tmp_path / "weights.bin"
    with foreign_package():
        torch.save({**model.state_dict(), "more": Foreign()}, path)
    coverage = ckpt_doctor.load_coverage(model, path)
    assert coverage.restored == coverage.expected == 2
    assert not coverage.complete
    assert [item.code for item in coverage.findings] == ["CKD901"]
    with ckpt_doctor.watch_load(model, path) as watched:
        pass
    assert "CKD901" in {item.code for item in watched.findings}
