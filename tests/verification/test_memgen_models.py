"""Every layout of a MemGen checkpoint: a model is built for it, and each tensor ends in the right parameter."""

from __future__ import annotations

import json
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import ckpt_doctor
from ckpt_doctor.core.checkpoint import Checkpoint

torch = pytest.importorskip("torch")
peft = pytest.importorskip("peft")
transformers = pytest.importorskip("transformers")
safetensors_torch = pytest.importorskip("safetensors.torch")

import memgen as fixture  # noqa: E402
from tiny_models import REASONER_HIDDEN, WEAVER_HIDDEN, adapted, lora_config, qwen2  # noqa: E402

from ckpt_doctor.verification.memgen import building as memgen  # noqa: E402

HEALTHY = Path(__file__).resolve().parents[2] / "fixtures/healthy"
SEPARATE = [
    "weaver_safetensors/weaver",
    "weaver_bin/weaver",
    "weaver_nested/weaver",
    "weaver_short/weaver",
    "weaver_bf16_cuda/weaver",
    "run",
    "trigger_run/weaver",
    "memgen_upstream",
]
SHARED = ["weaver_and_trigger_nested/weaver", "memgen_whole_bin", "trigger_run/trigger"]


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    # Threads that wait for each other cost more than such small tensors.
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
    torch.set_num_threads(threads)


def config(hidden: int = WEAVER_HIDDEN, **changes: Any) -> Any:
    found = qwen2(hidden).config
    for key, value in changes.items():
        setattr(found, key, value)
    return found


def built(path: Path | str, **options: Any) -> tuple[Any, Checkpoint]:
    checkpoint = ckpt_doctor.open_checkpoint(HEALTHY / path)
    if str(path) in SEPARATE:
        options.setdefault("weaver_config", config())
        return memgen.build_model(checkpoint, config(REASONER_HIDDEN), **options), checkpoint
    return memgen.build_model(checkpoint, config(), **options), checkpoint


def saved(checkpoint: Checkpoint) -> Iterator[tuple[str, str, Any]]:
    """File, name and value of every tensor, read without any help of the package."""
    for file in checkpoint.files:
        path = checkpoint.root / file.path
        if path.suffix == ".safetensors":
            state = safetensors_torch.load_file(path)
        else:
            state = torch.load(path, map_location="cpu", weights_only=True)
        yield from ((file.path, name, value) for name, value in flat(state, ""))


def flat(value: Any, path: str) -> Iterator[tuple[str, Any]]:
    if isinstance(value, torch.Tensor):
        yield path, value
    else:
        for key, item in value.items():
            yield from flat(item, f"{path}.{key}" if path else key)


def in_the_model(model: Any, file: str, name: str) -> Any:
    """The parameter that MemGen's own modules hold the tensor in."""
    if "adapter_model" in file:
        owner = "trigger" if "trigger" in file else "weaver"
        parameter, rest = name.rsplit(".", 1)
        return model.get_parameter(f"{owner}.model.{parameter}.{owner}.{rest}")
    if file == "pytorch_model.bin" or file == "model.safetensors":
        return model.get_parameter(name)
    if name.startswith("output_layer"):
        return model.trigger.get_parameter(name)
    return model.get_parameter(name if name.partition(".")[0].endswith(("weaver", "reasoner")) else f"weaver.{name}")


def assert_loaded(model: Any, checkpoint: Checkpoint) -> None:
    compared = 0
    for file, name, value in saved(checkpoint):
        parameter = in_the_model(model, file, name)
        assert torch.equal(parameter, value.to(parameter.dtype)), f"{name} of {file}"
        compared += 1
    assert compared == len(checkpoint.tensors) > 0


@pytest.mark.slow
@pytest.mark.parametrize("path", SEPARATE + SHARED)
def test_every_tensor_arrives(path: str) -> None:
    model, checkpoint = built(path)
    log = memgen.load(model, checkpoint)
    assert_loaded(model, checkpoint)
    assert log.restored == len(checkpoint.tensors)
    assert set(log.files) == {file.path for file in checkpoint.files}
    assert all(parameter.isfinite().all() for parameter in model.parameters())


@pytest.mark.slow
@pytest.mark.parametrize("path", SEPARATE + SHARED)
def test_without_memory_only_the_checkpoint_takes_some(path: str) -> None:
    model, checkpoint = built(path, device="meta")
    assert all(parameter.is_meta for parameter in model.parameters())
    wanted = memgen.targets(model, checkpoint)
    memgen.load(model, checkpoint)
    assert_loaded(model, checkpoint)
    assert None not in wanted.values()
    loaded = {name for name, parameter in model.named_parameters() if not parameter.is_meta}
    assert loaded == set(wanted.values()) >= set(memgen.required(model, checkpoint))


@pytest.mark.parametrize("path", SEPARATE + SHARED)
def test_targets_are_where_the_values_go(path: str) -> None:
    model, checkpoint = built(path)
    wanted = memgen.targets(model, checkpoint)
    assert wanted.keys() == checkpoint.tensors.keys() == memgen.components(checkpoint).keys()
    for (file, name), target in wanted.items():
        assert target is not None
        assert model.get_parameter(target) is in_the_model(model, file, name)


@pytest.mark.slow
@pytest.mark.parametrize("path", SEPARATE + SHARED)
def test_the_adapter_changes_the_logits(path: str) -> None:
    model, checkpoint = built(path)
    tokens = torch.randint(0, 64, (2, 9), generator=torch.Generator().manual_seed(0))
    untrained = model(tokens)
    assert torch.equal(untrained, model(tokens, adapter=False)), "lora_B starts at zero"
    memgen.load(model, checkpoint)
    logits, without = model(tokens), model(tokens, adapter=False)
    assert logits.shape == ((2, 9, 2) if checkpoint.layout == "trigger" else (2, 9 + 8 + 8, 64))
    assert logits.isfinite().all()
    assert not torch.equal(logits, without)
    assert torch.equal(logits, model(tokens)), "the adapter is on again"


@pytest.mark.slow
@pytest.mark.parametrize("path", ["weaver_bin/weaver", "memgen_upstream", "memgen_whole_bin"])
def test_everything_that_is_woven_matters(path: str) -> None:
    model, checkpoint = built(path)
    memgen.load(model, checkpoint)
    tokens = torch.randint(0, 64, (1, 8), generator=torch.Generator().manual_seed(0))
    logits = model.weave(tokens)
    woven = [
        name
        for name, _ in model.named_parameters()
        if name.startswith(("reasoner_to", "weaver_to")) or (name.startswith("weaver.") and "weaver.model" not in name)
    ]
    assert len(woven) == (6 if path.startswith("weaver") else 12)
    for name in woven:
        parameter = model.get_parameter(name)
        before = parameter.detach().clone()
        with torch.no_grad():
            parameter.add_(torch.randn_like(parameter))
            assert not torch.equal(logits, model.weave(tokens)), name
            parameter.copy_(before)
    assert torch.equal(logits, model.weave(tokens))


def test_the_reasoner_is_frozen_also_where_it_is_the_weaver() -> None:
    """With no way back from the weaver, its adapter has nothing to say, though it sits in the reasoner's layers."""
    model, checkpoint = built("memgen_whole_bin")
    memgen.load(model, checkpoint)
    with torch.no_grad():
        model.weaver_to_reasoner.weight.zero_()
    tokens = torch.arange(8)[None]
    assert torch.equal(model.weave(tokens), model.weave(tokens, adapter=False))


def test_a_trigger_judges_beside_a_weaver() -> None:
    model, checkpoint = built("memgen_upstream")
    memgen.load(model, checkpoint)
    tokens = torch.arange(8)[None]
    weave = model.weave(tokens)
    assert model.judge(tokens).shape == (1, 8, 2)
    assert not torch.equal(model.judge(tokens), model.judge(tokens, adapter=False))
    assert torch.equal(weave, model.weave(tokens)), "the weaver's adapter is active again"


@pytest.mark.parametrize("path", ["weaver_bin/weaver", "weaver_bf16_cuda/weaver", "memgen_whole_bin"])
def test_in_bfloat16(path: str) -> None:
    model, checkpoint = built(path, dtype=torch.bfloat16)
    memgen.load(model, checkpoint)
    assert {parameter.dtype for parameter in model.parameters()} == {torch.bfloat16}
    assert_loaded(model, checkpoint)
    assert model(torch.arange(8)[None]).isfinite().all()


def test_the_dtype_is_that_of_the_base_by_default() -> None:
    base = config(dtype=torch.float16)
    checkpoint = ckpt_doctor.open_checkpoint(HEALTHY / "weaver_and_trigger_nested/weaver")
    model = memgen.build_model(checkpoint, base, device="meta")
    assert {parameter.dtype for parameter in model.parameters()} == {torch.float16}


def llama(hidden: int, layers: int = 2) -> Any:
    return transformers.LlamaConfig(
        vocab_size=64,
        hidden_size=hidden,
        intermediate_size=2 * hidden,
        num_hidden_layers=layers,
        num_attention_heads=4,
        num_key_value_heads=2,
        tie_word_embeddings=True,
    )


def gpt2(hidden: int) -> Any:
    return transformers.GPT2Config(vocab_size=64, n_embd=hidden, n_layer=2, n_head=4, n_positions=64)


@pytest.mark.parametrize("base", [llama, gpt2], ids=["llama", "gpt2"])
def test_other_bases_and_kinds_of_lora(base: Any, tmp_path: Path) -> None:
    targets = ["c_attn", "wte"] if base is gpt2 else ["q_proj", "down_proj"]
    lora = lora_config(target_modules=targets, use_dora=base is llama, rank_pattern={targets[0]: 6})
    model = fixture.MemGenModel(
        transformers.AutoModelForCausalLM.from_config(base(48)),
        adapted(transformers.AutoModelForCausalLM.from_config(base(32)), "weaver", config=lora),
        torch.nn.Identity(),
        48,
    )
    root = tmp_path / "weaver"
    fixture.save_adapter(model.weaver.model, root / "weaver_lora", "weaver", safe=True, nested=False)
    torch.save(fixture.projections(model), root / "projections.pt")
    checkpoint = ckpt_doctor.open_checkpoint(root)
    fresh = memgen.build_model(checkpoint, base(48), base(32))
    log = memgen.load(fresh, checkpoint)
    assert log.restored == len(checkpoint.tensors) == len(memgen.required(fresh, checkpoint)) >= 12
    state = fresh.weaver.model.state_dict()
    assert all(
        torch.equal(value, state[name]) for name, value in model.weaver.model.state_dict().items() if "lora" in name
    )
    assert not torch.equal(fresh(torch.arange(8)[None]), fresh(torch.arange(8)[None], adapter=False))


def test_a_model_that_is_there_already_is_adapted_in_place() -> None:
    checkpoint = ckpt_doctor.open_checkpoint(HEALTHY / "weaver_bin/weaver")
    reasoner, weaver = qwen2(REASONER_HIDDEN), qwen2()
    before = reasoner.lm_head.weight.clone()
    model = memgen.build_model(checkpoint, reasoner, weaver)
    memgen.load(model, checkpoint)
    assert_loaded(model, checkpoint)
    assert model.reasoner is reasoner
    assert model.weaver.model.get_base_model() is weaver
    assert torch.equal(before, reasoner.lm_head.weight)


@pytest.mark.slow
@pytest.mark.parametrize("make", [fixture.separate_models, fixture.one_base_model])
@pytest.mark.parametrize("file", ["pytorch_model.bin", "model.safetensors"])
def test_whole_models(make: Any, file: str, tmp_path: Path) -> None:
    """Also where safetensors kept one name of each shared tensor and dropped the others."""
    whole = make()
    if file.endswith("safetensors"):
        safetensors_torch.save_model(whole, tmp_path / file, metadata={"format": "pt"})
    else:
        torch.save(whole.state_dict(), tmp_path / file)
    lora = {"r": 4, "lora_alpha": 8, "target_modules": ["q_proj", "v_proj"]}
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "memgen", "weaver_lora_config": lora}))
    checkpoint = ckpt_doctor.open_checkpoint(tmp_path)
    assert checkpoint.variant == "MemGen whole model"
    if make is fixture.separate_models:
        fresh = memgen.build_model(checkpoint, config(REASONER_HIDDEN), config())
    else:
        fresh = memgen.build_model(checkpoint, config())
    log = memgen.load(fresh, checkpoint)
    state = fresh.state_dict()
    original = whole.state_dict()
    assert state.keys() == original.keys()
    assert all(torch.equal(state[name], value) for name, value in original.items())
    tied = len({id(parameter) for parameter in whole.parameters()})
    assert len(list(fresh.parameters())) == tied, "the same modules are shared"
    assert len(log.warnings) == 2
    assert "lora_alpha was assumed" not in log.warnings[0]
    assert "lora_alpha was assumed" in log.warnings[1]
    tokens = torch.arange(8)[None]
    assert torch.equal(
        fresh.weaver.model(input_ids=tokens).logits, whole.eval().weaver.model(input_ids=tokens).logits
    ), "with the recorded lora_alpha it computes the same"


def test_a_whole_model_of_an_older_version(tmp_path: Path) -> None:
    """Without norms, scales and classifier the model has none either."""
    state = {
        name: value
        for name, value in fixture.one_base_model().state_dict().items()
        if not any(word in name for word in ("_latent_ln", "_latent_scale", "output_layer"))
    }
    torch.save(state, tmp_path / "pytorch_model.bin")
    checkpoint = ckpt_doctor.open_checkpoint(tmp_path)
    model = memgen.build_model(checkpoint, config())
    assert memgen.load(model, checkpoint).restored == len(state)
    assert model.state_dict().keys() == state.keys()
    assert model.judge(torch.arange(8)[None]).shape == (1, 8, WEAVER_HIDDEN)


def test_components() -> None:
    checkpoint = ckpt_doctor.open_checkpoint(HEALTHY / "memgen_upstream")
    named = list(memgen.components(checkpoint).values())
    assert {name: named.count(name) for name in dict.fromkeys(named)} == {
        "projections": 4,
        "query latents": 2,
        "latent norms": 6,
        "trigger head": 2,
        "weaver adapter": 8,
        "trigger adapter": 8,
    }
    checkpoint = ckpt_doctor.open_checkpoint(HEALTHY / "memgen_whole_bin")
    named = list(memgen.components(checkpoint).values())
    counts = {name: named.count(name) for name in dict.fromkeys(named)}
    # Each adapter stands there three times: in the reasoner, the weaver and the trigger, which are one model.
    assert counts["weaver adapter"] == counts["trigger adapter"] == 24
    assert counts["reasoner"] == counts["weaver base"] == counts["trigger base"] == 27
    assert "other" not in counts
