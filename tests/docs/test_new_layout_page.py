"""The page about a new kind of checkpoint, followed word by word in a copy of the package."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from support.children import LIMIT, environment

REPOSITORY = Path(__file__).parents[2]
ADAPTER = REPOSITORY / "fixtures" / "healthy" / "peft" / "lora"
PAGE = (REPOSITORY / "docs" / "development" / "new-layout.md").read_text(encoding="utf-8")
HIDDEN = 32


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a package that has the page's file and the page's line."""
    home = tmp_path_factory.mktemp("copy")
    shutil.copytree(REPOSITORY / "ckpt_doctor", home / "ckpt_doctor", ignore=shutil.ignore_patterns("__pycache__"))
    (name,) = re.findall(r"^`(ckpt_doctor/layouts/kinds/\w+\.py)`:$", PAGE, flags=re.MULTILINE)
    file, line = re.findall(r"```python\n(.*?)```", PAGE, flags=re.DOTALL)
    (home / name).write_text(file)
    registry = home / "ckpt_doctor/layouts/registry.py"
    before, begin, after = registry.read_text().partition("KINDS = {\n")
    assert begin, "the page speaks of KINDS"
    registry.write_text(before + begin + line + after)
    return home


@pytest.fixture
def reward(tmp_path: Path) -> Path:
    folder = tmp_path / "runs" / "reward"
    shutil.copytree(ADAPTER, folder / "policy")
    save_file({"weight": torch.randn(1, HIDDEN)}, folder / "value_head.safetensors")
    return folder


def inspect(package: Path, *arguments: object) -> tuple[int, str]:
    """The exit code, and what was said: the report, or what is wrong with the command."""
    command = [sys.executable, "-m", "ckpt_doctor", "inspect", *map(str, arguments)]
    done = subprocess.run(
        command, env=environment(package), cwd=package, capture_output=True, text=True, timeout=LIMIT, check=False
    )
    assert not (done.stderr and done.stdout), done.stderr
    return done.returncode, done.stdout or done.stderr


def codes(output: str) -> list[str]:
    document = json.loads(output)
    return [finding["code"] for finding in document["checkpoints"][0]["findings"]]


def test_it_is_recognised_by_its_name(package: Path, reward: Path) -> None:
    code, output = inspect(package, reward)
    assert code == 0, output
    assert "reward model" in output


@pytest.mark.parametrize("name", ["runs", "runs/reward", "runs/reward/policy"])
def test_it_is_found_from_above_and_from_within(name: str, package: Path, reward: Path) -> None:
    code, output = inspect(package, reward.parents[1] / name, "--layout", "reward", "--output-format", "json")
    (checkpoint,) = json.loads(output)["checkpoints"]
    assert (code, checkpoint["layout"], Path(checkpoint["path"]).name) == (0, "reward", reward.name), output


def test_a_missing_head_is_an_error(package: Path, reward: Path) -> None:
    (reward / "value_head.safetensors").unlink()
    code, output = inspect(package, reward, "--output-format", "json")
    assert (code, codes(output)) == (1, ["CKD202"])


def test_a_head_of_another_size_is_an_error(package: Path, reward: Path) -> None:
    save_file({"weight": torch.randn(1, HIDDEN + 1)}, reward / "value_head.safetensors")
    code, output = inspect(package, reward, "--output-format", "json")
    assert (code, codes(output)) == (1, ["CKD504"])


def test_it_is_listed_where_another_name_is_asked_for(package: Path, reward: Path) -> None:
    code, output = inspect(package, reward, "--layout", "rewards")
    assert code == 2
    assert re.search(r"\breward\b", output), output
