"""What the README shows of a terminal is what the commands print."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
from click.testing import CliRunner

from ckpt_doctor.cli.root import cli
from support.scenes import weaver

REPOSITORY = Path(__file__).parents[2]
BLOCKS = re.findall(r"```console\n\$ ckpt-doctor (.*)\n((?:.*\n)*?)```", (REPOSITORY / "README.md").read_text())


@pytest.mark.parametrize(("command", "shown"), BLOCKS, ids=[command for command, _ in BLOCKS])
def test_transcript(command: str, shown: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    arguments = shlex.split(command)
    if arguments[0] == "fix":
        weaver(tmp_path)
        monkeypatch.chdir(tmp_path)
    else:
        monkeypatch.chdir(REPOSITORY)
    assert CliRunner().invoke(cli, arguments).stdout == shown


def test_there_are_transcripts() -> None:
    assert {command.split()[0] for command, _ in BLOCKS} >= {"inspect", "fix"}
