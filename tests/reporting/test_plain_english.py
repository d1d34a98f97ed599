"""The words that users read: every message of the damage registry, every rule's page, every help text."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from ckpt_doctor.cli.root import cli
from ckpt_doctor.core.findings import Finding
from ckpt_doctor.rules import RULES
from support.damages.loads import LoadDamage
from support.damages.record import Damage
from support.damages.table import DAMAGES, LOAD_DAMAGES
from support.plain_english import signs


def commands(command: click.Command, name: str) -> Iterator[tuple[str, click.Command]]:
    yield name, command
    if isinstance(command, click.Group):
        for inner in command.list_commands(click.Context(command)):
            found = command.get_command(click.Context(command), inner)
            assert found is not None
            yield from commands(found, f"{name} {inner}")


COMMANDS = dict(commands(cli, "ckpt-doctor"))


def assert_plain(texts: Iterator[str]) -> None:
    found = [sign for text in texts for sign in signs(text)]
    assert not found, "\n".join(found)


def words_of(findings: tuple[Finding, ...]) -> Iterator[str]:
    for finding in findings:
        yield finding.message
        if finding.fix is not None:
            yield finding.fix.title


@pytest.mark.parametrize("damage", DAMAGES, ids=str)
def test_messages_are_plain(damage: Damage, tmp_path: Path) -> None:
    assert_plain(words_of(damage.inspect(tmp_path).findings))


@pytest.mark.slow
@pytest.mark.parametrize("damage", LOAD_DAMAGES, ids=str)
def test_messages_about_loads_are_plain(damage: LoadDamage, tmp_path: Path) -> None:
    assert_plain(words_of(damage.findings(tmp_path)))


@pytest.mark.parametrize("name", COMMANDS)
def test_help_is_plain(name: str) -> None:
    command = COMMANDS[name]
    options = (option.help for option in command.params if isinstance(option, click.Option) and option.help)
    assert_plain(iter([command.get_short_help_str(200), command.help or "", *options]))


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.code)
def test_rule_pages_are_plain(rule: type) -> None:
    documentation = re.sub(r"^#.*\n", "\n", rule.info().documentation, flags=re.MULTILINE)
    assert_plain(text for text in documentation.split("\n\n") if not text.startswith(("|", "    ", "```")))
