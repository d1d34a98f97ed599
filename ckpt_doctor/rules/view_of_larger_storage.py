"""CKD402."""

from __future__ import annotations

from collections.abc import Iterator

from ckpt_doctor.core.actions import Rewrite
from ckpt_doctor.core.checkpoint import Checkpoint
from ckpt_doctor.core.findings import Finding, Severity
from ckpt_doctor.core.policy import Policy
from ckpt_doctor.core.weight_file import TensorInfo, WeightFile
from ckpt_doctor.core.wording import byte_size, counted, listed

from ._kit.rule import Rule

# Less than this is what allocators round up, not a view that somebody forgot to clone.
_MIN_WASTED_BYTES = 4096
_MIN_WASTED_SHARE = 0.10


class ViewOfLargerStorage(Rule):
    """The file stores far more bytes than its tensors use.

    ## What it does
    Compares each storage of a torch file with the part of it that its tensors touch, and reports when at least 4 KB
    and a tenth of what is used lie idle.

    ## Why is this bad?
    `torch.save` writes the whole storage behind a view. A file that should be small takes gigabytes, its upload and
    its loading take as long, and what is stored besides may be something that was not meant to leave the machine.

    ## Example
    `torch.save(embedding[:8], path)` stores all rows of the embedding.

    ## What to do
    Save `tensor.clone()`, or convert to safetensors, which stores only what each tensor uses.

    ## Fix safety
    Safe: every tensor keeps its values; only bytes that no tensor uses are left out.

    ## References
    pytorch/pytorch#1995
    """

    code = "CKD402"
    name = "view-of-larger-storage"
    severity = Severity.WARNING
    fix = "safe"

    def check(self, checkpoint: Checkpoint, policy: Policy) -> Iterator[Finding]:
        """See :meth:`Rule.check`."""
        for part in checkpoint.parts:
            if part.auxiliary:
                continue
            for file in part.files:
                stored, used, names = _measure(file)
                if stored - used < max(_MIN_WASTED_BYTES, _MIN_WASTED_SHARE * used):
                    continue
                yield self.finding(
                    f"The file stores {byte_size(stored)}, of which {byte_size(used)} are used: "
                    f"{counted(len(names), 'tensor')} ({listed(names)}) "
                    f"{'is a view of a larger storage' if len(names) == 1 else 'are views of larger storages'}. Save "
                    "tensor.clone() instead of the view.",
                    path=file.path,
                    tensors=names,
                    evidence={"stored_bytes": stored, "used_bytes": used},
                    fix=self.repair(checkpoint, "store only what the tensors use", [Rewrite(file.path)]),
                )


def _measure(file: WeightFile) -> tuple[int, int, list[str]]:
    """Bytes stored, bytes used, and the tensors of the storages that are not used up."""
    if file.is_safetensors:
        return 0, 0, []  # each tensor is stored by itself
    by_storage: dict[str, list[TensorInfo]] = {}
    for tensor in file.tensors:
        # Only what really lies in the file takes space there.
        if tensor.storage.offset is not None and tensor.numel:
            by_storage.setdefault(tensor.storage.key, []).append(tensor)
    stored = used = 0
    names = []
    for tensors in by_storage.values():
        size = max(tensor.storage.nbytes for tensor in tensors)
        covered = reached = 0
        for start, end in sorted(tensor.extent for tensor in tensors):
            covered += max(0, end - max(start, reached))
            reached = max(reached, end)
        stored += size
        used += covered
        if covered < size:
            names += [tensor.name for tensor in tensors]
    return stored, used, names
