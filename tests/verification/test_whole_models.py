"""Whole models: everything that transformers saves is complete, in each mode; what is lost is named."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file
from tiny_models import REASONER_HIDDEN, WEAVER_HIDDEN, qwen2

from support.places import LOADERS
from support.zoo import adapters, layouts, models
from support.zoo.common import quiet

# isort: split
from peft_variants import BASES, Variant

import ckpt_doctor
from ckpt_doctor.core.coverage import Coverage
from ckpt_doctor.core.errors import IncompleteLoadError, VerificationError
from ckpt_doctor.verification import verify
from support.command_line import run
from support.peft_saves import SAVED, names, save

HEALTHY = Path(__file__).parents[2] / "fixtures" / "healthy"
MODES = ("load", "keys", "forward")


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(models.ANIMALS))
def test_what_transformers_saves_is_complete(name: str, tmp_path: Path) -> None:
    path = models.ANIMALS[name](tmp_path)
    for mode in ("load", "keys"):
        coverage = verify(path, mode=mode)
        assert coverage.complete, [mode, *coverage.table(), *coverage.findings, *coverage.log]
        assert not coverage.findings


def test_fused_parameters_are_slices(tmp_path: Path) -> None:
    path = models.ANIMALS["mixtral"](tmp_path)
    parameters = {item.name: item.parameter for item in verify(path).tensors}
    experts = "model.layers.0.block_sparse_moe.experts.3"
    assert parameters[f"{experts}.w1.weight"] == "model.layers.0.mlp.experts.gate_up_proj[...]"


@pytest.mark.slow
def test_a_slice_that_another_value_is_in(tmp_path: Path) -> None:
    path = models.ANIMALS["mixtral"](tmp_path)
    loaded = {}

    def spoiled(model: torch.nn.Module, path: str) -> torch.nn.Module:
        model = type(model).from_pretrained(path)
        with torch.no_grad():
            model.model.layers[0].mlp.experts.gate_up_proj[3, 0, 0] += 1
        loaded["model"] = model
        return model

    coverage = verify(path, loader=spoiled)
    assert [item.name for item in coverage.not_restored()] == ["model.layers.0.block_sparse_moe.experts.3.w1.weight"]


WQKV = "nomic_bert.encoder.layers.1.attn.Wqkv.weight"


@pytest.mark.slow
@pytest.mark.parametrize("word", ["q", "k", "v"])
def test_three_parameters_that_are_saved_as_one_tensor(word: str, tmp_path: Path) -> None:
    path = models.ANIMALS["nomic-bert"](tmp_path)
    name = f"nomic_bert.layers.1.self_attn.{word}_proj.weight"

    def spoiled(model: torch.nn.Module, path: str) -> torch.nn.Module:
        model = type(model).from_pretrained(path)
        with torch.no_grad():
            model.get_parameter(name)[3, 5] += 0.01
        return model

    coverage = verify(path, loader=spoiled)
    assert [item.name for item in coverage.not_restored()] == [WQKV]
    assert name in str(coverage.not_restored()[0].parameter)


@pytest.mark.slow
def test_one_of_three_parameters_that_was_not_written_to(tmp_path: Path) -> None:
    path = models.ANIMALS["nomic-bert"](tmp_path)
    model = transformers.NomicBertForMaskedLM.from_pretrained(path)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    skipped = "nomic_bert.layers.1.self_attn.k_proj.weight"
    with ckpt_doctor.watch_load(model, path) as coverage:
        model.load_state_dict({name: value for name, value in before.items() if name != skipped}, strict=False)
    assert [item.name for item in coverage.not_restored()] == [WQKV]
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


@pytest.mark.slow
def test_a_tensor_for_three_parameters_that_is_absent(tmp_path: Path) -> None:
    path = models.ANIMALS["nomic-bert"](tmp_path)
    tensors = load_file(path / "model.safetensors")
    del tensors[WQKV]
    save_file(tensors, path / "model.safetensors", metadata={"format": "pt"})
    absent = tuple(f"nomic_bert.layers.1.self_attn.{word}_proj.weight" for word in "kqv")
    for mode in ("keys", "load"):
        assert [item.tensors for item in verify(path, mode=mode).findings if item.code == "CKD003"] == [absent]


@pytest.mark.slow
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64])
def test_three_parameters_in_another_dtype(dtype: torch.dtype, tmp_path: Path) -> None:
    path = models.ANIMALS["nomic-bert"](tmp_path)
    model = transformers.NomicBertForMaskedLM.from_pretrained(path, dtype=dtype)
    coverage = ckpt_doctor.load_coverage(model, path)
    assert coverage.complete
    assert {item.code for item in coverage.findings} == ({"CKD008"} if dtype is torch.bfloat16 else set())


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["mixtral", "deepseek-v3"])
def test_an_expert_that_is_absent_is_named(kind: str, tmp_path: Path) -> None:
    path = models.ANIMALS[kind](tmp_path)
    tensors = load_file(path / "model.safetensors")
    lost = sorted(name for name in tensors if ".experts.1." in name)[0]
    del tensors[lost]
    save_file(tensors, path / "model.safetensors", metadata={"format": "pt"})
    for mode in ("keys", "load"):
        coverage = verify(path, mode=mode)
        assert not coverage.complete
        assert [item.tensors for item in coverage.findings if item.code == "CKD003"] == [(lost,)]


@pytest.mark.slow
def test_statistics_that_are_absent_are_named(tmp_path: Path) -> None:
    path = models.ANIMALS["resnet"](tmp_path)
    tensors = load_file(path / "model.safetensors")
    kept = {name: value for name, value in tensors.items() if "running_" not in name}
    assert len(kept) < len(tensors)
    save_file(kept, path / "model.safetensors", metadata={"format": "pt"})
    for mode in ("keys", "load"):
        coverage = verify(path, mode=mode)
        assert [item.code for item in coverage.findings] == ["CKD003"]
        assert set(coverage.findings[0].tensors) == tensors.keys() - kept.keys()
    # How many batches there were is a count, which few models ever look at.
    kept = {name: value for name, value in tensors.items() if "num_batches_tracked" not in name}
    save_file(kept, path / "model.safetensors", metadata={"format": "pt"})
    assert all(verify(path, mode=mode).complete for mode in MODES)


OLD_TABLES = {
    "bert-masked-lm": {"bert.embeddings.position_ids": torch.arange(64)[None]},
    "bert-base-only": {"embeddings.position_ids": torch.arange(64)[None]},
    "clip": {"text_model.embeddings.position_ids": torch.arange(64)[None]},
    "llama": {"model.layers.1.self_attn.rotary_emb.inv_freq": torch.ones(4)},
    "gpt2": {"transformer.h.0.attn.bias": torch.ones(1, 1, 64, 64)},
    "gpt2-base-only": {"h.1.attn.bias": torch.ones(1, 1, 64, 64)},
}


@pytest.mark.slow
@pytest.mark.parametrize("kind", OLD_TABLES)
def test_tables_that_models_once_saved_are_not_missed(kind: str, tmp_path: Path) -> None:
    path = models.ANIMALS[kind](tmp_path)
    tensors = load_file(path / "model.safetensors")
    save_file({**tensors, **OLD_TABLES[kind]}, path / "model.safetensors", metadata={"format": "pt"})
    for mode in ("keys", "load"):
        coverage = verify(path, mode=mode)
        assert coverage.complete, [*coverage.table(), *coverage.findings]
        assert [item.name for item in coverage.tensors if item.detail == "the model computes it by itself"] == [
            *OLD_TABLES[kind]
        ]
    # A weight that this model has no place for is still one that is lost.
    save_file(
        {**tensors, "model.layers.9.weight": torch.ones(4)}, path / "model.safetensors", metadata={"format": "pt"}
    )
    assert not verify(path, mode="keys").complete


def sharded(tmp_path: Path) -> Path:
    return shutil.copytree(HEALTHY / "transformers" / "sharded_safetensors", tmp_path / "model")


@pytest.mark.slow
def test_tensors_that_no_shard_holds_any_more(tmp_path: Path) -> None:
    path = sharded(tmp_path)
    shard = path / "model-00002-of-00003.safetensors"
    tensors = load_file(shard)
    lost = sorted(tensors)[0]
    del tensors[lost]
    save_file(tensors, shard, metadata={"format": "pt"})
    coverage = verify(path)
    assert not coverage.complete
    by_code = {finding.code: finding for finding in coverage.findings}
    assert lost in by_code["CKD003"].tensors
    assert "CKD702" in by_code
    index = path / "model.safetensors.index.json"
    data = json.loads(index.read_text())
    del data["weight_map"][lost]
    index.write_text(json.dumps(data))
    assert [finding.code for finding in verify(path).findings] == ["CKD003"]
    keys = verify(path, mode="keys")
    assert not keys.complete
    assert keys.findings[0].tensors == by_code["CKD003"].tensors


def test_a_shard_that_is_absent(tmp_path: Path) -> None:
    path = sharded(tmp_path)
    (path / "model-00003-of-00003.safetensors").unlink()
    codes = [finding.code for finding in verify(path).findings]
    assert "CKD002" in codes
    assert "CKD701" in codes


def test_another_shape_is_named(tmp_path: Path) -> None:
    path = shutil.copytree(HEALTHY / "transformers" / "single_safetensors", tmp_path / "model")
    tensors = load_file(path / "model.safetensors")
    name = "model.layers.0.mlp.up_proj.weight"
    tensors[name] = tensors[name][:-1].clone()
    save_file(tensors, path / "model.safetensors", metadata={"format": "pt"})
    for mode in ("load", "keys"):
        coverage = verify(path, mode=mode)
        assert not coverage.complete
        shapes = next(finding for finding in coverage.findings if finding.code == "CKD004")
        assert shapes.tensors == (name,)
        assert {item.name: item.status for item in coverage.tensors}[name] == "mismatched"


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["gptq", "bitsandbytes", "fp8"])
def test_quantised_models_are_compared_by_names_and_shapes(kind: str, tmp_path: Path) -> None:
    path = layouts.ANIMALS[f"quantised-{kind}"](tmp_path)
    coverage = verify(path, mode="keys")
    assert coverage.complete and not coverage.findings
    assert f"is quantised ({kind})" in "".join(coverage.log)
    if kind == "fp8":  # without a GPU transformers multiplies codes and scales
        assert verify(path, mode="load").complete
    else:
        with pytest.raises(VerificationError, match=rf"is quantised \({kind}\).*--mode keys"):
            verify(path, mode="load")


def _base(size: int | None) -> torch.nn.Module:
    model = BASES["qwen2"]()
    if size is not None:
        model.resize_token_embeddings(size, mean_resizing=False)
    return model


@pytest.mark.slow
@pytest.mark.parametrize("name", ["adalora-pruned", "resized-embeddings", "named", "local-base", "local-base-t5"])
def test_adapters_in_special_circumstances(name: str, tmp_path: Path) -> None:
    path = adapters.ANIMALS[name](tmp_path)
    base = None
    if not name.startswith("local"):
        base = str(tmp_path / "base")
        size = 80 if name == "resized-embeddings" else None
        quiet(lambda where: _base(size).save_pretrained(where))(Path(base))
    for mode in ("load", "keys"):
        coverage = verify(path / "mine" if name == "named" else path, base, mode=mode)
        assert coverage.complete, [mode, *coverage.table(), *coverage.findings, *coverage.log]


FORWARD = (
    *("lora-default", "lora-gpt2", "lora-t5", "lora-seq-cls-bert", "prefix-tuning", "prompt-tuning", "ia3"),
    *("lora-alora", "multitask-prompt-tuning", "poly", "trainable-tokens"),
)


@pytest.mark.slow
@pytest.mark.parametrize("variant", [item for item in SAVED if item.name in FORWARD], ids=names)
def test_one_pass_shows_the_effect_of_an_adapter(variant: Variant, tmp_path: Path) -> None:
    adapter, model, _ = save(variant, tmp_path)
    coverage = verify(adapter, model, loader="auto", mode="forward")
    assert coverage.complete
    assert not coverage.findings
    assert not [line for line in coverage.log if line.startswith("forward:")]


@pytest.fixture(scope="module")
def bases(tmp_path_factory: pytest.TempPathFactory) -> dict[int, str]:
    """The base models that the fixtures were made with, by hidden size."""

    def save(directory: Path) -> Path:
        for hidden in (WEAVER_HIDDEN, REASONER_HIDDEN):
            qwen2(hidden).save_pretrained(directory / str(hidden))
        return directory

    folder = quiet(save)(tmp_path_factory.mktemp("bases"))
    return {hidden: str(folder / str(hidden)) for hidden in (WEAVER_HIDDEN, REASONER_HIDDEN)}


def memgen(name: str, bases: dict[int, str], mode: str) -> Coverage:
    one_size = name in ("memgen_whole_bin", "weaver_and_trigger_nested", "trigger_run")
    path = HEALTHY / name / ("trigger" if name == "trigger_run" else "")
    if one_size:
        return verify(path, bases[WEAVER_HIDDEN], mode=mode)
    return verify(path, bases[REASONER_HIDDEN], weaver_model=bases[WEAVER_HIDDEN], mode=mode)


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted({path.name for path in HEALTHY.iterdir()} - {"peft", "transformers"}))
def test_every_layout_of_memgen(name: str, bases: dict[int, str]) -> None:
    for mode in MODES:
        coverage = memgen(name, bases, mode)
        assert coverage.complete, [mode, *coverage.table(), *coverage.findings, *coverage.log]
        assert not coverage.findings


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["load", "keys"])
def test_the_wrong_base(bases: dict[int, str], mode: str) -> None:
    coverage = verify(
        HEALTHY / "weaver_bin" / "weaver", bases[REASONER_HIDDEN], weaver_model=bases[REASONER_HIDDEN], mode=mode
    )
    assert not coverage.complete
    shapes = [finding for finding in coverage.findings if finding.code == "CKD004"]
    assert any("lora_A" in name for finding in shapes for name in finding.tensors)


@pytest.mark.slow
def test_a_yaml_with_other_latents(bases: dict[int, str], tmp_path: Path) -> None:
    config = tmp_path / "memgen.yaml"
    config.write_text(
        f"model:\n  model_name: {bases[REASONER_HIDDEN]}\n  weaver:\n    model_name: {bases[WEAVER_HIDDEN]}\n"
        "    prompt_latents_len: 4\n"
    )
    weaver = HEALTHY / "weaver_bin" / "weaver"
    for mode in ("load", "keys"):
        coverage = verify(weaver, str(config), mode=mode)
        assert [(f.code, f.tensors) for f in coverage.findings] == [("CKD004", ("prompt_query_latents",))]
        assert (coverage.expected, coverage.restored) == (14, 13)
    config.write_text(config.read_text().replace("latents_len: 4", "latents_len: 8"))
    assert verify(weaver, str(config)).complete


@pytest.mark.slow
def test_projections_that_are_absent(bases: dict[int, str], tmp_path: Path) -> None:
    weaver = shutil.copytree(HEALTHY / "weaver_bin" / "weaver", tmp_path / "weaver")
    (weaver / "projections.pt").unlink()
    coverage = verify(weaver, bases[REASONER_HIDDEN], weaver_model=bases[WEAVER_HIDDEN])
    assert not coverage.complete
    assert {"CKD003", "CKD202"} <= {finding.code for finding in coverage.findings}


@pytest.mark.slow
def test_an_adapter_without_effect_and_one_without_numbers(bases: dict[int, str], tmp_path: Path) -> None:
    def edited(change: float) -> Coverage:
        weaver = shutil.copytree(HEALTHY / "weaver_safetensors" / "weaver", tmp_path / str(change))
        file = weaver / "weaver_lora" / "adapter_model.safetensors"
        tensors = load_file(file)
        for name in tensors:
            if "lora_B" in name:
                tensors[name] = tensors[name] * change
        save_file(tensors, file, metadata={"format": "pt"})
        return verify(weaver, bases[REASONER_HIDDEN], weaver_model=bases[WEAVER_HIDDEN], mode="forward")

    without = edited(0.0)
    assert without.complete
    assert [finding.code for finding in without.findings] == ["CKD006"]
    nan = edited(float("nan"))
    assert not nan.complete
    assert [finding.code for finding in nan.findings] == ["CKD007", "CKD601"]


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["bart", "clip", "llava", "mixtral", "resnet", "t5", "vit", "wav2vec2", "whisper"])
def test_one_pass_of_every_kind_of_input(kind: str, tmp_path: Path) -> None:
    coverage = verify(models.ANIMALS[kind](tmp_path), mode="forward")
    assert coverage.complete, [coverage.unjudged, *coverage.findings]
    assert not coverage.findings


@pytest.mark.slow
def test_a_forward_pass_that_nobody_can_make_is_no_verdict(tmp_path: Path) -> None:
    adapter, model, _ = save(next(item for item in SAVED if item.name == "lora-convolution"), tmp_path)
    coverage = verify(adapter, model, loader="auto", mode="forward")
    assert (coverage.restored, coverage.complete) == (coverage.expected, False)
    assert coverage.unjudged == "random input cannot be made for the kinds of input that the config names"
    assert coverage.to_dict()["unjudged"] == coverage.unjudged
    with pytest.raises(IncompleteLoadError, match="could not be judged"):
        coverage.raise_if_incomplete()
    arguments = (
        "verify",
        adapter,
        "--model",
        f"{LOADERS / 'convolution.py'}:build",
        "--loader",
        "auto",
    )
    result = run(*arguments, "--mode", "forward", "--output-format", "json")
    assert (result.exit_code, json.loads(result.stdout)["complete"]) == (2, False)
    assert "--mode load judges the load alone" in result.stderr
    assert run(*arguments).exit_code == 0


@pytest.mark.slow
@pytest.mark.parametrize("how", ["dropped", "untied"])
def test_a_head_that_nobody_loaded(how: str, tmp_path: Path) -> None:
    model = qwen2(tied=how == "untied")
    quiet(lambda where: model.save_pretrained(where))(tmp_path / "model")
    file = tmp_path / "model" / "model.safetensors"
    state = load_file(file)
    if how == "dropped":
        del state["lm_head.weight"]
        save_file(state, file, {"format": "pt"})

    def load(model: torch.nn.Module, path: str) -> None:
        model.load_state_dict(load_file(Path(path) / "model.safetensors"), strict=False)
        if how == "untied":
            model.lm_head.weight = torch.nn.Parameter(torch.randn_like(model.lm_head.weight))

    coverage = verify(tmp_path / "model", lambda: qwen2(tied=how == "untied", seed=1), loader=load)
    assert not coverage.complete
    assert {item.code: item.tensors for item in coverage.findings} == {"CKD003": ("lm_head.weight",)}
