"""CKD005."""

from __future__ import annotations

from ckpt_doctor.core.findings import Severity

from ._kit.rule import LoadRule


class NaiveLoadMatchesNothing(LoadRule):
    """Not one key of the adapter is a name of the live model; all fit once the adapter's name is put back.

    ## What it does
    PEFT removes the adapter's name when it saves: `lora_A.weaver.weight` in the model is `lora_A.weight` in the file.
    Where a loader restored nothing of an adapter whose keys fit otherwise, this shows the mapping and the lines that a
    loader needs.

    ## Why is this bad?
    A loop like `if key in model_state:` matches nothing, says nothing, and leaves `lora_B` at zero: the evaluation
    measures the base model.

    ## Example
    `base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight` in the file,
    `base_model.model.model.layers.0.self_attn.q_proj.lora_A.weaver.weight` in the model.

    ## What to do
    Let PEFT put the name back: `set_peft_model_state_dict(model, load_peft_weights(folder), adapter_name="weaver")`.
    """

    code = "CKD005"
    name = "naive-load-matches-nothing"
    severity = Severity.ERROR
