"""``inspect --verbose`` says why a folder was or was not taken for a checkpoint."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from ckpt_doctor.cli.root import cli
from ckpt_doctor.layouts.answers import answers
from ckpt_doctor.layouts.disk import DISK
from ckpt_doctor.layouts.recogniser import recognised
from ckpt_doctor.layouts.registry import asked_for_folders
from support.places import FAILURES, FIXTURES, HEALTHY


def inspect(*arguments: object) -> Result:
    return CliRunner().invoke(cli, ["inspect", "--verbose", *map(str, arguments)])


FOLDERS = sorted(path for path in (*HEALTHY.rglob("*"), *FAILURES.rglob("*")) if path.is_dir())


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.relative_to(FIXTURES).as_posix())
def test_answers_agree_with_the_recogniser(folder: Path) -> None:
    known = {kind.name: recognised(kind, DISK.folder(folder)) is not None for kind in asked_for_folders()}
    said = list(answers(folder))
    assert {answer.layout: answer.recognised for answer in said} == known
    assert all(answer.by == "content" or answer.recognised != bool(answer.unmet) for answer in said)


def test_markers_that_were_found() -> None:
    done = inspect(FAILURES / "both/weaver")
    assert done.exit_code == 1
    assert f"{FAILURES / 'both/weaver'} is recognised as weaver: found the folder weaver_lora/\n" in done.stderr


def test_markers_that_are_missing(tmp_path: Path) -> None:
    done = inspect(tmp_path)
    assert done.exit_code == 2
    assert f"{tmp_path} is not a checkpoint itself:\n" in done.stderr
    assert "  weaver: did not find the folder weaver_lora/\n" in done.stderr
    assert "  peft: did not find adapter_config.json or adapter_model.*\n" in done.stderr


def test_what_was_found_of_what_is_needed(tmp_path: Path) -> None:
    (tmp_path / "projs.bin").write_bytes(b"")
    (tmp_path / "config.json").write_text("{}")
    assert "  memgen: did not find the file weaver.bin (found the file projs.bin)\n" in inspect(tmp_path).stderr


def test_the_content_decides(tmp_path: Path) -> None:
    (tmp_path / "adapter_config.json").write_text('{"fine_tune_type": "lora"}')
    assert "  peft: its files have the right names but another content\n" in inspect(tmp_path).stderr


def test_a_save_that_was_only_begun(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"model_type": "memgen"}')
    assert "is recognised as memgen: the content of its files says so\n" in inspect(tmp_path).stderr


def test_the_word_of_the_user() -> None:
    done = inspect(HEALTHY / "transformers/tied_bin", "--layout", "peft")
    assert "is recognised as peft: --layout peft says so\n" in done.stderr


def test_the_names_of_tensors() -> None:
    done = inspect(HEALTHY / "memgen_whole_bin", "--layout", "memgen")
    assert "is recognised as memgen: --layout memgen says so\n" in done.stderr


def test_a_lone_file() -> None:
    done = inspect(HEALTHY / "peft/lora/adapter_model.safetensors")
    assert "is a weight file: no kind of folder claims it\n" in done.stderr


def test_a_folder_inside_names_the_checkpoint_around_it() -> None:
    done = inspect(HEALTHY / "weaver_safetensors/weaver/weaver_lora")
    assert done.stderr.count("\n") == 1
    assert "is recognised as weaver: " in done.stderr


def test_a_kind_of_ones_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("ckpt-doctor.toml").write_text(
        '[[layouts]]\nname = "reward"\nmarker = "head.pt"\nfiles = [{role = "head", path = "head.pt"}]\n'
    )
    Path("run").mkdir()
    assert "  reward: did not find any of head.pt\n" in inspect("run").stderr
    Path("run/head.pt").write_bytes(b"no weights")
    assert "run is recognised as reward: found the file head.pt\n" in inspect("run").stderr


def test_nothing_is_said_unless_asked() -> None:
    done = CliRunner().invoke(cli, ["inspect", str(HEALTHY / "weaver_safetensors/weaver")])
    assert done.stderr == ""
