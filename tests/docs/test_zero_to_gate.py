"""From zero to gate, as a reader goes it."""

from __future__ import annotations

import os
import re
import shutil
import sys
from pathlib import Path

import pytest

from support import transcripts
from support.places import REPOSITORY

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="the page is for POSIX shells")

PAGE = REPOSITORY / "docs" / "from-zero-to-gate.md"
FIXTURES = REPOSITORY / "fixtures"
EVALUATE = """
import sys
from support.loaders.weaver_loaders import build
{loader}
if __name__ == "__main__":
    print("evaluating", sys.argv[1])
"""
NAIVE = "from support.loaders.weaver_loaders import after_fix_2 as load"


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """Two trainings, of which the second one saved no projections, and an evaluation with the loader of the story."""
    shutil.copytree(FIXTURES / "healthy/weaver_bin/weaver", tmp_path / "runs/20250106-101500/weaver")
    shutil.copytree(FIXTURES / "failures/both/weaver", tmp_path / "runs/20250107-101500/weaver")
    (tmp_path / "evaluate.py").write_text(EVALUATE.format(loader=NAIVE))
    later = tmp_path / ".later"
    later.mkdir()
    right = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)[0]
    (later / "evaluate.py").write_text(EVALUATE.format(loader=right))
    shutil.copy(FIXTURES / "healthy/weaver_bin/weaver/projections.pt", later)
    (settings,) = re.findall(r"```toml\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    (later / "ckpt-doctor.toml").write_text(settings)
    for number, run in enumerate(sorted((tmp_path / "runs").iterdir())):
        for file in run.rglob("*"):
            os.utime(file, (1_736_000_000 + number,) * 2)  # a checkout writes all of them at one time
    transcripts.programs(tmp_path)
    return tmp_path


@pytest.mark.slow
def test_the_way(home: Path) -> None:
    transcripts.check(PAGE, home)


def test_the_commands_are_all_there() -> None:
    typed = "\n".join(step.commands for step in transcripts.steps(PAGE))
    assert {"inspect", "fix", "verify", "gate", "lock"} <= set(re.findall(r"ckpt-doctor (\w+)", typed))
