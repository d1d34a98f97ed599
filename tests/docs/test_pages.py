"""The README and the pages for people: each command is run as a reader types it, in a clone, on committed fixtures."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from support import transcripts
from support.children import LIMIT, environment
from support.places import REPOSITORY
from support.plain_english import signs

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="the pages are for POSIX shells")

README = REPOSITORY / "README.md"
DOCS = REPOSITORY / "docs"
PAGES = [README, *(DOCS / f"{name}.md" for name in ("start", "convert", "repair"))]


@pytest.fixture
def clone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """What a reader has: the fixtures and the examples. Libraries say nothing of their own while they load."""
    for name in ("fixtures", "examples"):
        shutil.copytree(REPOSITORY / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__"))
    monkeypatch.setenv("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    monkeypatch.setenv("PYTHONWARNINGS", "ignore")
    transcripts.programs(tmp_path)
    return tmp_path


@pytest.mark.slow
@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_commands_print_what_the_page_shows(page: Path, clone: Path) -> None:
    transcripts.check(page, clone)


def test_the_pages_show_each_command() -> None:
    typed = "\n".join(step.commands for page in PAGES for step in transcripts.steps(page))
    wanted = {"inspect", "ls", "convert", "diff", "fix", "verify", "gate"}
    assert set(re.findall(r"^ckpt-doctor (\w+)", typed, re.MULTILINE)) == wanted


def blocks(page: Path, language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL)


PROGRAMS = [(page, number) for page in (DOCS / "start.md", DOCS / "python.md") for number in range(2)][:3]


@pytest.mark.slow
@pytest.mark.parametrize(("page", "number"), PROGRAMS, ids=[f"{page.name}-{number}" for page, number in PROGRAMS])
def test_programs_run(page: Path, number: int, clone: Path) -> None:
    command = [sys.executable, "-c", blocks(page, "python")[number]]
    done = subprocess.run(
        command, cwd=clone, env=environment(), capture_output=True, text=True, timeout=LIMIT, check=False
    )
    assert done.returncode == 0, done.stderr


def test_every_program_of_the_start_page_is_run() -> None:
    assert len(blocks(DOCS / "start.md", "python")) == 2


def test_the_readme_shows_the_example_as_it_is() -> None:
    assert blocks(README, "python") == [(REPOSITORY / "examples" / "evaluate.py").read_text(encoding="utf-8")]


PLAIN = [
    *(REPOSITORY / f"{name}.md" for name in ("README", "CONTRIBUTING", "SECURITY", "RELEASING")),
    *(DOCS / f"{name}.md" for name in ("README", "start", "convert", "repair", "verify", "layouts", "benchmarks")),
    *(DOCS / f"{name}.md" for name in ("stability", "architecture")),
    *sorted((DOCS / "development").glob("*.md")),
]


@pytest.mark.parametrize("page", PLAIN, ids=lambda page: page.name)
def test_pages_are_plain(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    for left_out in (r"```.*?```", r"<!--.*?-->", r"^#.*?$", r"^\|.*?$", r"\]\([^)]*\)"):
        text = re.sub(left_out, "", text, flags=re.DOTALL | re.MULTILINE)
    blocks = re.split(r"\n\n|\n(?=- |\d+\. )", text)
    found = [sign for block in blocks for sign in signs(re.sub(r"^\s*(- |\d+\. )", "", block))]
    assert not found, "\n".join(found)


def test_the_readme_is_short() -> None:
    assert README.read_text(encoding="utf-8").count("\n") <= 130


@pytest.mark.slow
def test_the_command_behind_the_gate_runs(clone: Path) -> None:
    done = transcripts.shell(blocks(README, "sh")[1], clone)
    assert (done.returncode, done.stdout.splitlines()[-1][:5]) == (0, "loss "), done.stdout


def test_the_first_command_ends_with_a_verdict(clone: Path) -> None:
    """What pip installs is tried elsewhere; here the last part of the command runs as it stands."""
    command = blocks(README, "sh")[0].strip().rpartition("&& ")[2].removeprefix(".venv/bin/")
    done = transcripts.shell(command, clone)
    assert (done.returncode, "CKD201" in done.stdout, "CKD202" in done.stdout) == (0, True, True)
