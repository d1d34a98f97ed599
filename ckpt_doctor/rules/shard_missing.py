"""CKD701."""

from __future__ import annotations

from collections.abc import Iterator

from ckpt_doctor.analysis.sharding import IndexedShards, ending_of, indexed_shards, numbered_sets, successor
from ckpt_doctor.core.checkpoint import Checkpoint
from ckpt_doctor.core.findings import Finding, Severity
from ckpt_doctor.core.parts import Part
from ckpt_doctor.core.policy import Policy
from ckpt_doctor.core.wording import counted, listed

from ._kit.rule import Rule

_MAX_PATHS = 100


class ShardMissing(Rule):
    """A shard of the model is missing.

    ## What it does
    Looks for every file that the index lists. Without an index it goes by the numbers in the names:
    `model-00002-of-00003.safetensors` needs two others.

    It is a note or a warning where the loaders read other files: a list of `.bin` shards beside a safetensors model
    is what a download without the `.bin` files leaves.

    ## Why is this bad?
    transformers stops with `OSError: … does not appear to have a file named model-00002-of-00003.safetensors`. Loaders
    that take the files they find go on with some weights at random values.

    ## Example
    A download or a copy that stopped; a shard that an ignore list or a quota kept out.

    ## What to do
    Copy or download the missing files again.

    ## References
    sgl-project/sglang#32279
    """

    code = "CKD701"
    name = "shard-missing"
    severity = Severity.ERROR

    def check(self, checkpoint: Checkpoint, policy: Policy) -> Iterator[Finding]:
        """See :meth:`Rule.check`."""
        for part in checkpoint.parts:
            if part.role == "file" or part.auxiliary:
                continue
            for shards in indexed_shards(part):
                if shards.missing and not successor(part, shards):
                    yield self._from_index(shards)
            yield from self._from_numbers(part)

    def _from_index(self, shards: IndexedShards) -> Finding:
        lost = [name for path in shards.missing for name in shards.listed[path]]
        message = (
            f"{len(shards.missing):,} of {counted(len(shards.listed), 'shard')} in the index "
            f"{'is' if len(shards.missing) == 1 else 'are'} missing: {listed(shards.missing)}, with "
            f"{len(lost):,} of {counted(len(shards.index.weight_map), 'tensor')}. "
        )
        severity = self.severity
        if shards.overruled:
            severity = Severity.WARNING if shards.present else Severity.NOTE
            message += "Loaders read the safetensors files instead: remove the index."
        else:
            message += "Copy or download the missing files again."
        return self.finding(
            message,
            path=shards.index.path,
            tensors=lost,
            evidence={"missing": list(shards.missing[:_MAX_PATHS]), "shards": len(shards.listed)},
            severity=severity,
        )

    def _from_numbers(self, part: Part) -> Iterator[Finding]:
        indexed = {ending_of(index) for index in part.indexes if index.error is None}
        read = {file.path for file in part.preferred}
        for numbered in numbered_sets(part.files):
            # Loaders follow the index where there is one; a set that it does not name is a leftover.
            if not numbered.missing or any(numbered.ending.endswith(ending) for ending in indexed):
                continue
            used = any(file.path in read for file in numbered.files)
            yield self.finding(
                f"{len(numbered.missing):,} of {numbered.total:,} numbered shards "
                f"{'is' if len(numbered.missing) == 1 else 'are'} missing: {listed(numbered.missing)}. "
                + ("Copy or download them again." if used else "Loaders read another file; remove the remains."),
                path=numbered.files[0].path,
                evidence={"missing": list(numbered.missing[:_MAX_PATHS]), "shards": numbered.total},
                severity=self.severity if used else Severity.WARNING,
            )
