"""CKD852."""

from __future__ import annotations

from collections.abc import Iterator

from ckpt_doctor.core.checkpoint import Checkpoint
from ckpt_doctor.core.comparison import PartComparison
from ckpt_doctor.core.findings import Finding, Severity
from ckpt_doctor.core.policy import Policy
from ckpt_doctor.core.wording import counted, listed

from ._kit.contract_rule import ContractRule


class ContractTensorUnexpected(ContractRule):
    """The checkpoint holds a tensor that the contract does not know.

    ## What it does
    With `--against`, lists the tensors of every part that an evaluation reads and that the contract does not name.
    Further names of a tensor that it does name are left alone, and so are training state and other adapters in the
    folder.

    ## Why is this bad?
    It depends on the loader: it drops them silently, loads them over weights that were meant to stay, or raises
    `Unexpected key(s) in state_dict`.

    ## Example
    A run with more target modules, or an adapter that was saved together with the embeddings of its base.

    ## What to do
    If the model is meant to have grown, lock a new contract. Else find out where the tensors come from.
    """

    code = "CKD852"
    name = "contract-tensor-unexpected"
    severity = Severity.WARNING

    def judge(self, part: PartComparison, checkpoint: Checkpoint, policy: Policy) -> Iterator[Finding]:
        """See :meth:`ContractRule.judge`."""
        if part.unexpected:
            count = len(part.unexpected)
            yield self.finding(
                f"{counted(count, 'tensor')} of the {part.name} {'is' if count == 1 else 'are'} not in "
                f"{part.contract}: {listed(part.unexpected)}. Find out where they come from; "
                f"{self.renewing(part, checkpoint)}",
                path=part.path,
                tensors=part.unexpected,
                evidence={"part": part.name, "role": part.role, "pinned": part.pinned},
            )
