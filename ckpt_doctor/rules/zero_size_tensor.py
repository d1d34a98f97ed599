"""CKD502."""

from __future__ import annotations

from collections.abc import Iterator

from ckpt_doctor.core.checkpoint import Checkpoint
from ckpt_doctor.core.findings import Finding, Severity
from ckpt_doctor.core.policy import Policy
from ckpt_doctor.core.wording import counted, listed

from ._kit.rule import Rule


class ZeroSizeTensor(Rule):
    """Tensors were saved as empty placeholders.

    ## What it does
    Looks for tensors of shape `[0]` among the weights of adapters and models. An AdaLoRA that was pruned to rank 0 has
    two dimensions and is not meant.

    ## Why is this bad?
    DeepSpeed ZeRO-3 and FSDP keep a placeholder of no elements where a parameter is partitioned. Saved without being
    gathered, the file has every name and no values: loading raises `size mismatch … copying a param with shape
    torch.Size([0])`.

    ## Example
    `model.save_pretrained(path)` on one rank without `GatheredParameters`.

    ## What to do
    Save again with the parameters gathered (`stage3_gather_16bit_weights_on_model_save`), or rebuild the weights with
    `zero_to_fp32.py` from the DeepSpeed state.

    ## References
    huggingface/peft#1443
    """

    code = "CKD502"
    name = "zero-size-tensor"
    severity = Severity.ERROR

    def check(self, checkpoint: Checkpoint, policy: Policy) -> Iterator[Finding]:
        """See :meth:`Rule.check`."""
        for part in checkpoint.parts_with("adapter", "model"):
            for file in part.files:
                names = [tensor.name for tensor in file.tensors if tensor.shape == (0,)]
                if names:
                    yield self.finding(
                        f"{counted(len(names), 'tensor')} of {len(file.tensors):,} "
                        f"{'has' if len(names) == 1 else 'have'} the shape [0] ({listed(names)}). These are "
                        "placeholders of partitioned parameters (ZeRO-3, FSDP). Gather the parameters, then save "
                        "again.",
                        path=file.path,
                        tensors=names,
                        evidence={"empty": len(names), "tensors_in_file": len(file.tensors)},
                    )
