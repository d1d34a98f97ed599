"""CKD604."""

from __future__ import annotations

from collections.abc import Iterator

from ckpt_doctor.analysis.tensor_names import may_be_zero
from ckpt_doctor.core.checkpoint import Checkpoint
from ckpt_doctor.core.findings import Finding, Severity
from ckpt_doctor.core.policy import Policy
from ckpt_doctor.core.weight_file import TensorInfo, WeightFile
from ckpt_doctor.core.wording import counted, listed

from ._kit.rule import Rule


class AllZeroTensor(Rule):
    """A weight matrix holds nothing but zeros.

    ## What it does
    With `--deep`, looks at floating-point tensors with at least two dimensions. Biases, masks and quantisation
    constants are left alone. In an adapter, only parameters that never start at zero are judged: LoRA's `lora_A`,
    `lora_down` and `lora_embedding_B`, and IA3's factors. For the other half of a LoRA, see CKD602.

    ## Why is this bad?
    A layer with such a weight passes nothing on, and a LoRA with such a half does nothing. It loads without an error.

    ## Example
    `torch.zeros` or `torch.empty` placeholders that were never filled; parameters sharded by ZeRO-3 or FSDP that were
    saved without being gathered; a projection that got no gradient; the end of a file that never reached the disk.

    ## What to do
    Compare with the model in the training run, and save again. If the layer is meant to be zero, ignore this rule.
    """

    code = "CKD604"
    name = "all-zero-tensor"
    severity = Severity.WARNING
    needs = "tensor bytes"

    def check(self, checkpoint: Checkpoint, policy: Policy) -> Iterator[Finding]:
        """See :meth:`Rule.check`."""
        for part in checkpoint.parts:
            if part.auxiliary:
                continue
            for file in part.files:
                zero = [tensor.name for tensor in file.tensors if _is_zero_weight(file, tensor)]
                zero = _without_adapter_parameters(zero)
                if zero:
                    matrices = counted(len(zero), "weight matrix contains", "weight matrices contain")
                    yield self.finding(
                        f"{matrices} only zeros, of {counted(len(file.tensors), 'tensor')} in the file: "
                        f"{listed(zero)}. Compare with the model in the training run, and save again.",
                        path=file.path,
                        tensors=zero,
                    )


def _is_zero_weight(file: WeightFile, tensor: TensorInfo) -> bool:
    scan = (file.scans or {}).get(tensor.name)
    if scan is None or not scan.zero or not tensor.dtype.name.startswith(("float", "bfloat")):
        return False
    if _never_starts_at_zero(tensor.name):
        return True  # a factor of rank 1, too
    return sum(size > 1 for size in tensor.shape) >= 2 and not may_be_zero(tensor.name)


# What every release of PEFT, diffusers and kohya fills with random numbers, and IA3 with ones.
_NEVER_ZERO = {"lora_A", "lora_embedding_B", "lora_down", "ia3_l"}


def _never_starts_at_zero(name: str) -> bool:
    words = name.split(".")
    return not _NEVER_ZERO.isdisjoint(words) and words[-1] != "bias"


def _without_adapter_parameters(names: list[str]) -> list[str]:
    from ckpt_doctor.knowledge.peft_types import PEFT_TYPES

    prefixes = tuple(kind.prefix for kind in PEFT_TYPES.values() if kind.prefix)
    return [
        name
        for name in names
        if _never_starts_at_zero(name) or not any(word.startswith(prefixes) for word in name.split("."))
    ]
