"""CKD110."""

from __future__ import annotations

from collections.abc import Iterator

from ckpt_doctor.core.actions import Rewrite
from ckpt_doctor.core.checkpoint import Checkpoint
from ckpt_doctor.core.findings import Finding, Severity
from ckpt_doctor.core.policy import Policy
from ckpt_doctor.core.wording import counted

from ._kit.rule import Rule


class TorchLegacyFormat(Rule):
    """The file is in the format that torch wrote before version 1.6.

    ## What it does
    Recognises the stream of pickles with the magic number `0x1950a86a20f9469cfc6c` that holds tensors. Training state
    is left alone.

    ## Why is this bad?
    Such a file can be neither memory-mapped (`mmap can only be used with files saved with
    torch.save(_use_new_zipfile_serialization=True)`) nor checked: it holds no checksums. Many tools other than torch
    do not read it.

    ## Example
    `torch.save(state_dict, path, _use_new_zipfile_serialization=False)`, or a checkpoint from before July 2020.

    ## What to do
    Load it with `weights_only=True` and save it again, or convert it to safetensors.

    ## Fix safety
    Safe: the new file holds the same tensors, and the original is kept as a backup.
    """

    code = "CKD110"
    name = "torch-legacy-format"
    severity = Severity.WARNING
    fix = "safe"

    def check(self, checkpoint: Checkpoint, policy: Policy) -> Iterator[Finding]:
        """See :meth:`Rule.check`."""
        for part in checkpoint.parts:
            if part.auxiliary:
                continue
            for file in part.files:
                if file.format == "torch-legacy" and file.tensors:
                    count = counted(len(file.tensors), "tensor")
                    yield self.finding(
                        f"The file holds {count} in the format from before torch 1.6, which has no checksums and "
                        "cannot be memory-mapped. Save it again with a current torch, or convert it.",
                        path=file.path,
                        fix=self.repair(checkpoint, "rewrite it in the current format", [Rewrite(file.path)]),
                    )
