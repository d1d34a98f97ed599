"""Several outputs at once, the step summary of a workflow, and a runner that reads along."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import ClassVar

import pytest
from click.testing import Result
from test_processes import safetensors_file

import ckpt_doctor.inspection
from ckpt_doctor.cli.outputs import Output, Outputs
from ckpt_doctor.cli.step_summary import LIMIT, fitting
from ckpt_doctor.core.checkpoint import Checkpoint
from ckpt_doctor.core.findings import Finding, Severity
from ckpt_doctor.core.results import Diagnosis, Report
from ckpt_doctor.layouts.registry import WEAVER
from ckpt_doctor.reporting import FORMATS
from support import strict
from support.command_line import process, run
from support.places import BROKEN, HEALTHY_WEAVER


def as_(output_format: str) -> tuple[str, str]:
    return "--output-format", output_format


JSON, SARIF, GITHUB, TEXT = map(as_, ("json", "sarif", "github", "text"))


def to(path: object) -> tuple[object, ...]:
    return "--output-file", path


@pytest.fixture
def no_work(monkeypatch: pytest.MonkeyPatch) -> None:
    def inspect(*_: object, **__: object) -> None:
        raise AssertionError("there was work")

    monkeypatch.setattr(ckpt_doctor.inspection, "inspect", inspect)


class TestPairs:
    @pytest.mark.parametrize(
        ("formats", "files", "expected"),
        [
            ([], [], [("text", None)]),
            ([], ["F"], [("text", "F")]),
            ([], ["-"], [("text", None)]),
            (["json"], [], [("json", None)]),
            (["json"], ["-"], [("json", None)]),
            (["json"], ["F"], [("json", "F"), ("text", None)]),
            (["text"], ["F"], [("text", "F")]),
            (["json", "sarif"], ["F"], [("json", "F"), ("sarif", None)]),
            (["json", "sarif"], ["-", "F"], [("json", None), ("sarif", "F")]),
            (["json", "sarif"], ["F", "G"], [("json", "F"), ("sarif", "G"), ("text", None)]),
            (["json", "text"], ["F", "G"], [("json", "F"), ("text", "G")]),
            (["json", "json"], ["F", "G"], [("json", "F"), ("json", "G"), ("text", None)]),
        ],
    )
    def test_the_nth_file_takes_the_nth_format(
        self, formats: list[str], files: list[str], expected: list[tuple[str, str | None]]
    ) -> None:
        assert Outputs.parse(formats, files) == Outputs(tuple(Output(*item) for item in expected))

    @pytest.mark.parametrize(
        ("args", "said"),
        [
            ((*JSON, *SARIF), "only one format can go to standard output, and these would: json, sarif"),
            ((*JSON, *SARIF, *TEXT, *to("F")), "sarif, text"),
            ((*JSON, *SARIF, *to("-")), "json, sarif"),
            ((*JSON, *SARIF, *to("-"), *to("-")), "json, sarif"),
            ((*JSON, *to("F"), *to("G")), "--output-file was given 2 times and --output-format 1 times"),
            ((*to("F"), *to("G")), "name a format for each file"),
            ((*JSON, *SARIF, *to("F"), *to("F")), "F was given twice"),
            ((*JSON, *SARIF, *to("F"), *to("x/../F")), "was given twice"),
        ],
    )
    @pytest.mark.parametrize("command", ["inspect", "verify"])
    def test_what_does_not_fit_together_is_2_before_any_work(
        self, no_work: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: str, args: object, said: str
    ) -> None:
        monkeypatch.chdir(tmp_path)
        result = run(command, HEALTHY_WEAVER, *args)  # type: ignore[misc]
        assert (result.exit_code, result.stdout) == (2, "")
        assert said in result.stderr
        assert not list(tmp_path.iterdir())

    def test_a_link_to_the_other_file_is_the_other_file(self, no_work: None, tmp_path: Path) -> None:
        (tmp_path / "link").symlink_to(tmp_path / "F")
        result = run("inspect", HEALTHY_WEAVER, *JSON, *SARIF, *to(tmp_path / "F"), *to(tmp_path / "link"))
        assert result.exit_code == 2
        assert "was given twice" in result.stderr

    def test_each_place_is_looked_at_before_any_work(self, no_work: None, tmp_path: Path) -> None:
        result = run("inspect", HEALTHY_WEAVER, *JSON, *SARIF, *to(tmp_path / "F"), *to(tmp_path / "no" / "G"))
        assert (result.exit_code, result.stdout) == (2, "")
        assert "is not a directory" in result.stderr


class TestWriting:
    def test_every_format_at_once(self, tmp_path: Path) -> None:
        formats = [name for name in FORMATS if name != "text"]
        args = [item for name in formats for item in ("--output-format", name, "--output-file", tmp_path / name)]
        result = run("inspect", BROKEN, HEALTHY_WEAVER, *args)
        assert (result.exit_code, result.stderr) == (1, "")
        assert "2 errors" in result.stdout
        texts = {name: (tmp_path / name).read_text(encoding="utf-8") for name in formats}
        assert len(json.loads(texts["json"])["checkpoints"]) == 2
        assert len(strict.sarif(texts["sarif"])["results"]) == 2
        assert len(strict.junit(texts["junit"])) == 2
        assert len(strict.commands(texts["github"])[0]) == 2
        assert len(strict.markdown(texts["markdown"]).rows) == 3
        assert len(texts["concise"].splitlines()) == 2

    def test_sarif_explains_the_rules(self) -> None:
        rules = strict.sarif(run("inspect", BROKEN, *SARIF).stdout)["tool"]["driver"]["rules"]
        assert [rule["id"] for rule in rules] == ["CKD201", "CKD202"]
        assert all("What to do" in rule["help"]["text"] for rule in rules)

    def test_the_text_is_still_on_standard_output(self, tmp_path: Path) -> None:
        result = run("inspect", BROKEN, *JSON, *to(tmp_path / "report.json"))
        assert (result.exit_code, result.stderr) == (1, "")
        assert result.stdout == run("inspect", BROKEN).stdout

    def test_with_a_dash_the_document_is(self, tmp_path: Path) -> None:
        result = run("inspect", BROKEN, *SARIF, *JSON, *to(tmp_path / "report.sarif"), *to("-"))
        assert json.loads(result.stdout)["summary"]["errors"] == 2
        strict.sarif((tmp_path / "report.sarif").read_text())

    def test_a_file_gets_neither_colours_nor_the_width_of_a_terminal(self, tmp_path: Path) -> None:
        args = (*TEXT, *JSON, *to(tmp_path / "F"))
        result = run("inspect", BROKEN, *args, env={"FORCE_COLOR": "1"})
        assert json.loads(result.stdout)["summary"]["errors"] == 2
        assert "\x1b" not in (tmp_path / "F").read_text()

    def test_one_that_fails_does_not_stand_in_the_way_of_the_others(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        copy = shutil.copytree(BROKEN, tmp_path / "weaver")
        weights = copy / "weaver_lora" / "adapter_model.bin"
        before = weights.read_bytes()
        result = run("inspect", copy, *JSON, *SARIF, *to(weights), *to(tmp_path / "report.sarif"))
        assert result.exit_code == 2
        assert "is a file of the checkpoint" in result.stderr
        assert "CKD201" in result.stdout
        strict.sarif((tmp_path / "report.sarif").read_text())
        assert weights.read_bytes() == before

    @pytest.mark.slow
    @pytest.mark.parametrize("output_format", ["sarif", "junit"])
    def test_a_document_stays_whole_in_any_encoding(self, tmp_path: Path, output_format: str) -> None:
        target = shutil.copytree(BROKEN, tmp_path / "größe")
        result = process("inspect", target, "--output-format", output_format, env={"PYTHONIOENCODING": "ascii"})
        assert (result.returncode, result.stderr) == (1, b"")
        read = {"sarif": strict.sarif, "junit": strict.junit}[output_format](result.stdout.decode("ascii"))
        assert len(read)


class TestStepSummary:
    @pytest.fixture
    def summary(self, tmp_path: Path) -> Path:
        return tmp_path / "summary.md"

    def step(self, summary: Path, *args: object) -> Result:
        return run("inspect", *args, env={"GITHUB_STEP_SUMMARY": str(summary)})

    def test_github_appends_the_markdown_report(self, summary: Path) -> None:
        summary.write_text("before")
        result = self.step(summary, BROKEN, *GITHUB)
        assert (result.exit_code, result.stderr) == (1, "")
        assert [command.name for command in strict.commands(result.stdout)[0]] == ["error", "error"]
        before, _, report = summary.read_text(encoding="utf-8").partition("\n")
        assert before == "before"
        assert report == run("inspect", BROKEN, "--output-format", "markdown").stdout

    def test_other_formats_do_not(self, summary: Path) -> None:
        for output_format in FORMATS:
            if output_format != "github":
                self.step(summary, BROKEN, "--output-format", output_format)
        assert not summary.exists()

    def test_github_in_a_file_does_too(self, summary: Path, tmp_path: Path) -> None:
        self.step(summary, HEALTHY_WEAVER, *GITHUB, *to(tmp_path / "commands"))
        assert "passed" in summary.read_text(encoding="utf-8")

    @pytest.mark.parametrize(("path", "code"), [(HEALTHY_WEAVER, 0), (BROKEN, 1)])
    def test_what_cannot_be_written_is_said_and_changes_no_verdict(self, tmp_path: Path, path: Path, code: int) -> None:
        result = self.step(tmp_path / "no" / "summary", path, *GITHUB)
        assert result.exit_code == code
        assert result.stderr.startswith("no step summary was written: ")
        assert "No such file" in result.stderr

    def test_a_file_of_the_checkpoint_is_left_alone(self, tmp_path: Path) -> None:
        copy = shutil.copytree(BROKEN, tmp_path / "weaver")
        config = copy / "weaver_lora" / "adapter_config.json"
        before = config.read_bytes()
        result = self.step(config, copy, *GITHUB)
        assert result.exit_code == 1
        assert "is a file of the checkpoint" in result.stderr
        assert config.read_bytes() == before

    @pytest.mark.slow
    @pytest.mark.parametrize("already", [0, 500_000, LIMIT - 1500])
    def test_a_long_report_is_cut_between_two_findings(
        self, summary: Path, monkeypatch: pytest.MonkeyPatch, already: int
    ) -> None:
        finding = Finding("CKD311", "unexpected-key", Severity.ERROR, "unknown " * 20, tensors=("é" * 100,))
        checkpoint = Checkpoint(Path("w"), "w", WEAVER, "MemGen weaver", ())
        report = Report((Diagnosis(checkpoint, (finding,) * 5000),))
        monkeypatch.setattr(ckpt_doctor.inspection, "inspect", lambda *_, **__: report)
        summary.write_bytes(b"x" * already)
        assert self.step(summary, "w", *GITHUB).exit_code == 1
        data = summary.read_bytes()
        assert len(data) < LIMIT
        assert already > LIMIT - 2000 or len(data) > LIMIT - 3000
        text = data.decode("utf-8")
        shown = strict.markdown(text[already:])
        assert shown.text.strip().endswith("The log has all of it.")

    def test_a_full_one_is_said(self, summary: Path) -> None:
        summary.write_bytes(b"x" * LIMIT)
        result = self.step(summary, HEALTHY_WEAVER, *GITHUB)
        assert (result.exit_code, summary.stat().st_size) == (0, LIMIT)
        assert result.stderr.strip() == f"no step summary was written: {summary} is full"

    def test_what_fits_is_whole(self) -> None:
        assert fitting(["a", "b"], 4) == b"a\nb\n"
        assert fitting(["a", "b"], 3) == b""
        cut = fitting(["a", "b" * 100, "c" * 100], 200).decode()
        assert cut.startswith("a\nbbb")
        assert "was cut" in cut
        assert "c" * 100 not in cut


class TestRunner:
    """Under GitHub Actions no name becomes a command, in any output of any command."""

    WORKFLOW: ClassVar = {"GITHUB_ACTIONS": "true"}
    NAMES = ("::set-output name=x::y", "a ##[add-mask]b", "##[error]c")

    @pytest.fixture
    def hostile(self, tmp_path: Path) -> Path:
        folder = tmp_path / "::add-mask::e"
        folder.mkdir()
        path = safetensors_file(folder / "::debug::model.safetensors", *self.NAMES)
        path.write_bytes(path.read_bytes()[:-1])
        return tmp_path

    @pytest.mark.parametrize(
        "args", [("ls",), ("ls", *JSON), *(("inspect", "--output-format", name) for name in FORMATS)]
    )
    def test_names_are_inert(self, hostile: Path, monkeypatch: pytest.MonkeyPatch, args: tuple[str, ...]) -> None:
        monkeypatch.chdir(hostile)
        result = run(*args, ".", env=self.WORKFLOW)
        assert result.exit_code == 1
        found, rest = strict.commands(result.stdout)
        assert {command.name for command in found} == ({"error"} if "github" in args else set())
        assert rest
        assert strict.commands(result.stderr)[0] == []
        if "json" in args:
            (read,) = json.loads(result.stdout)["checkpoints"]
            assert read["path"] == "::add-mask::e/::debug::model.safetensors"
            if args[0] == "ls":
                assert [tensor["name"] for tensor in read["tensors"]] == list(self.NAMES)

    def test_errors_are_too(self) -> None:
        result = run("inspect", "##[add-mask]b", env=self.WORKFLOW)
        assert result.exit_code == 2
        assert strict.commands(result.stderr)[0] == []

    def test_elsewhere_names_stay_as_they_are(self, hostile: Path) -> None:
        shown = run("ls", hostile).stdout
        assert all(name in shown for name in self.NAMES)


def test_the_fail_on_of_the_command_line_decides_in_documents() -> None:
    (suite,) = strict.junit(run("inspect", BROKEN, "--output-format", "junit", "--fail-on", "never").stdout)
    assert not suite.findall("testcase/failure")
    assert "passed" in run("inspect", BROKEN, "--output-format", "markdown", "--fail-on", "never").stdout


def test_devices_take_part(tmp_path: Path) -> None:
    assert run("inspect", HEALTHY_WEAVER, *JSON, *SARIF, *to(os.devnull), *to(tmp_path / "F")).exit_code == 0
