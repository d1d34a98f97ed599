"""CKD205."""

from __future__ import annotations

from collections.abc import Iterator

from ckpt_doctor.core.checkpoint import Checkpoint
from ckpt_doctor.core.findings import Finding, Severity
from ckpt_doctor.core.policy import Policy
from ckpt_doctor.core.wording import listed

from ._kit.rule import Rule


class AdapterConfigMissing(Rule):
    """Adapter weights lie there without their `adapter_config.json`.

    ## What it does
    Looks beside every `adapter_model.*` for the configuration that PEFT writes with it.

    ## Why is this bad?
    `PeftModel.from_pretrained` raises `Can't find 'adapter_config.json'`. A loader that makes up its own configuration
    can get `lora_alpha` wrong, which no shape reveals: the adapter is then applied with another strength.

    ## Example
    Only `adapter_model.safetensors` was copied from the training machine.

    ## What to do
    Copy the file from the training run. Rank and target modules can be read off the tensors, `lora_alpha` cannot.
    """

    code = "CKD205"
    name = "adapter-config-missing"
    severity = Severity.ERROR

    def check(self, checkpoint: Checkpoint, policy: Policy) -> Iterator[Finding]:
        """See :meth:`Rule.check`."""
        for part in checkpoint.parts_with("adapter"):
            if part.config_expected is None or part.config is not None or not part.files:
                continue
            yield self.finding(
                f"There are adapter weights ({listed(file.path for file in part.files)}) but no "
                f"{part.config_expected}. PEFT cannot load them without it, and no other file holds lora_alpha. "
                "Copy the file from the training run.",
                path=part.config_expected,
                evidence={"weights": [file.path for file in part.files]},
            )
