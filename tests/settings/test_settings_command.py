"""``ckpt-doctor settings``."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from ckpt_doctor.settings.keys import KEYS
from support.children import environment
from support.command_line import run
from support.places import FIXTURES
from support.projects import enter_project

TEXT = """\
settings file: ckpt-doctor.toml

setting           value                                from
----------------  -----------------------------------  -------------------
expect            bin                                  CKPT_DOCTOR_EXPECT
layout            recognised                           default
select            every rule                           default
ignore            none                                 ckpt-doctor.toml
fail-on           warning                              ckpt-doctor.toml
output-format     text                                 default
deep              no                                   CKPT_DOCTOR_DEEP
severity          CKD109 = error                       ckpt-doctor.toml
per-path-ignores  runs/** = CKD1, side-file-missing    ckpt-doctor.toml
layouts           ours                                 ckpt-doctor.toml
"""


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    return enter_project(tmp_path, monkeypatch)


@pytest.fixture
def file(here: Path) -> Path:
    path = here / "ckpt-doctor.toml"
    path.write_text("""\
ignore = []
fail-on = "warning"
expect = "safetensors"
[severity]
CKD109 = "error"
[per-path-ignores]
"runs/**" = ["CKD1", "side-file-missing"]
[[layouts]]
name = "ours"
files = [{ role = "heads", path = "heads.pt" }]
""")
    return path


ENVIRONMENT = {"CKPT_DOCTOR_EXPECT": "bin", "CKPT_DOCTOR_DEEP": "0"}


def cells(text: str) -> list[list[str]]:
    """The table without its widths."""
    return [
        [cell.strip() for cell in line.split("  ") if cell.strip()] for line in text.splitlines() if "--" not in line
    ]


def test_text(file: Path) -> None:
    result = run("settings", env=ENVIRONMENT)
    assert (result.exit_code, result.stderr) == (0, "")
    assert cells(result.stdout) == cells(TEXT)


def test_json(file: Path) -> None:
    document = json.loads(run("settings", "--output-format", "json", env=ENVIRONMENT).stdout)
    assert (document["schema_version"], document["file"], document["passed_over"]) == (1, "ckpt-doctor.toml", [])
    settings = document["settings"]
    assert list(settings) == [key.name for key in KEYS]
    assert settings["expect"]["value"] == "bin"
    assert settings["expect"]["source"] == "CKPT_DOCTOR_EXPECT"
    assert settings["deep"]["value"] is False
    assert settings["ignore"]["value"] == []
    assert settings["layout"] == {"value": None, "source": "default", "default": "recognised"}
    assert settings["per-path-ignores"]["value"] == {"runs/**": ["CKD1", "side-file-missing"]}


def test_none(here: Path) -> None:
    result = run("settings")
    assert result.stdout.startswith("settings file: none\n")
    assert {row[-1] for row in cells(result.stdout)[3:]} == {"default"}
    assert run("settings", "--no-config").stdout == result.stdout


def test_what_lies_in_a_checkpoint(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    weaver = Path(shutil.copytree(FIXTURES / "healthy/weaver_safetensors/weaver", here / "weaver"))
    (weaver / "ckpt-doctor.toml").write_text("deep = true\n")
    monkeypatch.chdir(weaver)
    assert run("settings").stdout.splitlines()[:2] == [
        "settings file: none",
        "not used, because it is inside a checkpoint: ckpt-doctor.toml",
    ]
    (here / "other").mkdir()
    assert run("settings", here / "other").stdout.startswith("settings file: ckpt-doctor.toml\n")


def test_a_mistake_is_2(file: Path) -> None:
    file.write_text("deep = 1\n")
    result = run("settings", "--output-format", "json")
    assert (result.exit_code, result.stdout) == (2, "")


@pytest.mark.slow
@pytest.mark.parametrize("text", [None, "[tool.ruff]\nline-length = 120\n"])
def test_nothing_is_parsed_where_nothing_is_said(here: Path, text: str | None) -> None:
    if text is not None:
        (here / "pyproject.toml").write_text(text)
    command = [sys.executable, "-X", "importtime", "-m", "ckpt_doctor", "inspect"]
    healthy = FIXTURES / "healthy/weaver_safetensors/weaver"
    result = subprocess.run(
        [*command, str(healthy)],
        capture_output=True,
        text=True,
        check=True,
        env=environment(),
        timeout=120,
    )
    imported = {line.rpartition("|")[2].strip() for line in result.stderr.splitlines()}
    assert "ckpt_doctor.settings.search" in imported
    assert not imported & {
        "tomllib",
        "tomli",
        "difflib",
        "ckpt_doctor.settings.keys",
        "ckpt_doctor.settings.layout_tables",
    }
