"""What does not fit, or is not there, is said in our own words; what fits is loaded all the same."""

from __future__ import annotations

import json
import shutil
import sys
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import ckpt_doctor
from ckpt_doctor.core.errors import IncompleteLoadError, VerificationError
from support.hostile import Foreign, foreign_package

torch = pytest.importorskip("torch")
pytest.importorskip("peft")
transformers = pytest.importorskip("transformers")

from tiny_models import REASONER_HIDDEN, WEAVER_HIDDEN, qwen2  # noqa: E402

from ckpt_doctor.verification.memgen import building as memgen  # noqa: E402
from ckpt_doctor.verification.memgen.building import MemGenSettings  # noqa: E402

HEALTHY = Path(__file__).resolve().parents[2] / "fixtures/healthy"


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
    if "num_hidden_layers" in changes:
        found.layer_types = ["full_attention"] * changes["num_hidden_layers"]
    return found


REASONER, WEAVER = config(REASONER_HIDDEN), config()


@pytest.fixture
def weaver(tmp_path: Path) -> Path:
    return Path(shutil.copytree(HEALTHY / "weaver_bin/weaver", tmp_path / "weaver"))


@pytest.fixture
def upstream(tmp_path: Path) -> Path:
    return Path(shutil.copytree(HEALTHY / "memgen_upstream", tmp_path / "memgen"))


def load(path: Path, *bases: Any, **options: Any) -> tuple[Any, Any]:
    checkpoint = ckpt_doctor.open_checkpoint(path)
    model = memgen.build_model(checkpoint, *(bases or (REASONER, WEAVER)), dtype=torch.float32, **options)
    return model, memgen.load(model, checkpoint)


def edit_json(path: Path, **changes: Any) -> None:
    data = json.loads(path.read_text())
    path.write_text(json.dumps({**data, **changes}))


def edit_bin(path: Path, change: Callable[[dict[str, Any]], object]) -> None:
    state = torch.load(path, weights_only=True)
    change(state)
    torch.save(state, path)


def test_latents_of_another_length(weaver: Path) -> None:
    with pytest.raises(IncompleteLoadError, match=r"prompt_latents_len is configured as 4, but was 8 in training"):
        load(weaver, settings=MemGenSettings(prompt_latents_len=4))


def test_latents_of_another_length_than_config_json_says(upstream: Path) -> None:
    edit_json(upstream / "config.json", inference_latents_len=16)
    with pytest.raises(IncompleteLoadError, match=r"inference_latents_len is configured as 16, but was 8"):
        load(upstream)


@pytest.mark.parametrize("length", [-1, 10**15])
def test_lengths_that_no_model_can_have(upstream: Path, length: int) -> None:
    edit_json(upstream / "config.json", prompt_latents_len=length)
    with pytest.raises(VerificationError, match="latents"):
        load(upstream)


def test_what_fits_is_loaded_where_something_else_does_not(weaver: Path) -> None:
    checkpoint = ckpt_doctor.open_checkpoint(weaver)
    model = memgen.build_model(checkpoint, REASONER, WEAVER, settings=MemGenSettings(prompt_latents_len=4))
    with pytest.raises(IncompleteLoadError):
        memgen.load(model, checkpoint)
    saved = torch.load(weaver / "projections.pt", weights_only=True)
    assert torch.equal(model.reasoner_to_weaver.weight, saved["reasoner_to_weaver"]["weight"])
    assert torch.equal(model.weaver.inference_query_latents, saved["inference_query_latents"])


@pytest.mark.parametrize("bases", [(config(64), WEAVER), (REASONER, config(64))], ids=["reasoner", "weaver"])
def test_another_hidden_size(weaver: Path, bases: Any) -> None:
    with pytest.raises(IncompleteLoadError, match=r"the hidden size is another, and so is the base model"):
        load(weaver, *bases)


def test_the_weaver_needs_its_own_model(weaver: Path) -> None:
    with pytest.raises(VerificationError, match=r"hidden size 32 and the reasoner's model 48.*--weaver-model"):
        load(weaver, REASONER)


def test_a_base_with_fewer_layers(weaver: Path) -> None:
    with pytest.raises(IncompleteLoadError, match=r"layers\.1.*has no parameter in the model: the base is another"):
        load(weaver, REASONER, config(num_hidden_layers=1))


def test_a_base_with_more_layers(weaver: Path) -> None:
    with pytest.raises(
        IncompleteLoadError, match=r"4 parameters of the model would stay as they were made, .*layers\.2"
    ):
        load(weaver, REASONER, config(num_hidden_layers=3))


def test_a_base_whose_layers_have_other_names(weaver: Path) -> None:
    gpt2 = transformers.GPT2Config(vocab_size=64, n_embd=32, n_layer=2, n_head=4)
    with pytest.raises(VerificationError, match=r"cannot carry the weaver adapter"):
        load(weaver, REASONER, gpt2)


def test_another_rank(weaver: Path) -> None:
    with pytest.raises(IncompleteLoadError, match=r"the rank is configured as 16, but was 4 in training"):
        load(weaver, settings=MemGenSettings(weaver_lora={"lora_alpha": 32}))


def test_the_same_settings_as_in_training(weaver: Path) -> None:
    lora = {"r": 4, "lora_alpha": 8, "target_modules": ["q_proj", "v_proj"], "from_the_future": 1}
    settings = MemGenSettings(prompt_latents_len=8, inference_latents_len=8, weaver_lora=lora)
    assert load(weaver, settings=settings)[1].restored == 14


def test_no_projections(weaver: Path) -> None:
    (weaver / "projections.pt").unlink()
    with pytest.raises(IncompleteLoadError, match=r"the projections cannot be loaded, because projections.pt is not"):
        load(weaver)


def test_no_adapter_weights(weaver: Path) -> None:
    (weaver / "weaver_lora/adapter_model.bin").unlink()
    with pytest.raises(IncompleteLoadError, match=r"adapter_model.safetensors is not there.*8 parameters"):
        load(weaver)


def test_no_adapter_at_all(weaver: Path) -> None:
    """The model is the one that MemGen's defaults make: an evaluation would run."""
    shutil.rmtree(weaver / "weaver_lora")
    with pytest.raises(IncompleteLoadError, match=r"weaver adapter cannot be loaded.*8 parameters"):
        load(weaver)


@pytest.mark.parametrize("text", [None, "{"])
def test_no_adapter_config(weaver: Path, text: str | None) -> None:
    path = weaver / "weaver_lora/adapter_config.json"
    path.unlink() if text is None else path.write_text(text)
    model, log = load(weaver)
    assert log.restored == 14
    assert any("taken from the tensors" in warning for warning in log.warnings)
    assert model.weaver.model.peft_config["weaver"].r == 4


@pytest.mark.parametrize("name", ["output_layer", "prompt_latent_scale", "inference_latent_ln"])
def test_an_entry_that_was_not_saved(upstream: Path, name: str) -> None:
    edit_bin(upstream / ("trigger.bin" if name == "output_layer" else "weaver.bin"), lambda state: state.pop(name))
    with pytest.raises(IncompleteLoadError, match=rf"would stay as they were made, \w+\.{name}"):
        load(upstream)


def test_the_classifier_is_not_the_duty_of_a_trigger_directory() -> None:
    model, log = load(HEALTHY / "trigger_run/trigger", WEAVER)
    assert log.restored == 8
    assert model.trigger.output_layer is not None


def test_an_entry_that_no_model_has(weaver: Path) -> None:
    edit_bin(weaver / "projections.pt", lambda state: state.update(prompt_gate=torch.ones(1)))
    with pytest.raises(IncompleteLoadError, match=r"prompt_gate in projections.pt has no parameter in the model"):
        load(weaver)


def test_a_tensor_under_the_live_name_of_its_adapter(weaver: Path) -> None:
    """PEFT loads such a key where the adapter bears the same name, and so it fits."""

    def rename(state: dict[str, Any]) -> None:
        for name in list(state):
            state[name.replace(".weight", ".weaver.weight")] = state.pop(name)

    edit_bin(weaver / "weaver_lora/adapter_model.bin", rename)
    assert load(weaver)[1].restored == 14


def test_a_file_that_asks_for_a_foreign_function(weaver: Path) -> None:
    state = torch.load(weaver / "projections.pt", weights_only=True)
    with foreign_package() as calls:
        torch.save({**state, "extra": Foreign()}, weaver / "projections.pt")
        checkpoint = ckpt_doctor.open_checkpoint(weaver)
        model = memgen.build_model(checkpoint, REASONER, WEAVER)
        before = {name: value.clone() for name, value in model.state_dict().items()}
        with pytest.raises(VerificationError, match=r"projections.pt is not safe to load"):
            memgen.load(model, checkpoint)
    assert calls == []
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_a_file_that_became_unsafe_after_it_was_read(weaver: Path) -> None:
    checkpoint = ckpt_doctor.open_checkpoint(weaver)
    with foreign_package() as calls:
        torch.save({"extra": Foreign()}, weaver / "projections.pt")
        with pytest.raises(VerificationError, match=r"projections.pt cannot be read"):
            memgen.load(memgen.build_model(checkpoint, REASONER, WEAVER), checkpoint)
    assert calls == []


@pytest.mark.parametrize("content", [b"", b"nothing", b"\x80\x02}q\x00."])
@pytest.mark.parametrize("file", ["projections.pt", "weaver_lora/adapter_model.safetensors"])
def test_a_file_that_was_overwritten_after_it_was_read(tmp_path: Path, file: str, content: bytes) -> None:
    weaver = Path(shutil.copytree(HEALTHY / "weaver_safetensors/weaver", tmp_path / "weaver"))
    checkpoint = ckpt_doctor.open_checkpoint(weaver)
    (weaver / file).write_bytes(content)
    with pytest.raises(VerificationError, match=rf"{file} cannot be read"):
        memgen.load(memgen.build_model(checkpoint, REASONER, WEAVER), checkpoint)


def test_a_file_that_is_cut_off(weaver: Path) -> None:
    path = weaver / "projections.pt"
    path.write_bytes(path.read_bytes()[:500])
    with pytest.raises(VerificationError, match=r"projections.pt cannot be read"):
        load(weaver)


def test_a_config_cannot_have_a_module_imported(weaver: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "planted_module.py").write_text("raise SystemExit('imported')")
    monkeypatch.syspath_prepend(str(tmp_path))
    path = weaver / "weaver_lora/adapter_config.json"
    edit_json(path, megatron_config={"a": 1}, megatron_core="planted_module", init_lora_weights="pissa")
    assert load(weaver)[1].restored == 14
    assert "planted_module" not in sys.modules


@pytest.mark.parametrize("kind", ["PROMPT_TUNING", "XLORA", "NOTHING", None, ["LORA"]])
def test_adapters_that_memgen_cannot_have(weaver: Path, kind: Any) -> None:
    edit_json(weaver / "weaver_lora/adapter_config.json", peft_type=kind)
    with pytest.raises(VerificationError, match=r"weaver_lora/adapter_config.json: "):
        load(weaver)


def test_a_config_that_peft_refuses(weaver: Path) -> None:
    edit_json(weaver / "weaver_lora/adapter_config.json", r=-1)
    with pytest.raises(VerificationError, match="adapter"):
        load(weaver)


@pytest.mark.slow
def test_a_base_that_is_no_causal_language_model(weaver: Path) -> None:
    with pytest.raises(VerificationError, match=r"no causal language model can be built from this vit config"):
        load(weaver, transformers.ViTConfig(), WEAVER)


def test_other_checkpoints_are_refused() -> None:
    with pytest.raises(VerificationError, match=r"is not a MemGen checkpoint: its layout is peft"):
        load(HEALTHY / "peft/lora_bin")


def both(tmp_path: Path) -> Path:
    return Path(shutil.copytree(HEALTHY / "weaver_and_trigger_nested/weaver", tmp_path / "weaver"))


def test_a_broken_adapter_beside_the_one_that_was_asked_for(tmp_path: Path) -> None:
    path = both(tmp_path)
    (path / "weaver_lora/trigger/adapter_model.safetensors").write_bytes(b"nothing")
    _, log = load(path, WEAVER)
    assert log.restored == 14
    assert any("trigger/adapter_model.safetensors cannot be read" in warning for warning in log.warnings)


def test_an_adapter_of_another_kind_beside_the_one_that_was_asked_for(tmp_path: Path) -> None:
    path = both(tmp_path)
    edit_json(path / "weaver_lora/trigger/adapter_config.json", peft_type="PROMPT_TUNING")
    model, log = load(path, WEAVER)
    assert model.trigger is None
    assert log.restored == 14
    assert any("was left out" in warning for warning in log.warnings)
    assert any("was not loaded" in warning for warning in log.warnings)
    assert model(torch.arange(8)[None]).isfinite().all()


def test_an_adapter_of_another_name_beside_the_one_that_was_asked_for(tmp_path: Path) -> None:
    path = both(tmp_path)
    (path / "weaver_lora/trigger").rename(path / "weaver_lora/critic")
    checkpoint = ckpt_doctor.open_checkpoint(path)
    model, log = load(path, WEAVER)
    assert log.restored == 14 == len(memgen.targets(model, checkpoint))
    assert any("the critic adapter in weaver_lora/critic has no place" in warning for warning in log.warnings)
    assert list(memgen.components(checkpoint).values()).count("critic adapter") == 8


def test_a_second_format_is_mentioned(weaver: Path) -> None:
    source = HEALTHY / "weaver_safetensors/weaver/weaver_lora/adapter_model.safetensors"
    shutil.copy(source, weaver / "weaver_lora")
    _, log = load(weaver)
    assert log.files == ("weaver_lora/adapter_model.safetensors", "projections.pt")
    assert "adapter_model.bin beside it was not" in log.warnings[0]
