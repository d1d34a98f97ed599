"""Checkpoints and trees of runs for the gate, most of them copies of fixtures, and how to start the program."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

from support.children import environment
from support.damages.edits import safetensors_bytes
from support.places import HEALTHY, LOADERS

MODEL = LOADERS / "light_model.py"


def copied(fixture: str, target: Path) -> Path:
    """A copy of a healthy fixture."""
    return Path(shutil.copytree(HEALTHY / fixture, target))


def weaver(run: Path) -> Path:
    """A healthy weaver in the folder of a run; the path of the weaver."""
    return copied("weaver_safetensors/weaver", run / "weaver")


def broken(run: Path) -> Path:
    """A weaver without its projections."""
    path = weaver(run)
    (path / "projections.pt").unlink()
    return path


def light(folder: Path) -> Path:
    """A checkpoint that :mod:`light_model` loads."""
    folder.mkdir(parents=True, exist_ok=True)
    header = {
        "__metadata__": {"format": "pt"},
        "weight": {"dtype": "F32", "shape": [4, 4], "data_offsets": [0, 64]},
        "bias": {"dtype": "F32", "shape": [4], "data_offsets": [64, 80]},
    }
    body = b"".join(bytes((number, 0, 0x80, 0x3F)) for number in range(20))  # small numbers above 1
    (folder / "model.safetensors").write_bytes(safetensors_bytes(header, body))
    return folder


def aged(path: Path, seconds: int) -> Path:
    """Let everything at ``path`` be written ``seconds`` after some fixed moment."""
    moment = 1_700_000_000 + seconds
    for file in (path, *path.rglob("*")):
        os.utime(file, (moment, moment), follow_symlinks=False)
    return path


def ckpt_doctor(*args: object, cwd: Path, **options: object) -> subprocess.CompletedProcess[str]:
    """Run the program in ``cwd`` to its end."""
    env = environment(**options.pop("env", {}))  # type: ignore[arg-type]
    command = [sys.executable, "-m", "ckpt_doctor", *map(str, args)]
    return subprocess.run(  # type: ignore[call-overload, no-any-return]
        command, cwd=cwd, env=env, capture_output=True, text=True, check=False, timeout=120, **options
    )
