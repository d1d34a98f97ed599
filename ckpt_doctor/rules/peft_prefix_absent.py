"""CKD306."""

from __future__ import annotations

import re
from collections.abc import Iterator

from ckpt_doctor.core.actions import Action
from ckpt_doctor.core.checkpoint import Checkpoint
from ckpt_doctor.core.findings import Finding, Severity
from ckpt_doctor.core.policy import Policy
from ckpt_doctor.core.wording import counted
from ckpt_doctor.knowledge.adapter_keys import ROOT

from ._kit.adapter_view import AdapterView, adapters
from ._kit.repairs import renaming
from ._kit.rule import Rule

_WITH_HEAD = ("CAUSAL_LM", "SEQ_CLS", "SEQ_2_SEQ_LM", "TOKEN_CLS", "QUESTION_ANS")
# What lies directly in a bare model of transformers: layers in a row, or the two towers of an encoder-decoder.
_INSIDE_A_MODEL = (
    r"(layers|layer|h|blocks?|embed_tokens|wte|norm|(encoder|decoder)\.(layers?|embed_\w+)"
    r"|language_model|visual|vision_tower|vision_model|audio_tower|multi_modal_projector)\b"
)


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
    Safe: names are changed only where nothing collides; no value is touched. There is no fix where the names may lack
    more or less than this prefix: `model.layers.0` is a module of a causal language model, and of a bare one with
    `base_model.` cut off.

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
                    f"(as in {names[0]}): PEFT finds no parameter for them and loads nothing. Add the prefix.",
                    path=view.file.path,
                    tensors=names,
                    evidence={"prefix": ROOT, "names": len(names)},
                    fix=self.repair(
                        checkpoint,
                        f"add the prefix {ROOT}",
                        _renaming(view),
                    ),
                )


def _renaming(view: AdapterView) -> tuple[Action, ...]:
    """All names of the file with the prefix, if it is sure that they lack that and nothing else."""
    bare = [key for key in view.keys if not key.rooted]
    names = [key.name for key in bare]
    if any(key.shared for key in bare) or not all(_is_whole(name, view.settings.get("task_type")) for name in names):
        return ()
    return renaming(view.part, view.file, names, lambda key: ROOT + key)


def _is_whole(name: str, task: object) -> bool:
    """Whether a name begins where the model begins that PEFT wraps for this task."""
    inner = re.match(_INSIDE_A_MODEL, name) is not None
    if task == "FEATURE_EXTRACTION":
        return inner  # a model without a head
    if task not in _WITH_HEAD:
        return not inner and not name.startswith("model.")
    # With a head, the model proper is one level down, and called model in most architectures.
    below = name.removeprefix("model.")
    return not inner if below == name else re.match(_INSIDE_A_MODEL, below) is not None
