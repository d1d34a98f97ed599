"""What every command makes of a checkpoint that only the settings know."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

import ckpt_doctor
from ckpt_doctor import Coverage, VerificationError, load_settings, verify
from support.command_line import run
from support.places import FIXTURES
from support.projects import enter_project

LAYOUT = """
[[layouts]]
name = "scored"
expect = "safetensors"

[[layouts.files]]
role = "adapter"
path = "lora"
hidden-size = "hidden size"

[[layouts.files]]
role = "head"
path = "head.pt"
keys = { "score.weight" = [1, "hidden size"] }
"""
NETWORK = """
import torch


class Network(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.score = torch.nn.Linear(32, 1, bias=False)
        self.base = torch.nn.Linear(2, 2)

def build():
    return Network()

def load(model, path):
    model.load_state_dict(torch.load(f"{path}/head.pt", weights_only=True), strict=False)

def load_nothing(model, path):
    pass
"""


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    return enter_project(tmp_path, monkeypatch)


@pytest.fixture
def checkpoint(here: Path) -> Path:
    """A healthy checkpoint below the working directory, whose settings define its layout."""
    (here / "ckpt-doctor.toml").write_text(LAYOUT)
    (here / "network.py").write_text(NETWORK)
    root = here / "run"
    shutil.copytree(FIXTURES / "healthy/peft/lora", root / "lora")
    torch.save({"score.weight": torch.randn(1, 32)}, root / "head.pt")
    return root


def test_inspect(checkpoint: Path) -> None:
    result = run("inspect", "run")
    assert (result.exit_code, result.stderr) == (0, "")
    assert result.stdout.startswith("run · scored · 9 tensors")
    assert run("inspect", "run/lora").stdout.startswith("run · scored")
    (checkpoint / "head.pt").unlink()
    result = run("inspect", "run")
    assert result.exit_code == 1
    assert "CKD202" in result.stdout
    # Without the settings it is an adapter and nothing is amiss.
    assert run("inspect", "run", "--no-config").exit_code == 0


def test_inspect_by_name(checkpoint: Path) -> None:
    assert run("inspect", "run", "--layout", "scored").exit_code == 0
    assert run("inspect", "run/lora", "--layout", "peft").stdout.startswith("run/lora · PEFT LORA")
    result = run("inspect", "run", "--layout", "scord")
    assert result.exit_code == 2
    assert "scored" in result.stderr


def test_ls(checkpoint: Path) -> None:
    result = run("ls", "run")
    assert (result.exit_code, result.stderr) == (0, "")
    assert "score.weight" in result.stdout
    assert result.stdout.splitlines()[-1].startswith("9 tensors")
    (listed,) = json.loads(run("ls", "run/lora", "--output-format", "json").stdout)["checkpoints"]
    assert listed["layout"] == "scored"


def as_bin(checkpoint: Path) -> None:
    file = checkpoint / "lora" / "adapter_model.safetensors"
    torch.save(load_file(file), file.with_suffix(".bin"))
    file.unlink()


def test_convert(checkpoint: Path) -> None:
    as_bin(checkpoint)
    result = run("inspect", "run")
    assert result.exit_code == 1
    assert "fix: ckpt-doctor fix run --select CKD201" in result.stdout
    assert run("convert", "run", "--to", "safetensors").exit_code == 0
    assert sorted(path.name for path in checkpoint.rglob("*.*") if path.suffix != ".md") == [
        "adapter_config.json",
        "adapter_model.bin",
        "adapter_model.safetensors",
        "head.pt",
    ]
    assert "CKD201" not in run("inspect", "run").stdout


def test_convert_to_another_folder_is_whole(checkpoint: Path) -> None:
    as_bin(checkpoint)
    assert run("convert", "run", "converted", "--to", "safetensors").exit_code == 0
    assert run("inspect", "converted").stdout.startswith("converted · scored · 9 tensors")
    assert run("inspect", "converted").exit_code == 0
    shutil.rmtree(checkpoint / "lora")
    result = run("convert", "run", "elsewhere", "--to", "safetensors")
    assert result.exit_code == 2
    assert "has no weights" in result.stderr


def test_fix(checkpoint: Path) -> None:
    as_bin(checkpoint)
    assert run("fix", "run", "--dry-run").exit_code == 1
    result = run("fix", "run/lora")
    assert (result.exit_code, result.stderr) == (0, "")
    assert result.stdout.rstrip().endswith("healthy, headers only")
    assert not (checkpoint / "lora" / "adapter_model.bin").exists()
    (checkpoint / "head.pt").unlink()
    assert run("fix", "run").exit_code == 1


HEAD = '[[layouts]]\nname = "h"\nfiles = [{ role = "head", path = "head.pt"%s }]\n'
BASE = str(FIXTURES / "healthy/transformers/single_safetensors")


def proven(model: str, loader: str | None = None, **options: str) -> Coverage:
    """The coverage of a load in this process, by the layouts of the settings."""
    return verify("run", model, loader=loader, layouts=load_settings().policy.layouts, **options)


class TestVerify:
    @pytest.mark.slow
    def test_with_ones_own_loader(self, checkpoint: Path) -> None:
        result = run("verify", "run", "--model", "network.py:build", "--loader", "network.py:load")
        assert result.exit_code == 1  # this loader takes the head and nothing of the adapter
        assert "lora adapter" in result.stdout
        shutil.rmtree(checkpoint / "lora")
        coverage = proven("network.py:build", "network.py:load")
        assert not coverage.complete  # what is not there did not arrive
        assert [finding.code for finding in coverage.findings] == ["CKD206"]

    @pytest.mark.slow
    def test_a_head_alone(self, checkpoint: Path, here: Path) -> None:
        (here / "ckpt-doctor.toml").write_text(HEAD % "")
        shutil.rmtree(checkpoint / "lora")
        assert proven("network.py:build", "network.py:load").complete
        assert not proven("network.py:build", "network.py:load_nothing").complete

    @pytest.mark.parametrize("mode", ["load", "keys", "forward"])
    def test_nobody_else_knows_how_to_load_it(self, checkpoint: Path, mode: str) -> None:
        with pytest.raises(VerificationError, match=r"how to load a scored checkpoint \(lora adapter, head\)"):
            proven(BASE, mode=mode)

    def test_keys_against_ones_own_model(self, checkpoint: Path) -> None:
        assert not proven("network.py:build", "auto", mode="keys").complete
        with pytest.raises(VerificationError, match="name the model with --model"):
            proven("network.py:build", "auto")

    def test_an_adapter_alone_is_loaded_by_peft(self, checkpoint: Path, here: Path) -> None:
        (here / "ckpt-doctor.toml").write_text(
            '[[layouts]]\nname = "l"\nfiles = [{ role = "adapter", path = "lora" }]\n'
        )
        (checkpoint / "head.pt").unlink()
        assert proven(BASE, mode="keys").complete

    @pytest.mark.slow
    def test_a_key_that_is_missing_is_never_complete(self, checkpoint: Path, here: Path) -> None:
        shutil.rmtree(checkpoint / "lora")
        for key, complete in (("score.weight", True), ("*.weight", True), ("*.bias", False)):
            (here / "ckpt-doctor.toml").write_text(HEAD % f', keys = ["{key}"]')
            assert proven("network.py:build", "network.py:load").complete == complete

    @pytest.mark.slow
    def test_other_parameters_may_have_the_same_name(self, checkpoint: Path, here: Path) -> None:
        (here / "ckpt-doctor.toml").write_text(HEAD % ', keys = ["weight"]')
        shutil.rmtree(checkpoint / "lora")
        torch.save({"weight": torch.randn(1, 32)}, checkpoint / "head.pt")
        (here / "network.py").write_text(NETWORK.replace("model.load", "model.score.load"))
        assert proven("network.py:build", "network.py:load").complete


def test_from_python(checkpoint: Path) -> None:
    policy = load_settings().policy
    assert ckpt_doctor.open_checkpoint("run", layouts=policy.layouts).layout == "scored"
    assert ckpt_doctor.open_checkpoint("run").layout != "scored"
    assert ckpt_doctor.inspect("run", policy).checkpoints[0].layout == "scored"
    save_file({"score.weight": torch.zeros(2, 32)}, checkpoint / "head.pt")
    assert {finding.code for finding in ckpt_doctor.inspect("run", policy).findings} == {"CKD108", "CKD504"}
    assert ckpt_doctor.convert("run", to="safetensors", layouts=policy.layouts).files == ()
