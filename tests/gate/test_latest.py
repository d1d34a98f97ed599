"""``ckpt-doctor latest``, and what ``gate --latest`` says of its choice."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from support.children import environment
from support.command_line import run
from support.trees import aged, broken, ckpt_doctor, copied, light, weaver


@pytest.fixture
def train(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder in which a tree ``train`` is to be made; it is the current one."""
    monkeypatch.chdir(tmp_path)
    return tmp_path / "train"


def test_just_the_path(train: Path) -> None:
    for age, day in enumerate((6, 7)):
        aged(copied("trigger_run", train / f"gsm8k/qwen/2025010{day}-101500"), age)
    result = run("latest", "train")
    assert (result.exit_code, result.stderr) == (0, "")
    assert result.stdout == f"{Path('train/gsm8k/qwen/20250107-101500/weaver')}\n"
    assert run("latest", train).stdout == f"{train / 'gsm8k/qwen/20250107-101500/weaver'}\n"


def test_the_newest_whatever_its_health(train: Path) -> None:
    aged(weaver(train / "20250106"), 0)
    aged(broken(train / "20250107"), 1)
    assert run("latest", "train").stdout == f"{Path('train/20250107/weaver')}\n"


def test_the_newest_that_is_healthy(train: Path) -> None:
    aged(weaver(train / "20250105"), 0)
    aged(weaver(train / "20250106"), 1)
    aged(broken(train / "20250107"), 2)
    (train / "20250108").mkdir()
    result = run("latest", "train", "--healthy")
    assert (result.exit_code, result.stdout) == (0, f"{Path('train/20250106/weaver')}\n")
    assert result.stderr.splitlines() == [
        f"passed over: {Path('train/20250108')}: no checkpoint is in it",
        f"passed over: {Path('train/20250107/weaver')}: 1 error: CKD202 side-file-missing",
        f"taken instead: {Path('train/20250106/weaver')}",
    ]


def test_what_healthy_means_can_be_said(train: Path) -> None:
    aged(copied("weaver_bin/weaver", train / "20250107" / "weaver"), 0)
    assert run("latest", "train", "--healthy").exit_code == 2
    assert run("latest", "train", "--healthy", "--expect", "bin").exit_code == 0
    assert run("latest", "train", "--healthy", "--ignore", "CKD201").exit_code == 0


@pytest.mark.parametrize("options", [(), ("--healthy",)])
def test_there_is_none(train: Path, options: tuple[str, ...]) -> None:
    train.mkdir()
    for tree in ("train", "nowhere", ""):
        result = run("latest", tree, *options)
        assert (result.exit_code, result.stdout) == (2, "")
        assert result.stderr.startswith("error: ")


def test_none_is_healthy(train: Path) -> None:
    aged(broken(train / "20250106"), 0)
    aged(broken(train / "20250107"), 1)
    result = run("latest", "train", "--healthy")
    assert (result.exit_code, result.stdout) == (2, "")
    assert f"no checkpoint in train is healthy. The newest, {Path('train/20250107/weaver')}: 1 error" in result.stderr


def test_an_unfinished_run_is_not_passed_over(train: Path) -> None:
    weaver(train / "run_20250106")
    (train / "run_20250107").mkdir()
    result = run("latest", "train")
    assert (result.exit_code, result.stdout) == (2, "")
    assert f"is {Path('train/run_20250107')}, and no checkpoint is in it" in result.stderr


def test_nobody_guesses(train: Path) -> None:
    weaver(train / "a")
    weaver(train / "b")
    aged(train, 0)
    result = run("latest", "train")
    assert (result.exit_code, result.stdout) == (2, "")
    assert "cannot tell which is the newest" in result.stderr


def test_where_names_and_times_disagree_it_is_said(train: Path) -> None:
    aged(light(train / "checkpoint-1000"), 0)
    aged(light(train / "checkpoint-500"), 1)
    result = run("latest", "train")
    assert result.stdout == f"{Path('train/checkpoint-1000')}\n"
    assert "is the newest by its name, and" in result.stderr
    assert "note: " in run("gate", "train", "--latest").stderr
    assert run("gate", "train", "--latest", "-q").stderr == ""


class TestNames:
    @pytest.mark.slow
    @pytest.mark.parametrize("name", ["two words", "it's $HOME", "größe", "权重", "\u202eevil", "a\\nb"])
    def test_are_printed_as_they_are(self, train: Path, name: str) -> None:
        light(train / name)
        result = ckpt_doctor("latest", "train", cwd=train.parent, env={"PYTHONIOENCODING": "ascii"})
        assert (result.returncode, result.stdout, result.stderr) == (0, f"train/{name}\n", "")

    @pytest.mark.parametrize("name", ["a\nb", "a\x1b[2Jb", "a\rb", "\x7f", "\x9b2J"])
    def test_that_would_be_read_as_something_else_are_refused(self, train: Path, name: str) -> None:
        light(train / name)
        result = run("latest", "train")
        assert (result.exit_code, result.stdout) == (2, "")
        assert "rename it" in result.stderr
        assert result.stderr.removesuffix("\n").isprintable()

    def test_that_are_no_utf8(self, train: Path) -> None:
        try:
            light(train / os.fsdecode(b"bad\xff"))
        except OSError:
            pytest.skip("this file system takes UTF-8 only")
        command = [sys.executable, "-m", "ckpt_doctor", "latest", "train"]
        env = environment()
        assert (
            subprocess.run(command, capture_output=True, check=True, env=env, timeout=120).stdout == b"train/bad\xff\n"
        )

    def test_that_look_like_options(self, train: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        light(train / "-rf")
        monkeypatch.chdir(train)
        assert run("latest", ".").stdout == "./-rf\n"


class TestGate:
    def test_a_fallback_is_said(self, train: Path) -> None:
        aged(weaver(train / "20250106"), 0)
        aged(broken(train / "20250107"), 1)
        result = run("gate", "train", "--latest", "--fallback", "-q")
        assert (result.exit_code, result.stdout) == (0, "")
        assert result.stderr.splitlines() == [
            f"passed over: {Path('train/20250107/weaver')}: 1 error: CKD202 side-file-missing",
            f"taken instead: {Path('train/20250106/weaver')}",
        ]

    def test_hundreds_are_not_all_named(self, train: Path) -> None:
        aged(weaver(train / "20250101"), 0)
        for number in range(13):
            (train / f"202502{number + 10}").mkdir()
        lines = run("gate", "train", "--latest", "--fallback").stderr.splitlines()
        assert len(lines) == 12
        assert lines[-2:] == ["passed over: 3 more", f"taken instead: {Path('train/20250101/weaver')}"]

    def test_a_tree_without_latest_must_be_healthy_as_a_whole(self, train: Path) -> None:
        weaver(train / "20250107")
        broken(train / "20250106")
        assert run("gate", "train").exit_code == 1
        assert run("gate", "train", "--latest").exit_code == 0

    def test_only_the_newest_save_is_judged_and_all_of_it(self, train: Path) -> None:
        # The folder of a run holds its last model, and older ones below.
        light(train)
        aged(light(train / "checkpoint-5"), 0).joinpath("model.safetensors").write_bytes(b"")
        aged(train / "checkpoint-5", 0)
        report = json.loads(run("gate", "train", "--latest", "--output-format", "json").stdout)
        assert [item["path"] for item in report["checkpoints"]] == ["train"]
        assert report["gate"].pop("latest")["reason"] == "the newest of 2 saves by the time of its files"
        assert report["gate"] == {"passed": True, "checkpoint": str(train), "reason": None, "passed_over": []}
