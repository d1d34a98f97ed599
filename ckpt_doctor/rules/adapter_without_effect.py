"""CKD006."""

from __future__ import annotations

from ckpt_doctor.core.findings import Severity

from ._kit.rule import LoadRule


class AdapterWithoutEffect(LoadRule):
    """With and without the adapter the model computes the same.

    ## What it does
    Looks whether the layers apply the adapter that was loaded: it may be switched off, not the active one, or scaled
    by 0, in all of them or in some. With `--mode forward`, runs one pass of random tokens with the adapter and one with
    the adapter disabled, and compares the logits. Where `verify` judges the load of a PEFT adapter, one that no layer
    applies is an error.

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
