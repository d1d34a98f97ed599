"""Which rules ``--select``, ``--ignore`` and ``explain`` mean."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from ckpt_doctor.errors import UnknownNameError

if TYPE_CHECKING:
    from ckpt_doctor.results import RuleInfo
    from ckpt_doctor.rules.rule import Rule


def rule_choices(values: Iterable[str], option: str) -> tuple[str, ...]:
    """The codes, code prefixes and names in ``values``, each comma separated, in the spelling of the rules.

    Raises ``UnknownNameError`` for what means no rule: a typo in ``--ignore`` or ``--select`` must not change what is
    judged without a word.
    """
    choices = [choice.strip() for value in values for choice in value.split(",")]
    return tuple(_choice(choice, option) for choice in choices if choice)


def _choice(choice: str, option: str) -> str:
    from ckpt_doctor.rules import TABLE

    for rule in TABLE:
        if rule.name == choice.lower():
            return rule.name
        if rule.code.startswith(choice.upper()):
            return choice.upper()
    raise UnknownNameError(f"{option}: there is no rule {choice!r}{_suggestion(choice)}")


def find_rule(text: str) -> type[Rule]:
    """The rule of this code or name, in upper or lower case. Raises ``UnknownNameError`` with what comes close."""
    from ckpt_doctor.rules import TABLE

    for rule in TABLE:
        if text.upper() == rule.code or text.lower() == rule.name:
            return rule.load()
    raise UnknownNameError(f"there is no rule {text!r}{_suggestion(text)}")


def rule_info(code: str) -> RuleInfo | None:
    """The rule of this code with its documentation, if there is one."""
    from ckpt_doctor.rules import TABLE

    return next((rule.load().info() for rule in TABLE if rule.code == code), None)


def _suggestion(text: str) -> str:
    from difflib import get_close_matches

    from ckpt_doctor.rules import TABLE

    codes = get_close_matches(text.upper(), [rule.code for rule in TABLE], n=2, cutoff=0.8)
    names = get_close_matches(text.lower(), [rule.name for rule in TABLE], n=3)
    close = [*names, *codes]
    return f"; did you mean {' or '.join(close)}?" if close else "; see `ckpt-doctor rules`"
