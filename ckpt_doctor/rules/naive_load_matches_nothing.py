"""CKD005."""

from __future__ import annotations

from collections.abc import Mapping

from ckpt_doctor.core.findings import MAX_TENSORS, Finding, Severity
from ckpt_doctor.core.wording import counted

from ._kit.load_rule import LoadRule


class NaiveLoadMatchesNothing(LoadRule):
    """Not one key of the adapter is a name of the live model; all fit once the adapter's name is put back.

    ## What it does
    PEFT removes the adapter's name when it saves: `lora_A.weaver.weight` in the model is `lora_A.weight` in the file.
    If a loader restored nothing of an adapter whose keys would fit, shows the mapping and the lines of code that the
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

    def report(self, path: str, mapping: Mapping[str, str], adapter: str, module: str, folder: str) -> Finding:
        """Every key of the file at ``path`` fits once the adapter's name is put back, as ``mapping`` shows.

        ``module`` is the path of the adapted module in the model, ``folder`` the adapter's, as a loader is given it.
        """
        saved, live = _ends(*next(iter(mapping.items())))
        target = f"model.{module}" if module else "model"
        code = [
            "from peft import load_peft_weights, set_peft_model_state_dict",
            f"set_peft_model_state_dict({target}, load_peft_weights({folder!r}), adapter_name={adapter!r})",
        ]
        message = f"All {counted(len(mapping), 'key')} match once the adapter's name is put back: {saved} -> {live}. "
        message += (
            "A loader that compares the saved names with the live model matches none of them. Use in the loader: "
        )
        message += "; ".join(code) + "."
        evidence = {"mapping": dict(list(mapping.items())[:MAX_TENSORS]), "code": code, "adapter": adapter}
        return self.finding(message, path=path, tensors=mapping, evidence=evidence)


def _ends(first: str, second: str) -> tuple[str, str]:
    """Both names from two words before the first one in which they differ."""
    words, others = first.split("."), second.split(".")
    common = 0
    while common < min(len(words), len(others)) and words[common] == others[common]:
        common += 1
    start = max(0, common - 2)
    lead = "…" if start else ""
    return lead + ".".join(words[start:]), lead + ".".join(others[start:])
