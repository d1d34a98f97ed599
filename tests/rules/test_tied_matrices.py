"""CKD404 and CKD406: what is on disk of two matrices that the config ties, and what is no contradiction."""

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


def dropped(tmp_path: Path, tensors: dict[str, str], **config: Any) -> list[Finding]:
    """What is said of a model whose matrices are those of an untied one, under these new names; others are gone."""
    folder = model(tmp_path, **config)
    file = folder / "model.safetensors"
    state = {k: v for k, v in load_file(file).items() if k not in ("lm_head.weight", "model.embed_tokens.weight")}
    state |= {new: load_file(file)[old] for old, new in tensors.items()}
    save_file(state, file, metadata={"format": "pt"})
    return [item for item in inspect(folder, Policy(expect="any")).findings if item.code == "CKD404"]


HEAD, EMBEDDING = "lm_head.weight", "model.embed_tokens.weight"


def test_only_the_output_matrix(tmp_path: Path) -> None:
    (finding,) = dropped(tmp_path, {HEAD: HEAD}, tie_word_embeddings=True)
    assert finding.tensors == (HEAD,)


@pytest.mark.parametrize(
    ("tensors", "config"),
    [
        ({EMBEDDING: EMBEDDING}, {"tie_word_embeddings": True}),
        ({HEAD: HEAD, EMBEDDING: EMBEDDING}, {"tie_word_embeddings": True}),
        ({HEAD: HEAD, EMBEDDING: "model.tok_embeddings.weight"}, {"tie_word_embeddings": True}),
        ({}, {"tie_word_embeddings": True}),
        ({HEAD: HEAD}, {"tie_word_embeddings": True, "auto_map": {"AutoModel": "modeling.Own"}}),
        ({HEAD: HEAD}, {"tie_word_embeddings": False}),
    ],
    ids=str,
)
def test_the_embedding_is_there_or_nothing_is_tied(
    tensors: dict[str, str], config: dict[str, Any], tmp_path: Path
) -> None:
    assert not dropped(tmp_path, tensors, **config)
