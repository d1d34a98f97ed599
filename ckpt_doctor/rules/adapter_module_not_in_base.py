"""CKD315."""

from __future__ import annotations

from collections.abc import Iterator

from ckpt_doctor.analysis.architecture.adapters import base_modules
from ckpt_doctor.core.checkpoint import Checkpoint
from ckpt_doctor.core.findings import Finding, Severity
from ckpt_doctor.core.policy import Policy
from ckpt_doctor.core.wording import counted, listed
from ckpt_doctor.knowledge.adapter_keys import base_module

from ._kit.adapter_view import adapters
from ._kit.rule import Rule

# CKD305 speaks of names that a model gets when it is adapted twice.
_TWICE = ("base_model.model.base_model.model.", "base_model.model.model.model.")


class AdapterModuleNotInBase(Rule):
    """The adapter holds weights for modules that its base model does not have.

    ## What it does
    If `base_model_name_or_path` leads to a `config.json` on this machine, compares the path of each adapted module
    with the modules of every class that the base's type has. Bases of an unknown type, with custom code or quantised
    are not judged.

    ## Why is this bad?
    PEFT silently drops tensors for which the model has no module: the adapter loads, but part of it, or all, has no
    effect.

    ## Example
    `base_model.model.model.layers.40.self_attn.q_proj.lora_A.weight` on a base of 32 layers, or
    `…language_model.model.layers…` on one whose layers are `model.language_model.layers`.

    ## What to do
    Load the adapter onto the base that it was trained on, with the class of the training; rename the tensors if only a
    part of the path differs.

    ## References
    thinking-machines-lab/tinker-cookbook#193
    """

    code = "CKD315"
    name = "adapter-module-not-in-base"
    severity = Severity.ERROR
    needs = "headers and configs"

    def check(self, checkpoint: Checkpoint, policy: Policy) -> Iterator[Finding]:
        """See :meth:`Rule.check`."""
        for view in adapters(checkpoint):
            known = (
                base_modules((view.part.adapter and view.part.adapter.base_config) or {})
                if view.kind is not None
                else None
            )
            if known is None or all(key.name.startswith(_TWICE) for key in view.keys):
                continue
            modules = {module: base_module(module) for module in view.modules}
            outside = [module for module, path in modules.items() if not known.has(path)]
            if not outside:
                continue
            near = known.nearest(modules[outside[0]])
            yield self.finding(
                f"{counted(len(outside), 'module')} of {len(modules):,} in the adapter "
                f"{'is' if len(outside) == 1 else 'are'} not in its base by the base's config.json "
                f"({known.model_type}): {listed(outside)}. PEFT silently drops their weights. "
                + (f"The base has {near}. " if near else "")
                + "Load the adapter onto the model that it was trained on.",
                path=view.file.path,
                tensors=[name for module in outside for name in view.modules[module].values()],
                evidence={"modules": outside[:20], "nearest": near},
            )
