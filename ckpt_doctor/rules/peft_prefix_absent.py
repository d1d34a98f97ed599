"""CKD306."""

from __future__ import annotations

from collections.abc import Iterator

from ckpt_doctor.checkpoint import Checkpoint
from ckpt_doctor.findings import Finding, Severity
from ckpt_doctor.knowledge.adapter_keys import ROOT
from ckpt_doctor.policy import Policy
from ckpt_doctor.wording import counted

from .adapter_view import adapters
from .repairs import renaming
from .rule import Rule


class PeftPrefixAbsent(Rule):
    """Adapter tensors lack the prefix under which PEFT looks for them.

    ## What it does
    Looks at tensors that have a per-module adapter suffix (`lora_A.weight`, `ia3_l`, …) and do not begin with
    `base_model.model.`. Prompt-type adapters and shared banks have other names and are not meant.

    ## Why is this bad?
    PEFT puts nothing in front of the names it reads: none of them finds its parameter, the load ends without an error,
    and the evaluation runs on the base model.

    ## Example
    `model.layers.0.self_attn.q_proj.lora_A.weight`, written by a training framework that has its own LoRA code.

    ## What to do
    Put `base_model.model.` in front of the names.

    ## Fix safety
    Safe: names are changed only where nothing collides; no value is touched.

    ## References
    NVIDIA-NeMo/Automodel#3595
    """

    code = "CKD306"
    name = "peft-prefix-absent"
    severity = Severity.ERROR
    fix = "safe"

    def check(self, checkpoint: Checkpoint, policy: Policy) -> Iterator[Finding]:
        """See :meth:`Rule.check`."""
        for view in adapters(checkpoint):
            names = [
                key.name for key in view.keys if key.parameter and key.module and not key.shared and not key.rooted
            ]
            # A wrapper's prefix in front of PEFT's own is another rule's finding.
            names = [name for name in names if ROOT not in name]
            if names:
                yield self.finding(
                    f"{counted(len(names), 'adapter tensor')} of {len(view.file.tensors):,} lack the prefix {ROOT} "
                    f"(as in {names[0]}): PEFT finds no parameter for them and loads nothing. Put the prefix in front.",
                    path=view.file.path,
                    tensors=names,
                    evidence={"prefix": ROOT, "names": len(names)},
                    fix=self.repair(
                        checkpoint,
                        f"put {ROOT} in front",
                        renaming(view.part, view.file, names, lambda key: ROOT + key),
                    ),
                )
