"""CKD403."""

from __future__ import annotations

from collections.abc import Iterator

from ckpt_doctor.core.actions import Rewrite
from ckpt_doctor.core.checkpoint import Checkpoint
from ckpt_doctor.core.findings import Finding, Severity
from ckpt_doctor.core.policy import Policy
from ckpt_doctor.core.wording import counted, listed, shape

from ._kit.rule import Rule


class NonContiguous(Rule):
    """Some tensors do not lie in the file in the order of their elements.

    ## What it does
    Reads the strides. A transposed tensor, one in `channels_last` order and an expanded one are not contiguous.

    ## Why is this bad?
    The values are right, but safetensors refuses to save what was loaded: `ValueError: You are trying to save a non
    contiguous tensor`. So a checkpoint loads, trains on, and fails at the next save.

    ## Example
    `model.weight = nn.Parameter(other.weight.t())`.

    ## What to do
    Call `.contiguous()` before saving, or convert to safetensors.

    ## Fix safety
    Safe: every tensor keeps its values and its shape.

    ## References
    huggingface/transformers#28293
    """

    code = "CKD403"
    name = "non-contiguous"
    severity = Severity.NOTE
    fix = "safe"

    def check(self, checkpoint: Checkpoint, policy: Policy) -> Iterator[Finding]:
        """See :meth:`Rule.check`."""
        for part in checkpoint.parts:
            if part.auxiliary:
                continue
            for file in part.files:
                if file.is_safetensors:
                    continue  # the format has no strides
                strided = [tensor for tensor in file.tensors if not tensor.is_contiguous]
                if strided:
                    first = strided[0]
                    yield self.finding(
                        f"{counted(len(strided), 'tensor')} not contiguous: {listed(t.name for t in strided)}; the "
                        f"first has shape {shape(first.shape)} and stride {shape(first.stride)}. safetensors' "
                        "save_file refuses such tensors: call .contiguous() before saving.",
                        path=file.path,
                        tensors=[tensor.name for tensor in strided],
                        fix=self.repair(checkpoint, "store the elements in order", [Rewrite(file.path)]),
                    )
