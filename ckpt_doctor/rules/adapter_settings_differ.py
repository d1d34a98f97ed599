"""CKD010."""

from __future__ import annotations

from ckpt_doctor.core.findings import Severity

from ._kit.rule import LoadRule


class AdapterSettingsDiffer(LoadRule):
    """The model scales the adapter otherwise than its config asks for.

    ## What it does
    Compares the `scaling` of every LoRA layer with `lora_alpha / r` of `adapter_config.json`, or with
    `lora_alpha / sqrt(r)` where `use_rslora` is set; `rank_pattern` and `alpha_pattern` are heeded.

    ## Why is this bad?
    Every weight is right, and the model computes something else than what was trained: the scaling is a factor of all
    that the adapter adds, and no tensor holds it.

    ## Example
    A loader that makes its own `LoraConfig` with `lora_alpha=32`, and fills it with the weights of an adapter that was
    trained with 16. A `set_scale` that was left behind by an experiment.

    ## What to do
    Build the adapter from the checkpoint's own config (`PeftModel.from_pretrained`, or
    `get_peft_model(model, PeftConfig.from_pretrained(path))`), and leave its scaling alone.
    """

    code = "CKD010"
    name = "adapter-settings-differ"
    severity = Severity.ERROR
