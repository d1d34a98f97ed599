"""Whole checkpoints: names by ecosystem, indexes, and what a loader makes of the result."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

import ckpt_doctor
from ckpt_doctor import ConversionError, NoCheckpointError, convert
from support.states import load, same, save, snapshot

FIXTURES = Path(__file__).parents[2] / "fixtures"


@pytest.fixture
def weaver(tmp_path: Path) -> Path:
    shutil.copytree(FIXTURES / "failures" / "bin_instead_of_safetensors" / "weaver", tmp_path / "weaver")
    return tmp_path / "weaver"


@pytest.fixture
def sharded(tmp_path: Path) -> Path:
    """Two shards, a tensor that the index forgot, and one that is tied within its shard."""
    folder = tmp_path / "model"
    folder.mkdir()
    tied = torch.randn(4, 4)
    first = {"model.embed_tokens.weight": tied, "lm_head.weight": tied}
    second = {"model.layers.0.w": torch.randn(4), "forgotten": torch.ones(2)}
    save(first, folder / "pytorch_model-00001-of-00002.bin")
    save(second, folder / "pytorch_model-00002-of-00002.bin")
    weight_map = dict.fromkeys(first, "pytorch_model-00001-of-00002.bin")
    weight_map["model.layers.0.w"] = "pytorch_model-00002-of-00002.bin"
    index = {"metadata": {"total_size": 96, "total_parameters": 24}, "weight_map": weight_map}
    (folder / "pytorch_model.bin.index.json").write_text(json.dumps(index))
    (folder / "config.json").write_text('{"model_type": "qwen2", "tie_word_embeddings": true}')
    (folder / "tokenizer.json").write_text("{}")
    return folder


def test_a_weaver_in_place(weaver: Path) -> None:
    before = snapshot(weaver)
    result = convert(weaver, to="safetensors")
    after = snapshot(weaver)
    assert after.keys() - before.keys() == {"weaver_lora/adapter_model.safetensors"}
    assert before.items() <= after.items()
    assert same(
        load_file(weaver / "weaver_lora/adapter_model.safetensors"), load(weaver / "weaver_lora/adapter_model.bin")
    )
    assert [file.target for file in result.files] == [str(weaver / "weaver_lora/adapter_model.safetensors")]
    assert "CKD201" not in {finding.code for finding in ckpt_doctor.inspect(weaver).findings}


@pytest.mark.parametrize("asked", ["weaver_lora", "weaver_lora/adapter_config.json"])
def test_a_path_inside_means_the_whole(weaver: Path, asked: str) -> None:
    assert convert(weaver / asked, to="safetensors").tensors == 8
    assert (weaver / "weaver_lora/adapter_model.safetensors").exists()
    assert not (weaver / "projections.safetensors").exists()


def test_a_weaver_into_another_folder_is_a_healthy_one(weaver: Path, tmp_path: Path) -> None:
    before = snapshot(weaver)
    target = tmp_path / "new" / "weaver"
    result = convert(weaver, target, to="safetensors")
    assert snapshot(weaver) == before
    assert set(snapshot(target)) == {
        "projections.pt",
        "weaver_lora/adapter_config.json",
        "weaver_lora/adapter_model.safetensors",
    }
    assert (target / "projections.pt").read_bytes() == (weaver / "projections.pt").read_bytes()
    assert ckpt_doctor.inspect(target).findings == ()
    assert len(result.copied) == 2
    back = convert(target, tmp_path / "back", to="bin")
    assert back.tensors == 8
    assert same(load(tmp_path / "back/weaver_lora/adapter_model.bin"), load(weaver / "weaver_lora/adapter_model.bin"))


def test_the_second_time_is_refused_or_asked_for(weaver: Path) -> None:
    convert(weaver, to="safetensors")
    before = snapshot(weaver)
    with pytest.raises(ConversionError, match="is there already; --overwrite"):
        convert(weaver, to="safetensors")
    assert snapshot(weaver) == before
    (weaver / "weaver_lora/adapter_model.bin").unlink()
    result = convert(weaver, to="safetensors")
    assert (result.files, result.already) == ((), (str(weaver / "weaver_lora/adapter_model.safetensors"),))


def test_peft_loads_the_result(tmp_path: Path) -> None:
    from peft.utils.save_and_load import load_peft_weights

    source = FIXTURES / "failures/bin_instead_of_safetensors/weaver/weaver_lora"
    convert(source.parent, tmp_path / "out", to="safetensors")
    ours = load_peft_weights(str(tmp_path / "out/weaver_lora"), device="cpu")
    assert same(ours, load_peft_weights(str(source), device="cpu"))


@pytest.mark.parametrize("elsewhere", [False, True])
def test_shards_and_their_index(sharded: Path, tmp_path: Path, elsewhere: bool) -> None:
    before = snapshot(sharded)
    target = tmp_path / "out" if elsewhere else sharded
    result = convert(sharded, target if elsewhere else None, to="safetensors")
    index = json.loads((target / "model.safetensors.index.json").read_text())
    assert index == {
        "metadata": {"total_parameters": 24, "total_size": 64 + 16 + 8},
        "weight_map": {
            "model.embed_tokens.weight": "model-00001-of-00002.safetensors",
            "model.layers.0.w": "model-00002-of-00002.safetensors",
            "forgotten": "model-00002-of-00002.safetensors",
        },
    }
    assert before.items() <= snapshot(sharded).items()
    new = set(snapshot(target)) - (set() if elsewhere else set(before))
    shards = {"model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"}
    assert new == shards | {"model.safetensors.index.json"} | (
        {"config.json", "tokenizer.json"} if elsewhere else set()
    )
    assert result.indexes == (str(target / "model.safetensors.index.json"),)
    with safe_open(target / "model-00001-of-00002.safetensors", "pt") as file:
        assert file.metadata() == {"format": "pt", "lm_head.weight": "model.embed_tokens.weight"}
    report = ckpt_doctor.inspect(target)
    assert report.healthy, report.findings


def test_shards_there_and_back(sharded: Path, tmp_path: Path) -> None:
    convert(sharded, tmp_path / "there", to="safetensors")
    result = convert(tmp_path / "there", tmp_path / "back", to="bin")
    assert result.tensors == 4
    for name in ("pytorch_model-00001-of-00002.bin", "pytorch_model-00002-of-00002.bin"):
        assert same(load(tmp_path / "back" / name), load(sharded / name))
    index = json.loads((tmp_path / "back/pytorch_model.bin.index.json").read_text())
    assert set(index["weight_map"]) == {"model.embed_tokens.weight", "lm_head.weight", "model.layers.0.w", "forgotten"}
    assert ckpt_doctor.inspect(tmp_path / "back").healthy


@pytest.mark.parametrize(
    ("config", "in_a_folder", "dropped"),
    [
        ('{"tie_word_embeddings": true}', True, {"lm_head.weight"}),
        ('{"text_config": {"tie_word_embeddings": true}}', True, {"lm_head.weight"}),
        ('{"tie_word_embeddings": false}', True, set()),
        ("{}", True, set()),
        ("", False, set()),
    ],
)
def test_only_what_the_config_ties_is_dropped_by_default(
    tmp_path: Path, config: str, in_a_folder: bool, dropped: set[str]
) -> None:
    tied, shared = torch.randn(4, 4), torch.randn(3)
    state = {"model.embed_tokens.weight": tied, "lm_head.weight": tied, "other": shared, "another": shared}
    save(state, tmp_path / "pytorch_model.bin")
    if in_a_folder:
        (tmp_path / "config.json").write_text(config)
    convert(tmp_path, to="safetensors")
    loaded = load_file(tmp_path / "model.safetensors")
    # What transformers does not tie by itself keeps both names whatever the config says.
    assert state.keys() - loaded.keys() == dropped


def test_transformers_loads_a_tied_model(tmp_path: Path) -> None:
    import transformers

    config = transformers.Qwen2Config(
        vocab_size=16, hidden_size=8, intermediate_size=8, num_hidden_layers=1, num_attention_heads=2,
        num_key_value_heads=1, tie_word_embeddings=True, dtype="float32",
    )  # fmt: skip
    model = transformers.Qwen2ForCausalLM(config)
    config.save_pretrained(tmp_path)
    save(model.state_dict(), tmp_path / "pytorch_model.bin")
    result = convert(tmp_path, to="safetensors")
    assert [alias.kept for alias in result.files[0].aliases] == ["model.embed_tokens.weight"]
    (tmp_path / "pytorch_model.bin").unlink()
    loaded, info = transformers.Qwen2ForCausalLM.from_pretrained(tmp_path, output_loading_info=True)
    assert not info["missing_keys"]
    assert not info["unexpected_keys"]
    assert same(dict(loaded.state_dict()), dict(model.state_dict()))


def test_weights_that_are_not_all_there(sharded: Path) -> None:
    def refused(word: str) -> None:
        before = snapshot(sharded)
        with pytest.raises(ConversionError, match=word):
            convert(sharded, to="safetensors")
        assert snapshot(sharded) == before

    index = sharded / "pytorch_model.bin.index.json"
    text = index.read_text()
    index.write_text(text.replace('"model.layers.0.w"', '"model.layers.1.w"'))
    refused("CKD702")
    index.write_text(text.replace("pytorch_model-00002", "../pytorch_model-00002"))
    refused("CKD905")
    index.write_text("{")
    refused("index.json is refused")
    index.write_text(text)
    (sharded / "pytorch_model-00002-of-00002.bin").unlink()
    refused("CKD701")
    index.unlink()
    refused("CKD701")


def test_what_is_already_there_is_taken_only_if_it_is_whole(sharded: Path, tmp_path: Path) -> None:
    """Elsewhere the safetensors files stand for all; a part of them, or a broken one, must not."""
    convert(sharded, to="safetensors")
    (sharded / "model-00002-of-00002.safetensors").unlink()
    with pytest.raises(ConversionError, match=r"shards are missing: model-00002-of-00002.safetensors"):
        convert(sharded, tmp_path / "out", to="safetensors")
    (sharded / "model.safetensors.index.json").unlink()
    with pytest.raises(ConversionError, match=r"shards are missing: model-00002-of-00002.safetensors"):
        convert(sharded, tmp_path / "out", to="safetensors")
    assert not (tmp_path / "out").exists()


def test_what_is_already_there_is_taken_only_if_it_is_sound(weaver: Path, tmp_path: Path) -> None:
    convert(weaver, to="safetensors")
    convert(weaver, tmp_path / "out", to="safetensors")
    ready = weaver / "weaver_lora/adapter_model.safetensors"
    assert (tmp_path / "out/weaver_lora/adapter_model.safetensors").read_bytes() == ready.read_bytes()
    ready.write_bytes(ready.read_bytes()[:-1])
    with pytest.raises(ConversionError, match=r"adapter_model.safetensors: it has errors"):
        convert(weaver, tmp_path / "broken", to="safetensors")
    assert not (tmp_path / "broken").exists()


def test_a_misnamed_file_gets_its_name_and_keeps_its_bytes(tmp_path: Path) -> None:
    save_file({"base_model.model.q.lora_A.weight": torch.ones(2, 3)}, tmp_path / "adapter_model.bin", {"format": "pt"})
    result = convert(tmp_path, to="safetensors")
    assert result.copied == (str(tmp_path / "adapter_model.safetensors"),)
    assert (tmp_path / "adapter_model.safetensors").read_bytes() == (tmp_path / "adapter_model.bin").read_bytes()


def test_training_state_is_not_taken_along(tmp_path: Path) -> None:
    folder = tmp_path / "checkpoint-5"
    folder.mkdir()
    save({"w": torch.ones(2)}, folder / "pytorch_model.bin")
    (folder / "config.json").write_text("{}")
    save({"state": {}, "param_groups": []}, folder / "optimizer.pt")
    result = convert(folder, tmp_path / "out", to="safetensors")
    assert set(snapshot(tmp_path / "out")) == {"config.json", "model.safetensors"}
    assert result.left_out == (str(folder / "optimizer.pt"),)


def test_links_are_read_and_not_written_through(tmp_path: Path) -> None:
    """As in a hub cache: the snapshot's files are links to blobs that other snapshots share."""
    blobs, snapshots = tmp_path / "blobs", tmp_path / "snapshots"
    blobs.mkdir()
    snapshots.mkdir()
    save({"w": torch.ones(2)}, blobs / "a")
    (blobs / "b").write_text("{}")
    (snapshots / "pytorch_model.bin").symlink_to("../blobs/a")
    (snapshots / "config.json").symlink_to("../blobs/b")
    before = snapshot(blobs)
    convert(snapshots, to="safetensors")
    assert not (snapshots / "model.safetensors").is_symlink()
    convert(snapshots, tmp_path / "out", to="safetensors")
    assert not any(path.is_symlink() for path in (tmp_path / "out").iterdir())
    assert snapshot(blobs) == before


def test_several_checkpoints_want_to_be_named(tmp_path: Path) -> None:
    for name in "ab":
        (tmp_path / name).mkdir()
        save({"w": torch.ones(1)}, tmp_path / name / "pytorch_model.bin")
    with pytest.raises(NoCheckpointError, match="2 checkpoints"):
        convert(tmp_path, to="safetensors")


def test_two_files_that_would_become_one(tmp_path: Path) -> None:
    save({"w": torch.ones(1)}, tmp_path / "x.pt")
    save({"w": torch.zeros(1)}, tmp_path / "x.pth")
    with pytest.raises(ConversionError, match="both be written to"):
        convert(tmp_path, to="safetensors", overwrite=True)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["x.pt", "x.pth"]


def test_a_folder_cannot_become_a_file(weaver: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(ConversionError, match="name a folder"):
        convert(weaver, tmp_path / "file", to="safetensors")


@pytest.mark.parametrize("name", ["model", "adapter_model"])
def test_of_two_sets_of_weights_the_one_that_a_loader_reads_is_converted(name: str, tmp_path: Path) -> None:
    fixture = FIXTURES / "healthy" / ("transformers/single_safetensors" if name == "model" else "peft/lora")
    source = Path(shutil.copytree(fixture, tmp_path / "two"))
    stale = source / ("pytorch_model.bin" if name == "model" else "adapter_model.bin")
    read = load_file(source / f"{name}.safetensors")
    torch.save({key: value + 1 for key, value in read.items()}, stale)
    result = convert(source, tmp_path / "copy", to="bin")
    assert [Path(file.target).name for file in result.files] == [stale.name]
    written = torch.load(tmp_path / "copy" / stale.name, weights_only=True)
    assert written.keys() == read.keys()
    assert all(torch.equal(written[key], read[key]) for key in read)
