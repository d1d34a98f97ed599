"""How the tests of settings start the program, and where."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from ckpt_doctor.cli.root import cli

REPOSITORY = Path(__file__).parents[2]
FIXTURES = REPOSITORY / "fixtures"


def run(*args: object, env: dict[str, str] | None = None) -> Result:
    """Run in this process, with both streams apart."""
    try:
        runner = CliRunner(mix_stderr=False)  # type: ignore[call-arg]
    except TypeError:  # click 8.2 and later keep them apart
        runner = CliRunner()
    return runner.invoke(cli, [str(arg) for arg in args], env=env)


def enter_project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Go into an empty folder, in an environment that says nothing."""
    for name in list(os.environ):
        if name.startswith("CKPT_DOCTOR_"):
            monkeypatch.delenv(name)
    folder = tmp_path / "project"
    folder.mkdir()
    monkeypatch.chdir(folder)
    return folder
