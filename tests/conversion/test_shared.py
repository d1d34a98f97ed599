"""What becomes of tensors that share bytes, by ``--shared`` and by default."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, load_model, save_model

from ckpt_doctor import ConversionError, convert
from ckpt_doctor.conversion import AliasOutcome
from support.states import same, save


class Tied(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embed = torch.nn.Embedding(6, 4)
        self.body = torch.nn.Linear(4, 4)
        self.head = torch.nn.Linear(4, 6, bias=False)
        self.head.weight = self.embed.weight


def test_clone_is_the_default_of_a_lone_file(tmp_path: Path) -> None:
    state = Tied().state_dict()
    save(state, tmp_path / "pytorch_model.bin")
    result = convert(tmp_path / "pytorch_model.bin", to="safetensors")
    assert result.files[0].aliases == (AliasOutcome(("embed.weight", "head.weight"), "cloned", 6 * 4 * 4),)
    assert same(load_file(tmp_path / "model.safetensors"), dict(state))


def test_drop_writes_what_save_model_writes(tmp_path: Path) -> None:
    model = Tied()
    save(model.state_dict(), tmp_path / "a.bin")
    result = convert(tmp_path / "a.bin", to="safetensors", shared="drop")
    assert result.files[0].aliases == (
        AliasOutcome(("embed.weight", "head.weight"), "dropped", 6 * 4 * 4, "embed.weight"),
    )
    save_model(model, str(tmp_path / "theirs.safetensors"), metadata={"format": "pt"})
    assert same(load_file(tmp_path / "a.safetensors"), load_file(tmp_path / "theirs.safetensors"))
    with (
        safe_open(tmp_path / "a.safetensors", "pt") as ours,
        safe_open(tmp_path / "theirs.safetensors", "pt") as theirs,
    ):
        assert ours.metadata() == theirs.metadata()
    fresh = Tied()
    assert load_model(fresh, tmp_path / "a.safetensors") == (set(), [])
    assert same(dict(fresh.state_dict()), dict(model.state_dict()))
    assert fresh.head.weight is fresh.embed.weight


def test_error_names_them_and_writes_nothing(tmp_path: Path) -> None:
    save(Tied().state_dict(), tmp_path / "a.bin")
    with pytest.raises(ConversionError, match=r"embed\.weight = head\.weight.*96 B more"):
        convert(tmp_path / "a.bin", to="safetensors", shared="error")
    assert [path.name for path in tmp_path.iterdir()] == ["a.bin"]
    save({"a": torch.ones(2), "b": torch.ones(2)}, tmp_path / "b.bin")
    assert convert(tmp_path / "b.bin", to="safetensors", shared="error").tensors == 2


def test_drop_keeps_what_could_not_be_made_from_another_name(tmp_path: Path) -> None:
    whole = torch.arange(12.0).reshape(3, 4)
    state = {"whole": whole, "same": whole, "row": whole[1], "turned": whole.t(), "flat": whole.view(12)}
    save(state, tmp_path / "a.bin")
    result = convert(tmp_path / "a.bin", to="safetensors", shared="drop")
    loaded = load_file(tmp_path / "a.safetensors")
    assert loaded.keys() == state.keys() - {"whole"}
    assert all(same(loaded[name], state[name].contiguous()) for name in loaded)
    assert {alias.action for alias in result.files[0].aliases} == {"dropped", "cloned"}


def test_the_input_embedding_is_kept(tmp_path: Path) -> None:
    weight = torch.randn(4, 4)
    for names in (
        ("lm_head.weight", "model.embed_tokens.weight"),
        ("encoder.embed_tokens.weight", "lm_head.weight", "shared.weight"),
        ("lm_head.weight", "transformer.wte.weight"),
    ):
        save(dict.fromkeys(names, weight), tmp_path / "a.bin")
        convert(tmp_path / "a.bin", to="safetensors", shared="drop", overwrite=True)
        assert list(load_file(tmp_path / "a.safetensors")) == [names[-1]]


def test_a_value_of_the_file_is_not_overwritten_by_the_record_of_a_dropped_name(tmp_path: Path) -> None:
    weight = torch.ones(2)
    save({"a": weight, "format": weight}, tmp_path / "a.bin")
    with pytest.raises(ConversionError, match=r"format cannot be dropped.*clone"):
        convert(tmp_path / "a.bin", to="safetensors", shared="drop")
    assert convert(tmp_path / "a.bin", to="safetensors").tensors == 2


def test_zero_size_tensors_share_nothing(tmp_path: Path) -> None:
    empty = torch.empty(0, 3)
    save({"a": empty, "b": empty}, tmp_path / "a.bin")
    assert convert(tmp_path / "a.bin", to="safetensors", shared="error").tensors == 2
