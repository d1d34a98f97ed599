"""CKD705."""

from __future__ import annotations

from collections.abc import Iterator

from ckpt_doctor.analysis.sharding import indexed_shards, possible_total_sizes, successor
from ckpt_doctor.core.actions import WriteIndex
from ckpt_doctor.core.checkpoint import Checkpoint
from ckpt_doctor.core.findings import Finding, Severity
from ckpt_doctor.core.policy import Policy

from ._kit.rule import Rule


class IndexMetadataWrong(Rule):
    """The index gives a wrong `total_size`, or none.

    ## What it does
    Compares `metadata.total_size` with the bytes of the tensors in the shards. For tied weights it may count shared
    bytes once or for each name. If listed tensors are missing (CKD702), it says nothing.

    ## Why is this bad?
    transformers does not use the number, but other tools plan memory and downloads by it, or stop with
    `KeyError: 'metadata'` or `KeyError: 'total_size'`. A wrong number also says that shards and index are from two
    saves.

    ## Example
    Weights were cast to another dtype, or quantised, and the index was copied along.

    ## What to do
    Check that the shards are the ones you mean, then rebuild the index.

    ## Fix safety
    Safe: only the number in the index changes.

    ## References
    exo-explore/exo#1956
    """

    code = "CKD705"
    name = "index-metadata-wrong"
    severity = Severity.WARNING
    fix = "safe"

    def check(self, checkpoint: Checkpoint, policy: Policy) -> Iterator[Finding]:
        """See :meth:`Rule.check`."""
        for part in checkpoint.parts:
            for shards in indexed_shards(part):
                # Without all tensors at hand there is nothing to compare with, and other rules speak.
                if shards.overruled or not shards.listed or not shards.judgeable or successor(part, shards):
                    continue
                # Where listed tensors are gone, the number is the evidence of it, and a new one would hide the loss.
                if shards.absent:
                    continue
                total = shards.index.total_size
                files = tuple(shards.present.values())
                actual = sum(tensor.nbytes for file in files for tensor in file.tensors)
                if total == actual or total in possible_total_sizes(files):
                    continue
                said = "no total_size" if total is None else f"total_size {total:,}"
                yield self.finding(
                    f"The index gives {said}, but the tensors in its {len(files):,} shards have {actual:,} bytes. "
                    "Check that the shards and the index come from the same save, then rebuild the index.",
                    path=shards.index.path,
                    evidence={"total_size": total, "bytes": actual},
                    fix=self.repair(
                        checkpoint,
                        "correct total_size",
                        [WriteIndex(shards.index.path, shards.index.weight_map, actual, like=shards.index.path)],
                    ),
                )
