"""CKD404."""

from __future__ import annotations

from collections.abc import Iterator

from ckpt_doctor.analysis.tied_embeddings import lone_output
from ckpt_doctor.core.checkpoint import Checkpoint
from ckpt_doctor.core.findings import Finding, Severity
from ckpt_doctor.core.policy import Policy

from ._kit.rule import Rule


class TiedKeyDropped(Rule):
    """The file holds the output matrix of two tied ones: not every loader looks under its name.

    ## What it does
    Looks for a model whose `config.json` says `"tie_word_embeddings": true` and whose files hold `lm_head.weight` and
    no input embedding.

    ## Why is this bad?
    Safetensors stores tied tensors once, and whoever writes the file chooses the name. transformers itself keeps the
    input embedding. Version 5 finds the matrix under either name; version 4 leaves both without values, says nothing,
    and the first forward pass raises. A loader that skips the output matrix of tied models starts the embedding at
    random.

    ## Example
    A file that was written with safetensors' `save_model`, or by a script that drops repeated tensors in the order of
    their names: `lm_head.weight` comes before `model.embed_tokens.weight`.

    ## What to do
    Load the model with transformers 5 and save it again with `save_pretrained`, or give the tensor the name of the
    input embedding.

    ## References
    huggingface/accelerate#2807
    """

    code = "CKD404"
    name = "tied-key-dropped"
    severity = Severity.WARNING
    needs = "headers and configs"

    def check(self, checkpoint: Checkpoint, policy: Policy) -> Iterator[Finding]:
        """See :meth:`Rule.check`."""
        if checkpoint.kind.covers != "model":
            return
        for part in checkpoint.parts_with("model"):
            place = lone_output(part)
            if place is not None and part.config is not None:
                yield self.finding(
                    f"{part.config.path} ties the embeddings, and the file has only {place.tensor.name} of "
                    "the two. transformers 5 finds it; version 4 leaves both without values, and the first "
                    "forward pass raises. Load the model with transformers 5 and save it again, or rename the tensor "
                    "to the input embedding's name.",
                    path=place.file.path,
                    tensors=(place.tensor.name,),
                )
