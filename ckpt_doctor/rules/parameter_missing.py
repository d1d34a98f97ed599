"""CKD320."""

from __future__ import annotations

from collections.abc import Iterator

from ckpt_doctor.core.architecture import MissingTensors
from ckpt_doctor.core.checkpoint import Checkpoint
from ckpt_doctor.core.findings import Finding, Severity
from ckpt_doctor.core.policy import Policy

from ._kit.model_view import absent, judged_models, total
from ._kit.rule import Rule


class ParameterMissing(Rule):
    """A tensor that the model's class always has is in no file.

    ## What it does
    Compares the names in the files of a whole transformers model with those that the class in `architectures` has under
    this `config.json`. It knows the classes of one transformers release; code of one's own (`auto_map`), quantised
    weights and settings of unusual values are not judged. Nothing is said about buffers, about tied weights, about what
    the class itself says may be absent, and about older names that transformers still reads.

    ## Why is this bad?
    `from_pretrained` gives the parameter random values, logs `Some weights … were not initialized` and goes on.

    ## Example
    `model.layers.1.mlp.up_proj.weight` is in no shard.

    ## What to do
    Look for the tensor in an older copy of the checkpoint, or save the model again.
    """

    code = "CKD320"
    name = "parameter-missing"
    severity = Severity.ERROR
    needs = "headers and configs"

    def check(self, checkpoint: Checkpoint, policy: Policy) -> Iterator[Finding]:
        """See :meth:`Rule.check`."""
        for model in judged_models(checkpoint):
            gone = [item for item in model.fit.missing if not item.head and not item.expert]
            if gone:
                yield self.finding(
                    f"{absent(gone)} in no file, and {model.fit.cls} has {_it(gone)} by {model.config}. "
                    f"from_pretrained fills {_it(gone)} with random values. Take {_it(gone)} from an older copy, or "
                    "save the model again.",
                    path=model.path,
                    tensors=[name for item in gone for name in item.names],
                    evidence=model.lacks(gone),
                )


def _it(gone: list[MissingTensors]) -> str:
    return "it" if total(gone) == 1 else "them"
