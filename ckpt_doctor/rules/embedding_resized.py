"""CKD518."""

from __future__ import annotations

from collections.abc import Collection, Iterator

from ckpt_doctor.core.checkpoint import Checkpoint
from ckpt_doctor.core.findings import Finding, Severity
from ckpt_doctor.core.parts import Adapter, Tokenizer
from ckpt_doctor.core.policy import Policy
from ckpt_doctor.core.wording import counted, listed
from ckpt_doctor.knowledge.embeddings import embedding_rows, makes_up, rows_needed, vocabulary_size

from ._kit.rule import Rule


class EmbeddingResized(Rule):
    """The adapter holds an embedding of another size than its base has.

    ## What it does
    Compares the rows of the embeddings and output matrices in an adapter's file, and the `trainable_token_indices` of
    its configuration, with the `vocab_size` of its base, where `base_model_name_or_path` is a folder on this machine.
    A tokenizer of that size beside the adapter makes up for it, and a tokenizer whose size is not known leaves the
    question open.

    ## Why is this bad?
    `PeftModel.from_pretrained` raises `size mismatch for base_model.model.….embed_tokens.weight`. Only
    `AutoPeftModel…` enlarges the base first, and only to the length of the tokenizer in the adapter's folder: not for
    an embedding that was padded (`pad_to_multiple_of`), and not for one that was made smaller.

    ## Example
    New tokens were added and the embedding was resized before the training. The adapter was saved with the embedding,
    its config names the base as it was, and the tokenizer was saved elsewhere.

    ## What to do
    Resize the base before the adapter is loaded: `base.resize_token_embeddings(ROWS)`. Or save the tokenizer of the
    training into the adapter's folder, if it has as many tokens; or save the resized base and name that in
    `base_model_name_or_path`.

    ## References
    huggingface/peft#1932
    """

    code = "CKD518"
    name = "embedding-resized"
    severity = Severity.ERROR
    needs = "headers and configs"

    def check(self, checkpoint: Checkpoint, policy: Policy) -> Iterator[Finding]:
        """See :meth:`Rule.check`."""
        for part in checkpoint.parts_with("adapter"):
            adapter = part.adapter or Adapter()
            size = vocabulary_size(adapter.base_config)
            found = embedding_rows(part.loaded_tensors) if part.readable else {}
            wanted = rows_needed(part, size) if part.readable and size is not None else None
            if size is None or wanted is None:
                continue
            tokenizer = part.tokenizer
            if tokenizer is not None and (tokenizer.length is None or makes_up(tokenizer.length, wanted, size, found)):
                continue
            yield self.finding(
                resized_message(found, wanted, size, tokenizer),
                path=part.preferred[0].path,
                tensors=found,
                evidence={"rows": wanted, "base": size, "tokenizer": None if tokenizer is None else tokenizer.length},
                severity=Severity.WARNING if adapter.secondary else None,
            )


def resized_message(tensors: Collection[str], rows: int, base: int, tokenizer: Tokenizer | None) -> str:
    """What CKD518 says of ``tensors`` that have ``rows`` rows, where the ``base`` has another number."""
    have = "has" if len(tensors) == 1 else "have"
    if tensors:
        message = f"{counted(len(tensors), 'tensor')} ({listed(tensors)}) {have} {counted(rows, 'row')}, one for each "
        message += f"token, but the base has {base:,}: PeftModel.from_pretrained raises a size mismatch. "
    else:
        message = f"trainable_token_indices names token {rows - 1:,}, but the embedding of the base has {base:,} rows: "
        message += "PeftModel.from_pretrained raises an IndexError. "
    if tokenizer is None:
        message += "The adapter's folder has no tokenizer, so AutoPeftModel does not resize the base either. "
    elif tokenizer.length is not None:
        message += f"AutoPeftModel resizes the base only up to the {tokenizer.length:,} tokens of the tokenizer in the "
        message += "adapter's folder. "
    message += f"Call base.resize_token_embeddings({rows}) before you load the adapter, or name a base with {rows:,} "
    return message + "rows in base_model_name_or_path."
