"""Which rules a word means: a code, the beginning of codes, or a name."""

from __future__ import annotations

from collections.abc import Iterable

from ckpt_doctor.errors import UnknownNameError
from ckpt_doctor.policy import is_chosen
from ckpt_doctor.results import RuleInfo

from . import TABLE, Listing


def rule_choices(values: Iterable[str], option: str) -> tuple[str, ...]:
    """The codes, code prefixes and names in ``values``, each comma separated, in the spelling of the rules.

    Raises ``UnknownNameError`` for what means no rule: a typo in ``--ignore`` or ``--select`` must not change what is
    judged without a word.
    """
    choices = [choice.strip() for value in values for choice in value.split(",")]
    return tuple(_choice(choice, option) for choice in choices if choice)


def _choice(choice: str, option: str) -> str:
    for rule in TABLE:
        if rule.name == choice.lower():
            return rule.name
        if rule.code.startswith(choice.upper()):
            return choice.upper()
    raise UnknownNameError(f"{option}: there is no rule {choice!r}{_suggestion(choice)}")


def find_rule(text: str) -> Listing:
    """The rule of this code or name, in upper or lower case. Raises ``UnknownNameError`` with what comes close."""
    for rule in TABLE:
        if text.upper() == rule.code or text.lower() == rule.name:
            return rule
    raise UnknownNameError(f"there is no rule {text!r}{_suggestion(text)}")


def codes_of(choice: str) -> frozenset[str]:
    """The codes that a choice means."""
    return frozenset(rule.code for rule in TABLE if is_chosen((choice,), rule.code, rule.name))


def rule_info(code: str) -> RuleInfo | None:
    """The rule of this code with its documentation, if there is one."""
    return next((rule.load().info() for rule in TABLE if rule.code == code), None)


def _suggestion(text: str) -> str:
    from difflib import get_close_matches

    codes = get_close_matches(text.upper(), [rule.code for rule in TABLE], n=2, cutoff=0.8)
    names = get_close_matches(text.lower(), [rule.name for rule in TABLE], n=3)
    close = [*names, *codes]
    return f"; did you mean {' or '.join(close)}?" if close else "; see `ckpt-doctor rules`"
