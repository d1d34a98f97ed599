"""Running the commands as a user would, and files to run them on."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import torch
from click.testing import CliRunner, Result
from safetensors.torch import save_file

from ckpt_doctor.cli.root import cli

REPOSITORY = Path(__file__).parents[2]
FAILURES = REPOSITORY / "fixtures" / "failures"
HEALTHY = REPOSITORY / "fixtures" / "healthy"


def run(*args: object) -> Result:
    try:
        # click before 8.2 mixes the two streams unless told otherwise, and click after it does not know the option.
        runner = CliRunner(mix_stderr=False)  # type: ignore[call-arg]
    except TypeError:
        runner = CliRunner()
    return runner.invoke(cli, [str(arg) for arg in args])


def copied(fixture: str, folder: Path) -> Path:
    return Path(shutil.copytree(HEALTHY / fixture, folder / Path(fixture).name))


def save(state: Any, path: Path) -> Path:
    """``state`` in the format that the name of ``path`` stands for."""
    if path.suffix == ".safetensors":
        save_file({name: tensor.contiguous().clone() for name, tensor in state.items()}, path, {"format": "pt"})
    else:
        torch.save(state, path)
    return path
