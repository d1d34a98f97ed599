"""CKD604."""

from __future__ import annotations

from collections.abc import Iterator

from ckpt_doctor.checkpoint import Checkpoint, TensorInfo, WeightFile
from ckpt_doctor.findings import Finding, Severity
from ckpt_doctor.policy import Policy
from ckpt_doctor.tensor_names import may_be_zero
from ckpt_doctor.wording import counted, listed

from .rule import Rule


class AllZeroTensor(Rule):
    """A weight matrix holds nothing but zeros.

    ## What it does
    With `--deep`, looks at floating-point tensors with at least two dimensions. Biases, masks, quantisation constants
    and the parameters of adapters are left alone (see CKD602 for adapters).

    ## Why is this bad?
    A layer with such a weight passes nothing on. It loads without a word.

    ## Example
    `torch.zeros` or `torch.empty` placeholders that were never filled; parameters sharded by ZeRO-3 or FSDP that were
    saved without being gathered; a projection that got no gradient.

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
                    matrices = counted(len(zero), "weight matrix holds", "weight matrices hold")
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
    return sum(size > 1 for size in tensor.shape) >= 2 and not may_be_zero(tensor.name)


def _without_adapter_parameters(names: list[str]) -> list[str]:
    from ckpt_doctor.knowledge.peft_types import PEFT_TYPES

    prefixes = tuple(kind.prefix for kind in PEFT_TYPES.values() if kind.prefix)
    return [name for name in names if not any(word.startswith(prefixes) for word in name.split("."))]
