"""CKD855."""

from __future__ import annotations

from collections.abc import Iterator

from ckpt_doctor.core.checkpoint import Checkpoint
from ckpt_doctor.core.comparison import PartComparison
from ckpt_doctor.core.findings import Finding, Severity
from ckpt_doctor.core.policy import Policy
from ckpt_doctor.core.wording import counted, listed

from ._kit.contract_rule import ContractRule


class ContractValuesDiffer(ContractRule):
    """A tensor has other values than the contract pins.

    ## What it does
    With `--against` and `--deep`, for contracts that were made with `lock --values`, compares the SHA-256 of every
    tensor, taken over its elements as they would lie contiguously. So the format, shards, and the way in which a tensor
    lies in its file make no difference, and one flipped bit does.

    ## Why is this bad?
    These are not the weights that were locked: another step of the run, another run, or a damaged copy.

    ## Example
    A paper's evaluation is repeated, but a later run overwrote the checkpoint.

    ## What to do
    Find the checkpoint that was locked. `ckpt-doctor diff --values` says how far two checkpoints lie apart.
    """

    code = "CKD855"
    name = "contract-values-differ"
    severity = Severity.ERROR
    needs = "a contract, and tensor bytes"

    def judge(self, part: PartComparison, checkpoint: Checkpoint, policy: Policy) -> Iterator[Finding]:
        """See :meth:`ContractRule.judge`."""
        paths: dict[str, list[str]] = {}
        for name, path in part.differing:
            paths.setdefault(path, []).append(name)
        for path, names in paths.items():
            yield self.finding(
                f"{counted(len(names), 'tensor differs', 'tensors differ')} in value from {part.contract}: "
                f"{listed(names)}. Find the checkpoint that was locked; {self.renewing(part, checkpoint)}",
                path=path,
                tensors=names,
                evidence={"part": part.name, "valued": part.valued},
            )
