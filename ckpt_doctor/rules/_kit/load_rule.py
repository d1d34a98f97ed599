"""The common part of the rules about a load: verification hands over what it saw, the rule writes the finding."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from ckpt_doctor.core.checkpoint import Checkpoint
from ckpt_doctor.core.findings import Finding
from ckpt_doctor.core.nothing import NOTHING
from ckpt_doctor.core.policy import Policy

from .rule import Rule


class Step(NamedTuple):
    """What to do next, in sentences, and the JSON values that go with it; both empty if nothing is certain."""

    text: str = ""
    evidence: Mapping[str, Any] = NOTHING


class LoadRule(Rule):
    """A rule about a load into a model.

    A subclass has a method ``report``, or several, that ``verify`` calls with plain values (names, shapes, numbers) and
    that returns the finding. A checkpoint alone shows none of this, so ``check`` yields nothing.
    """

    needs = "a model"

    def check(self, checkpoint: Checkpoint, policy: Policy) -> Iterator[Finding]:
        """See :meth:`Rule.check`."""
        return iter(())
