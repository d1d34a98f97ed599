"""How many tokens the tokenizer beside an adapter knows: PEFT enlarges the base's embedding to that number."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ckpt_doctor.core.parts import Tokenizer
from ckpt_doctor.formats.text_file import read_json

CONFIG_NAME = "tokenizer_config.json"
"""The file by which ``AutoPeftModel`` recognises a tokenizer."""
_LIMIT = 64 << 20  # bytes; that of a vocabulary of 262,144 tokens has 33 million


def read_tokenizer(folder: Path) -> Tokenizer:
    """The tokenizer in ``folder``; its length is only known where ``tokenizer.json`` holds all that it knows."""
    found = read_json(folder / "tokenizer.json", _LIMIT)
    data = found.data if isinstance(found.data, dict) else {}
    vocabulary = _vocabulary(data.get("model"))
    if not vocabulary:
        return Tokenizer(None)
    known = vocabulary | _contents(data.get("added_tokens"))
    config = read_json(folder / CONFIG_NAME, _LIMIT).data
    decoder = config.get("added_tokens_decoder") if isinstance(config, dict) else None
    later = _contents(list(decoder.values()) if isinstance(decoder, dict) else None)
    return Tokenizer(len(known) if later <= known else None)


def read_added(folder: Path) -> Tokenizer:
    """What the small files of the tokenizer in ``folder`` say: the highest number of an added token.

    ``tokenizer.json`` itself is left alone, because reading a large vocabulary takes longer than all the rest.
    """
    config = read_json(folder / CONFIG_NAME, _LIMIT).data
    decoder = config.get("added_tokens_decoder") if isinstance(config, dict) else None
    older = read_json(folder / "added_tokens.json", _LIMIT).data
    numbers = [int(key) for key in (decoder if isinstance(decoder, dict) else ()) if _is_number(key)]
    numbers += [value for value in (older.values() if isinstance(older, dict) else ()) if type(value) is int]
    return Tokenizer(None, max(numbers, default=None))


def _is_number(text: str) -> bool:
    return text.isdecimal() and len(text) < 10


def _vocabulary(model: Any) -> set[str]:
    """The tokens of a model of the tokenizers library: a dictionary, or for Unigram a list of pairs."""
    words = model.get("vocab") if isinstance(model, dict) else None
    if isinstance(words, list):
        words = [item[0] for item in words if isinstance(item, list) and item]
    return {word for word in words if isinstance(word, str)} if isinstance(words, (dict, list)) else set()


def _contents(tokens: Any) -> set[str]:
    items = tokens if isinstance(tokens, list) else []
    found = (item.get("content") for item in items if isinstance(item, dict))
    return {content for content in found if isinstance(content, str)}
