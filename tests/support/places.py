"""The folders of this repository that tests read, and copies of the checkpoints in them."""

from __future__ import annotations

import shutil
from pathlib import Path

REPOSITORY = Path(__file__).parents[2]
TESTS = REPOSITORY / "tests"
FIXTURES = REPOSITORY / "fixtures"
HEALTHY = FIXTURES / "healthy"
FAILURES = FIXTURES / "failures"
HEALTHY_WEAVER = HEALTHY / "weaver_safetensors" / "weaver"
BROKEN = FAILURES / "both" / "weaver"
LOADERS = TESTS / "support" / "loaders"
"""Files that tests give to ``--model`` and ``--loader``."""

IMPORTED = (REPOSITORY, TESTS, FIXTURES, REPOSITORY / "scripts")
"""The folders whose modules tests import; ``pythonpath`` in pyproject.toml lists the same."""


def copied(fixture: str, folder: Path) -> Path:
    """Copy a healthy checkpoint into ``folder``, under its own last name."""
    return Path(shutil.copytree(HEALTHY / fixture, folder / Path(fixture).name))
