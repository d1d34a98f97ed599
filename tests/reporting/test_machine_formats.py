"""The formats for programs and pull requests: golden, read back strictly, and with names that try to break out."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_text_forms import check_golden, text_of

from ckpt_doctor.core.coverage import Coverage
from ckpt_doctor.core.findings import Finding, Severity
from ckpt_doctor.core.layout import Layout
from ckpt_doctor.core.results import Diagnosis, Report
from ckpt_doctor.layouts.registry import FILE, WEAVER
from ckpt_doctor.reporting import FORMATS, report_lines
from ckpt_doctor.reporting.escape import printable
from ckpt_doctor.reporting.presentation import Presentation
from ckpt_doctor.rules._kit.choices import rule_info
from support import strict
from support.hand_made import ATTACKS, attacked, checkpoint

PLAIN = Presentation()
ENDINGS = {"text": "txt", "json": "json", "sarif": "sarif.json", "junit": "xml", "markdown": "md"}
READERS: dict[str, Callable[[str], Any]] = {
    "github": strict.commands,
    "sarif": strict.sarif,
    "junit": strict.junit,
    "markdown": strict.markdown,
}


def coverage_text(coverage: Coverage, output_format: str, look: Presentation = PLAIN) -> str:
    return "".join(line + "\n" for line in report_lines(coverage, output_format, look))


def golden_name(case: str, output_format: str) -> str:
    return f"{case}.{ENDINGS.get(output_format, output_format)}"


@pytest.mark.parametrize("output_format", FORMATS)
@pytest.mark.parametrize("case", ["clean", "report", "attack"])
def test_golden_reports(
    case: str, output_format: str, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir("/")  # some of the attacks lead upwards
    text = text_of(request.getfixturevalue(case), output_format)
    check_golden(golden_name(case, output_format), text)
    if output_format in READERS:
        READERS[output_format](text)


@pytest.mark.parametrize("output_format", FORMATS)
def test_golden_coverage(partial: Coverage, output_format: str) -> None:
    text = coverage_text(partial, output_format)
    check_golden(golden_name("coverage", output_format), text)
    if output_format in READERS:
        READERS[output_format](text)


@pytest.mark.slow
@pytest.mark.parametrize("output_format", READERS)
@given(
    text=st.text(st.characters(exclude_categories=()), max_size=30)
    | st.text(" `|\\<>&[](){}*_#:@.!-~$%\n\r1aà", max_size=30)
)
@settings(max_examples=60, deadline=None)
def test_no_name_breaks_out(output_format: str, text: str) -> None:
    READERS[output_format](text_of(Report((attacked(text), attacked("b"))), output_format))


@pytest.mark.parametrize("output_format", READERS)
@pytest.mark.parametrize("statistics", [False, True])
@pytest.mark.parametrize("quiet", [False, True])
def test_every_report_is_a_whole_document(
    clean: Report, report: Report, attack: Report, output_format: str, statistics: bool, quiet: bool
) -> None:
    for item in (Report(()), clean, report, attack):
        READERS[output_format](text_of(item, output_format, Presentation(statistics=statistics, quiet=quiet)))


@pytest.mark.parametrize("output_format", READERS)
def test_a_name_of_a_megabyte(output_format: str) -> None:
    name = "`|<" * 350_000
    finding = Finding(
        "CKD311", "unexpected-key", Severity.ERROR, f"{name} is unknown.", tensors=(name,), tensor_count=1
    )
    text = text_of(Report((Diagnosis(checkpoint("w"), (finding,)),)), output_format)
    READERS[output_format](text)
    # Only sarif says which tensor it is.
    assert len(text) < (5_000_000 if output_format == "sarif" else 15_000)


class TestGithub:
    def test_a_command_for_each_finding_and_a_line_of_summary(self, report: Report) -> None:
        found, rest = strict.commands(text_of(report, "github"))
        assert [command.name for command in found] == ["error", "error", "warning", "notice"]
        assert found[0].properties == {
            "file": "weaver/weaver_lora/adapter_model.bin",
            "title": "CKD201 weights-format-mismatch",
        }
        assert found[0].message.endswith("\nfix: ckpt-doctor convert weaver --to safetensors")
        assert "\nunsafe fix: " in found[2].message
        assert found[3].properties["file"] == "weaver"
        assert rest == ["ckpt-doctor: 2 checkpoints · 1 healthy · 2 errors · 1 warning · 1 note"]

    def test_names_arrive_as_they_can_be_shown(self, attack: Report) -> None:
        found, rest = strict.commands(text_of(attack, "github"))
        assert len(found) == 3 * len(ATTACKS)
        assert len(rest) == 1
        for text, command in zip(ATTACKS.values(), found[::3], strict=True):
            assert command.message == f"{printable(text)}\nunsafe fix: ckpt-doctor fix {printable(text)}"
            assert command.properties["title"] == "CKD301 key-missing"

    def test_where_the_checkpoint_is_the_working_directory_there_is_no_file(self) -> None:
        findings = (
            Finding("CKD508", "x", Severity.NOTE, "m"),
            Finding("CKD508", "x", Severity.NOTE, "m", path="a.bin"),
        )
        found, _ = strict.commands(text_of(Report((Diagnosis(checkpoint("."), findings),)), "github"))
        assert [command.properties.get("file") for command in found] == [None, "a.bin"]

    def test_quiet_and_statistics(self, clean: Report, report: Report) -> None:
        assert text_of(clean, "github", Presentation(quiet=True)) == ""
        found, rest = strict.commands(text_of(report, "github", Presentation(quiet=True, statistics=True)))
        assert len(found) == 4
        assert rest[0].split() == ["count", "code", "name", "severity", "fixable"]
        assert rest[-1].startswith("ckpt-doctor: 2 checkpoints")


class TestPaths:
    """Where a finding is, as seen from the working directory."""

    def uri(self, path: str, finding_path: str | None, kind: Layout = WEAVER) -> str:
        finding = Finding("CKD301", "key-missing", Severity.ERROR, "m", path=finding_path)
        item = checkpoint(path)._replace(kind=kind)
        run = strict.sarif(text_of(Report((Diagnosis(item, (finding,)),)), "sarif"))
        uri: str = run["results"][0]["locations"][0]["physicalLocation"]["artifactLocation"]["uri"]
        return uri

    def test_relative(self) -> None:
        assert self.uri("runs/weaver", "weaver_lora/x y.bin") == "runs/weaver/weaver_lora/x%20y.bin"
        assert self.uri("./a/../weaver", "x.bin") == "weaver/x.bin"
        assert self.uri("weaver", None) == "weaver"
        assert self.uri(".", "x.bin") == "x.bin"

    def test_absolute_below_the_working_directory(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.chdir(tmp_path)
        assert self.uri(str(tmp_path / "weaver"), "x.bin") == "weaver/x.bin"

    def test_elsewhere(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        (tmp_path / "here").mkdir()
        monkeypatch.chdir(tmp_path / "here")
        expected = (tmp_path / "weaver" / "x.bin").as_uri()
        assert self.uri("../weaver", "x.bin") == self.uri(str(tmp_path / "weaver"), "x.bin") == expected
        assert self.uri("//host/weaver", "x.bin") == "file:///host/weaver/x.bin"

    def test_a_lone_file_is_the_checkpoint(self) -> None:
        assert self.uri("runs/model.safetensors", "model.safetensors", kind=FILE) == "runs/model.safetensors"

    @pytest.mark.parametrize("path", ["../../no/such", "/no/such", "//host/x", "a/../../x", ".."])
    def test_no_name_leads_out_of_the_checkpoint(self, path: str) -> None:
        assert self.uri("weaver", path) == "weaver"

    def test_bytes_that_are_no_text(self) -> None:
        assert self.uri("weaver", "\udcff:ü") == "weaver/%FF%3A%C3%BC"
        assert self.uri("weaver", "\ud800") == "weaver/%ED%A0%80"

    def test_a_load_of_an_inner_folder(self, partial: Coverage) -> None:
        finding = Finding("CKD001", "tensor-not-restored", Severity.ERROR, "m", path="weaver_lora/adapter_model.bin")
        run = strict.sarif(coverage_text(partial._replace(findings=(finding,)), "sarif"))
        (location,) = run["results"][0]["locations"]
        assert location["physicalLocation"]["artifactLocation"]["uri"] == "runs/weaver/weaver_lora/adapter_model.bin"


class TestSarif:
    def test_rules_are_explained_if_they_reported_something(self, report: Report) -> None:
        run = strict.sarif(text_of(report, "sarif", Presentation(rule=rule_info)))
        rules = run["tool"]["driver"]["rules"]
        assert [rule["id"] for rule in rules] == ["CKD201", "CKD202", "CKD309", "CKD508"]
        for rule in rules:
            info = rule_info(rule["id"])
            assert info is not None
            assert rule["shortDescription"]["text"] == info.summary
            assert rule["fullDescription"]["text"].startswith(info.summary)
            assert len(rule["fullDescription"]["text"]) > len(info.summary) + 20
            assert "##" not in rule["fullDescription"]["text"] + rule["help"]["text"]
            assert rule["help"]["markdown"] == info.documentation
            assert rule["defaultConfiguration"]["level"] == info.severity.value

    def test_a_result_has_level_tensors_evidence_and_fix(self, report: Report) -> None:
        results = strict.sarif(text_of(report, "sarif"))["results"]
        assert [result["level"] for result in results] == ["error", "error", "warning", "note"]
        assert results[0]["properties"] == {
            "evidence": {"expected": "safetensors"},
            "tensorCount": 0,
            "fix": {
                "title": "convert to safetensors",
                "safety": "safe",
                "command": "ckpt-doctor convert weaver --to safetensors",
            },
        }
        assert results[3]["properties"]["fix"] is None
        (name,) = results[2]["locations"][0]["logicalLocations"]
        assert name["fullyQualifiedName"].endswith("q_proj.base_layer.weight")
        assert (name["name"], name["kind"]) == ("weight", "member")
        assert "logicalLocations" not in results[0]["locations"][0]

    def test_fingerprints_stay_where_words_change_and_differ_where_places_do(self, broken: Diagnosis) -> None:
        def fingerprints(*diagnoses: Diagnosis) -> list[str]:
            results = strict.sarif(text_of(Report(diagnoses), "sarif"))["results"]
            return [result["partialFingerprints"]["ckptDoctor/v1"] for result in results]

        reworded = broken._replace(findings=tuple(item._replace(message="other words") for item in broken.findings))
        assert fingerprints(broken) == fingerprints(reworded)
        moved = broken._replace(checkpoint=broken.checkpoint._replace(path="elsewhere"))
        assert not {*fingerprints(broken)} & {*fingerprints(moved)}
        assert len({*fingerprints(broken, broken)}) == 2 * len(broken.findings)

    def test_numbers_that_json_does_not_know_are_text(self) -> None:
        evidence = {"values": (1.5, float("nan"), float("-inf")), "none": None, "flag": True}
        finding = Finding("CKD601", "non-finite", Severity.ERROR, "m", evidence=evidence)
        run = strict.sarif(text_of(Report((Diagnosis(checkpoint("w"), (finding,)),)), "sarif"))
        expected = {"values": [1.5, "nan", "-inf"], "none": None, "flag": True}
        assert run["results"][0]["properties"]["evidence"] == expected

    def test_what_was_judged_stands_there_also_where_all_is_well(self, clean: Report) -> None:
        run = strict.sarif(text_of(clean, "sarif", Presentation(statistics=True)))
        assert run["results"] == run["tool"]["driver"]["rules"] == run["properties"]["statistics"] == []
        (judged,) = run["properties"]["checkpoints"]
        assert (judged["path"], judged["healthy"]) == ("runs/good/weaver", True)

    def test_statistics_stand_beside_the_results(self, report: Report) -> None:
        run = strict.sarif(text_of(report, "sarif", Presentation(statistics=True)))
        assert len(run["results"]) == 4
        assert [row["code"] for row in run["properties"]["statistics"]] == ["CKD201", "CKD202", "CKD309", "CKD508"]


class TestJunit:
    @pytest.mark.parametrize(("fail_on", "failures"), [("error", 2), ("warning", 3), ("note", 4), ("never", 0)])
    def test_what_fails_is_what_makes_the_exit_code_1(self, report: Report, fail_on: str, failures: int) -> None:
        good, bad = strict.junit(text_of(report, "junit", Presentation(fail_on=fail_on)))
        assert [case.get("name") for case in good] == ["healthy"]
        assert "1 tensor" in good.findtext("testcase/system-out")
        assert len(bad.findall("testcase/failure")) == failures
        assert len(bad.findall("testcase/system-out")) == 4 - failures
        assert bad[0].get("name") == "CKD201 weights-format-mismatch: weaver_lora/adapter_model.bin"

    def test_a_note_that_always_fails_fails(self) -> None:
        finding = Finding("CKD112", "file-unreadable", Severity.NOTE, "m", always_fails=True)
        root = strict.junit(text_of(Report((Diagnosis(checkpoint("w"), (finding,)),)), "junit"))
        assert [case.get("name") for case in root[0]] == ["CKD112 file-unreadable"]
        assert root[0][0].find("failure") is not None

    def test_warnings_leave_a_checkpoint_healthy(self) -> None:
        finding = Finding("CKD309", "x", Severity.WARNING, "m")
        (suite,) = strict.junit(text_of(Report((Diagnosis(checkpoint("w"), (finding, finding)),)), "junit"))
        assert [case.get("name") for case in suite] == ["healthy, headers only", "CKD309 x", "CKD309 x (2)"]
        assert suite[1].findtext("system-out") == "warning: m"

    def test_texts_are_read_as_they_were_written(self, attack: Report) -> None:
        for text, suite in zip(ATTACKS.values(), strict.junit(text_of(attack, "junit")), strict=True):
            assert suite.get("name") == printable(text)
            failure = suite.find("testcase/failure")
            assert failure.get("message") == printable(text)
            assert failure.text == f"{printable(text)}\nunsafe fix: ckpt-doctor fix {printable(text)}"

    def test_statistics_are_properties(self, report: Report) -> None:
        _, bad = strict.junit(text_of(report, "junit", Presentation(statistics=True)))
        properties = {item.get("name"): item.get("value") for item in bad.findall("properties/property")}
        assert properties["CKD309 base-weights-in-adapter (warning)"] == "1"
        assert len(properties) == 4


class TestMarkdown:
    def test_a_verdict_a_table_and_what_was_found(self, report: Report) -> None:
        shown = strict.markdown(text_of(report, "markdown"))
        assert shown.text.startswith("❌ ckpt-doctor: failed")
        assert shown.rows[1] == [
            "runs/good/weaver",
            "MemGen weaver",
            "1 file, 1 tensor, 1 K parameters, 4 KB",
            "healthy",
        ]
        assert shown.rows[2][3] == "2 errors, 1 warning, 1 note"
        assert "ckpt-doctor convert weaver --to safetensors\n" in shown.code
        assert "`" not in shown.text

    def test_names_stand_in_code_as_they_can_be_shown(self, attack: Report) -> None:
        shown = strict.markdown(text_of(attack, "markdown"))
        assert [len(row) for row in shown.rows] == [4] * (len(ATTACKS) + 1)
        for text, row in zip(ATTACKS.values(), shown.rows[1:], strict=True):
            assert row[0].strip() == printable(text).replace("|", "\\x7c").strip()
            assert text == "" or printable(text).strip() in [item.strip() for item in shown.code]

    def test_long_lists_and_long_names_are_cut(self) -> None:
        names = tuple(f"t{number}.{'x' * 300}" for number in range(20))
        finding = Finding("CKD301", "key-missing", Severity.ERROR, "m", tensors=names, tensor_count=50)
        text = text_of(Report((Diagnosis(checkpoint("w"), (finding,)),)), "markdown")
        assert "`t4." in text
        assert "`t5." not in text
        assert "and 45 more" in text
        assert "x" * 201 not in text

    @pytest.mark.parametrize(
        ("fail_on", "verdict"), [("never", "✅ ckpt-doctor: passed"), ("note", "❌ ckpt-doctor: failed")]
    )
    def test_the_verdict_is_that_of_the_exit_code(self, report: Report, fail_on: str, verdict: str) -> None:
        text = text_of(report, "markdown", Presentation(fail_on=fail_on))
        assert text.startswith(f"## {verdict}\n")
        assert f"2 errors · 1 warning · 1 note · `--fail-on {fail_on}`" in text

    def test_quiet_leaves_the_healthy_out_and_statistics_the_findings(self, report: Report, clean: Report) -> None:
        assert "runs/good" not in text_of(report, "markdown", Presentation(quiet=True))
        assert text_of(clean, "markdown", Presentation(quiet=True)).split("\n\n")[1:] == [
            "1 checkpoint · 1 healthy",
            "",
        ]
        shown = strict.markdown(text_of(report, "markdown", Presentation(statistics=True)))
        assert ["CKD201", "weights-format-mismatch", "error", "1", "1"] in shown.rows
        assert "h3" not in shown.tags

    @pytest.mark.slow
    def test_it_can_be_cut_between_any_two_pieces(self, report: Report, attack: Report) -> None:
        pieces = list(report_lines(Report(report.diagnoses + attack.diagnoses), "markdown", PLAIN))
        for number in range(2, len(pieces)):
            shown = strict.markdown("\n".join([*pieces[:number], "\nThe rest was cut.\n"]))
            assert shown.text.strip().endswith("The rest was cut.")

    def test_a_stream_that_knows_ascii_only_gets_no_marks(self, report: Report) -> None:
        assert text_of(report, "markdown", Presentation(ascii_only=True)).isascii()


class TestCoverage:
    """A load that is not complete is a failure in every format, and one that is complete in none."""

    @pytest.fixture
    def complete(self, partial: Coverage) -> Coverage:
        return partial._replace(tensors=partial.tensors[2:])

    @pytest.fixture(params=["partial", "no tensors", "with an error", "with a warning"])
    def incomplete(self, request: pytest.FixtureRequest, partial: Coverage) -> Coverage:
        error = Finding("CKD002", "loader-raised", Severity.ERROR, "It raised.")
        return {
            "partial": partial,
            "no tensors": partial._replace(tensors=()),
            "with an error": partial._replace(findings=(error,)),
            "with a warning": partial._replace(findings=(error._replace(severity=Severity.WARNING),)),
        }[request.param]

    def test_incomplete(self, incomplete: Coverage) -> None:
        assert not incomplete.complete
        found, rest = strict.commands(coverage_text(incomplete, "github"))
        assert found[0].name == "error"
        assert "1 error" in rest[0]
        assert strict.sarif(coverage_text(incomplete, "sarif"))["results"][0]["level"] == "error"
        root = strict.junit(coverage_text(incomplete, "junit"))
        assert root.get("failures") == "1"
        assert not root.findall("testsuite/testcase[@name='complete']")
        assert strict.markdown(coverage_text(incomplete, "markdown")).text.startswith("❌ ckpt-doctor: failed")
        assert " error " in coverage_text(incomplete, "concise")

    def test_complete(self, complete: Coverage) -> None:
        assert complete.complete
        assert strict.commands(coverage_text(complete, "github")) == ([], ["ckpt-doctor: 1 checkpoint · 1 complete"])
        assert strict.sarif(coverage_text(complete, "sarif"))["results"] == []
        (suite,) = strict.junit(coverage_text(complete, "junit"))
        assert [case.get("name") for case in suite] == ["complete"]
        assert suite.findtext("testcase/system-out") == "1 of 1 tensor restored"
        assert strict.markdown(coverage_text(complete, "markdown")).text.startswith("✅ ckpt-doctor: passed")
        assert coverage_text(complete, "concise") == ""

    def test_the_components_are_a_table(self, partial: Coverage) -> None:
        rows = strict.markdown(coverage_text(partial, "markdown")).rows
        assert rows[1][:3] == ["runs/weaver/weaver_lora", "loaded by eval.py:load", "1 of 3 tensors restored"]
        assert rows[2:] == [
            ["component", "restored", "expected"],
            ["weaver adapter", "0", "2"],
            ["projections", "1", "1"],
            ["total", "1", "3"],
        ]

    @pytest.mark.parametrize("output_format", READERS)
    @pytest.mark.parametrize("attack", ATTACKS.values(), ids=ATTACKS)
    def test_names_that_try_to_break_out(self, partial: Coverage, output_format: str, attack: str) -> None:
        tensors = tuple(item._replace(name=attack, file=attack, component=attack) for item in partial.tensors)
        hostile = Coverage(attack, "weaver", attack, attack, "load", tensors, (), (attack,), attack)
        READERS[output_format](coverage_text(hostile, output_format))


class TestWhatWasRead:
    """No format says more of a checkpoint than was read of it."""

    @pytest.fixture
    def shallow(self, healthy: Diagnosis) -> Report:
        return Report((healthy._replace(deep=False),))

    @pytest.mark.parametrize("output_format", ["text", "github", "junit", "markdown"])
    def test_headers_are_all_that_is_called_healthy(
        self, healthy: Diagnosis, shallow: Report, output_format: str
    ) -> None:
        assert "healthy, headers only" in text_of(shallow, output_format)
        assert "headers only" not in text_of(Report((healthy,)), output_format)

    @pytest.mark.parametrize("output_format", ["text", "github", "markdown"])
    def test_a_sum_says_what_was_read_of_all(self, healthy: Diagnosis, shallow: Report, output_format: str) -> None:
        both = Report((healthy, *shallow.diagnoses))
        number = "all" if output_format == "text" else "2"
        assert f"2 checkpoints · {number} healthy, headers only" in text_of(both, output_format)

    def test_documents_say_it_of_each(self, healthy: Diagnosis, shallow: Report) -> None:
        both = Report((healthy, *shallow.diagnoses))
        document = json.loads(text_of(both, "json"))
        assert [document["deep"], *(item["deep"] for item in document["checkpoints"])] == [False, True, False]
        (run,) = json.loads(text_of(both, "sarif"))["runs"]
        assert [item["deep"] for item in run["properties"]["checkpoints"]] == [True, False]
        assert json.loads(text_of(Report((healthy,)), "json"))["deep"] is True
        assert json.loads(text_of(Report(()), "json"))["deep"] is False
