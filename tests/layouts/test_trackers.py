"""A tracker file in the folder of a run names the newest save, and that one is gone."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

import ckpt_doctor
from ckpt_doctor.core.errors import NoCheckpointError
from ckpt_doctor.gate import decide, latest

SAVED = Path(__file__).parents[2] / "fixtures/healthy/peft/lora_bin"

TRACKERS = [
    ("latest_checkpointed_iteration.txt", "300", "global_step_100", "global_step_300"),
    ("latest_checkpointed_iteration.txt", "300\n", "iter_0000100", "iter_0000300"),
    ("latest", "global_step300", "global_step100", "global_step300"),
]


def errors(path: Path) -> list[tuple[str, str]]:
    return [
        (Path(diagnosis.checkpoint.path).name, finding.code)
        for diagnosis in ckpt_doctor.inspect(path).diagnoses
        for finding in diagnosis.findings
        if finding.severity.value == "error"
    ]


@pytest.fixture(params=TRACKERS, ids=["verl", "megatron", "deepspeed"])
def run(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[Path, str, str]:
    tracker, content, older, gone = request.param
    run = tmp_path / "run"
    shutil.copytree(SAVED, run / older)
    (run / tracker).write_text(content)
    return run, older, gone


def test_the_run_is_told_and_not_its_older_save(run: tuple[Path, str, str]) -> None:
    path, older, gone = run
    assert errors(path) == [(gone, "CKD208")]
    assert errors(path.parent) == [(gone, "CKD208")]
    assert errors(path / older) == []
    (finding,) = (item for item in ckpt_doctor.inspect(path).findings if item.code == "CKD208")
    assert f"names {gone} as the newest save of this run, but there is no {gone}" in finding.message


def test_an_older_save_is_not_taken_for_the_newest(run: tuple[Path, str, str]) -> None:
    path, older, gone = run
    for tree in (path, path.parent):
        with pytest.raises(NoCheckpointError, match=rf"is gone: .* names {gone} "):
            latest(tree)
        with pytest.raises(NoCheckpointError, match=f"there is no {gone}"):
            decide(tree, latest=True)
        verdict = decide(tree, latest=True, fallback=True)
        assert verdict.passed
        assert Path(verdict.path).name == older
        assert [Path(item.path).name for item in verdict.passed_over] == [gone]
    assert not decide(path).passed
    assert decide(path / older).passed


def test_an_empty_folder_is_no_save(run: tuple[Path, str, str]) -> None:
    path, _, gone = run
    (path / gone).mkdir()
    assert errors(path) == [(gone, "CKD208")]
    with pytest.raises(NoCheckpointError, match=f"{gone} is empty"):
        decide(path, latest=True)


def test_where_it_is_there_nothing_is_said(run: tuple[Path, str, str]) -> None:
    path, _, gone = run
    shutil.copytree(SAVED, path / gone)
    assert errors(path) == []
    assert Path(latest(path).path).name == gone


def test_a_newer_save_speaks_for_itself(run: tuple[Path, str, str]) -> None:
    path, _, gone = run
    newer = gone.replace("300", "400")
    shutil.copytree(SAVED, path / newer)
    assert errors(path) == []
    assert Path(latest(path).path).name == newer


@pytest.mark.parametrize(
    ("tracker", "content"),
    [
        ("latest", "v1.2"),
        ("latest", "checkpoint-300"),
        ("latest", ""),
        ("latest_checkpointed_iteration.txt", "release"),
        ("latest_checkpointed_iteration.txt", ""),
        ("latest_checkpointed_iteration.txt", "100"),
        ("latest_checkpointed_iteration.txt", "../../300"),
    ],
)
def test_what_names_no_step_is_no_tracker(tmp_path: Path, tracker: str, content: str) -> None:
    shutil.copytree(SAVED, tmp_path / "global_step_100")
    (tmp_path / tracker).write_text(content)
    assert errors(tmp_path) == []


def test_a_model_whose_training_state_was_removed(tmp_path: Path) -> None:
    """What DeepSpeed leaves in a Trainer's checkpoint once its states are deleted: the weights are whole."""
    shutil.copytree(SAVED, tmp_path / "checkpoint-300")
    (tmp_path / "checkpoint-300/latest").write_text("global_step300")
    assert errors(tmp_path) == []


def test_a_save_under_another_name(tmp_path: Path) -> None:
    shutil.copytree(SAVED, tmp_path / "global_step_100")
    shutil.copytree(SAVED, tmp_path / "step-300-hf")
    (tmp_path / "latest_checkpointed_iteration.txt").write_text("300")
    assert errors(tmp_path) == []


def test_a_run_that_lost_all_its_saves(tmp_path: Path) -> None:
    """Beside it is an older run, which must not be taken instead."""
    shutil.copytree(SAVED, tmp_path / "a/final")
    (tmp_path / "b").mkdir()
    (tmp_path / "b/latest_checkpointed_iteration.txt").write_text("300")
    for path in (tmp_path / "a").rglob("*"):
        os.utime(path, (1_700_000_000, 1_700_000_000))
    with pytest.raises(NoCheckpointError, match=r"names step 300 .* no save is there"):
        decide(tmp_path, latest=True)
