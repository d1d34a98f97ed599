"""The common part of the rules about contracts."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from ckpt_doctor.core.checkpoint import Checkpoint
from ckpt_doctor.core.comparison import Change, PartComparison
from ckpt_doctor.core.contract import UNNAMED
from ckpt_doctor.core.findings import Finding
from ckpt_doctor.core.policy import Policy
from ckpt_doctor.core.wording import shell

from .rule import Rule


def by_file(changes: Iterable[Change]) -> dict[str, list[Change]]:
    """The changes by the file that they were found in."""
    found: dict[str, list[Change]] = {}
    for change in changes:
        found.setdefault(change.path, []).append(change)
    return found


def contract_file(contract: str) -> str:
    """What means the contract in a command line."""
    return "FILE" if contract == UNNAMED else contract


class ContractRule(Rule):
    """A rule about what departs from a contract. It has nothing to say before ``inspect --against`` compared."""

    needs = "a contract"

    def check(self, checkpoint: Checkpoint, policy: Policy) -> Iterator[Finding]:
        """See :meth:`Rule.check`."""
        comparison = checkpoint.comparison
        for part in comparison.parts if comparison is not None else ():
            yield from self.judge(part, checkpoint, policy)

    def judge(self, part: PartComparison, checkpoint: Checkpoint, policy: Policy) -> Iterator[Finding]:
        """Yield what is to be said of one part."""
        raise NotImplementedError

    def renewing(self, part: PartComparison, checkpoint: Checkpoint) -> str:
        """What to do where the checkpoint is right: the end of a message."""
        values = ["--values"] if part.valued else []
        command = shell("lock", checkpoint.path, *values, "-o", contract_file(part.contract))
        return f"if this checkpoint is right, renew the contract: `{command}`"
