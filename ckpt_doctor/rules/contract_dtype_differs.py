"""CKD854."""

from __future__ import annotations

from collections.abc import Iterator

from ckpt_doctor.core.checkpoint import Checkpoint
from ckpt_doctor.core.comparison import PartComparison
from ckpt_doctor.core.findings import MAX_TENSORS, Finding, Severity
from ckpt_doctor.core.policy import Policy
from ckpt_doctor.core.wording import counted, listed

from ._kit.contract_rule import ContractRule, by_file


class ContractDtypeDiffers(ContractRule):
    """A tensor has another dtype than the contract pins.

    ## What it does
    With `--against`, compares the dtypes of the tensors that both have. It is an error where the contract pins values
    too: in another dtype they are not those.

    ## Why is this bad?
    The values were rounded, or will be rounded differently when they are loaded. Results move by a little, which is
    harder to find than a crash.

    ## Example
    The good checkpoint was saved in float32, and a later one in bfloat16.

    ## What to do
    Save it in the dtype of the contract. `ckpt-doctor diff --values` says how far the values of two checkpoints of
    different dtypes lie apart.
    """

    code = "CKD854"
    name = "contract-dtype-differs"
    severity = Severity.WARNING

    def judge(self, part: PartComparison, checkpoint: Checkpoint, policy: Policy) -> Iterator[Finding]:
        """See :meth:`ContractRule.judge`."""
        for path, changes in by_file(part.dtypes).items():
            shown = listed(f"{item.name} is {item.found} instead of {item.pinned}" for item in changes)
            yield self.finding(
                f"{counted(len(changes), 'tensor differs', 'tensors differ')} in dtype from {part.contract}: {shown}. "
                f"Save it again in the dtypes of the contract; {self.renewing(part, checkpoint)}",
                path=path,
                tensors=[item.name for item in changes],
                evidence={
                    "part": part.name,
                    "dtypes": [
                        {"name": item.name, "pinned": item.pinned, "found": item.found}
                        for item in changes[:MAX_TENSORS]
                    ],
                },
                severity=Severity.ERROR if part.valued else None,
            )
