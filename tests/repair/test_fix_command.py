"""``ckpt-doctor fix`` as it is typed."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from ckpt_doctor.cli.root import cli
from support.children import environment
from support.places import copied
from support.repaired import content, own_files
from support.scenes import lone, shards, weaver


def run(*arguments: object) -> Result:
    return CliRunner().invoke(cli, ["fix", *map(str, arguments)], catch_exceptions=False)


def test_from_plan_to_undo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    weaver(tmp_path)
    monkeypatch.chdir(tmp_path)
    before = content(tmp_path)
    planned = run("weaver", "--dry-run")
    assert planned.exit_code == 1
    assert "2 repairs to do" in planned.stdout
    assert "afterwards:" in planned.stdout
    assert content(tmp_path) == before
    done = run("weaver")
    assert done.exit_code == 0, done.output
    assert "weaver · 2 repairs done" in done.stdout
    assert "CKD201 weights-format-mismatch  weaver_lora/adapter_model.bin: convert to safetensors" in done.stdout
    rows = [line.split() for line in done.stdout.splitlines()]
    assert ["weaver_lora/adapter_model.bin", "removed"] in [row[:2] for row in rows]
    assert ["weaver_lora/adapter_model.safetensors", "written"] in [row[:2] for row in rows]
    assert "healthy" in done.stdout
    undo = next(line for line in done.stdout.splitlines() if "--undo" in line).partition("ckpt-doctor ")[2].split()
    again = run("weaver")
    assert again.exit_code == 0
    assert "nothing to repair" in again.stdout
    back = CliRunner().invoke(cli, undo, catch_exceptions=False)
    assert back.exit_code == 0
    assert "1 file put back" in back.stdout
    assert content(tmp_path) == before
    assert not own_files(tmp_path)


def test_what_remains_makes_the_exit_code(tmp_path: Path) -> None:
    here = weaver(tmp_path)
    (here / "projections.pt").unlink()
    done = run(here)
    assert done.exit_code == 1
    assert "2 repairs done" in done.stdout
    assert "CKD202" in done.stdout
    assert run(here, "--fail-on", "never").exit_code == 0


def test_select_and_ignore(tmp_path: Path) -> None:
    model = shards(tmp_path)
    assert run(model, "--select", "format-metadata-missing").exit_code == 0
    index = json.loads((model / "model.safetensors.index.json").read_text())
    assert index["metadata"]["total_size"] == 1
    assert run(model, "--ignore", "CKD304").exit_code == 0
    index = json.loads((model / "model.safetensors.index.json").read_text())
    assert index["metadata"]["total_size"] != 1
    assert all(name.startswith("module.") for name in index["weight_map"])


def test_json(tmp_path: Path) -> None:
    model = shards(tmp_path)
    document = json.loads(run(model, "--output-format", "json").stdout)
    assert document["schema_version"] == 1
    assert document["dry_run"] is False
    (repair,) = document["repairs"]
    assert {step["code"] for step in repair["steps"]} == {"CKD109", "CKD304", "CKD705"}
    assert {change["action"] for change in repair["changes"]} == {"rewritten"}
    assert Path(repair["backup"]).is_dir()
    assert document["remaining"]["summary"]["healthy"] == 1
    again = json.loads(run(model, "--output-format", "json").stdout)
    assert again["repairs"][0]["steps"] == []
    assert again["repairs"][0]["backup"] is None


def test_a_lone_file_gets_its_name(tmp_path: Path) -> None:
    path = lone(tmp_path)
    done = run(path, "--no-backup")
    assert done.exit_code == 0
    assert "renamed from weights.pt" in done.stdout
    assert "nothing was replaced" in done.stdout
    assert [file.name for file in tmp_path.iterdir()] == ["weights.safetensors"]


def test_a_tree(tmp_path: Path) -> None:
    shards(tmp_path)
    weaver(tmp_path)
    copied("peft/dora", tmp_path)
    done = run(tmp_path)
    assert done.exit_code == 0
    assert done.stdout.count("the originals are in") == 2
    assert "3 checkpoints" in done.stdout


def test_one_of_a_tree_that_cannot_be_repaired(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = shards(tmp_path)
    here = weaver(tmp_path)
    (model / ".ckpt-doctor").write_text("in the way")
    done = run(tmp_path)
    assert done.exit_code == 2
    assert "is not a folder" in done.stderr
    assert (here / "weaver_lora" / "adapter_model.safetensors").exists()
    assert "weaver · 2 repairs done" in done.stdout
    assert "CKD304" in done.stdout


def test_a_rejected_fix_says_why(tmp_path: Path) -> None:
    model = shards(tmp_path)
    for file in sorted(model.glob("*.safetensors")):
        file.rename(tmp_path / file.name)
        file.symlink_to(tmp_path / file.name)
    done = run(model, "--select", "CKD304")
    assert done.exit_code == 1
    assert done.stdout.count("not repaired: CKD304") == 3
    assert "is a link to" in done.stdout


@pytest.mark.slow
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "Missing argument 'PATH'"),
        (("nowhere",), "does not exist"),
        (("",), "the path is empty"),
        ((".", "--undo", "x"), "takes a backup and no PATH"),
        (("--undo", "nowhere"), "is not a folder"),
        (("--undo", "."), "is not a backup"),
        ((".", "--select", "CKD999"), "CKD999"),
        ((".",), "no checkpoint was found"),
    ],
)
def test_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...], message: str) -> None:
    monkeypatch.chdir(tmp_path)
    command = [sys.executable, "-m", "ckpt_doctor", "fix", *arguments]
    env = environment()
    done = subprocess.run(command, capture_output=True, text=True, env=env, check=False, timeout=120)
    assert done.returncode == 2
    assert message in done.stderr
    assert "Traceback" not in done.stderr
    assert not done.stdout


WITHOUT_TORCH = """
import sys
sys.modules["torch"] = None
from ckpt_doctor.cli import main
sys.argv = ["ckpt-doctor", "fix", sys.argv[1]]
main()
"""


@pytest.mark.slow
@pytest.mark.parametrize("fixture", ["weaver", "weaver_bin/weaver", "peft/lora_bin"])
def test_without_torch(tmp_path: Path, fixture: str) -> None:
    if fixture == "weaver":
        path = weaver(tmp_path)
    else:
        import torch

        path = copied(fixture, tmp_path)
        (file,) = path.rglob("adapter_model.bin")
        state = torch.load(file, weights_only=True)
        torch.save(state, file, _use_new_zipfile_serialization=False)
    before = content(tmp_path)
    env = environment()
    command = [sys.executable, "-c", WITHOUT_TORCH, str(path)]
    done = subprocess.run(command, capture_output=True, text=True, env=env, check=False, timeout=120)
    assert done.returncode == 0, done.stderr
    assert content(tmp_path) != before
