"""CKD514: which of two forms of the rotary embedding disagree, and which do not."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from ckpt_doctor import inspect
from support.places import HEALTHY

YARN = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 16}


def found(tmp_path: Path, **values: Any) -> list[str]:
    folder = Path(shutil.copytree(HEALTHY / "transformers/single_safetensors", tmp_path / "model"))
    config = json.loads((folder / "config.json").read_text())
    del config["rope_parameters"]
    (folder / "config.json").write_text(json.dumps({**config, **values}))
    return [finding.message for finding in inspect(folder).findings if finding.code == "CKD514"]


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"rope_theta": 1e6, "rope_parameters": {"rope_theta": 5e5}}, "transformers 4 takes the former"),
        ({"rope_theta": 1e6, "rope_scaling": None, "rope_parameters": {**YARN, "rope_theta": 1e6}}, "'yarn'"),
        ({"rope_theta": 1e6, "rope_scaling": YARN, "rope_parameters": {"rope_theta": 1e6}}, "both take rope_scaling"),
        ({"rope_scaling": {**YARN, "factor": 8.0}, "rope_parameters": YARN}, "rope_scaling.factor is 8.0"),
        ({"text_config": {"rope_theta": 1e6, "rope_parameters": {"rope_theta": 5e5}}}, "text_config.rope_theta"),
    ],
    ids=str,
)
def test_forms_that_disagree(values: dict[str, Any], said: str, tmp_path: Path) -> None:
    (message,) = found(tmp_path, **values)
    assert said in message


@pytest.mark.parametrize(
    "values",
    [
        {},
        {"rope_theta": 1e6},
        {"rope_parameters": {**YARN, "rope_theta": 1e6}},
        {"rope_theta": 1e6, "rope_scaling": YARN},
        {"rope_theta": 1000000, "rope_scaling": None, "rope_parameters": {"rope_theta": 1e6, "rope_type": "default"}},
        {"rope_theta": 1e6, "rope_scaling": YARN, "rope_parameters": {**YARN, "rope_theta": 1e6}},
        {"rope_scaling": {"type": "mrope", "mrope_section": [1]}, "rope_parameters": {"mrope_section": [1]}},
        {"rope_theta": 1e6, "rope_parameters": {"full_attention": {"rope_theta": 5e5}}},
        {"rope_theta": 1e6, "rope_parameters": {}},
        {"rope_theta": 1e6, "rope_parameters": None},
        {"rope_theta": None, "rope_parameters": [1]},
        {"rope_scaling": "x", "rope_parameters": {"rope_theta": 5e5}},
    ],
    ids=str,
)
def test_forms_that_agree_or_say_nothing(values: dict[str, Any], tmp_path: Path) -> None:
    assert not found(tmp_path, **values)


def test_odd_numbers_raise_nothing(tmp_path: Path) -> None:
    (message,) = found(tmp_path, rope_theta=10**400, rope_parameters={"rope_theta": [1] * 500})
    assert len(message) < 500
