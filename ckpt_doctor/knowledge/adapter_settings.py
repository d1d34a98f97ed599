"""Settings of ``adapter_config.json`` that change what the saved tensors mean, of whatever ``peft_type``.

How an adapter was initialised, regularised or trained is not among them, and neither is what newer releases of PEFT
write with a default that is not empty: its absence in an older file would look like a change.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

BASE_MODEL = "base_model_name_or_path"
"""The base model's hub id or folder: another text may mean the same model."""


def _names(words: str) -> frozenset[str]:
    return frozenset(words.split())


MEANINGFUL = _names("""
peft_type bias fan_in_fan_out
target_modules exclude_modules modules_to_save target_parameters feedforward_modules
layers_to_transform layers_pattern layer_replication trainable_token_indices token_indices
r rank_pattern lora_alpha alpha alpha_pattern randlora_alpha scaling
use_rslora use_dora use_qalora use_bdlora lora_bias alora_invocation_tokens
gralora_k hybrid_r decompose_both decompose_factor use_effective_conv2d apply_GS
sparse very_sparse variant group_size use_idwt wavelet_family use_cayley_neumann num_cayley_neumann_terms
oft_block_size block_share coft boft_block_size boft_block_num boft_n_butterfly_factor block_size
projection_prng_key random_loc_seed proj_seed projection_seed topk vector_length num_vectors n_frequency
num_virtual_tokens num_layers num_attention_heads num_transformer_submodules token_dim prefix_projection
adapter_layers adapter_len
""")

# PEFT keeps these as sets, and writes them in an order that changes from run to run.
_SETS = _names("""
target_modules exclude_modules modules_to_save target_parameters feedforward_modules layers_to_transform
""")


def meaningful_settings(config: Mapping[str, Any]) -> dict[str, Any]:
    """The settings that count, in a form in which two configs that mean the same are equal.

    What is empty, false or ``"none"`` is left out, as in a file of a release that did not have the setting yet.

    >>> meaningful_settings({"r": 8, "target_modules": ["v", "q"], "bias": "none", "use_dora": False, "revision": "x"})
    {'r': 8, 'target_modules': ['q', 'v']}
    """
    found: dict[str, Any] = {}
    for name in sorted(MEANINGFUL | {BASE_MODEL}):
        value = config.get(name)
        if name in _SETS and isinstance(value, int) and not isinstance(value, bool):
            value = [value]
        elif name in _SETS and isinstance(value, list) and all(type(item) in (str, int) for item in value):
            value = sorted(set(value), key=str)
        if value and value != "none":
            found[name] = value
    return found
