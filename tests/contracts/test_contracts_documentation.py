"""What ``docs/contracts.md`` shows is what happens."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import pytest
import torch

from ckpt_doctor.core.contract import KIND
from support import transcripts
from support.command_line import run
from support.places import FAILURES, HEALTHY, REPOSITORY

PAGE = REPOSITORY / "docs" / "contracts.md"
TEXT = PAGE.read_text(encoding="utf-8")
JSON = re.findall(r"```json\n((?:.*\n)*?)```", TEXT)
PYTHON = re.findall(r"```python\n((?:.*\n)*?)```", TEXT)


@pytest.fixture
def scene(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A good weaver, two later saves of which one was trained with other settings, and one without projections."""
    shutil.copytree(HEALTHY / "weaver_bin/weaver", tmp_path / "good/weaver")
    for name in ("runs/step-100", "runs/step-200"):
        shutil.copytree(HEALTHY / "weaver_safetensors/weaver", tmp_path / name / "weaver")
    shutil.copytree(FAILURES / "no_projections/weaver", tmp_path / "broken/weaver")
    later = tmp_path / "runs/step-200/weaver"
    config = json.loads((later / "weaver_lora/adapter_config.json").read_text())
    (later / "weaver_lora/adapter_config.json").write_text(json.dumps({**config, "lora_alpha": 16}))
    state = torch.load(later / "projections.pt", weights_only=True)
    state["prompt_query_latents"] = torch.cat([state["prompt_query_latents"].detach()] * 2)
    state["reasoner_to_weaver"]["bias"].data[:4] += 0.5
    torch.save(state, later / "projections.pt")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.slow
def test_transcripts(scene: Path) -> None:
    transcripts.programs(scene)
    transcripts.check(PAGE, scene)
    written = (scene / "weaver.ckpt.json").read_text()
    assert f'"kind": "{KIND}"' in written
    for block in JSON:
        assert all(line in written for line in block.splitlines() if line.strip() != "…")


def test_the_commands_are_all_there() -> None:
    typed = {step.commands.split()[1] for step in transcripts.steps(PAGE)}
    assert typed == {"lock", "inspect", "diff", "convert"}
    assert JSON
    assert PYTHON


def test_python(scene: Path) -> None:
    run("lock", "good/weaver", "-o", "weaver.ckpt.json")
    for block in PYTHON:
        exec(compile(block, "docs/contracts.md", "exec"), {})  # what a reader would paste
