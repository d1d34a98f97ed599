"""CKD109."""

from __future__ import annotations

from collections.abc import Iterator

from ckpt_doctor.core.actions import Rewrite
from ckpt_doctor.core.checkpoint import Checkpoint
from ckpt_doctor.core.findings import Finding, Severity
from ckpt_doctor.core.parts import Part
from ckpt_doctor.core.policy import Policy
from ckpt_doctor.core.weight_file import WeightFile
from ckpt_doctor.core.wording import counted

from ._kit.rule import Rule


class FormatMetadataMissing(Rule):
    """The safetensors file does not say which framework wrote it.

    ## What it does
    Looks for `{"format": "pt"}` in the `__metadata__` of adapter and model files. Other values, such as `mlx` or
    `tf`, are left alone.

    ## Why is this bad?
    transformers before version 5 reads that entry before anything else and stops with `The safetensors archive passed
    at … does not contain the valid metadata. Make sure you save your model with the save_pretrained method`, or with
    `'NoneType' object has no attribute 'get'`. Newer versions and PEFT do not mind.

    ## Example
    `safetensors.torch.save_file(state_dict, "model.safetensors")` without `metadata={"format": "pt"}`.

    ## What to do
    Save it again with `metadata={"format": "pt"}`, or with `save_pretrained`.

    ## Fix safety
    Safe: only the header is written anew; every tensor keeps its bytes.

    ## References
    ml-explore/mlx#743
    """

    code = "CKD109"
    name = "format-metadata-missing"
    severity = Severity.NOTE
    fix = "safe"

    def check(self, checkpoint: Checkpoint, policy: Policy) -> Iterator[Finding]:
        """See :meth:`Rule.check`."""
        for part in checkpoint.parts_with("adapter", "model", "file"):
            # One finding for a set of shards: they were written by one call.
            silent = [file for file in part.files if _says_nothing(part, file)]
            if silent:
                yield self.finding(
                    f"{counted(len(silent), 'safetensors file lacks', 'safetensors files lack')} the metadata "
                    '{"format": "pt"}: transformers before version 5 refuses such a file. Save with '
                    'metadata={"format": "pt"}.',
                    path=silent[0].path,
                    evidence={"files": [file.path for file in silent]},
                    fix=self.repair(
                        checkpoint,
                        'add {"format": "pt"} to the header',
                        [Rewrite(file.path, metadata={"format": "pt"}) for file in silent],
                    ),
                )


def _says_nothing(part: Part, file: WeightFile) -> bool:
    if not file.is_safetensors or not file.readable or "format" in (file.metadata or {}):
        return False
    base = file.path.rpartition("/")[2]
    return part.role != "file" or base.startswith(("model.", "model-", "adapter_model."))
