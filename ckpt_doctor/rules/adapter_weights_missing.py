"""CKD206."""

from __future__ import annotations

from collections.abc import Iterator

from ckpt_doctor.core.checkpoint import Checkpoint
from ckpt_doctor.core.findings import Finding, Severity
from ckpt_doctor.core.policy import Policy

from ._kit.rule import Rule


class AdapterWeightsMissing(Rule):
    """The adapter's weights are missing.

    ## What it does
    Looks for `adapter_model.safetensors` or `adapter_model.bin` beside every `adapter_config.json`, and in every folder
    where the layout keeps an adapter.

    ## Why is this bad?
    The loader raises, or, where it catches that, evaluates the base model.

    ## Example
    A save was interrupted, or weights were left out of a commit by `.gitignore`.

    ## What to do
    Copy the weights from the training run, or save them again.
    """

    code = "CKD206"
    name = "adapter-weights-missing"
    severity = Severity.ERROR

    def check(self, checkpoint: Checkpoint, policy: Policy) -> Iterator[Finding]:
        """See :meth:`Rule.check`."""
        for part in checkpoint.parts_with("adapter"):
            if part.files or (not part.required and part.config is None):
                continue
            wanted = part.expected_files[0] if part.expected_files else f"{part.directory}/adapter_model.safetensors"
            state = (
                "The adapter's configuration is there but its weights are not"
                if part.config
                else f"There is no {part.name}"
            )
            yield self.finding(
                f"{state}: neither {' nor '.join(part.expected_files)} exists. Copy the weights "
                "from the training run or save them again.",
                path=part.config.path if part.config else wanted,
                evidence={"expected": list(part.expected_files)},
            )
