"""What a settings file says holds for contracts, too."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch

from support.command_line import run
from support.places import FAILURES, HEALTHY

LAYOUT = """
[[layouts]]
name = "scored"

[[layouts.files]]
role = "adapter"
path = "lora"

[[layouts.files]]
role = "head"
path = "head.pt"
keys = { "score.weight" = [1, 32] }
"""


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / ".git").mkdir()
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_a_layout_of_ones_own(here: Path) -> None:
    (here / "ckpt-doctor.toml").write_text(LAYOUT)
    for name in ("good", "later"):
        shutil.copytree(HEALTHY / "peft/lora", here / name / "lora")
        torch.save({"score.weight": torch.full((1, 32), float(name == "good"))}, here / name / "head.pt")
    assert run("lock", "good", "--values", "-o", "c.json").exit_code == 0
    written = json.loads((here / "c.json").read_text())
    assert (written["layout"], [part["role"] for part in written["parts"]]) == ("scored", ["adapter", "head"])
    assert run("inspect", "good/lora", "--deep", "--against", "c.json").exit_code == 0
    result = run("inspect", "later", "--deep", "--against", "c.json", "--select", "CKD85")
    assert (result.exit_code, "CKD855 contract-values-differ  head.pt" in result.stdout) == (1, True)
    read = json.loads(run("diff", "good", "later", "--values", "--output-format", "json").stdout)
    assert [(row["part"], row["name"], row["largest"]) for row in read["differing"]] == [("head", "score.weight", 1.0)]
    # Without the settings the adapter is a checkpoint of its own.
    assert json.loads(run("lock", "good/lora", "--no-config").stdout)["layout"] == "peft"


def test_rules_that_are_ignored_or_not_selected(here: Path) -> None:
    failure = FAILURES / "no_projections" / "weaver"
    (here / "ckpt-doctor.toml").write_text('select = ["CKD1"]\n')
    assert run("lock", failure).exit_code == 1  # what a broken checkpoint is does not depend on what is reported
    (here / "ckpt-doctor.toml").write_text('ignore = ["side-file-missing"]\n')
    assert run("lock", failure).exit_code == 0
    assert run("lock", failure, "--no-config").exit_code == 1


def test_severities(here: Path) -> None:
    assert run("lock", HEALTHY / "weaver_bin", "-o", "c.json").exit_code == 0
    shutil.copytree(HEALTHY / "weaver_safetensors/weaver", here / "weaver")
    state = torch.load(here / "weaver/projections.pt", weights_only=True)
    torch.save({**state, "more": torch.ones(1)}, here / "weaver/projections.pt")
    assert run("inspect", "weaver", "--against", "c.json").exit_code == 0
    (here / "ckpt-doctor.toml").write_text('[severity]\ncontract-tensor-unexpected = "error"\n')
    assert run("inspect", "weaver", "--against", "c.json").exit_code == 1
