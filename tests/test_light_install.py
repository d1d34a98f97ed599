"""Everything but loading models works with click, numpy and tabulate alone; what loads says what to install."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from ckpt_doctor.cli.table import COMMANDS
from support.children import LIMIT, environment

FIXTURES = Path(__file__).resolve().parents[1] / "fixtures"
EXTRA = "pip install 'ckpt-doctor[verify]'"
ABSENT = ("torch", "safetensors", "peft", "transformers", "accelerate", "huggingface_hub", "yaml")

# Each command line with the exit code it has where nothing is missing, and 2 where it needs the extra.
RUNS: list[tuple[list[str], int]] = [
    (["inspect", "both/weaver"], 1),
    (["inspect", "--deep", "--jobs", "2", "healthy"], 0),
    (["inspect", "--output-format", "sarif", "--fail-on", "never", "both"], 0),
    (["ls", "both/weaver"], 0),
    (["convert", "both/weaver", "--to", "safetensors"], 0),
    (["convert", "healthy", "converted", "--to", "bin"], 0),
    (["fix", "both", "--dry-run"], 1),
    (["fix", "both"], 1),
    (["verify", "healthy", "--model", "base"], 2),
    (["verify", "healthy", "--model", "base", "--mode", "keys"], 2),
    (["verify", "healthy", "--model", "weaver.yaml"], 2),
    (["verify", "base", "--model", "base"], 2),
    (["gate", "healthy"], 0),
    (["gate", "both"], 1),
    (["gate", "healthy", "--", sys.executable, "-c", "raise SystemExit(7)"], 7),
    (["gate", "healthy", "--model", "base"], 2),
    (["latest", "."], 0),
    (["lock", "healthy", "-o", "contract.json"], 0),
    (["diff", "healthy", "healthy"], 0),
    (["explain", "CKD201"], 0),
    (["rules"], 0),
    (["settings"], 0),
]


@pytest.fixture
def here(tmp_path: Path) -> Path:
    """A folder with checkpoints, and one with modules in the place of the libraries, none of which can be imported."""
    for name in ABSENT:
        (tmp_path / "absent" / f"{name}.py").parent.mkdir(exist_ok=True)
        (tmp_path / "absent" / f"{name}.py").write_text(f"raise ImportError('there is no {name} here')\n")
    work = tmp_path / "work"
    shutil.copytree(FIXTURES / "failures" / "both", work / "both")
    shutil.copytree(FIXTURES / "healthy" / "weaver_safetensors", work / "healthy")
    shutil.copytree(FIXTURES / "healthy" / "transformers" / "single_safetensors", work / "base")
    for number, name in enumerate(("base", "both", "healthy")):
        for file in (work / name).rglob("*"):
            os.utime(file, (1_736_000_000 + number,) * 2)  # `latest` goes by the time of writing
    (work / "weaver.yaml").write_text("model:\n  model_name: base\n")
    return work


def python(here: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    env = environment(here.parent / "absent")
    command = [sys.executable, *arguments]
    return subprocess.run(command, cwd=here, env=env, capture_output=True, text=True, check=False, timeout=LIMIT)


def test_every_command_is_run() -> None:
    assert {arguments[0] for arguments, _ in RUNS} == set(COMMANDS)


@pytest.mark.slow
@pytest.mark.parametrize(("arguments", "code"), RUNS, ids=[" ".join(run[0][:4]) for run in RUNS])
def test_a_command(here: Path, arguments: list[str], code: int) -> None:
    done = python(here, "-m", "ckpt_doctor", *arguments)
    assert done.returncode == code, done.stderr
    assert "Traceback" not in done.stderr
    assert "internal error" not in done.stderr
    assert (EXTRA in done.stderr) == (code == 2)


PYTHON = """
import json
import ckpt_doctor
import ckpt_doctor.integrations

def said(call):
    try:
        call()
    except ckpt_doctor.MissingDependencyError as error:
        return str(error)
    return None

def watched():
    with ckpt_doctor.watch_load(object(), "healthy"):
        pass

print(json.dumps([
    said(lambda: ckpt_doctor.verify("healthy", "base")),
    said(lambda: ckpt_doctor.load_coverage(object(), "healthy")),
    said(watched),
    said(lambda: ckpt_doctor.integrations.assert_fully_loaded(object(), "healthy")),
    said(lambda: ckpt_doctor.integrations.CheckpointCallback),
    said(lambda: ckpt_doctor.inspect("healthy")),
    said(lambda: ckpt_doctor.convert("healthy", "there", to="bin")),
]))
"""


def test_from_python(here: Path) -> None:
    done = python(here, "-c", PYTHON)
    assert done.returncode == 0, done.stderr
    *missing, inspected, converted = json.loads(done.stdout)
    assert all(message is not None and EXTRA in message for message in missing), missing
    assert (inspected, converted) == (None, None)


@pytest.mark.slow
@pytest.mark.parametrize("absent", ["peft", "transformers"])
def test_with_torch_alone_the_library_is_named(here: Path, absent: str) -> None:
    for name in ABSENT:
        if name != absent:
            (here.parent / "absent" / f"{name}.py").unlink()
    done = python(here, "-m", "ckpt_doctor", "verify", "healthy", "--model", "base")
    assert (done.returncode, done.stdout) == (2, ""), done.stderr
    assert f"needs {absent}" in done.stderr
    assert EXTRA in done.stderr
