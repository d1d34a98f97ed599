"""CKD703."""

from __future__ import annotations

import posixpath
from collections.abc import Iterator

from ckpt_doctor.analysis.sharding import IndexedShards, indexed_shards, successor, with_siblings
from ckpt_doctor.core.actions import WriteIndex
from ckpt_doctor.core.checkpoint import Checkpoint
from ckpt_doctor.core.findings import Finding, Severity
from ckpt_doctor.core.parts import Part
from ckpt_doctor.core.policy import Policy
from ckpt_doctor.core.wording import counted, listed

from ._kit.rule import Rule


class ShardKeyUnlisted(Rule):
    """A shard holds a tensor that the index does not list.

    ## What it does
    Looks up every tensor of the shards in the index. A shard of the same numbered set that the index leaves out
    entirely counts too.

    ## Why is this bad?
    Loaders disagree: transformers loads such a tensor if its file is listed, others read only what the index names. The
    result of an evaluation then depends on the loader.

    ## Example
    Tensors were added to a shard by a script, or a merge wrote a shard and not the index.

    ## What to do
    Rebuild the index.

    ## Fix safety
    Safe: only the index is written anew, with these names added.
    """

    code = "CKD703"
    name = "shard-key-unlisted"
    severity = Severity.WARNING
    fix = "safe"

    def check(self, checkpoint: Checkpoint, policy: Policy) -> Iterator[Finding]:
        """See :meth:`Rule.check`."""
        for part in checkpoint.parts:
            for shards in indexed_shards(part):
                if shards.overruled or successor(part, shards):
                    continue
                by_path = _unlisted(part, shards)
                names = [name for unlisted in by_path.values() for name in unlisted]
                # A shard that the index names nowhere is never opened; in the others such tensors are mostly read.
                whole = [path for path in by_path if path not in shards.listed]
                if names:
                    unread = f" The index does not name {listed(whole)}: loaders do not open it." if whole else ""
                    yield self.finding(
                        f"The index does not list {counted(len(names), 'tensor')} of "
                        f"{counted(len(by_path), 'shard')}: {listed(names)}.{unread} Some loaders do not read them: "
                        "rebuild the index.",
                        severity=Severity.ERROR if whole else None,
                        path=shards.index.path,
                        tensors=names,
                        evidence={"shards": {path: len(unlisted) for path, unlisted in by_path.items()}},
                        fix=self.repair(
                            checkpoint,
                            "list them in the index",
                            _completed(part, shards, by_path),
                        ),
                    )


def _completed(part: Part, shards: IndexedShards, by_path: dict[str, list[str]]) -> list[WriteIndex]:
    """The index with these names added. What it lists besides stays, so that a loss stays visible (CKD702)."""
    folder = posixpath.dirname(shards.index.path)
    more = {name: posixpath.relpath(path, folder or ".") for path, names in by_path.items() for name in names}
    files = with_siblings(part, shards).values()
    total = shards.index.total_size
    if total is None or not (shards.absent or shards.missing):
        total = sum(tensor.nbytes for file in files for tensor in file.tensors)
    return [WriteIndex(shards.index.path, {**shards.index.weight_map, **more}, total, like=shards.index.path)]


def _unlisted(part: Part, shards: IndexedShards) -> dict[str, list[str]]:
    known = shards.index.weight_map
    found = {}
    for path, file in with_siblings(part, shards).items():
        names = [tensor.name for tensor in file.tensors if tensor.name not in known]
        if file.readable and names:
            found[path] = names
    return found
