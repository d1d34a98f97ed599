"""``docs/settings.md`` says what the code does."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from ckpt_doctor import load_settings
from ckpt_doctor.settings.keys import KEYS
from ckpt_doctor.settings.layout_tables import _FILE_KEYS, _LAYOUT_KEYS
from support.places import REPOSITORY
from support.projects import enter_project

PAGE = (REPOSITORY / "docs" / "settings.md").read_text()
BLOCKS = re.findall(r"```toml\n(.*?)```", PAGE, re.DOTALL)


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    return enter_project(tmp_path, monkeypatch)


def keys_of_table(heading: str) -> list[str]:
    """The first cells of the table below a heading."""
    section = PAGE.partition(f"## {heading}\n")[2].partition("\n## ")[0].partition("\n### ")[0]
    return re.findall(r"^\| `([\w-]+)` \|", section, re.MULTILINE)


def test_the_tables_list_every_key() -> None:
    assert keys_of_table("Keys") == [key.name for key in KEYS]
    assert sorted(keys_of_table("Layouts of your own")) == sorted(_LAYOUT_KEYS)
    assert sorted(keys_of_table("Files")) == sorted(_FILE_KEYS)
    assert all(f"`{key.variable}`" in PAGE for key in KEYS if key.simple)


@pytest.mark.parametrize("number", range(len(BLOCKS)))
def test_every_example_is_one(number: int, here: Path) -> None:
    name = "pyproject.toml" if "[tool." in BLOCKS[number] else "ckpt-doctor.toml"
    (here / name).write_text(BLOCKS[number])
    assert load_settings().values


def test_both_files_say_the_same(here: Path) -> None:
    (here / "ckpt-doctor.toml").write_text(BLOCKS[0])
    first = load_settings().policy
    (here / "ckpt-doctor.toml").unlink()
    (here / "pyproject.toml").write_text(BLOCKS[1])
    assert load_settings().policy == first
