"""Random configs of a model type, in which as many fields as possible differ from their defaults and each other."""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from transformers import PreTrainedConfig
from transformers.activations import ACT2FN

Path = tuple[str, ...]
Buildable = Callable[[Mapping[str, Any]], bool]

# Fields of every config that change nothing about the tensors.
_COMMON = frozenset(PreTrainedConfig().to_dict()) - {"tie_word_embeddings", "is_encoder_decoder"}
COMMON = (_COMMON - {"num_labels"}) | {
    *("model_type", "quantization_config", "rope_parameters", "rope_scaling", "rope_theta", "use_cache"),
    *("transformers_version", "torch_dtype", "auto_map", "_name_or_path", "attn_implementation", "pretraining_tp"),
    *("name_or_path", "_commit_hash", "_diffusers_version", "partial_rotary_factor", "tokenizer_class"),
}
"""Fields that no table asks for, by their last word."""

IDS = re.compile(r"(_token_id|_token_index|_token_ids|_id|_idx|token_start_index)$")
"""Fields that hold tokens."""

# Modules of these have parameters of their own.
_TRAINED_ACTIVATIONS = frozenset(("xielu", "prelu"))
ACTIVATIONS = sorted(set(ACT2FN) - _TRAINED_ACTIVATIONS)
"""Activations without parameters."""

_KNOWN_WORDS = {
    "position_embedding_type": ("absolute", "relative_key", "relative_key_query"),
    "feed_forward_proj": ("relu", "gelu", "gated-gelu", "gated-silu"),
}


def is_activation(value: object) -> bool:
    """Whether a field holds the name of an activation."""
    return isinstance(value, str) and value in ACT2FN


def leaves(config: Mapping[str, Any], prefix: Path = ()) -> Iterator[tuple[Path, Any]]:
    """Every field of a config and of its sections, by its path, without those that change nothing."""
    for key, value in config.items():
        if key in COMMON or key.startswith("_"):
            continue
        if isinstance(value, Mapping) and ("model_type" in value or key.endswith("_config")):
            yield from leaves(value, (*prefix, key))
        elif not isinstance(value, Mapping):
            yield (*prefix, key), value


class Variation:
    """Draws random configs of one type; ``default`` is its default config, and ``buildable`` says what works."""

    def __init__(self, default: Mapping[str, Any], buildable: Buildable, seed: str, largest: int = 2048):
        self.largest = largest
        self._fields = dict(leaves(default))
        self._buildable = buildable
        self._random = random.Random(seed)
        self._refused: dict[Path, list[Any]] = {}
        self._drawn = 0
        flags = [path for path, value in self._fields.items() if isinstance(value, bool)]
        flags.sort(key=lambda path: (path[-1] != "tie_word_embeddings", len(path), path))
        self._columns = {path: number + 1 for number, path in enumerate(flags[: _DESIGN - 1])}
        self._shared: int | None = None

    def draw(self) -> dict[str, Any] | None:
        """One config as a ``config.json`` would say it, or ``None`` where nothing can be built."""
        self._drawn += 1
        # Some tensors are there only where two sizes differ: in some configs several are the same.
        self._shared = 64 * self._random.randint(1, self.largest // 64) if self._random.random() < 0.35 else None
        wanted = {path: self._candidate(path, value) for path, value in self._fields.items()}
        wanted = {path: value for path, value in wanted.items() if value is not _KEEP}
        wanted[("num_labels",)] = self._random.randint(3, 9)
        order = list(wanted)
        self._random.shuffle(order)
        # Few layers first: all that follows is faster then.
        order.sort(key=lambda path: not _is_depth(path[-1]))
        taken = self._added({}, order, wanted)
        return None if taken is None else _nested(taken)

    def _added(self, taken: dict[Path, Any], order: list[Path], wanted: Mapping[Path, Any]) -> dict[Path, Any] | None:
        """As many of the wanted values as can be taken together."""
        chosen = {**taken, **{path: wanted[path] for path in order}}
        if self._buildable(_nested(chosen)):
            return chosen
        if len(order) <= 1:
            for path in order:
                self._refused.setdefault(path, []).append(wanted[path])
            return taken
        half = (len(order) + 1) // 2
        first = self._added(taken, order[:half], wanted)
        return self._added(first or taken, order[half:], wanted)

    def _candidate(self, path: Path, value: Any) -> Any:
        refused = self._refused.get(path, [])
        # What was refused several times is rarely tried again.
        if len(refused) >= 4 and self._random.random() < 0.8:
            return _KEEP
        name = path[-1]
        if isinstance(value, bool):
            return self._flag(path)
        if IDS.search(name):
            return self._random.randint(1, 5) if isinstance(value, int) and not isinstance(value, bool) else _KEEP
        if isinstance(value, int):
            return self._integer(name, value)
        if isinstance(value, float):
            return self._random.choice((value, value, 0.0, value / 2, 0.25 if value == 0 else value * 2))
        if isinstance(value, str):
            return self._word(name, value)
        if isinstance(value, list):
            return self._list(path, value)
        return self._absent(name) if value is None else _KEEP

    def _flag(self, path: Path) -> bool:
        """A flag such that the first configs show any two of the flags in all four combinations equally often.

        These are columns of a Hadamard matrix. Chance alone leaves out a combination of some pair in every type, and
        then a tensor that depends on both looks as if it depended on one.
        """
        column = self._columns.get(path)
        if column is None or self._drawn > _DESIGN:
            return self._random.random() < 0.5
        return bin(column & (self._drawn - 1)).count("1") % 2 == 1

    def _integer(self, name: str, value: int) -> int:
        choose = self._random.choice
        if _is_depth(name):
            return choose((2, 2, 3, 3, 4))
        if re.search(r"per_tok|top_?k\b|topk", name):
            return choose((1, 2))
        if "expert" in name and "size" not in name and "dim" not in name:
            return choose((4, 8)) if value > 2 else choose((value, 1, 2))
        if re.search(r"n_group|num_groups|groups?$", name) and value < 256:
            return choose((1, 2, value))
        if "head" in name and not re.search(r"dim|size|_v$", name):
            return choose((1, 2)) if re.search(r"kv|key_value|group", name) else choose((4, 8))
        if re.search(r"(step|period|freq|frequency|interval|every)$", name) and value < 16:
            return choose((1, 2, 3, max(value, 1)))
        if value >= 16 and self._shared is not None and self._random.random() < 0.6:
            return self._shared
        if value >= 16:
            twos = min((value & -value).bit_length() - 1, 6)
            return (1 << twos) * choose(range(1 if twos > 3 else 3, max(6, self.largest >> twos)))
        return choose((value, value, max(value // 2, 1), value * 2, value + 1, max(value - 1, 0), 0))

    def _word(self, name: str, value: str) -> Any:
        if name in _KNOWN_WORDS:
            return self._random.choice(_KNOWN_WORDS[name])
        return self._random.choice(("gelu", "relu", "silu")) if is_activation(value) else _KEEP

    def _list(self, path: Path, value: list[Any]) -> Any:
        if not value:
            return self._random.choice(([], [0], [1], [0, 1])) if "layers" in path[-1] else _KEEP
        if self._random.random() < 0.2:
            return _KEEP
        if all(isinstance(item, bool) for item in value):
            return [self._random.random() < 0.5 for _ in value]
        if all(type(item) is int for item in value):
            name = path[-1]
            if re.search(r"indices|index|idx|indexes|_ids|stage|out_features|size$|shape", name):
                return _KEEP
            if name in ("depths", "layers", "num_blocks", "layer_depths"):
                return [self._random.randint(1, 3) for _ in value]
            return [self._integer(name, item) for item in value]
        if all(isinstance(item, str) for item in value) and len(set(value)) > 1 and "type" in path[-1]:
            return self._random.choices(sorted(set(value)), k=len(value))
        return _KEEP

    def _absent(self, name: str) -> Any:
        if re.search(r"head_dim|d_head|dim_head|kv_channels", name):
            return self._random.choice((_KEEP, 16, 24, 32, 48, 40))
        if re.search(r"(dim|size|inner|rank|hidden|features|width|channels|window)$", name):
            return self._random.choice((_KEEP, 16 * self._random.randint(3, 30)))
        if "head" in name:
            return self._random.choice((_KEEP, 1, 2, 4))
        return _KEEP


_KEEP = object()
_DESIGN = 16


def _is_depth(name: str) -> bool:
    return bool(re.search(r"(num_\w*layers|n_layers?|_layers|depth|num_\w*blocks|n_blocks)$", name))


def _nested(flat: Mapping[Path, Any]) -> dict[str, Any]:
    result: dict[str, Any] = {}
    for path, value in flat.items():
        section = result
        for word in path[:-1]:
            section = section.setdefault(word, {})
        section[path[-1]] = value
    return result
