"""The one change of a path by which all names fit: found where it is certain, and nowhere else."""

from __future__ import annotations

import re

import pytest

from ckpt_doctor.verification.names.segments import one_edit

THERE = {
    **{f"model.layers.{layer}.self_attn.{word}_proj.weight": (8, 8) for layer in range(3) for word in "qkv"},
    "model.embed_tokens.weight": (64, 8),
    "lm_head.weight": (64, 8),
}


def changed(old: str, new: str) -> dict[str, tuple[int, ...]]:
    return {re.sub(old, new, name): size for name, size in THERE.items()}


CHANGES = [
    (r"^", "module."),
    (r"^", "_orig_mod."),
    (r"^model\.", "model.language_model."),
    (r"^model\.layers", "model.language_model.layers"),
    (r"^model\.", ""),
    (r"^model\.layers", "transformer.h"),
    (r"self_attn", "self_attn._orig_mod"),
    (r"q_proj", "query"),
]


@pytest.mark.parametrize(("old", "new"), CHANGES)
def test_one_change_makes_all_names_fit(old: str, new: str) -> None:
    names = changed(old, new)
    edit = one_edit(names, THERE)
    assert edit is not None
    assert edit.total == len(THERE)
    ((pattern, replacement),) = edit.key_mapping().items()
    assert {re.sub(pattern, replacement, name) for name in names} == set(THERE)
    assert f"{edit.example[0]} -> {edit.example[1]}" in edit.words("names")


@pytest.mark.parametrize(
    "names",
    [
        THERE,
        {**changed(r"^", "module."), "module.v_head.weight": (1, 8)},  # one that nothing mends
        {name: (9, *size[1:]) for name, size in changed(r"^", "module.").items()},  # other shapes
        {"model.layers.7.self_attn.q_proj.weight": (8, 8)},  # a layer that is not there
        {"x.q_proj.weight": (8, 8), "y.q_proj.weight": (8, 8)},
    ],
)
def test_nothing_is_said_where_it_is_not_certain(names: dict[str, tuple[int, ...]]) -> None:
    assert one_edit(names, THERE) is None
