"""CKD3xx and CKD5xx: what hostile or odd names and settings do."""

from __future__ import annotations

import json
import shutil
import time
from pathlib import Path

import pytest
from damages_keys import HEALTHY, edit_tensors

from ckpt_doctor import inspect


def adapter_with(tmp_path: Path, **settings: object) -> Path:
    adapter = Path(shutil.copytree(HEALTHY / "peft/lora", tmp_path / "adapter"))
    config = adapter / "adapter_config.json"
    config.write_text(json.dumps({**json.loads(config.read_text()), **settings}))
    return adapter


@pytest.mark.parametrize("layer", ["99999999999", "3000000", "9" * 5000, "9999"])
def test_absurd_layer_numbers_cost_nothing(layer: str, tmp_path: Path) -> None:
    adapter = adapter_with(tmp_path)
    edit_tensors(
        adapter / "adapter_model.safetensors",
        lambda tensors: {name.replace("layers.1.", f"layers.{layer}."): tensor for name, tensor in tensors.items()},
    )
    start = time.process_time()
    assert "CKD303" not in {finding.code for finding in inspect(adapter).findings}
    assert time.process_time() - start < 2


@pytest.mark.parametrize("rank", [float("nan"), float("inf"), 1e308, [8], True, "8", 0, -1])
def test_a_rank_that_is_none(rank: object, tmp_path: Path) -> None:
    assert "CKD501" in {finding.code for finding in inspect(adapter_with(tmp_path, r=rank)).findings}


@pytest.mark.parametrize(
    "settings",
    [
        {"target_modules": "(a+)+$" * 10},
        {"rank_pattern": {"(a+)+$": 3}},
        {"rank_pattern": [1]},
        {"target_modules": {"a": 1}},
        {"modules_to_save": [1, None, {}]},
        {"layers_to_transform": "x", "task_type": 7},
    ],
    ids=str,
)
def test_odd_settings_raise_nothing(settings: dict[str, object], tmp_path: Path) -> None:
    inspect(adapter_with(tmp_path, **settings)).to_json()
