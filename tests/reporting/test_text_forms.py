"""Golden reports, hostile names and widths. ``UPDATE_GOLDEN=1 pytest tests/reporting`` writes the golden files anew."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path

import pytest

from ckpt_doctor.analysis.listing import Listing, listing
from ckpt_doctor.core.findings import Finding, Fix, Severity
from ckpt_doctor.core.results import Diagnosis, Report
from ckpt_doctor.core.version import __version__
from ckpt_doctor.reporting import FORMATS, report_lines
from ckpt_doctor.reporting.listing import document, table
from ckpt_doctor.reporting.presentation import Presentation
from support.hand_made import HOSTILE, checkpoint, tensor

GOLDEN = Path(__file__).parents[1] / "golden"
PLAIN = Presentation()
SGR = re.compile(r"\x1b\[[0-9;]*m")


def text_of(report: Report, output_format: str = "text", look: Presentation = PLAIN) -> str:
    return "".join(line + "\n" for line in report_lines(report, output_format, look))


def shown_table(*items: Listing) -> list[str]:
    return "\n".join(table(items, PLAIN)).split("\n")


def check_golden(name: str, text: str) -> None:
    text = text.replace(f'"version": "{__version__}"', '"version": "VERSION"')
    if os.environ.get("UPDATE_GOLDEN"):
        (GOLDEN / name).write_text(text, encoding="utf-8")
    assert text == (GOLDEN / name).read_text(encoding="utf-8")


def test_golden_statistics(report: Report) -> None:
    check_golden("statistics.txt", text_of(report, look=Presentation(statistics=True)))


def test_golden_colours(report: Report) -> None:
    painted = text_of(report, look=Presentation(colour=True))
    check_golden("colours.txt", painted.replace("\x1b", "ESC"))
    assert SGR.sub("", painted) == text_of(report)


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("weaver", ["weaver · MemGen weaver · 1 file, 1 tensor, 1 K parameters, 4 KB   healthy"]),
        ("runs/of/july/weaver", ["runs/of/july/weaver · MemGen weaver · 1 tensor, 4 KB   healthy"]),
        ("a" * 80, ["a" * 80, "  MemGen weaver · 1 file, 1 tensor, 1 K parameters, 4 KB   healthy"]),
    ],
)
def test_a_healthy_checkpoint_is_one_line_where_that_fits(path: str, expected: list[str]) -> None:
    diagnosis = Diagnosis(checkpoint(path, tensor("lora_A.weight", 16, 64)), (), deep=True)
    assert list(report_lines(Report((diagnosis,)), "text", PLAIN)) == expected


def test_healthy_checkpoints_are_summed_up(healthy: Diagnosis) -> None:
    assert text_of(Report((healthy, healthy))).endswith("\n\n2 checkpoints · all healthy\n")


def test_quiet_says_nothing_where_all_is_well(healthy: Diagnosis, broken: Diagnosis) -> None:
    quiet = Presentation(quiet=True)
    assert text_of(Report((healthy, healthy)), look=quiet) == ""
    shown = text_of(Report((healthy, broken)), look=quiet)
    assert "runs/good" not in shown
    assert "CKD201" in shown


@pytest.mark.parametrize("width", [60, 80, 100])
def test_text_fits_the_width(report: Report, width: int) -> None:
    # The only longer lines are names of tensors or files that a break would spoil.
    for line in report_lines(report, "text", Presentation(width=width)):
        assert len(line) <= width or len(line.split()) == 1, line


def test_a_long_command_can_still_be_pasted() -> None:
    command = "ckpt-doctor convert " + "/".join(["a-folder-with-a-name"] * 3) + " --to safetensors --overwrite"
    finding = Finding("CKD201", "x", Severity.ERROR, "m", fix=Fix("t", "safe", command))
    shown = text_of(Report((Diagnosis(checkpoint("w"), (finding,)),)))
    pasted = shown.partition("fix: ")[2].partition("\n\n")[0].replace("\\\n", " ")
    assert pasted.split() == command.split()
    assert all(len(line) <= 80 for line in shown.splitlines())


@pytest.mark.parametrize("output_format", ["text", "concise"])
@pytest.mark.parametrize("statistics", [False, True])
def test_hostile_names_reach_nobody(hostile: Diagnosis, output_format: str, statistics: bool) -> None:
    look = Presentation(colour=True, statistics=statistics)
    lines = list(report_lines(Report((hostile,)), output_format, look))
    assert lines
    for line in lines:
        assert SGR.sub("", line).isprintable(), line
    if output_format == "concise" and not statistics:
        assert len(lines) == 1


def test_hostile_names_in_json_stay_what_they_are(hostile: Diagnosis) -> None:
    text = text_of(Report((hostile,)), "json")
    assert text.isascii()
    (read,) = json.loads(text)["checkpoints"]
    assert read["path"] == HOSTILE
    assert read["findings"][0]["tensors"] == [HOSTILE, "\udcff"]


def test_hostile_names_in_the_listing(hostile: Diagnosis) -> None:
    item = listing(hostile.checkpoint)
    assert all(line.isprintable() for line in shown_table(item, item))
    assert json.loads(document([item]))["checkpoints"][0]["tensors"][0]["name"] == HOSTILE


def test_a_message_of_a_megabyte_is_shortened_in_text_only() -> None:
    finding = Finding("CKD311", "unexpected-key", Severity.NOTE, "x" * 1_000_000)
    report = Report((Diagnosis(checkpoint("w"), (finding,)),))
    assert len(text_of(report)) < 3000
    assert "998,000 more characters" in " ".join(text_of(report).split())
    assert len(text_of(report, "json")) > 1_000_000


@pytest.mark.parametrize("output_format", FORMATS)
def test_every_format_takes_an_empty_report(output_format: str) -> None:
    text_of(Report(()), output_format)


def test_json_is_a_complete_document_where_all_is_well(healthy: Diagnosis) -> None:
    read = json.loads(text_of(Report((healthy,)), "json"))
    assert read["schema_version"] == 1
    assert read["summary"] == {"checkpoints": 1, "healthy": 1, "errors": 0, "warnings": 0, "notes": 0, "fixable": 0}


def test_statistics_stand_in_json_beside_the_findings(report: Report) -> None:
    read = json.loads(text_of(report, "json", Presentation(statistics=True)))
    assert len(read["checkpoints"][1]["findings"]) == 4
    assert read["statistics"][0] == {
        "code": "CKD201",
        "name": "weights-format-mismatch",
        "severity": "error",
        "count": 1,
        "fixable": 1,
    }


def test_the_listing_names_what_shares_bytes() -> None:
    names = [f"t{number}" for number in range(30)]
    item = listing(checkpoint("w", *(tensor(name, 4, storage="one") for name in names), tensor("alone", 2)))
    (read,) = json.loads(document([item]))["checkpoints"]
    first = read["tensors"][0]
    assert first["shared_count"] == 29
    assert len(first["shared_with"]) == 20
    assert "t0" not in first["shared_with"]
    assert read["tensors"][-1]["shared_with"] == []
    row = next(line for line in shown_table(item) if line.startswith("t0 "))
    assert row.rstrip().endswith("t1, t10, t11 and 26 more")
    assert shown_table(item)[-1] == "31 tensors, 122 parameters, 488 B, 24 B of it unique"


def test_the_listing_says_where_nothing_is_shared() -> None:
    shown = shown_table(listing(checkpoint("w", tensor("a", 4), tensor("b", 4))))
    assert "shared with" not in shown[0]
    assert shown[-1] == "2 tensors, 8 parameters, 32 B, no shared storage"


def test_the_listing_filters_by_glob_and_sums_what_is_left() -> None:
    item = listing(checkpoint("w", tensor("a.lora_A.weight", 2, 3), tensor("a.lora_B.weight", 3, 2)), "*lora_B*")
    shown = shown_table(item)
    assert [line.split()[0] for line in shown[2:3]] == ["a.lora_B.weight"]
    assert shown[-1] == "1 of 2 tensors, 6 parameters, 24 B"


def test_the_listing_never_shortens_a_name() -> None:
    name = "layers." * 100 + "weight"
    assert any(name in line for line in shown_table(listing(checkpoint("w", tensor(name, 1)))))


def test_a_stream_that_knows_ascii_only_gets_ascii(report: Report) -> None:
    assert text_of(report, look=Presentation(ascii_only=True)).isascii()
