"""Any state dict survives the way to safetensors and back, and loads equal on both sides."""

from __future__ import annotations

import json
import math
import tempfile
from pathlib import Path
from typing import Any

import hypothesis.strategies as st
import pytest
import torch
from hypothesis import HealthCheck, assume, given, settings
from safetensors import safe_open
from safetensors.torch import load_file

from ckpt_doctor import ConversionError, convert
from support.states import DTYPES, filled, load, same, save

# Characters that UTF-8 can write; a name with a lone surrogate is refused.
text = st.text(st.characters(exclude_categories=("Cs",)), max_size=8)
# float8_e8m0fnu is written as save_file writes it, but no safetensors library of today reads it again.
dtypes = st.sampled_from([dtype for dtype in DTYPES if dtype is not torch.float8_e8m0fnu])


@st.composite
def views(draw: st.DrawFn) -> torch.Tensor:
    """A tensor or any kind of view of one."""
    shape = tuple(draw(st.lists(st.integers(0, 5), max_size=3)))
    base = filled(shape, draw(dtypes), draw(st.integers(0, 1000)))
    for kind in draw(st.lists(st.sampled_from(["t", "slice", "step", "expand", "flat", "last"]), max_size=3)):
        if kind == "expand":
            base = base.unsqueeze(0).expand(draw(st.integers(0, 3)), *base.shape)
        elif base.ndim and kind == "t":
            base = base.transpose(0, -1)
        elif base.ndim and kind == "slice":
            base = base[draw(st.integers(0, 3)) :]
        elif base.ndim and kind == "step":
            base = base[..., :: draw(st.integers(1, 3))]
        elif base.ndim and kind == "last" and base.shape[0]:
            base = base[-1]
        elif kind == "flat" and base.is_contiguous():
            base = base.flatten()
    return base


@st.composite
def tensors(draw: st.DrawFn, pool: list[torch.Tensor]) -> torch.Tensor:
    """A new tensor, or one that was there before, or a part of it."""
    if pool and draw(st.booleans()):
        old = pool[draw(st.integers(0, len(pool) - 1))]
        return old if draw(st.booleans()) or not old.ndim else old[1:]
    pool.append(draw(views()))
    return pool[-1]


scalars = st.none() | st.booleans() | st.integers() | st.floats() | text
values = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=3) | st.lists(inner, max_size=3).map(tuple) | st.dictionaries(text, inner),
    max_leaves=5,
)
keys = text | st.integers(-3, 10) | st.sampled_from(["$tensor", "$items", "format", "ckpt-doctor.structure"])


@st.composite
def states(draw: st.DrawFn) -> Any:
    pool: list[torch.Tensor] = []
    leaves = st.one_of(tensors(pool), tensors(pool), values)
    containers = st.recursive(
        st.dictionaries(keys, leaves, max_size=5),
        lambda inner: st.dictionaries(keys, inner | leaves, max_size=3) | st.lists(inner | leaves, max_size=3),
        max_leaves=4,
    )
    return draw(containers)


def names_of(node: Any, prefix: str = "", depth: int = 0) -> list[str]:
    if isinstance(node, torch.Tensor):
        return [prefix]
    items = node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, (list, tuple)) else ()
    return [
        name for key, value in items for name in names_of(value, f"{prefix}.{key}" if depth else str(key), depth + 1)
    ]


def flat(node: Any, prefix: str = "", depth: int = 0) -> dict[str, torch.Tensor]:
    if isinstance(node, torch.Tensor):
        return {prefix: node}
    items = node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, (list, tuple)) else ()
    found: dict[str, torch.Tensor] = {}
    for key, value in items:
        found |= flat(value, f"{prefix}.{key}" if depth else str(key), depth + 1)
    return found


@pytest.mark.slow
@settings(max_examples=120, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(state=states(), shared=st.sampled_from(["clone", "drop"]), legacy=st.booleans())
def test_there_and_back(state: Any, shared: str, legacy: bool) -> None:
    names = names_of(state)
    assume(len(set(names)) == len(names) and "__metadata__" not in names)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        save(state, folder / "a.bin", legacy=legacy)
        try:
            convert(folder / "a.bin", to="safetensors", shared=shared)
        except ConversionError as error:
            # A value and a dropped tensor may want the same entry of the metadata.
            assert "cannot be dropped" in str(error)
            assume(False)
        loaded = load_file(folder / "a.safetensors")
        expected = flat(state)
        assert loaded.keys() <= expected.keys()
        assert all(same(loaded[name], expected[name].contiguous()) for name in loaded)
        if shared == "clone":
            assert loaded.keys() == expected.keys()
        convert(folder / "a.safetensors", folder / "back.bin", to="bin")
        assert same(load(folder / "back.bin"), state)


def test_values_stand_in_the_metadata_by_name(tmp_path: Path) -> None:
    state = {
        "w": torch.ones(2),
        "epoch": 3,
        "name": "run 1",
        "hyper": {"lr": 1e-4, "betas": (0.9, 0.999), "inf": math.inf},
        "optimizer": {"state": {0: {"step": torch.tensor(5.0)}}, "param_groups": [{"lr": 0.1, "params": [0]}]},
    }
    save(state, tmp_path / "a.pt")
    result = convert(tmp_path / "a.pt", to="safetensors")
    with safe_open(tmp_path / "a.safetensors", "pt") as file:
        metadata = file.metadata()
    assert {name: json.loads(metadata[name]) for name in ("epoch", "name", "hyper.lr")} == {
        "epoch": 3,
        "name": "run 1",
        "hyper.lr": 1e-4,
    }
    assert json.loads(metadata["optimizer.param_groups"]) == [{"lr": 0.1, "params": [0]}]
    assert set(result.files[0].values) == {
        "epoch",
        "name",
        "hyper.lr",
        "hyper.betas",
        "hyper.inf",
        "optimizer.param_groups",
    }
    convert(tmp_path / "a.safetensors", tmp_path / "b.pt", to="bin")
    assert same(load(tmp_path / "b.pt"), state)


@pytest.mark.parametrize("state", [torch.arange(3), [torch.ones(1)], (torch.ones(1), {"a": torch.zeros(1)}), {}, []])
def test_whatever_the_object_is(tmp_path: Path, state: Any) -> None:
    save(state, tmp_path / "a.pt")
    convert(tmp_path / "a.pt", to="safetensors")
    convert(tmp_path / "a.safetensors", tmp_path / "b.pt", to="bin")
    assert same(load(tmp_path / "b.pt"), state)


def test_a_value_that_reads_like_the_name_of_a_tensor(tmp_path: Path) -> None:
    state = {"outer": {"flag": False}, "false": torch.ones(2)}
    save(state, tmp_path / "a.bin")
    convert(tmp_path / "a.bin", to="safetensors")
    convert(tmp_path / "a.safetensors", tmp_path / "b.bin", to="bin")
    assert same(load(tmp_path / "b.bin"), state)


def test_shared_tensors_are_shared_again_after_dropping(tmp_path: Path) -> None:
    weight = torch.randn(4, 4)
    save({"a": weight, "b": weight, "c": torch.ones(1)}, tmp_path / "a.bin")
    convert(tmp_path / "a.bin", to="safetensors", shared="drop")
    result = convert(tmp_path / "a.safetensors", tmp_path / "b.bin", to="bin")
    back = load(tmp_path / "b.bin")
    assert same(back, {"a": weight, "b": weight, "c": torch.ones(1)})
    assert back["a"].data_ptr() == back["b"].data_ptr()
    assert result.files[0].tensor_count == 3


def test_a_foreign_file_becomes_a_plain_dictionary_and_says_what_it_leaves_out(tmp_path: Path) -> None:
    from safetensors.torch import save_file

    save_file({"x.y": torch.ones(3)}, tmp_path / "a.safetensors", metadata={"format": "pt", "author": "me"})
    result = convert(tmp_path / "a.safetensors", to="bin")
    assert same(load(tmp_path / "a.bin"), {"x.y": torch.ones(3)})
    assert result.files[0].dropped == ("metadata author",)


def test_only_the_bytes_of_the_tensors_are_saved(tmp_path: Path) -> None:
    from safetensors.torch import save_file

    save_file({f"w{i}": torch.ones(1000) for i in range(50)}, tmp_path / "a.safetensors")
    convert(tmp_path / "a.safetensors", to="bin")
    assert (tmp_path / "a.bin").stat().st_size < 50 * 4000 + 30_000


@pytest.mark.parametrize(
    "record",
    [
        *("", "{", '{"a":{"$tensor":"nope"}}', '{"a":{"$value":"x"}}', '{"$items":3}', "[]", "5"),
        *('{"w":{"$tensor":"w"},"twice":[{"$value":"y"},{"$value":"y"}]}', f'{{"w":{{"$tensor":"w"}},"n":{2**2100}}}'),
    ],
    ids=range(9),
)
def test_a_damaged_record_of_the_structure_is_refused(tmp_path: Path, record: str) -> None:
    from safetensors.torch import save_file

    metadata = {"ckpt-doctor.structure": record, "x": '{"$value":"x"}', "y": "[1]"}
    save_file({"w": torch.ones(1)}, tmp_path / "a.safetensors", metadata=metadata)
    with pytest.raises(ConversionError, match=r"ckpt-doctor\.structure"):
        convert(tmp_path / "a.safetensors", to="bin")
    assert [path.name for path in tmp_path.iterdir()] == ["a.safetensors"]
