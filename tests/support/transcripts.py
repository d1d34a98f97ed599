"""Pages that show a terminal: every block of a page is run, and what it shows must be what happens.

A block is fenced as ``console``; lines that begin with ``$`` are typed, the others are shown. What a reader does
between two blocks without a command stands in the page as ``<!-- then: COMMAND -->``.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from shlex import quote
from typing import NamedTuple

from support.children import environment

HOME = "/home/me"
"""What pages call the folder that their commands run in."""

_STEP = re.compile(r"```console\n(?P<block>.*?)```|<!-- then: (?P<then>.*?) -->", re.DOTALL)


class Step(NamedTuple):
    """Commands of a page, and what it shows of them; ``None`` where it shows nothing of them at all."""

    commands: str
    shown: str | None


def steps(page: Path) -> Iterator[Step]:
    """What a reader of the page does, in order."""
    for match in _STEP.finditer(page.read_text(encoding="utf-8")):
        if match["then"] is not None:
            yield Step(match["then"], None)
            continue
        commands = re.findall(r"^\$ (.*)$", match["block"], re.MULTILINE)
        yield Step("\n".join(commands), re.sub(r"^\$ .*\n", "", match["block"], flags=re.MULTILINE))


def programs(home: Path, **more: str) -> None:
    """Put this repository's ``ckpt-doctor``, this ``python`` and ``more`` programs where the shell finds them."""
    folder = home / ".bin"
    folder.mkdir()
    own = {
        "ckpt-doctor": f'exec {quote(sys.executable)} -m ckpt_doctor "$@"',
        "python": f'exec {quote(sys.executable)} "$@"',
    }
    for name, command in {**own, **more}.items():
        (folder / name).write_text(f"#!/bin/sh\n{command}\n")
        (folder / name).chmod(0o755)


def shell(program: str, home: Path, **env: str) -> subprocess.CompletedProcess[str]:
    """Run a program of the shell with both streams in one."""
    path = f"{home / '.bin'}{os.pathsep}{os.environ['PATH']}"
    return subprocess.run(
        ["bash", "-c", program],
        cwd=home,
        env=environment(PATH=path, **env),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
        timeout=120,
    )


def run(step: Step, home: Path) -> str:
    """What one step prints, with the folder called as pages call it."""
    return shell(step.commands, home).stdout.replace(str(home), HOME)


def check(page: Path, home: Path) -> None:
    """Do what a reader of the page does, and compare. With ``UPDATE_DOCS`` set the page is rewritten instead."""
    text = page.read_text(encoding="utf-8")
    for step in steps(page):
        output = run(step, home)
        if step.shown is None:
            assert not output, f"{step.commands}: {output}"
        elif os.environ.get("UPDATE_DOCS"):
            typed = "".join(f"$ {command}\n" for command in step.commands.split("\n"))
            text = text.replace(f"```console\n{typed}{step.shown}```", f"```console\n{typed}{output}```", 1)
        else:
            assert output == step.shown, step.commands
    if os.environ.get("UPDATE_DOCS"):
        page.write_text(text, encoding="utf-8")
