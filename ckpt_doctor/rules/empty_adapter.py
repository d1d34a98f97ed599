"""CKD503."""

from __future__ import annotations

from collections.abc import Iterator

from ckpt_doctor.checkpoint import Checkpoint
from ckpt_doctor.findings import Finding, Severity
from ckpt_doctor.policy import Policy

from .rule import Rule


class EmptyAdapter(Rule):
    """A file of adapter or model weights holds no tensors.

    ## What it does
    Looks for adapter and model files that can be read and have an empty state dict. A safetensors file of that kind has
    16 to 40 bytes, a `.bin` file 443 or so.

    ## Why is this bad?
    The adapter loads without an error and does nothing: the evaluation runs on the base model.

    ## Example
    An old Trainer patched `state_dict` before `save_pretrained`, or `save_pretrained(path, state_dict={})` was called.

    ## What to do
    Save the adapter again from the training run.

    ## References
    artidoro/qlora#44
    """

    code = "CKD503"
    name = "empty-adapter"
    severity = Severity.ERROR

    def check(self, checkpoint: Checkpoint, policy: Policy) -> Iterator[Finding]:
        """See :meth:`Rule.check`."""
        for part in checkpoint.parts:
            if part.auxiliary or part.entries:
                continue
            for file in part.files:
                # One shard may hold nothing while another holds something, and a lone file may be about other things.
                other_content = file.values if part.role == "file" else next(part.tensors, None)
                if file.readable and not file.tensors and not other_content:
                    yield self.finding(
                        f"The file is well-formed and holds no tensors ({file.nbytes:,} bytes): whatever loads it goes "
                        "on without these weights. Save it again from the training run.",
                        path=file.path,
                        evidence={"bytes": file.nbytes},
                    )
