"""CKD310."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from ckpt_doctor.core.checkpoint import Checkpoint
from ckpt_doctor.core.findings import Finding, Severity
from ckpt_doctor.core.policy import Policy
from ckpt_doctor.core.wording import listed
from ckpt_doctor.knowledge.peft_types import AUTOMATIC_HEADS

from ._kit.adapter_view import adapters, lies_in, names_in
from ._kit.rule import Rule

_HEADS = frozenset(("classifier", "score", "pre_classifier", "qa_outputs", "lm_head", "embed_tokens", "wte", "pooler"))


def automatic_heads(settings: Mapping[str, Any]) -> tuple[str, ...]:
    """The heads that PEFT saves for the task of this configuration."""
    task = settings.get("task_type")
    return AUTOMATIC_HEADS.get(task, ()) if isinstance(task, str) else ()


class ModulesToSaveMissing(Rule):
    """A module that was trained in full is not in the adapter file.

    ## What it does
    Looks for a tensor of every module that `modules_to_save` lists. The heads that PEFT adds by itself for
    classification (`classifier`, `score`) count as one, because a model has only one of them.

    ## Why is this bad?
    The module stays as it is in the base model; a classification head stays at its random initialisation. PEFT reports
    no error.

    ## Example
    `modules_to_save: ["lm_head"]` and no tensor of `lm_head` in the file.

    ## What to do
    Save the adapter again from the training run with `model.save_pretrained`.

    ## References
    huggingface/peft#577
    """

    code = "CKD310"
    name = "modules-to-save-missing"
    severity = Severity.ERROR
    needs = "headers and configs"

    def check(self, checkpoint: Checkpoint, policy: Policy) -> Iterator[Finding]:
        """See :meth:`Rule.check`."""
        for view in adapters(checkpoint):
            wanted = names_in(view.settings.get("modules_to_save"))
            # With ensure_weight_tying a module that is tied to another is saved only once.
            if not wanted or view.settings.get("ensure_weight_tying") or not view.file.tensors:
                continue
            present = {module for module in wanted if any(lies_in(key.name, module) for key in view.keys)}
            heads = set(automatic_heads(view.settings))
            missing = [module for module in wanted if module not in present]
            if present & heads:
                missing = [module for module in missing if module not in heads]
            if not missing:
                continue
            # A list of usual names that is handed to every model names some that this one may not have.
            doubtful = bool(present) and all(module in _HEADS for module in missing)
            yield self.finding(
                f"modules_to_save lists {listed(missing)}, but the file has no tensor of "
                f"{'it' if len(missing) == 1 else 'them'}: the training of {'it' if len(missing) == 1 else 'them'} is "
                "lost. Save the adapter again with save_pretrained.",
                path=view.file.path,
                tensors=missing,
                evidence={"missing": missing, "present": sorted(present)},
                severity=Severity.WARNING if doubtful and missing != ["lm_head"] else None,
            )
