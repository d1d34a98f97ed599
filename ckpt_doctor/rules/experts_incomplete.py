"""CKD317."""

from __future__ import annotations

from collections.abc import Iterator

from ckpt_doctor.core.checkpoint import Checkpoint
from ckpt_doctor.core.findings import Finding, Severity
from ckpt_doctor.core.policy import Policy

from ._kit.model_view import absent, judged_models, total
from ._kit.rule import Rule


class ExpertsIncomplete(Rule):
    """Experts of a mixture-of-experts layer are missing, or lack tensors.

    ## What it does
    Counts the experts of each layer that has some, and their tensors, against the number that `config.json` gives.
    Layers without experts are known from the config too. Experts that are stored as one fused tensor are not judged.

    ## Why is this bad?
    transformers stacks the experts that it finds into one tensor. If some are missing, that tensor has another shape
    than the model's, or random values: tokens that are routed to these experts come out wrong.

    ## Example
    `"num_experts": 8`, and `model.layers.3.mlp.experts.7.down_proj.weight` is in no shard.

    ## What to do
    Look for a lost shard, or convert or save the model again with all ranks of expert parallelism.

    ## References
    NVIDIA/Megatron-LM#5844
    """

    code = "CKD317"
    name = "experts-incomplete"
    severity = Severity.ERROR
    needs = "headers and configs"

    def check(self, checkpoint: Checkpoint, policy: Policy) -> Iterator[Finding]:
        """See :meth:`Rule.check`."""
        for model in judged_models(checkpoint):
            gone = [item for item in model.fit.missing if item.expert]
            if gone:
                yield self.finding(
                    f"Experts are incomplete: {absent(gone)} in no file, and {model.fit.cls} has "
                    f"{'it' if total(gone) == 1 else 'them'} by {model.config}. Look for a lost shard, or save the "
                    "model again from all ranks.",
                    path=model.path,
                    tensors=[name for item in gone for name in item.names],
                    evidence=model.lacks(gone),
                )
