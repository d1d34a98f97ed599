"""Which rules a word means: a code, the beginning of codes, or a name."""

from __future__ import annotations

import re
from collections.abc import Iterable

from ckpt_doctor.core.errors import UnknownNameError
from ckpt_doctor.core.policy import is_chosen
from ckpt_doctor.core.results import RuleInfo
from ckpt_doctor.rules import TABLE, Listing

_SUGGESTED = 5


def rule_choices(values: Iterable[str], option: str) -> tuple[str, ...]:
    """The codes, code prefixes and names in ``values``, each comma separated, in the spelling of the rules.

    Raises ``UnknownNameError`` for what means no rule: a typo in ``--ignore`` or ``--select`` must not change what is
    judged silently.
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
    """The rule of this code or name, however it is spelt: ``ckd-201``, ``201``, ``Weights_format mismatch``.

    Raises ``UnknownNameError`` with what comes close.
    """
    word = re.sub(r"[\s_-]+", "-", text.strip().lower())
    code = "CKD" + word.removeprefix("ckd").removeprefix("-")
    for rule in TABLE:
        if code == rule.code or word == rule.name:
            return rule
    raise UnknownNameError(f"there is no rule {text!r}{_suggestion(word)}")


def codes_of(choice: str) -> frozenset[str]:
    """The codes that a choice means."""
    return frozenset(rule.code for rule in TABLE if is_chosen((choice,), rule.code, rule.name))


def rule_info(code: str) -> RuleInfo | None:
    """The rule of this code with its documentation, if there is one."""
    return next((rule.load().info() for rule in TABLE if rule.code == code), None)


def _suggestion(text: str) -> str:
    from difflib import get_close_matches

    code, word = text.upper(), text.lower()
    # What is typed may be the beginning of codes, or a word of a name.
    codes = [rule.code for rule in TABLE if len(code) > len("CKD") and rule.code.startswith(code)]
    codes = codes or get_close_matches(code, [rule.code for rule in TABLE], n=2, cutoff=0.8)
    names = get_close_matches(word, [rule.name for rule in TABLE], n=3)
    names = names or [rule.name for rule in TABLE if len(word) > 2 and word in rule.name]
    close = [*names[:_SUGGESTED], *codes[:_SUGGESTED]]
    return f"; did you mean {' or '.join(close)}?" if close else "; see `ckpt-doctor rules`"
