"""CKD707."""

from __future__ import annotations

from collections.abc import Iterator

from ckpt_doctor.analysis.sharding import NumberedSet, ending_of, index_path, numbered_sets
from ckpt_doctor.core.checkpoint import Checkpoint
from ckpt_doctor.core.findings import Finding, Fix, Severity
from ckpt_doctor.core.parts import Part, ShardIndex
from ckpt_doctor.core.policy import Policy
from ckpt_doctor.core.wording import counted, listed

from ._kit.repairs import rebuilding
from ._kit.rule import Rule, sentence


class IndexUnreadable(Rule):
    """The index of a sharded model cannot be used.

    ## What it does
    Reads `*.index.json`: it must be JSON with a `weight_map` from tensor names to file names, and no file name may lead
    out of the folder. A complete set of numbered shards without any index is a warning.

    ## Why is this bad?
    Without the map nothing says which shard holds what: transformers stops with `json.decoder.JSONDecodeError` or
    `KeyError: 'weight_map'`.

    ## Example
    A save that was interrupted while the index was written; a merge conflict in a repository; a Git LFS pointer in its
    place.

    ## What to do
    Rebuild the index from the shards where all of them are there; else download it again.

    ## Fix safety
    Safe, and only offered where all N of N numbered shards are there and readable.
    """

    code = "CKD707"
    name = "index-unreadable"
    severity = Severity.ERROR
    fix = "safe"

    def check(self, checkpoint: Checkpoint, policy: Policy) -> Iterator[Finding]:
        """See :meth:`Rule.check`."""
        for part in checkpoint.parts:
            reads_safetensors = any(file.path.endswith(".safetensors") for file in part.preferred)
            for index in part.indexes:
                # What the operating system refused is CKD112: nobody knows what the index says.
                if index.unreadable:
                    continue
                reason = _reason(index)
                if reason is not None:
                    fix = self._fix(checkpoint, part, index)
                    advice = "All shards are there: rebuild the index." if fix else "Download or save it again."
                    overruled = reads_safetensors and ending_of(index) == ".bin" and not index.escaping
                    yield self.finding(
                        f"{reason} {advice}",
                        path=index.path,
                        severity=Severity.WARNING if overruled else self.severity,
                        fix=fix,
                    )
            if part.role == "model" and not part.indexes:
                yield from self._without_index(checkpoint, part)

    def _without_index(self, checkpoint: Checkpoint, part: Part) -> Iterator[Finding]:
        sets = numbered_sets(part.preferred)
        if len(sets) == 1 and sets[0].total > 1 and not sets[0].missing:
            yield self.finding(
                f"The {sets[0].total:,} shards have no index: transformers finds no model without one.",
                path=sets[0].files[0].path,
                fix=self._rebuild(checkpoint, sets[0]) if all(file.readable for file in sets[0].files) else None,
            )

    def _fix(self, checkpoint: Checkpoint, part: Part, index: ShardIndex) -> Fix | None:
        ending = ending_of(index)
        sets = [numbered for numbered in numbered_sets(part.files) if numbered.ending.endswith(ending)]
        # Two sets side by side: nobody can tell which of them the index was for.
        if len(sets) != 1 or sets[0].missing or not all(file.readable for file in sets[0].files):
            return None
        return self._rebuild(checkpoint, sets[0], index.path)

    def _rebuild(self, checkpoint: Checkpoint, shards: NumberedSet, path: str | None = None) -> Fix | None:
        path = path or index_path(shards.files[0].path)
        actions = rebuilding(path, shards.files) if path is not None else ()
        return self.repair(checkpoint, "rebuild the index from the shards", actions)


def _reason(index: ShardIndex) -> str | None:
    if index.error is not None:
        return sentence(index.error)
    if index.escaping:
        return (
            f"It names {counted(len(index.escaping), 'shard')} outside its folder ({listed(index.escaping)}); "
            "nothing there is opened (see CKD905)."
        )
    return None
