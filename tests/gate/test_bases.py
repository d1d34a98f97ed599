"""A base model that lies beside the adapters that were trained on it is never taken for the newest save unsaid."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from ckpt_doctor.core.errors import NoCheckpointError
from ckpt_doctor.gate import decide, latest
from support.command_line import run
from support.trees import aged, copied, light, weaver


@pytest.fixture
def tree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A tree with the adapter ``runs/old``; it is the current folder."""
    monkeypatch.chdir(tmp_path)
    trained_on("nowhere", tmp_path / "runs" / "old")
    return tmp_path


def trained_on(base: str | None, folder: Path, age: int = 0, fixture: str = "peft/lora") -> Path:
    copied(fixture, folder)
    for file in folder.rglob("adapter_config.json"):
        file.write_text(json.dumps({**json.loads(file.read_text()), "base_model_name_or_path": base}))
    return aged(folder, age)


def whole_model(folder: Path, age: int = 9) -> Path:
    return aged(copied("transformers/single_safetensors", folder), age)


@pytest.mark.parametrize(
    ("base", "name"),
    [
        ("models/base", "models/base"),
        ("{tree}/models/base", "models/base"),
        ("../../models/base", "models/base"),
        ("/home/somebody/models/tiny-model", "tiny-model"),
        ("C:\\models\\tiny-model", "tiny-model"),
        ("org/tiny-model", "models/org/tiny-model"),
        ("org/tiny-model", "tiny-model"),
        ("org/tiny-model", "hub/models--org--tiny-model/snapshots/0a1b2c"),
        ("models/base_20250301", "models/base_20250301"),
        ("models/checkpoint-900", "models/checkpoint-900"),
    ],
)
def test_it_is_left_out_and_named(tree: Path, base: str, name: str) -> None:
    trained_on(base.format(tree=tree), tree / "runs" / "new", age=1)
    whole_model(tree / name)
    result = run("latest", ".")
    assert (result.exit_code, Path(result.stdout.strip())) == (0, Path("runs/new"))
    assert result.stderr == (
        f"left out: {Path(name)}: it is the base model of {Path('runs/new')}. If you mean that one, name it.\n"
    )
    assert decide(tree, latest=True).checkpoint == str(tree / "runs" / "new")


def test_of_a_weaver_too(tree: Path) -> None:
    shutil.rmtree(tree / "runs")
    weaver(tree / "runs" / "a")
    for file in (tree / "runs").rglob("adapter_config.json"):
        file.write_text(json.dumps({**json.loads(file.read_text()), "base_model_name_or_path": "models/base"}))
    aged(tree / "runs", 0)
    whole_model(tree / "models" / "base")
    assert latest(".").path == str(Path("runs/a/weaver"))


def test_an_older_one_is_no_news(tree: Path) -> None:
    trained_on("models/base", tree / "runs" / "new", age=5)
    whole_model(tree / "models" / "base", age=1)
    result = run("latest", ".")
    assert (result.stdout, result.stderr) == (f"{Path('runs/new')}\n", "")


@pytest.mark.parametrize("base", [None, "", 3, "nowhere/else", "base/other"])
def test_a_model_that_nobody_names_is_a_save_like_any_other(tree: Path, base: str) -> None:
    trained_on(base, tree / "runs" / "new", age=1)
    whole_model(tree / "models" / "base")
    result = run("latest", ".")
    assert result.stdout == f"{Path('models/base')}\n"
    assert result.stderr == (
        f"note: {Path('models/base')} is a whole model, and only the time of its files says that it is newer than the "
        f"adapter {Path('runs/new')}. If it is the base model, name the adapter.\n"
    )
    assert "note: " in run("gate", ".", "--latest", "-q").stderr


def test_a_model_that_was_trained_on_from_is_not_outrun_by_an_older_step(tree: Path) -> None:
    whole_model(tree / "sft" / "checkpoint-400", age=8)
    whole_model(tree / "sft" / "checkpoint-500", age=9)
    trained_on("sft/checkpoint-500", tree / "dpo" / "checkpoint-100", age=2)
    assert latest(".").path == str(Path("dpo/checkpoint-100"))


def test_a_model_whose_name_says_that_it_is_newer_needs_no_note(tree: Path) -> None:
    whole_model(tree / "runs" / "20250108-101500")
    trained_on("nowhere", tree / "runs" / "20250107-101500", age=1)
    shutil.rmtree(tree / "runs" / "old")
    assert run("latest", "runs").stderr == ""


def test_no_fallback_ends_at_a_base_model(tree: Path) -> None:
    adapter = trained_on("models/base", tree / "runs" / "new", age=1) / "adapter_model.safetensors"
    adapter.write_bytes(adapter.read_bytes()[:-1])
    (tree / "runs" / "old" / "adapter_config.json").write_text("{")
    aged(tree / "runs" / "old", 0)
    whole_model(tree / "models" / "base")
    verdict = decide(tree, latest=True, fallback=True)
    assert not verdict.passed
    assert (verdict.reason or "").endswith("and no older save is healthy")


def test_whole_models_alone_are_what_is_meant(tmp_path: Path) -> None:
    light(tmp_path / "a" / "checkpoint-1")
    light(tmp_path / "a" / "checkpoint-2")
    assert Path(latest(tmp_path).path).name == "checkpoint-2"


def test_the_gate_says_what_it_took(tree: Path) -> None:
    whole_model(tree / "models" / "nowhere")
    result = run("gate", ".", "--latest", "--output-format", "json")
    first, second = result.stderr.splitlines()
    assert first == f"latest: {Path('runs/old')} (PEFT LORA), the only save there"
    assert second.startswith(f"left out: {Path('models/nowhere')}: ")
    document = json.loads(result.stdout)["gate"]["latest"]
    assert (document["layout"], document["reason"]) == ("peft", "the only save there")
    assert [item["path"] for item in document["left_out"]] == [str(Path("models/nowhere"))]
    assert json.loads(run("gate", "runs/old", "--output-format", "json").stdout)["gate"]["latest"] is None


@pytest.mark.parametrize(
    ("names", "reason"),
    [
        (("checkpoint-5", "checkpoint-10"), "the newest of 2 saves by the number in its name"),
        (("20250107-101500", "20250108-101500"), "the newest of 2 saves by the time in its name"),
        (("a", "b"), "the newest of 2 saves by the time of its files"),
        (("only",), "the only save there"),
    ],
)
def test_why(tmp_path: Path, names: tuple[str, ...], reason: str) -> None:
    for age, name in enumerate(names):
        aged(light(tmp_path / name), age)
    choice = latest(tmp_path)
    assert (Path(choice.path).name, choice.reason) == (names[-1], reason)


def test_a_tree_of_nothing_is_still_nothing(tmp_path: Path) -> None:
    with pytest.raises(NoCheckpointError):
        latest(tmp_path)
