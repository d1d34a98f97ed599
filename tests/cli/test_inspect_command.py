from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest

import ckpt_doctor.inspection
from ckpt_doctor.core.checkpoint import Checkpoint
from ckpt_doctor.core.findings import Finding, Severity
from ckpt_doctor.core.policy import Policy
from ckpt_doctor.core.results import Diagnosis, Report
from ckpt_doctor.layouts.registry import WEAVER
from support.command_line import run
from support.places import BROKEN, FAILURES, FIXTURES, HEALTHY_WEAVER


def report_with(*findings: Finding) -> Report:
    return Report((Diagnosis(Checkpoint(Path("w"), "w", WEAVER, "MemGen weaver", ()), findings),))


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> dict[str, object]:
    """What the command passed on, in the place of a real inspection; ``answer`` is the report it gets."""
    seen: dict[str, object] = {"answer": report_with()}

    def inspect(paths: object, policy: Policy, **options: object) -> object:
        seen.update(paths=paths, policy=policy, **options)
        return seen["answer"]

    monkeypatch.setattr(ckpt_doctor.inspection, "inspect", inspect)
    return seen


def test_a_healthy_checkpoint_is_one_line_and_0() -> None:
    result = run("inspect", HEALTHY_WEAVER)
    assert (result.exit_code, result.stderr) == (0, "")
    assert result.stdout.rstrip().endswith("healthy, headers only")


def test_findings_are_1_and_on_stdout() -> None:
    result = run("inspect", BROKEN)
    assert (result.exit_code, result.stderr) == (1, "")
    assert "CKD201" in result.stdout
    assert "CKD202" in result.stdout


def test_options_become_a_policy(asked: dict[str, object]) -> None:
    result = run(
        *("inspect", "a", "b", "--expect", "bin", "--layout", "peft", "--deep", "--fail-on", "note"),
        *("--select", "ckd2,side-file-missing", "--select", "CKD301", "--ignore", "WRONG-EXTENSION"),
    )
    assert result.exit_code == 0, result.output
    assert asked["paths"] == ("a", "b")
    assert asked["policy"] == Policy(
        expect="bin",
        layout="peft",
        deep=True,
        select=("CKD2", "side-file-missing", "CKD301"),
        ignore=("wrong-extension",),
        fail_on="note",
    )


def test_the_default_path_is_the_current_directory(asked: dict[str, object]) -> None:
    assert run("inspect").exit_code == 0
    assert asked["paths"] == (".",)
    assert asked["policy"] == Policy()


@pytest.mark.parametrize("severity", list(Severity))
@pytest.mark.parametrize("fail_on", ["error", "warning", "note", "never"])
def test_fail_on_decides_between_0_and_1(asked: dict[str, object], severity: Severity, fail_on: str) -> None:
    asked["answer"] = report_with(Finding("CKD201", "x", severity, "m"))
    order = ["never", "error", "warning", "note"]
    expected = 1 if order.index(severity.value) <= order.index(fail_on) else 0
    assert run("inspect", "--fail-on", fail_on).exit_code == expected


def test_what_was_not_read_fails_always(asked: dict[str, object]) -> None:
    asked["answer"] = report_with(Finding("CKD112", "x", Severity.NOTE, "m", always_fails=True))
    assert run("inspect", "--fail-on", "never").exit_code == 1


@pytest.mark.parametrize(
    ("args", "named"),
    [
        (("--select", "CKD201,CKDX9"), "CKDX9"),
        (("--ignore", "side-file-mising"), "did you mean side-file-missing"),
        (("--layout", "wever"), "wever"),
        (("--expect", "gguf"), "gguf"),
        (("--output-format", "toml"), "toml"),
        (("--fail-on", "all"), "all"),
        (("--no-such-option",), "--no-such-option"),
    ],
)
def test_unknown_names_are_2_and_named(args: tuple[str, ...], named: str) -> None:
    result = run("inspect", HEALTHY_WEAVER, *args)
    assert (result.exit_code, result.stdout) == (2, "")
    assert named in result.stderr


def test_a_path_that_is_not_there_is_2(tmp_path: Path) -> None:
    result = run("inspect", tmp_path / "nowhere")
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr.startswith("error: ")
    assert "nowhere" in result.stderr


def test_a_folder_without_a_checkpoint_is_2(tmp_path: Path) -> None:
    result = run("inspect", tmp_path, "--output-format", "json")
    assert (result.exit_code, result.stdout) == (2, "")
    assert "no checkpoint" in result.stderr


def test_json_is_a_document_for_healthy_and_broken() -> None:
    for path, code, healthy in ((HEALTHY_WEAVER, 0, 1), (BROKEN, 1, 0)):
        result = run("inspect", path, "--output-format", "json")
        assert result.exit_code == code
        assert json.loads(result.stdout)["summary"]["healthy"] == healthy


def test_concise_is_a_line_for_each_finding() -> None:
    result = run("inspect", BROKEN, "--output-format", "concise")
    first, second = result.stdout.splitlines()
    assert f"{BROKEN}:weaver_lora/adapter_model.bin: CKD201 error weights-format-mismatch " in first
    assert f"{BROKEN}:projections.pt: CKD202 error side-file-missing " in second


def test_quiet_says_nothing_about_the_healthy() -> None:
    assert run("inspect", HEALTHY_WEAVER, "-q").output == ""
    assert "CKD202" in run("inspect", HEALTHY_WEAVER, BROKEN, "-q").stdout


def test_statistics_count_by_rule() -> None:
    result = run("inspect", FAILURES, "--statistics")
    assert result.exit_code == 1
    rows = [line.split() for line in result.stdout.splitlines() if "CKD" in line]
    assert rows == [
        ["2", "CKD201", "weights-format-mismatch", "error", "2"],
        ["2", "CKD202", "side-file-missing", "error", "0"],
    ]


@pytest.mark.parametrize("path", sorted(FAILURES.iterdir()), ids=lambda path: path.name)
def test_text_of_real_failures_fits_80_columns(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(FIXTURES)
    result = run("inspect", path.relative_to(FIXTURES))
    assert max(map(len, result.stdout.splitlines())) <= 80


class TestOutputFile:
    def test_the_text_goes_there_and_nowhere_else(self, tmp_path: Path) -> None:
        target = tmp_path / "report.txt"
        result = run("inspect", BROKEN, "--output-file", target)
        assert (result.exit_code, result.stdout) == (1, "")
        assert result.stderr == f"2 findings: see {target}\n"
        assert "CKD201" in target.read_text(encoding="utf-8")
        assert list(tmp_path.iterdir()) == [target]

    def test_a_document_leaves_standard_output_to_the_text(self, tmp_path: Path) -> None:
        target = tmp_path / "report.json"
        result = run("inspect", BROKEN, "--output-format", "json", "--output-file", target)
        assert (result.exit_code, result.stderr) == (1, "")
        assert "CKD201" in result.stdout
        assert json.loads(target.read_text())["summary"]["errors"] == 2
        assert list(tmp_path.iterdir()) == [target]

    def test_a_dash_is_standard_output(self) -> None:
        assert run("inspect", HEALTHY_WEAVER, "--output-file", "-").stdout.rstrip().endswith("healthy, headers only")

    def test_a_file_has_no_colours_unless_asked(self, tmp_path: Path) -> None:
        target = tmp_path / "report"
        run("inspect", BROKEN, "--output-file", target, env={"FORCE_COLOR": "1"})
        assert "\x1b" not in target.read_text(encoding="utf-8")
        run("inspect", BROKEN, "--output-file", target, "--color", "always")
        assert "\x1b" in target.read_text(encoding="utf-8")

    @pytest.mark.parametrize("target", ["no/such/folder/report", "."])
    def test_an_impossible_place_is_2_before_any_work(
        self, asked: dict[str, object], tmp_path: Path, target: str
    ) -> None:
        result = run("inspect", "--output-file", tmp_path / target)
        assert (result.exit_code, result.stdout) == (2, "")
        assert "cannot write the report" in result.stderr
        assert "paths" not in asked

    def test_links_are_followed_and_modes_kept(self, tmp_path: Path) -> None:
        real = tmp_path / "real"
        real.write_text("old")
        real.chmod(0o640)
        link = tmp_path / "link"
        link.symlink_to(real)
        assert run("inspect", HEALTHY_WEAVER, "--output-file", link).exit_code == 0
        assert link.is_symlink()
        assert real.read_text(encoding="utf-8").rstrip().endswith("healthy, headers only")
        assert real.stat().st_mode & 0o777 == 0o640

    def test_devices_are_written_to_and_stay(self) -> None:
        assert run("inspect", HEALTHY_WEAVER, "--output-file", os.devnull).exit_code == 0
        assert Path(os.devnull).is_char_device()

    @pytest.mark.parametrize("name", ["weaver_lora/adapter_model.bin", "weaver_lora/adapter_config.json"])
    def test_the_checkpoint_is_never_overwritten(self, tmp_path: Path, name: str) -> None:
        copy = shutil.copytree(BROKEN, tmp_path / "weaver")
        before = (copy / name).read_bytes()
        result = run("inspect", copy, "--output-file", copy / name)
        assert result.exit_code == 2
        assert "is a file of the checkpoint" in result.stderr
        assert (copy / name).read_bytes() == before

    def test_an_error_while_writing_leaves_the_old_file(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        target = tmp_path / "report"
        target.write_text("old")

        def full(descriptor: int) -> None:
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(os, "fsync", full)
        result = run("inspect", HEALTHY_WEAVER, "--output-file", target)
        assert (result.exit_code, target.read_text()) == (2, "old")
        assert "No space left on device" in result.stderr
        assert list(tmp_path.iterdir()) == [target]
