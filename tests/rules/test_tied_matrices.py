"""CKD406: two matrices that the config ties, in one file and in shards, and what is no contradiction."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file, save_file

from ckpt_doctor import inspect
from ckpt_doctor.core.findings import Finding
from ckpt_doctor.core.policy import Policy
from support.places import HEALTHY


def model(tmp_path: Path, fixture: str = "single_safetensors", **config: Any) -> Path:
    folder = Path(shutil.copytree(HEALTHY / "transformers" / fixture, tmp_path / "model"))
    path = folder / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **config}))
    return folder


def found(folder: Path, *, deep: bool = True) -> list[Finding]:
    return [item for item in inspect(folder, Policy(deep=deep, expect="any")).findings if item.code == "CKD406"]


@pytest.mark.parametrize("fixture", ["single_safetensors", "sharded_safetensors", "sharded_bin"])
def test_two_different_matrices(fixture: str, tmp_path: Path) -> None:
    folder = model(tmp_path, fixture, tie_word_embeddings=True)
    (finding,) = found(folder)
    assert set(finding.tensors) == {"lm_head.weight", "model.embed_tokens.weight"}
    assert finding.fix is not None and "--deep" in finding.fix.command
    assert not found(folder, deep=False), "no value was read"


@pytest.mark.parametrize(
    "config",
    [
        {"tie_word_embeddings": False},
        {"tie_word_embeddings": None},
        {"tie_word_embeddings": True, "auto_map": {"AutoModel": "modeling.Own"}},
        {"tie_word_embeddings": True, "text_config": {"tie_word_embeddings": False}},
        {"tie_word_embeddings": True, "text_config": {}},
    ],
    ids=str,
)
def test_nobody_ties_them_for_certain(config: dict[str, Any], tmp_path: Path) -> None:
    assert not found(model(tmp_path, **config))


def test_a_text_model_inside_says_it_too(tmp_path: Path) -> None:
    folder = model(tmp_path, tie_word_embeddings=True, text_config={"tie_word_embeddings": True})
    (finding,) = found(folder)
    assert finding.fix is None


def test_equal_matrices_are_one(tmp_path: Path) -> None:
    file = model(tmp_path, tie_word_embeddings=True) / "model.safetensors"
    state = load_file(file)
    state["lm_head.weight"] = state["model.embed_tokens.weight"].clone()
    save_file(state, file, metadata={"format": "pt"})
    assert not found(file.parent)
