"""CKD510."""

from __future__ import annotations

from collections.abc import Iterator

from ckpt_doctor.core.checkpoint import Checkpoint
from ckpt_doctor.core.findings import Finding, Severity
from ckpt_doctor.core.policy import Policy
from ckpt_doctor.knowledge.embeddings import embedding_rows

from ._kit.model_view import judged_models
from ._kit.rule import Rule


class TokenizerExceedsEmbedding(Rule):
    """The tokenizer has tokens for which the embedding has no row.

    ## What it does
    Compares the highest number of a token in `tokenizer_config.json` and `added_tokens.json` with the rows of the input
    embedding in the file. It is a warning, because some published models have a token that is never used.

    ## Why is this bad?
    A text with such a token fails with `index out of range in self` on a CPU, or with a device-side assertion that
    takes the whole process down.

    ## Example
    Tokens were added to the tokenizer, and `model.resize_token_embeddings(len(tokenizer))` was forgotten.

    ## What to do
    Resize the embedding before the training, or put the tokenizer of the training beside the model.

    ## References
    sillsdev/silnlp#1033
    """

    code = "CKD510"
    name = "tokenizer-exceeds-embedding"
    severity = Severity.WARNING
    needs = "headers and configs"

    def check(self, checkpoint: Checkpoint, policy: Policy) -> Iterator[Finding]:
        """See :meth:`Rule.check`."""
        for model in judged_models(checkpoint):
            highest = model.part.tokenizer.highest if model.part.tokenizer is not None else None
            rows = embedding_rows(model.part.loaded_tensors)
            if highest is None or not rows or highest < max(rows.values()):
                continue
            name = max(rows, key=lambda name: (rows[name], name))
            yield self.finding(
                f"The tokenizer has token number {highest:,}, and {name} has {rows[name]:,} rows, the last of them "
                f"number {rows[name] - 1:,}: a text with that token fails. Resize the embedding to the tokenizer "
                "(resize_token_embeddings) and train, or use the tokenizer of the training.",
                path=model.path,
                tensors=rows,
                evidence={"highest_token": highest, "rows": rows[name]},
            )
