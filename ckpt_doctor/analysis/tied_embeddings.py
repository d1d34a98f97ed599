"""The two matrices of a model that its config ties to each other, where both are on disk."""

from __future__ import annotations

from typing import Any, NamedTuple

from ckpt_doctor.core.parts import Part
from ckpt_doctor.core.weight_file import TensorInfo, WeightFile

from .sharding import is_whole

# T5 and its like share one matrix between encoder, decoder and head.
_INPUTS = ("shared.weight", "embed_tokens.weight", "wte.weight", "word_embeddings.weight", "embed_in.weight")
_WORDS_OF_INPUTS = ("embed", "wte", "shared", "token")
_OUTPUTS = ("lm_head.weight", "embed_out.weight")


class Place(NamedTuple):
    """A tensor and the file that holds it."""

    file: WeightFile
    tensor: TensorInfo


class TiedPair(NamedTuple):
    """The input embedding and the output matrix of a model whose config says that they are one."""

    first: Place
    second: Place


def tied_pair(part: Part) -> TiedPair | None:
    """Both matrices of a model that ties them; ``None`` if it holds one of them, or where that is not certain.

    Certain is a ``tie_word_embeddings`` of a config that no code of its own interprets, and one matrix of each kind, of
    one shape and dtype.
    """
    data = (part.config.data if part.config is not None else None) or {}
    if part.role != "model" or "auto_map" in data or not _ties(data):
        return None
    places = [Place(file, tensor) for file in part.preferred for tensor in file.tensors]
    first = [place for place in places if _is_named(place, _INPUTS)]
    second = [place for place in places if _is_named(place, _OUTPUTS)]
    if len(first) != 1 or len(second) != 1:
        return None
    here, there = first[0].tensor, second[0].tensor
    alike = (here.shape, here.dtype) == (there.shape, there.dtype) and len(here.shape) == 2
    return TiedPair(first[0], second[0]) if alike else None


def lone_output(part: Part) -> Place | None:
    """The output matrix of a model that ties it to an input embedding which is not there, under no name.

    ``None`` too where tensors may be missing for another reason: a shard is absent, or no layer is there.
    """
    data = (part.config.data if part.config is not None else None) or {}
    if part.role != "model" or "auto_map" in data or not _ties(data) or not is_whole(part):
        return None
    places = [Place(file, tensor) for file in part.preferred for tensor in file.tensors]
    second = [place for place in places if _is_named(place, _OUTPUTS)]
    others = [place.tensor.name for place in places if place not in second]
    named = any(word in name for name in others for word in _WORDS_OF_INPUTS)
    layered = any(word.isdecimal() for name in others for word in name.split("."))
    return second[0] if len(second) == 1 and layered and not named else None


def _ties(data: Any) -> bool:
    """True if the config says so, and that of a text model inside it too."""
    text = data.get("text_config")
    sections = (data, text) if isinstance(text, dict) else (data,)
    return all(section.get("tie_word_embeddings") is True for section in sections)


def _is_named(place: Place, endings: tuple[str, ...]) -> bool:
    name = place.tensor.name
    return name in endings or name.endswith(tuple(f".{ending}" for ending in endings))
