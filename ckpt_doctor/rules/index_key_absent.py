"""CKD702."""

from __future__ import annotations

from collections.abc import Collection, Iterator

from ckpt_doctor.analysis.sharding import IndexedShards, indexed_shards, plausible, possible_total_sizes, successor
from ckpt_doctor.core.checkpoint import Checkpoint
from ckpt_doctor.core.findings import Finding, Severity
from ckpt_doctor.core.parts import ConfigFile, ShardIndex
from ckpt_doctor.core.policy import Policy
from ckpt_doctor.core.wording import byte_size, counted, listed
from ckpt_doctor.knowledge.embeddings import EMBEDDINGS

from ._kit.repairs import rebuilding
from ._kit.rule import Rule


class IndexKeyAbsent(Rule):
    """The index says that a tensor lies in a shard, and the shard does not hold it.

    ## What it does
    Looks up every name of the index in the shard that it names. Shards that are absent or damaged are left to their
    own rules.

    ## Why is this bad?
    transformers does not notice: the parameter stays at its random initialisation, with one line about weights that
    were `newly initialized`. Other loaders stop with a `KeyError`.

    ## Example
    A script removed or renamed tensors in the shards and left the index as it was; shards and index come from two
    saves.

    ## What to do
    If the tensor lies in another shard, or `total_size` shows that nothing is lost, rebuild the index. Otherwise the
    weights are lost: copy the shards again.

    ## Fix safety
    Safe. The fix is only offered if every name is in another shard, or if all shards are there and hold exactly the
    bytes of `total_size`. A name that other layers have too, or whose module has other tensors, is a loss, even where
    `total_size` was corrected. Then only the index is written anew.

    ## References
    huggingface/huggingface_hub#4725
    """

    code = "CKD702"
    name = "index-key-absent"
    severity = Severity.ERROR
    fix = "safe"

    def check(self, checkpoint: Checkpoint, policy: Policy) -> Iterator[Finding]:
        """See :meth:`Rule.check`."""
        for part in checkpoint.parts:
            for shards in indexed_shards(part):
                absent = shards.absent
                if absent and not successor(part, shards):
                    yield self._report(checkpoint, shards, absent, part.config)

    def _report(
        self, checkpoint: Checkpoint, shards: IndexedShards, absent: tuple[str, ...], config: ConfigFile | None
    ) -> Finding:
        elsewhere = {tensor.name for file in shards.present.values() if file.readable for tensor in file.tensors}
        lost = [name for name in absent if name not in elsewhere]
        total = shards.index.total_size
        sizes = possible_total_sizes(shards.present.values()) if shards.judgeable else set()
        nothing_lost = not lost or (total in sizes and not _of_this_model(lost, elsewhere, shards.index, config))
        message = (
            f"{len(absent):,} of {counted(len(shards.index.weight_map), 'tensor')} "
            f"{'is' if len(absent) == 1 else 'are'} not in the shard that the index names: {listed(absent)}. "
        )
        if not lost:
            message += f"{'It is' if len(absent) == 1 else 'All of them are'} in other shards: rebuild the index."
        elif nothing_lost:
            message += f"The shards hold all {byte_size(total or 0)} of total_size, so rebuild the index."
        else:
            message += f"{len(lost):,} {'is' if len(lost) == 1 else 'are'} in no shard. Copy the shards again."
        actions = rebuilding(shards.index.path, shards.present.values(), like=shards.index)
        return self.finding(
            message,
            path=shards.index.path,
            tensors=absent,
            evidence={"absent": len(absent), "lost": len(lost), "total_size": total},
            severity=Severity.WARNING if shards.overruled else self.severity,
            fix=self.repair(checkpoint, "rebuild the index from the shards", actions) if nothing_lost else None,
        )


def _of_this_model(lost: list[str], held: Collection[str], index: ShardIndex, config: ConfigFile | None) -> bool:
    """Whether any of the lost names is one that the model has, so that its weights are missed."""
    settings = (config.data if config is not None else None) or {}
    tied = settings.get("tie_word_embeddings") is True
    # One of two names of tied embeddings is no loss.
    lost = [name for name in lost if not (tied and name.endswith(EMBEDDINGS))]
    if plausible(lost, held) or any(name.endswith(EMBEDDINGS) for name in lost):
        return True
    # Tensors that the index does not list can be what the lost names have become.
    renamed = sum(name not in index.weight_map for name in held) >= len(lost)
    beginnings = {name.partition(".")[0] for name in held if "." in name}
    return not renamed and any(name.partition(".")[0] in beginnings for name in lost)
