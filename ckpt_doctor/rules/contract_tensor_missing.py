"""CKD851."""

from __future__ import annotations

from collections.abc import Iterator

from ckpt_doctor.core.checkpoint import Checkpoint
from ckpt_doctor.core.comparison import PartComparison
from ckpt_doctor.core.findings import Finding, Severity
from ckpt_doctor.core.policy import Policy
from ckpt_doctor.core.wording import counted, listed

from ._kit.contract_rule import ContractRule


class ContractTensorMissing(ContractRule):
    """A tensor that the contract pins is not in the checkpoint.

    ## What it does
    With `--against`, looks for every tensor of the contract in the same part of the checkpoint. Format and number of
    files may differ. A whole part that is absent counts with all of its tensors.

    A further name of a tensor that is there is only a note where loaders tie the two again: output embeddings of a
    model, and names that the metadata of a safetensors file says were dropped.

    ## Why is this bad?
    A loader leaves the parameter as it was, often silently, and the evaluation measures a mixture.

    ## Example
    A later run no longer trained the latents, and its `projections.pt` holds the two projections alone.

    ## What to do
    Save the checkpoint again from the training run. If the model is meant to have changed, lock a new contract.
    """

    code = "CKD851"
    name = "contract-tensor-missing"
    severity = Severity.ERROR

    def judge(self, part: PartComparison, checkpoint: Checkpoint, policy: Policy) -> Iterator[Finding]:
        """See :meth:`ContractRule.judge`."""
        if part.missing:
            count = len(part.missing)
            verb = "is not" if count == 1 else "are not"
            yield self.finding(
                f"{count:,} of {counted(part.pinned, 'tensor')} that {part.contract} pins in the {part.name} {verb} "
                f"here: {listed(part.missing)}. Save the checkpoint again from the run; "
                f"{self.renewing(part, checkpoint)}",
                path=part.path,
                tensors=part.missing,
                evidence={"part": part.name, "role": part.role, "pinned": part.pinned},
            )
        if part.tied:
            shown = listed(f"{name} = {other}" for name, other in part.tied)
            yield self.finding(
                f"{counted(len(part.tied), 'tensor')} of {part.contract} had the same values as another tensor, and "
                f"only that other one is here: {shown}. Nothing to do if the loader ties them again.",
                path=part.path,
                tensors=[name for name, _ in part.tied],
                evidence={"part": part.name, "role": part.role, "tied": dict(part.tied[:20])},
                severity=Severity.NOTE,
            )
