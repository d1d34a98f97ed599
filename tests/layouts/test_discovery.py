"""From a path to the checkpoints that it means."""

from __future__ import annotations

import json
import os
import pickle
import shutil
import zipfile
from pathlib import Path

import pytest

from ckpt_doctor import NoCheckpointError, PathNotFoundError, UnknownNameError, inspect, open_checkpoint
from ckpt_doctor.core.checkpoint import Checkpoint
from ckpt_doctor.core.findings import Severity
from ckpt_doctor.core.weight_file import WeightFile
from ckpt_doctor.layouts import discover
from ckpt_doctor.layouts.disk import Disk
from support.hostile import foreign

HEALTHY = Path(__file__).parents[2] / "fixtures" / "healthy"


def copied(fixture: str, target: Path) -> Path:
    return Path(shutil.copytree(HEALTHY / fixture, target))


def kinds(checkpoints: list[Checkpoint]) -> list[tuple[str, str]]:
    return [(checkpoint.path, checkpoint.layout) for checkpoint in checkpoints]


RUN = "run/train/gsm8k/qwen/pn=1_pl=8_in=5_il=8_20250107-101500"


@pytest.mark.parametrize("inner", ["", "weaver", "weaver/weaver_lora"])
def test_every_path_of_a_run_means_its_weaver(inner: str) -> None:
    (found,) = discover(HEALTHY / RUN / inner)
    assert found.layout == "weaver"
    assert Path(found.path) == HEALTHY / RUN / "weaver"
    assert [file.path for file in found.files] == ["weaver_lora/adapter_model.safetensors", "projections.pt"]


@pytest.mark.parametrize("inner", ["", "weaver_lora", "weaver_lora/weaver", "weaver_lora/trigger"])
def test_nested_adapters_are_parts_of_one_weaver(inner: str) -> None:
    (found,) = discover(HEALTHY / "weaver_and_trigger_nested" / "weaver" / inner)
    assert found.layout == "weaver"
    assert [(part.name, part.secondary) for part in found.parts] == [
        ("weaver adapter", False),
        ("trigger adapter", True),
        ("projections", False),
    ]


@pytest.mark.parametrize("inner", ["", "weaver", "weaver/weaver", "trigger", "trigger/trigger"])
def test_upstream_memgen_is_one_checkpoint(inner: str) -> None:
    (found,) = discover(HEALTHY / "memgen_upstream" / inner)
    assert found.layout == "memgen"
    assert Path(found.path) == HEALTHY / "memgen_upstream"


def test_short_nesting() -> None:
    (found,) = discover(HEALTHY / "weaver_short" / "weaver" / "weaver")
    assert kinds([found]) == [(str(HEALTHY / "weaver_short" / "weaver"), "weaver")]


def test_weaver_and_trigger_beside_each_other_are_two() -> None:
    root = HEALTHY / "trigger_run"
    assert kinds(discover(root)) == [(str(root / "trigger"), "trigger"), (str(root / "weaver"), "weaver")]


def test_weaver_and_trigger_in_one_folder_are_two(tmp_path: Path) -> None:
    both = copied("weaver_safetensors/weaver", tmp_path / "both")
    shutil.copytree(HEALTHY / "trigger_run/trigger/trigger_lora", both / "trigger_lora")
    assert [checkpoint.layout for checkpoint in discover(both)] == ["trigger", "weaver"]


def test_whole_memgen_model() -> None:
    (found,) = discover(HEALTHY / "memgen_whole_bin")
    assert (found.layout, found.variant) == ("memgen", "MemGen whole model")


def test_a_tree_gives_every_checkpoint_once() -> None:
    found = discover(HEALTHY)
    assert len({checkpoint.path for checkpoint in found}) == len(found)
    assert {checkpoint.layout for checkpoint in found} == {"weaver", "trigger", "memgen", "peft", "transformers"}
    assert kinds(found) == sorted(kinds(found))


def test_a_trainers_output_gives_the_model_and_its_checkpoints(tmp_path: Path) -> None:
    root = copied("transformers/single_safetensors", tmp_path / "out")
    for step in (5, 10):
        copied("transformers/single_safetensors", root / f"checkpoint-{step}")
    assert [Path(c.path).name for c in discover(root)] == ["out", "checkpoint-10", "checkpoint-5"]


def test_a_weaver_whose_adapter_is_gone_is_still_a_weaver(tmp_path: Path) -> None:
    for name in ("weaver", "renamed"):
        weaver = copied("weaver_safetensors/weaver", tmp_path / name)
        shutil.rmtree(weaver / "weaver_lora")
        (found,) = discover(weaver)
        assert found.layout == "weaver"
        assert "CKD206" in {finding.code for finding in inspect(weaver).findings}


def test_a_half_written_weaver_is_not_overlooked(tmp_path: Path) -> None:
    (tmp_path / "weaver" / "weaver_lora").mkdir(parents=True)
    assert {"CKD202", "CKD206"} <= {finding.code for finding in inspect(tmp_path / "weaver").findings}


def test_paths_are_shown_as_they_were_typed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    weaver = copied("weaver_safetensors/weaver", tmp_path / "my run" / "weaver")
    monkeypatch.chdir(tmp_path)
    for typed, shown in {
        "my run": "my run/weaver",
        "my run/": "my run/weaver",
        ".": "my run/weaver",
        "my run/weaver": "my run/weaver",
        "my run/weaver/weaver_lora": "my run/weaver",
        "./my run/../my run/weaver": "my run/weaver",
    }.items():
        assert [checkpoint.path for checkpoint in discover(Path(typed))] == [shown]
    monkeypatch.chdir(weaver / "weaver_lora")
    assert [checkpoint.path for checkpoint in discover(Path())] == [".."]


def test_a_file_an_index_and_a_config(tmp_path: Path) -> None:
    sharded = HEALTHY / "transformers" / "sharded_safetensors"
    (lone,) = discover(sharded / "model-00001-of-00003.safetensors")
    assert (lone.layout, lone.files[0].path) == ("file", "model-00001-of-00003.safetensors")
    for name in ("model.safetensors.index.json", "config.json"):
        assert kinds(discover(sharded / name)) == [(str(sharded), "transformers")]


def test_lone_files_in_a_folder_of_anything(tmp_path: Path) -> None:
    shutil.copy(HEALTHY / "weaver_bin/weaver/projections.pt", tmp_path / "state.pt")
    (tmp_path / "notes.txt").write_text("nothing")
    (tmp_path / "tokens.bin").write_bytes(bytes(range(256)) * 8)
    assert [Path(checkpoint.path).name for checkpoint in discover(tmp_path)] == ["state.pt"]


def test_links_to_folders_and_our_own_folder_are_left_out_and_hidden_folders_are_not(tmp_path: Path) -> None:
    hidden = copied("peft/lora", tmp_path / ".cache" / "old")
    real = copied("peft/lora", tmp_path / "real")
    copied("peft/lora", tmp_path / ".ckpt-doctor" / "backup")
    (tmp_path / "latest").symlink_to(real)
    (real / "loop").symlink_to(tmp_path)
    assert kinds(discover(tmp_path)) == [(str(hidden), "peft"), (str(real), "peft")]
    assert kinds(discover(tmp_path / "latest")) == [(str(tmp_path / "latest"), "peft")]


@pytest.mark.slow
def test_very_deep_trees(tmp_path: Path) -> None:
    # Deeper than Python recurses; the test takes the tree away itself because shutil.rmtree would not.
    folders = [tmp_path.joinpath(*["d"] * depth) for depth in range(1, 1101)]
    for folder in folders:
        folder.mkdir()
    try:
        with pytest.raises(NoCheckpointError):
            discover(tmp_path)
    finally:
        for folder in reversed(folders):
            folder.rmdir()


def test_an_adapter_below_its_save_folder_is_told(tmp_path: Path) -> None:
    outer = tmp_path / "checkpoint"
    copied("peft/lora", outer / "lora")
    assert [f.code for f in inspect(outer).findings] == ["CKD203"]
    # A plain folder with checkpoints in it is no save folder.
    shelf = tmp_path / "shelf"
    copied("peft/lora", shelf / "experiment_1")
    assert not inspect(shelf).findings


def test_layout_can_be_forced(tmp_path: Path) -> None:
    adapter = copied("peft/lora", tmp_path / "adapter")
    (forced,) = discover(adapter, "weaver")
    assert forced.layout == "weaver"
    (as_file,) = discover(adapter, "file")
    assert as_file.layout == "file"
    with pytest.raises(UnknownNameError, match="weaverr"):
        discover(adapter, "weaverr")
    with pytest.raises(NoCheckpointError):
        discover(adapter / "adapter_model.safetensors", "peft")


def test_nothing_there(tmp_path: Path) -> None:
    with pytest.raises(PathNotFoundError, match="absent"):
        discover(tmp_path / "absent")
    with pytest.raises(NoCheckpointError):
        discover(tmp_path)
    (tmp_path / "optimizer.pt").write_bytes(b"")
    with pytest.raises(NoCheckpointError):
        discover(tmp_path)


def test_open_checkpoint_gives_one(tmp_path: Path) -> None:
    checkpoint = open_checkpoint(HEALTHY / "weaver_safetensors")
    assert checkpoint.layout == "weaver"
    assert ("projections.pt", "prompt_query_latents") in checkpoint.tensors
    assert open_checkpoint(HEALTHY / "peft" / "two_adapters").path.endswith("two_adapters")
    with pytest.raises(NoCheckpointError, match="2 checkpoints"):
        open_checkpoint(HEALTHY / "trigger_run")


def test_a_trainers_checkpoint_without_its_model(tmp_path: Path) -> None:
    folder = tmp_path / "checkpoint-500"
    folder.mkdir()
    (folder / "config.json").write_text("{}")
    (found,) = discover(folder)
    assert found.layout == "transformers"
    assert not found.files


def test_an_index_cannot_lead_out_of_its_folder(tmp_path: Path) -> None:
    model = copied("transformers/sharded_safetensors", tmp_path / "model")
    shutil.copy(model / "model-00001-of-00003.safetensors", tmp_path / "secret.safetensors")
    index = model / "model.safetensors.index.json"
    index.write_text(index.read_text().replace("model-00001-of-00003.safetensors", "../secret.safetensors"))
    (found,) = discover(model)
    assert all(".." not in file.path for file in found.files)
    assert "CKD905" in {finding.code for finding in inspect(model).findings}


def test_training_state_is_read_and_not_counted(tmp_path: Path) -> None:
    model = copied("transformers/single_safetensors", tmp_path / "checkpoint-5")
    shutil.copy(HEALTHY / "weaver_bin/weaver/projections.pt", model / "optimizer.pt")
    (found,) = discover(model)
    assert [part.role for part in found.parts] == ["model", "training-state"]
    assert found.totals == discover(HEALTHY / "transformers/single_safetensors")[0].totals


def test_what_cannot_be_listed_is_not_called_absent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    weaver = copied("weaver_safetensors/weaver", tmp_path / "weaver")
    (tmp_path / "other").mkdir()
    scandir = os.scandir

    def refuse(path: Path) -> object:
        if Path(path).name in ("weaver_lora", "other"):
            raise PermissionError(13, "Permission denied")
        return scandir(path)

    monkeypatch.setattr("os.scandir", refuse)
    assert [finding.code for finding in inspect(weaver).findings] == ["CKD112"]
    assert [finding.code for finding in inspect(tmp_path).findings] == ["CKD112", "CKD112"]
    assert all(finding.always_fails for finding in inspect(tmp_path).findings)


def test_a_base_path_that_is_no_path(tmp_path: Path) -> None:
    for base in ("x" * 100_000, "a\0b", "//server/share", ["x"], "/dev/stdin"):
        adapter = copied("peft/lora", tmp_path / "adapter")
        config = adapter / "adapter_config.json"
        config.write_text(json.dumps({**json.loads(config.read_text()), "base_model_name_or_path": base}))
        assert not [f for f in inspect(adapter).findings if f.severity is Severity.ERROR]
        shutil.rmtree(adapter)


FOREIGN = b"\x80\x02" + foreign() + b"."


@pytest.mark.parametrize("name", ["other.bin", "notes.pkl", "cache.joblib", "MODEL.PT", "weights.bak", "scores"])
def test_a_foreign_name_is_found_under_any_name(name: str, tmp_path: Path) -> None:
    adapter = copied("peft/lora", tmp_path / "adapter")
    (adapter / name).write_bytes(FOREIGN)
    assert "CKD901" in {finding.code for finding in inspect(adapter).findings}


def test_a_foreign_name_in_a_folder_of_anything_and_in_deepspeeds_state(tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "other.bin").write_bytes(FOREIGN)
    assert "CKD901" in {finding.code for finding in inspect(folder).findings}
    adapter = copied("peft/lora", tmp_path / "adapter")
    (adapter / "global_step5").mkdir()
    (adapter / "global_step5" / "mp_rank_00_model_states.pt").write_bytes(FOREIGN)
    assert "CKD901" in {finding.code for finding in inspect(adapter).findings}


def test_harmless_neighbours_are_left_alone(tmp_path: Path) -> None:
    adapter = copied("peft/lora", tmp_path / "adapter")
    (adapter / "words.pkl").write_bytes(pickle.dumps({"a": [1, 2, 3]}))
    with zipfile.ZipFile(adapter / "notes.docx", "w") as archive:
        archive.writestr("word/document.xml", "<a/>")
    (adapter / "tokenizer.model").write_bytes(bytes(range(256)))
    assert not inspect(adapter).findings


def test_many_indexes_read_a_shard_once(tmp_path: Path) -> None:
    model = copied("transformers/single_safetensors", tmp_path / "model")
    for number in range(20):
        index = {"metadata": {}, "weight_map": {"a": "model.safetensors"}}
        (model / f"m{number}.safetensors.index.json").write_text(json.dumps(index))
    read = []

    class Watched(Disk):
        def weights(self, path: Path, name: str) -> WeightFile:
            read.append(name)
            return super().weights(path, name)

    discover(model, disk=Watched())
    assert read == ["model.safetensors"]


def test_a_nested_folder_that_cannot_be_listed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    weaver = copied("weaver_safetensors/weaver", tmp_path / "weaver")
    (weaver / "weaver_lora" / "other").mkdir()
    scandir = os.scandir

    def refuse(path: Path) -> object:
        if Path(path).name == "other":
            raise PermissionError(13, "Permission denied")
        return scandir(path)

    monkeypatch.setattr("os.scandir", refuse)
    assert [finding.code for finding in inspect(weaver).findings] == ["CKD112"]


def test_a_folder_above_that_cannot_be_listed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    weaver = copied("weaver_safetensors/weaver", tmp_path / "weaver")
    scandir = os.scandir

    def refuse(path: Path) -> object:
        if Path(path) in (weaver, tmp_path):
            raise PermissionError(13, "Permission denied")
        return scandir(path)

    monkeypatch.setattr("os.scandir", refuse)
    (diagnosis,) = inspect(weaver / "weaver_lora").diagnoses
    assert diagnosis.checkpoint.layout == "weaver"
    assert {finding.code for finding in diagnosis.findings} == {"CKD112"}


def test_a_large_folder_above_is_not_listed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    adapter = copied("peft/lora", tmp_path / "runs" / "checkpoint-5")
    listed = []
    scandir = os.scandir

    def watched(path: Path) -> object:
        listed.append(Path(path))
        return scandir(path)

    monkeypatch.setattr("os.scandir", watched)
    assert len(inspect(adapter).diagnoses) == 1
    assert set(listed) == {adapter}


def test_an_empty_path_is_not_the_current_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(HEALTHY / "peft/lora")
    for ask in (inspect, open_checkpoint, discover):
        with pytest.raises(PathNotFoundError, match="empty"):
            ask("")


def test_a_link_to_an_inner_folder_means_the_whole_checkpoint(tmp_path: Path) -> None:
    weaver = copied("weaver_safetensors/weaver", tmp_path / "weaver")
    (weaver / "projections.pt").unlink()
    (tmp_path / "link").symlink_to(weaver / "weaver_lora")
    assert [finding.code for finding in inspect(tmp_path / "link").findings] == ["CKD202"]


def test_a_trigger_with_the_projections_beside_it_is_no_weaver(tmp_path: Path) -> None:
    trigger = copied("trigger_run/trigger", tmp_path / "trigger")
    shutil.copy(HEALTHY / "trigger_run/weaver/projections.pt", trigger)
    for path in (tmp_path, trigger, trigger / "trigger_lora"):
        assert [checkpoint.layout for checkpoint in discover(path)] == ["trigger"]


def test_a_trainers_checkpoint_of_named_adapters_only(tmp_path: Path) -> None:
    save = tmp_path / "checkpoint-4"
    for name in ("policy", "ref"):
        shutil.copytree(HEALTHY / "peft" / "lora", save / name)
    for name in ("trainer_state.json", "optimizer.pt", "scheduler.pt"):
        (save / name).write_text("{}")
    assert [item.path for item in discover(save)] == [str(save / "policy"), str(save / "ref")]


def test_the_short_nesting_of_a_trigger_is_one_checkpoint(tmp_path: Path) -> None:
    trigger = tmp_path / "trigger"
    shutil.copytree(HEALTHY / "trigger_run/trigger/trigger_lora", trigger / "trigger")
    for path in (tmp_path, trigger, trigger / "trigger"):
        assert kinds(discover(path)) == [(str(trigger), "trigger")]


@pytest.mark.parametrize("place", ["weaver_lora/logs", "weaver_lora/weaver"])
def test_a_foreign_name_is_found_in_every_folder_that_belongs_to_a_weaver(place: str, tmp_path: Path) -> None:
    weaver = copied("weaver_nested/weaver", tmp_path / "weaver")
    (weaver / place).mkdir(exist_ok=True)
    (weaver / place / "other.pt").write_bytes(FOREIGN)
    assert "CKD901" in {finding.code for finding in inspect(weaver).findings}
