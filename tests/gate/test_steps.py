"""All that lies in one numbered folder was saved together: the gate judges all of it."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

from ckpt_doctor.gate import decide, latest
from support.places import HEALTHY
from support.trees import aged, copied, light

FILE = HEALTHY / "weaver_bin/weaver/projections.pt"


def ranks(folder: Path, world: int) -> None:
    folder.mkdir(parents=True)
    for number in range(world):
        for kind in ("model", "extra_state"):
            shutil.copy(FILE, folder / f"{kind}_world_size_{world}_rank_{number}.pt")


def test_the_files_of_all_ranks(tmp_path: Path) -> None:
    for step in (100, 200):
        ranks(tmp_path / f"global_step_{step}/actor", 4)
    assert latest(tmp_path).path == str(tmp_path / "global_step_200")
    assert decide(tmp_path, latest=True).passed
    (tmp_path / "global_step_200/actor/model_world_size_4_rank_3.pt").unlink()
    # Only the first file of a set tells, and it is not the one that was written last.
    aged(tmp_path / "global_step_200/actor/model_world_size_4_rank_0.pt", -1000)
    verdict = decide(tmp_path, latest=True)
    assert not verdict.passed
    assert verdict.path == str(tmp_path / "global_step_200")
    assert "CKD208" in str(verdict.reason)


def test_an_actor_and_a_critic(tmp_path: Path) -> None:
    for step in (100, 200):
        for name in ("actor", "critic"):
            aged(copied("peft/lora_bin", tmp_path / f"global_step_{step}/{name}"), step)
    aged(tmp_path / "global_step_200/critic", -1000)
    assert decide(tmp_path, latest=True).passed
    (tmp_path / "global_step_200/critic/adapter_model.bin").write_bytes(b"")
    verdict = decide(tmp_path, latest=True)
    assert not verdict.passed
    assert verdict.checkpoint == str(tmp_path / "global_step_200")


def test_what_lies_beneath_a_checkpoint(tmp_path: Path) -> None:
    copied("peft/lora_bin", tmp_path / "checkpoint-200")
    ranks(tmp_path / "checkpoint-200/states/deep", 2)
    assert latest(tmp_path).path == str(tmp_path / "checkpoint-200")


def test_one_file_in_a_numbered_folder(tmp_path: Path) -> None:
    for step in (100, 200):
        (tmp_path / f"step_{step}").mkdir()
        shutil.copy(FILE, tmp_path / f"step_{step}/model.pt")
    assert latest(tmp_path).path == str(tmp_path / "step_200/model.pt")


def test_the_base_model_of_an_adapter_beside_it(tmp_path: Path) -> None:
    adapter = copied("peft/lora_bin", tmp_path / "checkpoint-200/adapter")
    base = light(tmp_path / "checkpoint-200/base")
    (base / "config.json").write_text('{"model_type": "llama"}')
    config = json.loads((adapter / "adapter_config.json").read_text())
    (adapter / "adapter_config.json").write_text(json.dumps({**config, "base_model_name_or_path": str(base)}))
    assert latest(tmp_path).path == str(adapter)
