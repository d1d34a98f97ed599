"""The config of a base model that the hub's client has stored on this machine."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

import ckpt_doctor
from ckpt_doctor.layouts.hub_cache import cached_file
from support.damages.models import BASE
from support.places import HEALTHY

MODEL = "Qwen/Qwen2-tiny"
COMMIT = "0123456789abcdef"


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for variable in ("HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE", "XDG_CACHE_HOME"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv("HF_HOME", str(tmp_path / "home"))
    folder = tmp_path / "home" / "hub" / "models--Qwen--Qwen2-tiny"
    (folder / "refs").mkdir(parents=True)
    (folder / "refs" / "main").write_text(COMMIT)
    snapshot = folder / "snapshots" / COMMIT
    snapshot.mkdir(parents=True)
    (snapshot / "config.json").write_text(json.dumps({**BASE, "model_type": "qwen2", "num_hidden_layers": 1}))
    return snapshot


@pytest.mark.parametrize("revision", [None, "", "main", COMMIT, 7])
def test_the_snapshot_of_a_revision_is_found(cache: Path, revision: object) -> None:
    assert cached_file(MODEL, revision, "config.json") == cache / "config.json"


@pytest.mark.parametrize(
    ("model", "revision", "name"),
    [
        (MODEL, "other", "config.json"),
        (MODEL, "../main", "config.json"),
        (MODEL, None, "model.safetensors"),
        ("Qwen/Other", None, "config.json"),
        ("../Qwen2-tiny", None, "config.json"),
        ("Qwen/Qwen2-tiny/more", None, "config.json"),
        ("", None, "config.json"),
    ],
)
def test_nothing_else_is(cache: Path, model: str, revision: object, name: str) -> None:
    assert cached_file(model, revision, name) is None


def test_an_adapter_is_held_against_a_base_in_the_cache(cache: Path, tmp_path: Path) -> None:
    adapter = Path(shutil.copytree(HEALTHY / "peft" / "lora", tmp_path / "lora"))
    findings = ckpt_doctor.inspect(adapter).findings
    assert "CKD315" in {finding.code for finding in findings}
