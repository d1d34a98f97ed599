"""What settings do to a report: severities, paths, formats, and what they cannot do."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest

import ckpt_doctor
from ckpt_doctor import Policy, load_settings
from ckpt_doctor.core.findings import Severity
from support.command_line import run
from support.places import FIXTURES
from support.projects import enter_project

FAILURE = FIXTURES / "failures" / "both" / "weaver"


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    return enter_project(tmp_path, monkeypatch)


@pytest.fixture
def runs(here: Path) -> Path:
    """Two broken weavers, ``runs/new/weaver`` and ``runs/old/weaver``."""
    for name in ("new", "old"):
        shutil.copytree(FAILURE, here / "runs" / name / "weaver")
    return here / "runs"


def found(path: object, policy: Policy) -> set[tuple[str, str]]:
    """Folder and code of every finding."""
    report = ckpt_doctor.inspect(path, policy)  # type: ignore[arg-type]
    return {
        (Path(os.path.realpath(diagnosis.checkpoint.path)).parent.name, finding.code)
        for diagnosis in report.diagnoses
        for finding in diagnosis.findings
    }


ALL = {(name, code) for name in ("new", "old") for code in ("CKD201", "CKD202")}
PATTERNS = [
    ('"runs/old" = "CKD2"', {("old", "CKD201"), ("old", "CKD202")}),
    ('"runs/old/**" = "CKD201"', {("old", "CKD201")}),
    ('"./runs/old/" = "CKD201"', {("old", "CKD201")}),
    ('"runs/*/weaver" = "side-file-missing"', {("old", "CKD202"), ("new", "CKD202")}),
    ('"runs/*" = "CKD202"', {("old", "CKD202"), ("new", "CKD202")}),
    ('"**/weaver_lora/*.bin" = "CKD2"', {("old", "CKD201"), ("new", "CKD201")}),
    ('"projections.pt" = "CKD2"', {("old", "CKD202"), ("new", "CKD202")}),
    ('"ol?" = "CKD2"', {("old", "CKD201"), ("old", "CKD202")}),
    ('"[n]ew" = "CKD202"', {("new", "CKD202")}),
    ('"**" = "CKD202"', {("old", "CKD202"), ("new", "CKD202")}),
    ('"runs/old" = "CKD2"\n"runs/new" = "CKD202"', ALL - {("new", "CKD201")}),
    ('"old/weaver" = "CKD2"', set()),
    ('"runs/ol" = "CKD2"', set()),
    ('"runs/old" = "CKD3"', set()),
    ('"runs/old/weaver/x" = "CKD2"', set()),
]


@pytest.mark.slow
@pytest.mark.parametrize(("pattern", "left_out"), PATTERNS, ids=[pattern for pattern, _ in PATTERNS])
def test_rules_left_out_by_path(runs: Path, pattern: str, left_out: set[tuple[str, str]]) -> None:
    Path("ckpt-doctor.toml").write_text(f"[per-path-ignores]\n{pattern}\n")
    policy = load_settings().policy
    assert found("runs", policy) == ALL - left_out
    assert found(runs, policy) == ALL - left_out


def test_paths_are_relative_to_the_settings_and_not_to_the_working_directory(
    runs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Path("ckpt-doctor.toml").write_text('[per-path-ignores]\n"runs/old" = "CKD2"\n')
    for folder, path in {"runs": "old", "runs/old/weaver": ".", "runs/new": "../old/weaver/weaver_lora"}.items():
        monkeypatch.chdir(runs.parent / folder)
        policy = load_settings().policy
        assert found(path, policy) == set()
        monkeypatch.chdir(runs.parent)


def test_through_a_link(runs: Path) -> None:
    Path("ckpt-doctor.toml").write_text('[per-path-ignores]\n"runs/old" = "CKD201"\n"latest" = "CKD202"\n')
    Path("latest").symlink_to(runs / "old" / "weaver")
    assert found("latest", load_settings().policy) == set()


def test_what_lies_elsewhere_is_never_meant(runs: Path, tmp_path: Path) -> None:
    elsewhere = shutil.copytree(FAILURE, tmp_path / "weaver")
    Path("ckpt-doctor.toml").write_text('[per-path-ignores]\n"**" = "CKD2"\n"weaver" = "CKD2"\n')
    assert len(found(elsewhere, load_settings().policy)) == 2


def test_a_lone_file(here: Path) -> None:
    shutil.copy(FAILURE / "weaver_lora/adapter_model.bin", here / "weights.safetensors")
    Path("ckpt-doctor.toml").write_text('[per-path-ignores]\n"weights.safetensors" = "CKD108"\n')
    policy = load_settings().policy
    assert "CKD108" in {finding.code for finding in ckpt_doctor.inspect("weights.safetensors").findings}
    assert not ckpt_doctor.inspect("weights.safetensors", policy).findings


def test_severity_by_code_and_by_name(runs: Path) -> None:
    Path("ckpt-doctor.toml").write_text('[severity]\nCKD201 = "warning"\nside-file-missing = "note"\n')
    result = run("inspect", "runs/new", "--output-format", "json")
    document = json.loads(result.stdout)
    assert result.exit_code == 0
    assert {item["severity"] for item in document["checkpoints"][0]["findings"]} == {"warning", "note"}
    assert document["checkpoints"][0]["healthy"]
    assert run("inspect", "runs/new", "--fail-on", "warning").exit_code == 1


def test_nothing_turns_green_what_was_not_read(here: Path) -> None:
    weaver = Path(shutil.copytree(FIXTURES / "healthy/weaver_safetensors/weaver", here / "weaver"))
    (weaver / "projections.pt").unlink()
    (weaver / "projections.pt").symlink_to("nowhere")
    Path("ckpt-doctor.toml").write_text(
        'ignore = ["CKD112"]\nfail-on = "never"\nseverity.CKD112 = "note"\nper-path-ignores."**" = "CKD"\n'
    )
    result = run("inspect", "weaver", "--output-format", "json")
    (checkpoint,) = json.loads(result.stdout)["checkpoints"]
    assert result.exit_code == 1
    assert [(item["code"], item["severity"]) for item in checkpoint["findings"]] == [("CKD112", "error")]
    assert not checkpoint["healthy"]


def test_fix_leaves_alone_what_is_left_out(runs: Path) -> None:
    Path("ckpt-doctor.toml").write_text('[per-path-ignores]\n"runs/old" = "CKD201"\n')
    result = run("fix", "runs", "--dry-run")
    assert "runs/new/weaver" in result.stdout.replace(os.sep, "/")
    assert "CKD201" in result.stdout
    assert result.stdout.count("convert to safetensors") == 1


def test_formats(runs: Path) -> None:
    Path("ckpt-doctor.toml").write_text('output-format = "json"\n')
    assert json.loads(run("inspect", "runs").stdout)["summary"]["checkpoints"] == 2
    assert run("inspect", "runs", "--output-format", "concise").stdout.count("CKD20") == 4
    # Other commands have formats of their own.
    assert run("ls", "runs").stdout.startswith("runs/new/weaver")


def test_fail_on_holds_for_fix(here: Path) -> None:
    shutil.copytree(FIXTURES / "healthy/weaver_nested/weaver", here / "weaver")
    assert run("fix", "weaver").exit_code == 0
    Path("ckpt-doctor.toml").write_text('fail-on = "warning"\n')
    assert run("fix", "weaver").exit_code == 1
    assert run("fix", "weaver", "--fail-on", "error").exit_code == 0


def test_a_policy_of_ones_own_knows_nothing_of_files(runs: Path) -> None:
    Path("ckpt-doctor.toml").write_text('ignore = ["CKD2"]\n')
    assert found("runs", Policy()) == ALL
    assert found("runs", load_settings().policy) == set()
    assert ckpt_doctor.inspect("runs/new").number_of(Severity.ERROR) == 2
