"""CKD857."""

from __future__ import annotations

from collections.abc import Iterator

from ckpt_doctor.core.checkpoint import Checkpoint
from ckpt_doctor.core.findings import Finding, Severity
from ckpt_doctor.core.policy import Policy
from ckpt_doctor.core.wording import shell

from ._kit.contract_rule import ContractRule, contract_file


class ContractLayoutDiffers(ContractRule):
    """The checkpoint is of another layout than the contract.

    ## What it does
    With `--against`, compares the layouts: `weaver`, `peft`, `transformers` and so on, and `file` for one weight file
    by itself. How PEFT nests an adapter, shards and formats are no matter of layout. The parts that correspond are
    compared all the same.

    ## Why is this bad?
    Another loader would be needed. Most often the wrong folder was inspected.

    ## Example
    A contract of a `weaver/` directory, and the trigger that was saved beside it; or a contract of a model, and one of
    its weight files without the folder.

    ## What to do
    Inspect the folder that is meant. If a tree holds several kinds, `--layout` picks one of them."""

    code = "CKD857"
    name = "contract-layout-differs"
    severity = Severity.ERROR

    def check(self, checkpoint: Checkpoint, policy: Policy) -> Iterator[Finding]:
        """See :meth:`Rule.check`."""
        comparison = checkpoint.comparison
        if comparison is not None and comparison.layout != checkpoint.layout:
            command = shell(
                "inspect", "PATH", "--layout", comparison.layout, "--against", contract_file(comparison.contract)
            )
            yield self.finding(
                f"The layout is {checkpoint.layout}, and {comparison.contract} is a contract for {comparison.layout}. "
                f"Inspect the folder that is meant; of a tree with both, `{command}` compares those of one kind.",
                evidence={"pinned": comparison.layout, "found": checkpoint.layout},
            )
