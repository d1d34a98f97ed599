"""How the tests start the program: as a function, or as a process of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from contextlib import AbstractContextManager

from click.testing import CliRunner, Result

from ckpt_doctor.cli.root import cli
from support.children import LIMIT, environment, running
from support.places import REPOSITORY


def run(*args: object, env: dict[str, str] | None = None) -> Result:
    """Run in this process. Colours, and whether this is a workflow of GitHub, depend on ``env`` only."""
    unset = ("NO_COLOR", "FORCE_COLOR", "CKPT_DOCTOR_DEBUG", "GITHUB_ACTIONS", "GITHUB_STEP_SUMMARY")
    clean = {**dict.fromkeys(unset), **(env or {})}
    try:
        # click before 8.2 mixes the two streams unless told otherwise, and click after it does not know the option.
        runner = CliRunner(mix_stderr=False)  # type: ignore[call-arg]
    except TypeError:
        runner = CliRunner()
    return runner.invoke(cli, [str(arg) for arg in args], env=clean)


def start(*args: object, **options: object) -> AbstractContextManager[subprocess.Popen[bytes]]:
    """Start ``python -m ckpt_doctor`` in the repository, with pipes on both streams unless told otherwise."""
    env = environment(**options.pop("env", {}))  # type: ignore[arg-type]
    command = [sys.executable, "-m", "ckpt_doctor", *map(os.fsdecode, map(_argument, args))]
    streams = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **options}
    return running(command, cwd=REPOSITORY, env=env, **streams)


def process(*args: object, **options: object) -> subprocess.CompletedProcess[bytes]:
    """Run :func:`start` to its end."""
    with start(*args, **options) as program:
        out, err = program.communicate(timeout=LIMIT)
    return subprocess.CompletedProcess(program.args, program.returncode, out, err)


def _argument(value: object) -> str | bytes:
    return value if isinstance(value, bytes) else str(value)
