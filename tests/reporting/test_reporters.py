"""Each format is a file that keeps the protocol of reporters, and none of them decides anything by itself."""

from __future__ import annotations

import inspect
import json

import pytest

from ckpt_doctor.core.coverage import Coverage
from ckpt_doctor.core.findings import Severity
from ckpt_doctor.core.judgement import Gated, judgements
from ckpt_doctor.core.results import Report
from ckpt_doctor.reporting import FORMATS, OutputFormat, report_lines, reporter_for
from ckpt_doctor.reporting.presentation import Presentation
from ckpt_doctor.reporting.reporter import Reporter

PLAIN = Presentation()


@pytest.mark.parametrize("output_format", FORMATS)
def test_every_format_keeps_the_protocol(output_format: OutputFormat, report: Report, partial: Coverage) -> None:
    lines = reporter_for(output_format)
    assert lines.__module__ == f"ckpt_doctor.reporting.{output_format}"
    wanted = list(inspect.signature(Reporter.__call__).parameters)[1:]
    assert list(inspect.signature(lines).parameters) == wanted
    for judged in (report, partial, Gated(report, partial), Gated(report)):
        pieces = list(lines(judged, PLAIN))
        assert pieces
        assert all(isinstance(piece, str) for piece in pieces)


@pytest.mark.parametrize("output_format", FORMATS)
def test_a_gate_without_a_load_reports_what_the_inspection_does(output_format: OutputFormat, report: Report) -> None:
    assert list(report_lines(Gated(report), output_format, PLAIN)) == list(report_lines(report, output_format, PLAIN))


def test_a_gate_adds_to_the_json_document(report: Report, partial: Coverage) -> None:
    (text,) = report_lines(Gated(report, partial, {"gate": {"passed": False}}), "json", PLAIN)
    assert json.loads(text) == {**json.loads(report.to_json()), "gate": {"passed": False}}


def test_outcomes(report: Report, clean: Report, partial: Coverage) -> None:
    assert [report.outcome(limit) for limit in ("error", "note", "never")] == ["failed", "failed", "passed"]
    assert clean.outcome("note") == "passed"
    assert clean._replace(unjudged=("elsewhere",)).outcome("note") == "not judged"
    assert report._replace(unjudged=("elsewhere",)).outcome("error") == "failed"
    assert partial.outcome == "failed"
    whole = partial._replace(tensors=partial.tensors[2:])
    assert whole.outcome == "passed"
    assert whole._replace(unjudged="it raised").outcome == "not judged"


def test_a_load_that_is_not_complete_is_told_as_an_error(partial: Coverage) -> None:
    assert partial.findings == ()
    (told,) = partial.told
    assert (told.code, told.severity, told.tensor_count) == ("CKD001", Severity.ERROR, 2)
    assert [item.healthy for item in judgements(partial)] == [False]
    assert partial._replace(findings=(told,)).told == (told,)


def test_what_could_not_be_judged_fails_only_where_nothing_else_was(clean: Report) -> None:
    empty = clean.diagnoses[0]._replace(checkpoint=clean.checkpoints[0]._replace(parts=()))
    assert not empty.judged
    both = Report((*clean.diagnoses, empty))
    assert [item.passes("note") for item in judgements(both)] == [True, True]
    assert [item.passes("note") for item in judgements(both._replace(unjudged=("there",)))] == [True, False]
