"""CKD006."""

from __future__ import annotations

from ckpt_doctor.findings import Severity

from .rule import LoadRule


class AdapterWithoutEffect(LoadRule):
    """With and without the adapter the model computes the same.

    ## What it does
    With `--mode forward`, runs one pass of random tokens with the adapter and one with the adapter disabled, and
    compares the logits.

    ## Why is this bad?
    Whatever was trained changes nothing: the evaluation measures the base model.

    ## Example
    `lora_B` is still zero, the adapter is not the active one, or its scaling is 0.

    ## What to do
    Activate the adapter (`model.set_adapter`), and look at the training: `ckpt-doctor inspect --deep` finds adapters
    that were never trained (CKD602).
    """

    code = "CKD006"
    name = "adapter-without-effect"
    severity = Severity.WARNING
