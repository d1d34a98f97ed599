"""Projects of a user: folders with settings of their own."""

from __future__ import annotations

import os
from pathlib import Path

import pytest


def enter_project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Go into an empty folder, in an environment that says nothing."""
    for name in list(os.environ):
        if name.startswith("CKPT_DOCTOR_"):
            monkeypatch.delenv(name)
    folder = tmp_path / "project"
    folder.mkdir()
    monkeypatch.chdir(folder)
    return folder
