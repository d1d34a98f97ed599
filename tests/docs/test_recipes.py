"""The pages that say how to add a rule, an output or a format, followed word by word in a copy of the repository."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from support import recipes
from support.places import HEALTHY, REPOSITORY

PAGES = REPOSITORY / "docs" / "development"


def followed(name: str, tmp_path_factory: pytest.TempPathFactory, steps: int) -> Path:
    home = recipes.copied(tmp_path_factory.mktemp(name))
    assert recipes.follow(PAGES / f"new-{name}.md", home) == steps
    return home


def passes(home: Path, *arguments: str) -> None:
    done = recipes.run(home, "-m", "pytest", "-q", "-p", "no:cacheprovider", *arguments)
    assert done.returncode == 0, done.stdout


def generated(home: Path) -> None:
    done = recipes.run(home, "scripts/generate_docs.py")
    assert done.returncode == 0, done.stderr


def inspected(home: Path, *arguments: object) -> tuple[int, str]:
    done = recipes.run(home, "-m", "ckpt_doctor", "inspect", *arguments)
    assert "Traceback" not in done.stderr, done.stderr
    return done.returncode, done.stdout


@pytest.fixture(scope="module")
def rule_home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return followed("rule", tmp_path_factory, 3)


@pytest.mark.slow
class TestRule:
    def test_its_damage_is_reported_and_its_page_written(self, rule_home: Path) -> None:
        generated(rule_home)
        page = rule_home / "docs/rules/CKD599.md"
        assert "# CKD599 alpha-is-zero" in page.read_text()
        passes(rule_home, "tests/test_rules_and_damages.py", "-k", "CKD599 or every_rule or listed_once")

    def test_it_is_found_and_nothing_else(self, rule_home: Path, tmp_path: Path) -> None:
        adapter = Path(shutil.copytree(HEALTHY / "peft/lora", tmp_path / "adapter"))
        config = json.loads((adapter / "adapter_config.json").read_text())
        (adapter / "adapter_config.json").write_text(json.dumps({**config, "lora_alpha": 0}))
        code, output = inspected(rule_home, adapter, "--output-format", "json")
        (checkpoint,) = json.loads(output)["checkpoints"]
        assert (code, [finding["code"] for finding in checkpoint["findings"]]) == (1, ["CKD599"])
        assert inspected(rule_home, HEALTHY / "peft", "-q")[0] == 0


@pytest.fixture(scope="module")
def output_home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return followed("output", tmp_path_factory, 2)


@pytest.mark.slow
class TestOutput:
    def test_it_keeps_the_protocol(self, output_home: Path) -> None:
        generated(output_home)
        assert "jsonl" in (output_home / "docs/commands.md").read_text()
        passes(output_home, "tests/reporting/test_reporters.py")

    def test_it_has_a_line_for_each_finding(self, output_home: Path) -> None:
        code, output = inspected(output_home, output_home / "fixtures/failures/both", "--output-format", "jsonl")
        assert (code, [json.loads(line)["code"] for line in output.splitlines()]) == (1, ["CKD201", "CKD202"])


@pytest.fixture(scope="module")
def format_home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return followed("format", tmp_path_factory, 5)


@pytest.mark.slow
class TestFormat:
    @pytest.mark.parametrize("array", [np.ones((4, 3), "f4"), np.asfortranarray(np.ones((4, 3), "f2")), np.array(2)])
    def test_it_is_read(self, array: np.ndarray, format_home: Path, tmp_path: Path) -> None:
        np.save(tmp_path / "array.npy", array)
        code, output = inspected(format_home, tmp_path, "--deep", "--output-format", "json")
        (checkpoint,) = json.loads(output)["checkpoints"]
        assert (code, checkpoint["files"][0]["format"], checkpoint["findings"]) == (0, "npy", []), output

    def test_values_are_read(self, format_home: Path, tmp_path: Path) -> None:
        np.save(tmp_path / "array.npy", np.array([1, np.nan], "f4"))
        code, output = inspected(format_home, tmp_path, "--deep", "--output-format", "concise")
        assert (code, "CKD601" in output) == (1, True)

    def test_every_cut_is_reported(self, format_home: Path, tmp_path: Path) -> None:
        np.save(tmp_path / "array.npy", np.ones(4, "f4"))
        whole = (tmp_path / "array.npy").read_bytes()
        for end in (7, 40, len(whole) - 1):
            (tmp_path / "array.npy").write_bytes(whole[:end])
            assert inspected(format_home, tmp_path / "array.npy")[0] in (1, 2)

    def test_pages_and_rooms_hold(self, format_home: Path) -> None:
        generated(format_home)
        assert '"npy"' in (format_home / "docs/schema/inspect.json").read_text()
        passes(format_home, "tests/test_architecture.py", "-k", "npy or recognise or too_long")
