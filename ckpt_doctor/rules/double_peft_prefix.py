"""CKD305."""

from __future__ import annotations

from collections.abc import Iterator

from ckpt_doctor.checkpoint import Checkpoint
from ckpt_doctor.findings import Finding, Severity
from ckpt_doctor.policy import Policy
from ckpt_doctor.wording import counted

from .repairs import renaming
from .rule import Rule

PREFIX = "base_model.model."


class DoublePeftPrefix(Rule):
    """The names begin with PEFT's prefix twice.

    ## What it does
    Looks for adapter tensors whose names begin with `base_model.model.base_model.model.`.

    ## Why is this bad?
    The adapter was saved from a `PeftModel` inside a `PeftModel`. On the base model, none of the tensors finds its
    parameter: PEFT discards them as unexpected keys, and the evaluation runs on the base model.

    ## Example
    `get_peft_model` was called on a model that had been wrapped already.

    ## What to do
    Remove one of the two prefixes.

    ## Fix safety
    Safe: names are changed only where nothing collides; no value is touched.

    ## References
    huggingface/peft#1337
    """

    code = "CKD305"
    name = "double-peft-prefix"
    severity = Severity.ERROR
    fix = "safe"

    def check(self, checkpoint: Checkpoint, policy: Policy) -> Iterator[Finding]:
        """See :meth:`Rule.check`."""
        for part in checkpoint.parts_with("adapter"):
            for file in part.files:
                names = [tensor.name for tensor in file.tensors if tensor.name.startswith(PREFIX * 2)]
                if names:
                    yield self.finding(
                        f"{counted(len(names), 'name')} of {len(file.tensors):,} begin with {PREFIX} twice: the "
                        "adapter was saved from a PeftModel inside a PeftModel, and on the base model none of them "
                        "finds its parameter. Remove one of the two.",
                        path=file.path,
                        tensors=names,
                        evidence={"names": len(names), "tensors_in_file": len(file.tensors)},
                        fix=self.repair(
                            checkpoint,
                            f"remove one {PREFIX}",
                            renaming(part, file, names, lambda key: key.removeprefix(PREFIX)),
                        ),
                    )
