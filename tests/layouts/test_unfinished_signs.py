"""What other trainers leave around a checkpoint whose save did not complete."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

import ckpt_doctor

HEALTHY = Path(__file__).parents[2] / "fixtures/healthy"
FILE = HEALTHY / "weaver_bin/weaver/projections.pt"


def codes(path: Path) -> list[str]:
    return [item.code for item in ckpt_doctor.inspect(path).findings if item.severity.value == "error"]


@pytest.mark.parametrize("name", ["step=100.ckpt", "step=100"])
def test_nemos_marker(tmp_path: Path, name: str) -> None:
    if name.endswith(".ckpt"):
        shutil.copy(FILE, tmp_path / name)
    else:
        shutil.copytree(HEALTHY / "peft/lora_bin", tmp_path / name)
    assert codes(tmp_path / name) == []
    (tmp_path / "step=50-unfinished").touch()
    assert codes(tmp_path / name) == []
    (tmp_path / "step=100-unfinished").touch()
    assert codes(tmp_path / name) == ["CKD208"]


def test_verls_ranks(tmp_path: Path) -> None:
    for rank in range(4):
        shutil.copy(FILE, tmp_path / f"model_world_size_4_rank_{rank}.pt")
    assert codes(tmp_path) == []
    (tmp_path / "model_world_size_4_rank_0.pt").unlink()
    (tmp_path / "model_world_size_4_rank_3.pt").unlink()
    (finding,) = ckpt_doctor.inspect(tmp_path).findings
    assert finding.code == "CKD208"
    assert "2 of 4 files" in finding.message
    assert "model_world_size_4_rank_0.pt, model_world_size_4_rank_3.pt" in finding.message
