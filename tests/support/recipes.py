"""Pages that say how to add something: each block of code is put where the page says, in a copy of the repository.

A comment stands before each block: ``new: FILE``; ``after: FILE | TEXT`` or ``before: FILE | TEXT`` for lines beside
the first line with that text; ``replace: FILE | TEXT`` for text within a line.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

from support.children import environment
from support.places import REPOSITORY

_STEP = re.compile(
    r"<!-- (?P<how>new|after|before|replace): (?P<file>\S+)(?: \| (?P<text>.*?))? -->"
    r".*?```(python|text)\n(?P<code>.*?)```",
    re.DOTALL,
)
_LEFT_OUT = shutil.ignore_patterns("__pycache__", "*.egg-info")
_FOLDERS = ("ckpt_doctor", "tests", "fixtures", "scripts", "docs", "examples")
_FILES = ("README.md", "pyproject.toml")


def copied(home: Path) -> Path:
    """The repository, as far as the recipes and their tests need it."""
    for name in _FOLDERS:
        shutil.copytree(REPOSITORY / name, home / name, ignore=_LEFT_OUT)
    for name in _FILES:
        shutil.copy(REPOSITORY / name, home / name)
    return home


def follow(page: Path, home: Path) -> int:
    """Do what the page says; returns the number of its steps."""
    steps = list(_STEP.finditer(page.read_text(encoding="utf-8")))
    for step in steps:
        file, code = home / step["file"], step["code"]
        if step["how"] == "new":
            assert not file.exists(), file
            file.write_text(code, encoding="utf-8")
            continue
        old = file.read_text(encoding="utf-8")
        place = old.find(step["text"])
        assert place >= 0, f"{step['text']} is not in {file}"
        if step["how"] == "replace":
            new = old.replace(step["text"], code.rstrip("\n"), 1)
        else:
            cut = old.index("\n", place) + 1 if step["how"] == "after" else old.rfind("\n", 0, place) + 1
            new = old[:cut] + code + old[cut:]
        file.write_text(new, encoding="utf-8")
    return len(steps)


def run(home: Path, *command: object) -> subprocess.CompletedProcess[str]:
    """Run Python in the copy, which is where it imports from."""
    first = (home, home / "tests", home / "fixtures", home / "scripts")
    return subprocess.run(
        [sys.executable, *map(str, command)],
        cwd=home,
        env=environment(*first),
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
