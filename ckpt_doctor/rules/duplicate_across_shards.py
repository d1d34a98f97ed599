"""CKD704."""

from __future__ import annotations

from collections.abc import Iterator

from ckpt_doctor.analysis.sharding import indexed_shards, numbered_sets, with_siblings
from ckpt_doctor.core.actions import Rewrite
from ckpt_doctor.core.checkpoint import Checkpoint
from ckpt_doctor.core.findings import Finding, Severity
from ckpt_doctor.core.parts import Part, ShardIndex
from ckpt_doctor.core.policy import Policy
from ckpt_doctor.core.weight_file import TensorInfo, WeightFile
from ckpt_doctor.core.wording import counted, listed

from ._kit.rule import Rule

_Copy = tuple[WeightFile, TensorInfo]


class DuplicateAcrossShards(Rule):
    """Two shards hold a tensor of the same name.

    ## What it does
    Looks for names that occur in more than one shard of a set. With `--deep` it compares the bytes and says whether
    the copies are equal.

    ## Why is this bad?
    The last shard that is read wins, and the order is up to the loader. If the copies differ, two loaders build two
    different models from one checkpoint.

    ## Example
    A shard of an earlier save was left behind under a name that the new save uses too; a merge copied the embedding
    into two shards.

    ## What to do
    Find out with `--deep` whether the copies are equal. If they differ, save or download all shards again.

    ## Fix safety
    Safe, and only offered where the copies were compared and are equal: then one of them is left out.

    ## References
    eugr/spark-vllm-docker#134
    """

    code = "CKD704"
    name = "duplicate-across-shards"
    severity = Severity.ERROR
    needs = "headers, and tensor bytes to compare"
    fix = "safe"

    def check(self, checkpoint: Checkpoint, policy: Policy) -> Iterator[Finding]:
        """See :meth:`Rule.check`."""
        for part in checkpoint.parts:
            if not part.auxiliary:
                for files, index in _sets(part):
                    yield from self._check_set(checkpoint, files, index)

    def _check_set(
        self, checkpoint: Checkpoint, files: tuple[WeightFile, ...], index: ShardIndex | None
    ) -> Iterator[Finding]:
        holders: dict[str, list[_Copy]] = {}
        for file in files:
            for name, tensor in file.by_name.items():
                holders.setdefault(name, []).append((file, tensor))
        repeated = {name: held for name, held in holders.items() if len(held) > 1}
        if not repeated:
            return
        verdicts = {name: _equal(held) for name, held in repeated.items()}
        differing = [name for name, equal in verdicts.items() if equal is False]
        unknown = [name for name, equal in verdicts.items() if equal is None]
        first = next(iter(repeated))
        message = f"{counted(len(repeated), 'tensor is', 'tensors are')} in more than one shard: {listed(repeated)}. "
        message += f"{first} is in {listed(file.path for file, _ in repeated[first])}. The last shard read wins. "
        fix = None
        if differing:
            message += f"{len(differing):,} differ ({listed(differing)}): save or download the shards again."
        elif unknown:
            message += "Use --deep to compare the copies."
        else:
            message += "The copies are equal: keep one."
            fix = self.repair(checkpoint, "keep one copy of each", _without_copies(repeated, index), deep=True)
        yield self.finding(
            message,
            path=repeated[first][-1][0].path,
            tensors=repeated,
            evidence={
                "files": sorted({file.path for held in repeated.values() for file, _ in held}),
                "equal": None if unknown and not differing else not differing,
            },
            fix=fix,
        )


def _without_copies(repeated: dict[str, list[_Copy]], index: ShardIndex | None) -> list[Rewrite]:
    """Leave each tensor in the shard where the index expects it, or in the first."""
    dropped: dict[str, list[str]] = {}
    for name, copies in repeated.items():
        paths = [file.path for file, _ in copies]
        expected = index.weight_map.get(name) if index is not None else None
        kept = next((path for path in paths if path.rpartition("/")[2] == expected), paths[0])
        for path in paths:
            if path != kept:
                dropped.setdefault(path, []).append(name)
    return [Rewrite(path, without=tuple(names)) for path, names in dropped.items()]


def _sets(part: Part) -> Iterator[tuple[tuple[WeightFile, ...], ShardIndex | None]]:
    seen: set[str] = set()
    for shards in indexed_shards(part):
        files = with_siblings(part, shards)
        seen.update(files)
        yield tuple(files.values()), shards.index
    for numbered in numbered_sets(part.files):
        if not any(file.path in seen for file in numbered.files):
            yield numbered.files, None


def _equal(copies: list[_Copy]) -> bool | None:
    """Whether the copies are equal; ``None`` where the bytes were not read."""
    if len({(tensor.dtype, tensor.shape) for _, tensor in copies}) > 1:
        return False
    digests = set()
    for file, tensor in copies:
        scan = (file.scans or {}).get(tensor.name)
        if scan is None or scan.digest is None:
            return None
        digests.add(scan.digest)
    return len(digests) == 1
