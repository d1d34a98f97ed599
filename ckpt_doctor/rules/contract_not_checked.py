"""CKD858."""

from __future__ import annotations

from collections.abc import Iterator

from ckpt_doctor.core.checkpoint import Checkpoint
from ckpt_doctor.core.comparison import PartComparison
from ckpt_doctor.core.findings import Finding, Severity
from ckpt_doctor.core.policy import Policy
from ckpt_doctor.core.wording import counted, listed, shell

from ._kit.contract_rule import ContractRule, contract_file


class ContractNotChecked(ContractRule):
    """Something that the contract pins was not compared.

    ## What it does
    With `--against`, says which parts, settings or values could not be read, and so not be compared. This ignores
    `--ignore` and `--fail-on never`: what was not compared is never green. If the contract pins values and only
    `--deep` is missing, it is a note.

    ## Why is this bad?
    Whatever departs from the contract there was not found.

    ## Example
    The adapter is cut off: its list of tensors is lost.

    ## What to do
    See the other findings for what is wrong with the file. For values, inspect with `--deep`.
    """

    code = "CKD858"
    name = "contract-not-checked"
    severity = Severity.ERROR

    def check(self, checkpoint: Checkpoint, policy: Policy) -> Iterator[Finding]:
        """See :meth:`Rule.check`."""
        yield from super().check(checkpoint, policy)
        comparison = checkpoint.comparison
        valued = sum(part.valued for part in comparison.parts) if comparison is not None else 0
        if comparison is not None and valued and not policy.deep:
            command = shell("inspect", checkpoint.path, "--deep", "--against", contract_file(comparison.contract))
            yield self.finding(
                f"The values of {counted(valued, 'tensor')} were not compared with {comparison.contract}. "
                f"Read and compare them all: `{command}`",
                evidence={"valued": valued},
                severity=Severity.NOTE,
            )

    def judge(self, part: PartComparison, checkpoint: Checkpoint, policy: Policy) -> Iterator[Finding]:
        """See :meth:`ContractRule.judge`."""
        if part.unread is not None:
            yield self.finding(
                f"Nothing of the {part.name} was compared with {part.contract}: {part.unread}. Get a whole copy.",
                path=part.path,
                evidence={"part": part.name, "reason": part.unread},
                always_fails=True,
            )
        if part.unread_config is not None:
            yield self.finding(
                f"The settings of the {part.name} were not compared with {part.contract}: {part.unread_config}. "
                "Take the configuration from the training run.",
                path=part.config_path,
                evidence={"part": part.name, "reason": part.unread_config},
                always_fails=True,
            )
        if part.unread_values and policy.deep:
            yield self.finding(
                f"The values of {counted(len(part.unread_values), 'tensor')} were not compared with {part.contract}, "
                f"because their bytes cannot be read as they are: {listed(part.unread_values)}. Get a whole copy, or "
                "save plain tensors.",
                path=part.path,
                tensors=part.unread_values,
                evidence={"part": part.name},
                always_fails=True,
            )
