"""CKD4xx: tensors that share or waste storage."""

from __future__ import annotations

import json
from pathlib import Path

from support.damages.edits import (
    ADAPTER_BIN,
    edit_tensors,
    load,
    renamed,
    save,
)
from support.damages.record import Damage, recorder

DAMAGES: list[Damage] = []
damage = recorder(DAMAGES)


@damage("CKD401", "weaver_bin/weaver", severity="warning", expect="bin")
def two_names_for_one_storage(path: Path) -> None:
    tensors = load(path / ADAPTER_BIN)
    first, second = [name for name in tensors if "lora_A" in name][:2]
    tensors[second] = tensors[first]
    save(tensors, path / ADAPTER_BIN)


@damage("CKD402", "weaver_bin/weaver", severity="warning", expect="bin")
def view_of_a_large_tensor(path: Path) -> None:
    import torch

    state = load(path / "projections.pt")
    latents = state["prompt_query_latents"].detach()
    large = torch.cat([latents] * 200)
    state["prompt_query_latents"] = large[: len(latents)]
    save(state, path / "projections.pt")


@damage("CKD403", "weaver_bin/weaver", severity="note", expect="bin")
def transposed(path: Path) -> None:
    state = load(path / "projections.pt")
    weight = state["reasoner_to_weaver"]["weight"]
    state["reasoner_to_weaver"]["weight"] = weight.detach().t().contiguous().t()
    save(state, path / "projections.pt")


@damage("CKD404", "transformers/tied_safetensors", severity="warning")
def the_output_matrix_is_kept(path: Path) -> None:
    edit_tensors(path / "model.safetensors", renamed("model.embed_tokens.weight", "lm_head.weight"))


@damage("CKD406", "transformers/single_safetensors", deep=True)
def two_matrices_that_the_config_ties(path: Path) -> None:
    config = path / "config.json"
    config.write_text(json.dumps({**json.loads(config.read_text()), "tie_word_embeddings": True}))
