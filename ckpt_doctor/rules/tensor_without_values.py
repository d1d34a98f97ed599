"""CKD116."""

from __future__ import annotations

from collections.abc import Iterator

from ckpt_doctor.core.checkpoint import Checkpoint
from ckpt_doctor.core.findings import Finding, Severity
from ckpt_doctor.core.policy import Policy
from ckpt_doctor.core.weight_file import TensorInfo
from ckpt_doctor.core.wording import counted, listed

from ._kit.rule import Rule


class TensorWithoutValues(Rule):
    """Tensors were saved from torch's meta device: the file holds their shapes, and no values.

    ## What it does
    Looks for tensors that torch's pickle describes without any bytes (`_rebuild_meta_tensor_no_storage`). Tensors
    without elements are not meant. In the state of a training run it is a warning.

    ## Why is this bad?
    `torch.load` reads the file without an error, also with `weights_only=True`. `load_state_dict` then raises a
    `RuntimeError`, transformers a `NotImplementedError` (`Cannot copy out of meta tensor; no data!`), and
    `load_state_dict(..., assign=True)` puts the empty tensors into the model.

    ## Example
    `torch.save(model.state_dict(), path)` after `accelerate.cpu_offload(model)` or with a `device_map` that offloads:
    the parameters are kept elsewhere, and the state dict holds their shapes.

    ## What to do
    Save again from the run that has the values: with `save_pretrained` or `accelerator.save_model`, which fetch what is
    offloaded, or after the weights were loaded into the model.
    """

    code = "CKD116"
    name = "tensor-without-values"
    severity = Severity.ERROR

    def check(self, checkpoint: Checkpoint, policy: Policy) -> Iterator[Finding]:
        """See :meth:`Rule.check`."""
        for part in checkpoint.parts:
            for file in part.files:
                names = [tensor.name for tensor in file.tensors if _has_no_values(tensor)]
                if names:
                    lack = "has no values" if len(names) == 1 else "have no values"
                    yield self.finding(
                        f"{len(names)} of {counted(len(file.tensors), 'tensor')} {lack}: {listed(names)}. They were "
                        "saved from torch's meta device, as in the state dict of an offloaded model: it keeps shapes "
                        "only. Save again with save_pretrained, or from a model whose weights are in memory.",
                        path=file.path,
                        tensors=names,
                        severity=Severity.WARNING if part.auxiliary else None,
                    )


def _has_no_values(tensor: TensorInfo) -> bool:
    return tensor.storage.device == "meta" and tensor.storage.offset is None and tensor.numel > 0
