"""What the input and output embeddings of language models are called; transformers ties them by design."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ckpt_doctor.core.parts import Part
    from ckpt_doctor.core.weight_file import TensorInfo

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

# Those whose rows are the tokens of the vocabulary in every model that transformers has, by the module's name.
_BY_TOKEN = frozenset(
    ("embed_tokens", "wte", "word_embeddings", "tok_embeddings", "embed_in", "shared", "lm_head", "embed_out")
)
# What PEFT puts into the name of a weight that it wraps.
_PEFT_WORDS = frozenset(("base_layer", "modules_to_save", "original_module"))


def embedding_rows(tensors: Iterable[TensorInfo]) -> dict[str, int]:
    """The tensors of an adapter that have one row for each token, with the number of their rows.

    Whole embeddings and output matrices, and those halves of a LoRA on them that are as long as the vocabulary.
    """
    found = {}
    for tensor in tensors:
        words = [word for word in tensor.name.split(".") if word not in _PEFT_WORDS]
        if len(tensor.shape) != 2:
            continue
        if words[-1] == "weight" and words[-2:-1] and words[-2] in _BY_TOKEN:
            found[tensor.name] = tensor.shape[0]
        elif words[-1] == "lora_embedding_A" and words[-2:-1] and words[-2] in _BY_TOKEN:
            found[tensor.name] = tensor.shape[1]
        elif words[-2:] == ["lora_B", "weight"] and words[-3:-2] and words[-3] in ("lm_head", "embed_out"):
            found[tensor.name] = tensor.shape[0]
    return found


def vocabulary_size(config: Mapping[str, Any] | None) -> int | None:
    """The rows of the embedding that transformers builds from this ``config.json``, where it says one number."""
    if config is None:
        return None
    text = config.get("text_config")
    sections = (config, text if isinstance(text, dict) else {})
    sizes = {section["vocab_size"] for section in sections if type(section.get("vocab_size")) is int}
    return sizes.pop() if len(sizes) == 1 else None


def rows_needed(part: Part, size: int) -> int | None:
    """How many rows the adapter in ``part`` needs where its base has ``size``; ``None`` if those will do.

    That is the number of rows of the embeddings that it holds, where they agree on one; where it holds none, one more
    than the highest of the tokens that it trains.
    """
    rows = set(embedding_rows(part.loaded_tensors).values())
    if len(rows) == 1:
        (wanted,) = rows
        return wanted if wanted != size else None
    highest = max(_trained_tokens(part), default=-1) if not rows else -1
    return highest + 1 if highest >= size else None


def makes_up(tokens: int, wanted: int, size: int, found: Mapping[str, int]) -> bool:
    """True if ``AutoPeftModel`` resizes a base of ``size`` rows to what is needed, by a tokenizer of ``tokens``.

    An embedding that was ``found`` in the adapter needs exactly as many.
    """
    return tokens > size and (tokens == wanted if found else tokens >= wanted)


def _trained_tokens(part: Part) -> list[int]:
    data = (part.config.data if part.config is not None else None) or {}
    found = [data.get("trainable_token_indices"), data.get("token_indices")]
    lists = [item for value in found for item in (value.values() if isinstance(value, dict) else [value])]
    return [token for item in lists if isinstance(item, list) for token in item if type(token) is int]
