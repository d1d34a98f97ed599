"""What the input and output embeddings of language models are called; transformers ties them by design."""

from __future__ import annotations

INPUT_EMBEDDINGS = (
    "shared.weight",
    "embed_tokens.weight",
    "wte.weight",
    "word_embeddings.weight",
    "word_embedding.weight",
    "tok_embeddings.weight",
    "token_embedding.weight",
    "embed_in.weight",
    "embeddings.weight",
    "embed.weight",
)
"""Ends of the names, the most telling first: an encoder-decoder calls the one that counts ``shared``."""

OUTPUT_EMBEDDINGS = (
    "lm_head.weight",
    "lm_head.bias",
    "lm_loss.weight",
    "decoder.weight",
    "decoder.bias",
    "predictions.bias",
    "proj_out.weight",
    "embed_out.weight",
    "output_embeddings.weight",
    "output_projection.weight",
    "output_layer.weight",
    "vocab_projector.weight",
    "vocab_projector.bias",
)
"""Ends of the names of what is tied to an input embedding, and of the biases that are tied to each other."""

EMBEDDINGS = (*INPUT_EMBEDDINGS, *OUTPUT_EMBEDDINGS)
"""Both."""
