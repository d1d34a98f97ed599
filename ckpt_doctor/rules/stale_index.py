"""CKD706."""

from __future__ import annotations

from collections.abc import Iterator

from ckpt_doctor.analysis.sharding import indexed_shards, plausible, successor
from ckpt_doctor.core.actions import Action, SetAside
from ckpt_doctor.core.checkpoint import Checkpoint
from ckpt_doctor.core.findings import Finding, Severity
from ckpt_doctor.core.policy import Policy
from ckpt_doctor.core.weight_file import WeightFile
from ckpt_doctor.core.wording import capital, counted, listed

from ._kit.repairs import rebuilding
from ._kit.rule import Rule


class StaleIndex(Rule):
    """The index belongs to an earlier save: its shards are gone, and other weights lie in their place.

    ## What it does
    Looks for an index that lists missing files next to a complete set of shards of another number, or beside one single
    weight file. Beside a single file it is a warning, except for diffusers: transformers reads that file and never
    looks at the index.

    ## Why is this bad?
    Loaders that start from the index look for files that no longer exist (`does not appear to have a file named
    model-00001-of-00005.safetensors`); loaders that start from the files read the new weights. So it works in one
    place and fails in another.

    ## Example
    `save_pretrained` with another `max_shard_size` into the same folder. transformers 5.24 and diffusers 0.42 remove
    the shards of an earlier save when they write a single file, and leave its index.

    ## What to do
    Rebuild the index, or remove it where a single file holds everything.

    ## Fix safety
    Safe: no weight file changes, and the old index is kept as a backup. Unsafe where the old index lists tensors that
    the new weights lack although the model seems to have them: then the new files may be the incomplete ones.

    ## References
    huggingface/diffusers#14719
    """

    code = "CKD706"
    name = "stale-index"
    severity = Severity.ERROR
    fix = "safe"

    def check(self, checkpoint: Checkpoint, policy: Policy) -> Iterator[Finding]:
        """See :meth:`Rule.check`."""
        for part in checkpoint.parts:
            for shards in indexed_shards(part):
                files = successor(part, shards)
                if not files:
                    continue
                single = len(files) == 1
                instead = files[0].path if single else f"a complete set of {len(files):,}"
                todo = "remove the index" if single else "rebuild the index"
                fix = None
                if all(file.readable for file in files):
                    index = shards.index
                    actions: tuple[Action, ...]
                    actions = (SetAside(index.path),) if single else rebuilding(index.path, files, like=index)
                    held = {tensor.name for file in files for tensor in file.tensors}
                    lost = plausible((name for name in index.weight_map if name not in held), held)
                    fix = self.repair(checkpoint, todo, actions, unsafe=bool(lost))
                yield self.finding(
                    f"The index comes from an earlier save: {len(shards.missing):,} of its "
                    f"{counted(len(shards.listed), 'shard')} {'is' if len(shards.missing) == 1 else 'are'} missing "
                    f"({listed(shards.missing)}), and the folder has {instead} instead. "
                    f"{_read_by(files[0]) if single else ''}{capital(todo)}.",
                    path=shards.index.path,
                    evidence={"missing": list(shards.missing[:100]), "instead": [file.path for file in files[:100]]},
                    severity=Severity.WARNING if shards.overruled or (single and not _index_first(files[0])) else None,
                    fix=fix,
                )


def _index_first(file: WeightFile) -> bool:
    """Whether the loader of this single file looks for an index before it: diffusers does (0.42), transformers not."""
    return file.path.rpartition("/")[2].startswith("diffusion_")


def _read_by(file: WeightFile) -> str:
    if _index_first(file):
        return "diffusers looks for the index first, and fails. "
    return f"transformers reads {file.path}; loaders that look for the index first fail. "
