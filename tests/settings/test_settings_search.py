"""Which settings file holds, and that none of a checkpoint's own does."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from ckpt_doctor import SettingsError, load_settings
from support.command_line import run
from support.places import FIXTURES
from support.projects import enter_project

OWN = 'ignore = ["CKD311"]\n'
PROJECT = '[tool.ckpt-doctor]\nignore = ["CKD403"]\n'
EVERYTHING = 'ignore = ["CKD"]\nfail-on = "never"\n'


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    return enter_project(tmp_path, monkeypatch)


def ignored(**options: object) -> tuple[str, ...]:
    return load_settings(**options).policy.ignore  # type: ignore[arg-type]


def test_nothing_is_said(here: Path) -> None:
    settings = load_settings()
    assert (settings.file, settings.values, settings.output_format) == (None, {}, ())


@pytest.mark.parametrize("depth", [0, 1, 4])
def test_upwards(here: Path, depth: int) -> None:
    (here / "ckpt-doctor.toml").write_text(OWN)
    below = here.joinpath(*["d"] * depth)
    below.mkdir(parents=True, exist_ok=True)
    assert ignored(start=below) == ("CKD311",)
    os.chdir(below)
    assert load_settings().file == here / "ckpt-doctor.toml"


def test_the_nearest_wins_and_our_own_file_before_the_projects(here: Path) -> None:
    (here / "pyproject.toml").write_text(PROJECT)
    (here / "sub").mkdir()
    (here / "sub" / "ckpt-doctor.toml").write_text(OWN)
    assert ignored() == ("CKD403",)
    assert ignored(start="sub") == ("CKD311",)
    (here / "ckpt-doctor.toml").write_text("deep = true\n")
    assert ignored() == ()


@pytest.mark.parametrize("text", ["[tool.ruff]\nline-length = 1\n", '[project]\nname = "ckpt-doctor"\n', "", "no TOML"])
def test_a_project_without_our_table_is_passed_over(here: Path, text: str) -> None:
    (here / "ckpt-doctor.toml").write_text(OWN)
    (here / "sub").mkdir()
    (here / "sub" / "pyproject.toml").write_text(text)
    assert ignored(start="sub") == ("CKD311",)


def test_a_misspelt_table_is_no_silence(here: Path) -> None:
    (here / "pyproject.toml").write_text("[tool.ckpt_doctor]\nexpect = 'bin'\n")
    with pytest.raises(SettingsError, match=r"pyproject.toml: there is no tool.ckpt_doctor; did you mean tool.ckpt-"):
        load_settings()
    (here / "pyproject.toml").write_text("[tool.mypy]\npackages = ['ckpt_doctor']\n[tool]\nckpt = 1\n")
    assert load_settings().file is None


def test_a_named_file_holds_alone(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (here / "ckpt-doctor.toml").write_text(OWN)
    (here / "team.toml").write_text('ignore = ["CKD1"]\n')
    assert ignored(file="team.toml") == ("CKD1",)
    monkeypatch.setenv("CKPT_DOCTOR_CONFIG", "team.toml")
    assert ignored() == ("CKD1",)
    assert ignored(file="ckpt-doctor.toml") == ("CKD311",)
    assert ignored(isolated=True) == ()


def test_a_folder_that_is_gone(here: Path) -> None:
    gone = here / "gone"
    gone.mkdir()
    os.chdir(gone)
    gone.rmdir()
    assert load_settings().file is None
    (here / "team.toml").write_text(OWN)
    assert ignored(file=here / "team.toml") == ("CKD311",)
    (here / "team.toml").write_text("x = 1\n")
    with pytest.raises(SettingsError, match=r"team\.toml: x: there is no such key"):
        load_settings(file=here / "team.toml")


@pytest.mark.parametrize(
    ("make", "problem"),
    [
        (lambda path: path.write_text("a = "), "this is not TOML: Invalid value"),
        (lambda path: path.write_bytes(b"\xff\xfe"), "this is not TOML: 'utf-8' codec"),
        (lambda path: path.write_text("a = " + "[" * 5000), "this is not TOML"),
        (lambda path: path.write_text('a = "ckpt-doctor"\n' * 2), "this is not TOML: Cannot overwrite"),
        (lambda path: path.mkdir(), "cannot be read: it is a directory"),
        (lambda path: os.mkfifo(path), "cannot be read: it is not a regular file"),
        (lambda path: path.symlink_to("nowhere"), "cannot be read: No such file"),
    ],
    ids=["cut", "bytes", "nested", "twice", "folder", "fifo", "link"],
)
def test_what_cannot_be_read_is_named(here: Path, make: Callable[[Path], object], problem: str) -> None:
    make(here / "ckpt-doctor.toml")
    with pytest.raises(SettingsError, match=f"^ckpt-doctor.toml: {problem}.*--no-config"):
        load_settings()
    assert run("inspect", FIXTURES / "healthy" / "peft" / "lora").exit_code == 2
    assert run("inspect", FIXTURES / "healthy" / "peft" / "lora", "--no-config").exit_code == 0


def test_files_that_are_named_must_be_there_and_ours(here: Path) -> None:
    with pytest.raises(SettingsError, match=r"no-such\.toml: there is no such settings file"):
        load_settings(file="no-such.toml")
    (here / "pyproject.toml").write_text("[tool.ruff]\n")
    with pytest.raises(SettingsError, match=r"pyproject.toml: there is no \[tool.ckpt-doctor\] in it"):
        load_settings(file="pyproject.toml")


def test_a_byte_order_mark_is_no_harm(here: Path) -> None:
    (here / "ckpt-doctor.toml").write_bytes(b"\xef\xbb\xbf" + OWN.encode())
    assert ignored() == ("CKD311",)


def test_options_that_exclude_each_other(here: Path) -> None:
    for options in (("--config", "a.toml", "--no-config"), ("--config", "")):
        result = run("inspect", *options)
        assert (result.exit_code, result.stdout) == (2, "")
        assert "--config" in result.stderr


# --- what a checkpoint brings along ----------------------------------------------------------------------------------


def hostile(fixture: str, here: Path, folder: str = "") -> Path:
    """A copy of a broken or healthy fixture with a settings file in it that would silence everything."""
    copy = Path(shutil.copytree(FIXTURES / fixture, here / Path(fixture).name))
    (copy / folder / "ckpt-doctor.toml").write_text(EVERYTHING)
    return copy


@pytest.mark.parametrize("folder", ["", "weaver_lora"])
@pytest.mark.parametrize("cwd", ["", "weaver_lora"])
@pytest.mark.parametrize("asked", [".", "{root}", "{root}/..", "{root}/weaver_lora"])
def test_a_checkpoint_has_no_say_over_itself(here: Path, folder: str, cwd: str, asked: str) -> None:
    weaver = hostile("failures/both/weaver", here, folder)
    os.chdir(weaver / cwd)
    result = run("inspect", asked.format(root=weaver))
    assert result.exit_code == 1
    assert "CKD202" in result.stdout
    # From the outer folder nobody looks into the inner one.
    seen = (weaver / folder) in (weaver / cwd, *(weaver / cwd).parents)
    assert ("ckpt-doctor.toml is not used" in result.stderr) == seen


@pytest.mark.parametrize(
    "make", [lambda file: file.write_text("no TOML"), lambda file: file.mkdir(), lambda file: os.mkfifo(file)]
)
def test_what_a_checkpoint_brings_is_not_even_read(here: Path, make: Callable[[Path], object]) -> None:
    weaver = hostile("failures/both/weaver", here)
    (weaver / "ckpt-doctor.toml").unlink()
    make(weaver / "ckpt-doctor.toml")
    os.chdir(weaver)
    result = run("inspect")
    assert result.exit_code == 1
    assert "ckpt-doctor.toml is not used" in result.stderr


def test_through_a_link_and_as_a_project(here: Path) -> None:
    weaver = hostile("failures/both/weaver", here)
    (weaver / "ckpt-doctor.toml").rename(weaver / "pyproject.toml")
    (weaver / "pyproject.toml").write_text('[tool.ckpt-doctor]\nignore = ["CKD"]\n')
    (here / "link").symlink_to(weaver)
    os.chdir(weaver)
    result = run("inspect", here / "link")
    assert result.exit_code == 1
    assert "pyproject.toml is not used" in result.stderr


def test_the_search_goes_on_above_the_checkpoint(here: Path) -> None:
    weaver = hostile("failures/both/weaver", here)
    (here / "ckpt-doctor.toml").write_text('ignore = ["CKD201"]\n')
    os.chdir(weaver)
    result = run("inspect")
    assert (result.exit_code, "CKD201" in result.stdout) == (1, False)
    assert "../ckpt-doctor.toml, which leave findings out" in result.stderr


@pytest.mark.parametrize("asked", [".", "state.pt", ".."])
def test_lone_files_have_no_say_either(here: Path, asked: str) -> None:
    folder = here / "downloads"
    folder.mkdir()
    shutil.copy(FIXTURES / "healthy/weaver_bin/weaver/projections.pt", folder / "state.pt")
    (folder / "state.pt").write_bytes((folder / "state.pt").read_bytes()[:500])
    (folder / "ckpt-doctor.toml").write_text(EVERYTHING)
    os.chdir(folder)
    result = run("inspect", asked)
    assert result.exit_code == 1
    assert "ckpt-doctor.toml is not used" in result.stderr


def test_a_project_with_a_stray_weight_file_keeps_its_settings(here: Path) -> None:
    shutil.copy(FIXTURES / "healthy/weaver_bin/weaver/projections.pt", here / "stray.pt")
    shutil.copytree(FIXTURES / "failures/both/weaver", here / "runs" / "weaver")
    (here / "ckpt-doctor.toml").write_text('ignore = ["CKD2"]\n')
    result = run("inspect", "runs")
    told = "using the settings of ckpt-doctor.toml, which leave findings out\n"
    assert (result.exit_code, result.stderr) == (0, told)


def test_whoever_names_the_file_trusts_it(here: Path) -> None:
    os.chdir(hostile("failures/both/weaver", here))
    result = run("inspect", "--config", "ckpt-doctor.toml")
    assert (result.exit_code, result.stderr) == (0, "")
    assert run("inspect", env={"CKPT_DOCTOR_CONFIG": "ckpt-doctor.toml"}).exit_code == 0


def test_settings_below_what_is_looked_at_are_used_and_said(here: Path) -> None:
    shutil.copytree(FIXTURES / "failures/both/weaver", here / "weaver")
    (here / "ckpt-doctor.toml").write_text(EVERYTHING)
    result = run("inspect")
    assert (result.exit_code, result.stderr) == (
        0,
        "using the settings of ckpt-doctor.toml; --no-config goes without them\n",
    )
    told = "using the settings of ckpt-doctor.toml, which leave findings out\n"
    assert run("inspect", "weaver").stderr == told
    assert run("inspect", "--no-config").exit_code == 1


@pytest.mark.parametrize("command", [("ls",), ("fix", "--dry-run"), ("convert", "--to", "safetensors")])
def test_every_command_that_reads_settings_is_held_to_that(here: Path, command: tuple[str, ...]) -> None:
    weaver = hostile("failures/both/weaver", here)
    os.chdir(weaver)
    result = run(*command, ".")
    assert "ckpt-doctor.toml is not used" in result.stderr
