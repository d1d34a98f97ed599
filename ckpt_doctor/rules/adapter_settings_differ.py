"""CKD010."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from ckpt_doctor.core.findings import MAX_TENSORS, Finding, Severity
from ckpt_doctor.core.wording import counted, listed

from ._kit.load_rule import LoadRule


class Scaling(NamedTuple):
    """The factor of an adapter in one module: in the model, and by the checkpoint's config."""

    live: float
    asked: float


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

    def report(self, path: str | None, adapter: str, scalings: Mapping[str, Scaling]) -> Finding:
        """``scalings`` differ, by module; ``path`` is the adapter's config."""
        live, asked = next(iter(scalings.values()))
        message = (
            f"The model scales the adapter {adapter!r} by {live:.6g} in {counted(len(scalings), 'module')} "
            f"({listed(list(scalings))}), but the checkpoint's config asks for {asked:.6g} (lora_alpha, r, "
            "use_rslora). The model does not compute what was trained. Build the adapter from that config in the "
            "loader, and leave its scaling alone."
        )
        shown = list(scalings.items())[:MAX_TENSORS]
        evidence = {name: {"model": scaling.live, "config": scaling.asked} for name, scaling in shown}
        return self.finding(message, path=path, evidence={"adapter": adapter, "scaling": evidence})
