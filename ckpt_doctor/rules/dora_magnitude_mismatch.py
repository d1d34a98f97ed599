"""CKD505."""

from __future__ import annotations

from collections.abc import Iterator

from ckpt_doctor.core.checkpoint import Checkpoint
from ckpt_doctor.core.findings import Finding, Severity
from ckpt_doctor.core.policy import Policy
from ckpt_doctor.core.wording import counted, listed

from ._kit.adapter_view import adapters
from ._kit.repairs import setting
from ._kit.rule import Rule

_MAGNITUDE = "lora_magnitude_vector"


class DoraMagnitudeMismatch(Rule):
    """`use_dora` and the magnitude vectors in the file disagree.

    ## What it does
    For LoRA, compares `use_dora` with the presence of `lora_magnitude_vector` on each adapted module.

    ## Why is this bad?
    Without `use_dora`, PEFT drops the magnitude vectors and applies plain LoRA: other outputs, no error. With it and
    without the vectors, it computes new ones from the base weights.

    ## Example
    `"use_dora": false` beside tensors `….lora_magnitude_vector`.

    ## What to do
    Set `use_dora` as it was in training, or save the adapter again.

    ## Fix safety
    Unsafe: whether the configuration or the weights are right is not in the files.
    """

    code = "CKD505"
    name = "dora-magnitude-mismatch"
    severity = Severity.ERROR
    needs = "headers and configs"
    fix = "unsafe"

    def check(self, checkpoint: Checkpoint, policy: Policy) -> Iterator[Finding]:
        """See :meth:`Rule.check`."""
        for view in adapters(checkpoint):
            if view.kind is None or view.kind.value != "LORA" or view.settings.get("target_parameters"):
                continue
            modules = {
                module: set(parameters)
                for module, parameters in view.modules.items()
                if any(parameter.startswith("lora_") for parameter in parameters)
            }
            with_vector = sorted(module for module, own in modules.items() if any(map(_is_magnitude, own)))
            without = sorted(set(modules) - set(with_vector))
            wants = bool(view.settings.get("use_dora"))
            odd = without if wants else with_vector
            if odd:
                yield self.finding(
                    (
                        f"use_dora is set, and {counted(len(odd), 'module')} of {len(modules)} "
                        f"{'has' if len(odd) == 1 else 'have'} no magnitude vector: {listed(odd)}."
                        if wants
                        else f"use_dora is not set, and {counted(len(odd), 'module')} of {len(modules)} "
                        f"{'has' if len(odd) == 1 else 'have'} a magnitude vector: {listed(odd)}. PEFT drops it and "
                        "computes plain LoRA."
                    )
                    + " Set use_dora as it was in training, or save the adapter again.",
                    path=view.file.path,
                    tensors=[f"{module}.{_MAGNITUDE}" for module in odd],
                    evidence={"use_dora": wants, "modules": len(modules), "disagree": len(odd)},
                    fix=None
                    if wants and with_vector
                    else self.repair(
                        checkpoint,
                        f"set use_dora to {str(not wants).lower()}",
                        setting(view.part, {"use_dora": not wants}),
                        unsafe=True,
                    ),
                )


def _is_magnitude(parameter: str) -> bool:
    return parameter.startswith(_MAGNITUDE)
