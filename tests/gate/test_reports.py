"""What the gate reports: the inspection, then the load; in JSON, one document."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from xml.etree import ElementTree

import pytest

from ckpt_doctor.core.version import __version__
from ckpt_doctor.verification import verify
from support.command_line import run
from support.trees import MODEL, broken, ckpt_doctor, light, weaver

CODE = MODEL.name  # beside the checkpoint: reports that name it must not depend on where this repository lies
BUILD = ("--model", f"{CODE}:build", "--loader")


@pytest.fixture
def model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A checkpoint, and loads that are proved in this process: a process of its own would import torch each time."""
    monkeypatch.setattr("ckpt_doctor.verification.verify_apart", verify)
    monkeypatch.chdir(tmp_path)
    shutil.copy(MODEL, CODE)
    light(tmp_path / "model")
    return "model"


def test_without_a_command_the_verdict_is_the_code(tmp_path: Path) -> None:
    result = run("gate", weaver(tmp_path))
    assert (result.exit_code, result.stderr) == (0, "")
    assert result.stdout.rstrip().endswith("healthy")
    result = run("gate", broken(tmp_path / "other"))
    assert (result.exit_code, result.stderr) == (1, "")
    assert "CKD202" in result.stdout
    assert run("gate", tmp_path / "other", "-q").exit_code == 1
    assert run("gate", tmp_path / "weaver", "-q").output == ""


@pytest.mark.slow
def test_text_and_lines(model: str) -> None:
    text = run("gate", model, *BUILD, f"{CODE}:right").stdout
    assert text.startswith("model · transformers")
    assert "\n\nload coverage of model by " in text
    assert text.endswith("complete: every tensor arrived\n")
    lines = run("gate", model, *BUILD, f"{CODE}:forgets_the_bias", "--output-format", "concise").stdout
    assert lines.startswith("model:model.safetensors: CKD001 error tensor-not-restored 1 tensor of the model (bias)")
    assert run("gate", model, *BUILD, f"{CODE}:right", "-q").output == ""


def test_one_document(model: str) -> None:
    result = run("gate", model, *BUILD, f"{CODE}:right", "--output-format", "json", "--statistics")
    document = json.loads(result.stdout)
    assert result.exit_code == 0
    assert document["tool"] == {"name": "ckpt-doctor", "version": __version__}
    assert (document["schema_version"], document["summary"]["healthy"], document["statistics"]) == (1, 1, [])
    assert document["verification"]["coverage"] == {"expected": 2, "restored": 2, "ratio": 1.0}
    checkpoint = str(Path.cwd() / "model")
    assert document["gate"] == {
        "passed": True,
        "checkpoint": checkpoint,
        "reason": None,
        "passed_over": [],
        "latest": None,
    }


@pytest.mark.slow
def test_a_document_of_what_did_not_arrive(model: str) -> None:
    result = run("gate", model, *BUILD, f"{CODE}:forgets_the_bias", "--output-format", "json")
    document = json.loads(result.stdout)
    assert (result.exit_code, document["verification"]["complete"]) == (1, False)
    assert document["gate"]["passed"] is False
    assert document["gate"]["reason"] == "1 of 2 tensors arrived: CKD001 tensor-not-restored"


def test_a_document_of_what_could_not_be_judged(model: str) -> None:
    result = run("gate", model, *BUILD, f"{CODE}:no_such_loader", "--output-format", "json")
    document = json.loads(result.stdout)
    assert (result.exit_code, document["verification"], document["gate"]["passed"]) == (2, None, False)
    assert document["gate"]["reason"].startswith("the load could not be judged: ")
    assert [item["code"] for item in document["checkpoints"][0]["findings"]] == ["CKD011"]
    assert result.stderr.startswith("error: ")


@pytest.mark.slow
@pytest.mark.parametrize("output_format", ["sarif", "junit", "github", "markdown"])
@pytest.mark.parametrize("loader", ["right", "forgets_the_bias"])
def test_both_are_one_report_in_every_format(model: str, output_format: str, loader: str) -> None:
    result = run("gate", model, *BUILD, f"{CODE}:{loader}", "--output-format", output_format)
    complete = loader == "right"
    assert result.exit_code == (0 if complete else 1)
    shown = result.stdout
    if output_format == "sarif":
        (log,) = json.loads(shown)["runs"]
        kinds = [item["kind"].partition(" by ")[0] for item in log["properties"]["checkpoints"]]
        assert kinds == ["transformers", "loaded"]
        assert [item["ruleId"] for item in log["results"]] == ([] if complete else ["CKD001"])
    elif output_format == "junit":
        suites = ElementTree.fromstring(shown)
        assert (suites.get("tests"), suites.get("failures")) == ("2", "0" if complete else "1")
    else:
        verdict = "load complete" if complete else "load not complete · 1 error"
        assert f"1 checkpoint · 1 healthy · {verdict}" in shown
        assert ("CKD001" in shown) != complete


@pytest.mark.slow
def test_several_formats_at_once(model: str, tmp_path: Path) -> None:
    files = [word for name in ("json", "sarif") for word in ("--output-format", name, "--output-file", name)]
    result = run("gate", model, *BUILD, f"{CODE}:forgets_the_bias", *files)
    assert (result.exit_code, "CKD001" in result.stdout) == (1, True)
    assert json.loads((tmp_path / "json").read_text())["gate"]["passed"] is False
    assert json.loads((tmp_path / "sarif").read_text())["version"] == "2.1.0"


@pytest.mark.slow
def test_a_pass_that_could_not_be_judged_is_2(model: str) -> None:
    result = run("gate", model, *BUILD, f"{CODE}:right", "--mode", "forward", "--output-format", "json")
    document = json.loads(result.stdout)
    assert (result.exit_code, document["gate"]["passed"]) == (2, False)
    assert document["verification"]["coverage"]["ratio"] == 1.0
    assert document["gate"]["reason"].startswith("the forward pass could not be judged")
    assert result.stderr == f"error: {document['gate']['reason']}\n"


def test_nothing_is_loaded_that_is_not_healthy(model: str) -> None:
    file = Path(model) / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-1])
    result = run("gate", model, "--model", "nowhere.py:build", "--loader", "auto", "--output-format", "json")
    document = json.loads(result.stdout)
    assert (result.exit_code, document["verification"]) == (1, None)
    assert document["gate"]["reason"] == "1 error: CKD104 safetensors-truncated"


def test_reasons_are_counted(tmp_path: Path) -> None:
    broken(tmp_path / "a")
    broken(tmp_path / "b")
    result = run("gate", tmp_path, "--fail-on", "note", "--output-format", "json")
    assert json.loads(result.stdout)["gate"]["reason"] == "2 errors: CKD202 side-file-missing"


def test_names_do_not_break_out(tmp_path: Path) -> None:
    path = broken(tmp_path / "a\n\x1b[2J\u202eb")
    result = run("gate", path, "--", "echo", "x\n\x1b[2J")
    assert result.exit_code == 1
    assert "\x1b" not in result.output
    assert "\u202e" not in result.output
    assert len(result.stderr.splitlines()) == 1


@pytest.mark.slow
@pytest.mark.parametrize("output_format", ["text", "concise", "json", "github", "sarif", "junit", "markdown"])
def test_what_could_not_be_judged_is_green_nowhere(model: str, output_format: str) -> None:
    broken_model = Path("raises.py")
    broken_model.write_text("def build():\n    raise KeyError('no such package')\n")
    arguments = ("--model", f"{broken_model}:build", "--loader", f"{CODE}:right")
    result = run("gate", model, *arguments, "--output-format", output_format)
    assert result.exit_code == 2
    assert "CKD011" in result.stdout
    assert "no such package" in result.stdout
    if output_format == "junit":
        assert ElementTree.fromstring(result.stdout).find(".//failure") is not None
    if output_format == "github":
        assert "::error " in result.stdout
    if output_format == "markdown":
        assert "failed" in result.stdout.splitlines()[0]


def test_what_is_of_an_unread_kind_is_a_whole_report_too(tmp_path: Path) -> None:
    (tmp_path / "only").mkdir()
    (tmp_path / "only/model.onnx").write_bytes(b"\x08\x08\x12\x07pytorch")
    ran = ckpt_doctor("gate", "only", "--output-format", "json", "--", "echo", "started", cwd=tmp_path)
    assert ran.returncode == 2
    document = json.loads(ran.stdout)
    assert not document["gate"]["passed"]
    assert [item["path"] for item in document["not_judged"]] == ["only/model.onnx"]
    assert document["summary"]["healthy"] == 0
