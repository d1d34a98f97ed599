"""Completion in shells: click's own, with commands that are imported only when they are asked for."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path
from shlex import quote

import pytest

from ckpt_doctor.cli.table import COMMANDS
from support.children import environment
from support.command_line import process

VARIABLE = "_CKPT_DOCTOR_COMPLETE"


def completed(*words: str) -> list[str]:
    """What is offered for the last of these words."""
    env = {VARIABLE: "bash_complete", "COMP_WORDS": " ".join(["ckpt-doctor", *words]), "COMP_CWORD": str(len(words))}
    result = process(env=env)
    assert (result.returncode, result.stderr) == (0, b"")
    return result.stdout.decode().splitlines()


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_each_shell_gets_its_script(shell: str) -> None:
    if shell == "bash" and shutil.which("bash") is None:
        pytest.skip("click asks bash for its version")
    result = process(env={VARIABLE: f"{shell}_source"})
    assert (result.returncode, result.stderr) == (0, b"")
    assert f"{VARIABLE}={shell}_complete" in result.stdout.decode()


def test_commands_are_offered() -> None:
    assert completed("") == [f"plain,{name}" for name in COMMANDS]
    assert completed("ga") == ["plain,gate"]


def test_options_and_their_values_are_offered() -> None:
    assert completed("inspect", "--output-f") == ["plain,--output-format", "plain,--output-file"]
    assert completed("gate", "w", "--fail-on", "") == ["plain,error", "plain,warning", "plain,note", "plain,never"]
    assert "plain,--fallback" in completed("gate", "--")


def test_rules_are_offered_to_explain() -> None:
    assert completed("explain", "CKD20")[:2] == ["plain,CKD201", "plain,CKD202"]
    assert completed("explain", "ckd201") == ["plain,CKD201"]
    assert completed("explain", "weights-f") == ["plain,weights-format-mismatch"]
    assert completed("explain", "zzz") == [""]


def test_paths_are_left_to_the_shell() -> None:
    assert completed("inspect", "wea") == ["file,wea"]
    assert completed("gate", "wea") == ["file,wea"]


def test_what_stands_behind_the_gate_is_not_ours() -> None:
    assert completed("gate", "w", "--", "python", "--") == ["file,--"]
    assert completed("gate", "w", "--", "ev") == ["file,ev"]
    assert completed("gate", "w", "--", "") == ["file,"]


@pytest.mark.skipif(shutil.which("bash") is None, reason="needs bash")
def test_bash_itself_completes(tmp_path: Path) -> None:
    program = tmp_path / "ckpt-doctor"
    program.write_text(f'#!/bin/sh\nexec {quote(sys.executable)} -m ckpt_doctor "$@"\n')
    program.chmod(0o755)
    script = (
        f'PATH={quote(str(tmp_path))}:$PATH; eval "$({VARIABLE}=bash_source ckpt-doctor)"\n'
        "COMP_WORDS=(ckpt-doctor verify --mod) COMP_CWORD=2\n"
        "_ckpt_doctor_completion ckpt-doctor\n"
        'printf "%s\\n" "${COMPREPLY[@]}"\n'
    )
    done = subprocess.run(
        ["bash", "-c", script], env=environment(), capture_output=True, text=True, check=True, timeout=120
    )
    assert done.stdout.split() == ["--model", "--mode"]
