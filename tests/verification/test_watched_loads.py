"""Loads in the user's own program: proof by marks, and models that come out as they went in."""

from __future__ import annotations

import copy
import shutil
import warnings
from pathlib import Path
from typing import Any

import memgen
import pytest
import torch
from peft import load_peft_weights, set_peft_model_state_dict
from safetensors.torch import load_file, save_file
from torch import nn

import ckpt_doctor
from ckpt_doctor.core.policy import Policy
from ckpt_doctor.integrations import CheckpointCallback, CheckpointWarning, assert_fully_loaded
from ckpt_doctor.verification import verify
from support.hostile import Foreign, foreign_package
from support.loaders import weaver_loaders

FIXTURES = Path(__file__).parents[2] / "fixtures"
# PEFT asks transformers for a property that will have another name some day.
pytestmark = pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing:FutureWarning")
WEAVER = str(FIXTURES / "healthy" / "weaver_bin" / "weaver")


class Small(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(4, 3)
        self.second = nn.Linear(3, 2, bias=False)


@pytest.fixture
def saved(tmp_path: Path) -> tuple[Small, Path]:
    """A model, and a file of its weights."""
    torch.manual_seed(0)
    model = Small()
    nn.init.zeros_(model.first.bias)
    save_file(model.state_dict(), tmp_path / "small.safetensors", metadata={"format": "pt"})
    return model, tmp_path / "small.safetensors"


def statuses(coverage: Any) -> dict[str, str]:
    return {item.name: item.status for item in coverage.tensors}


def test_values_that_were_there_before_are_no_load(saved: tuple[Small, Path]) -> None:
    model, path = saved
    assert ckpt_doctor.load_coverage(model, path).complete
    before = copy.deepcopy(model.state_dict())
    with ckpt_doctor.watch_load(model, path) as coverage:
        pass
    assert set(statuses(coverage).values()) == {"missing"}
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    with pytest.raises(ckpt_doctor.IncompleteLoadError, match=r"safetensors +0 +3"):
        coverage.raise_if_incomplete()


def test_a_load_of_the_same_values_counts(saved: tuple[Small, Path]) -> None:
    model, path = saved
    with ckpt_doctor.watch_load(model, path) as coverage:
        model.load_state_dict(load_file(path))
    assert coverage.complete
    coverage.raise_if_incomplete()


def test_what_was_left_out_and_what_got_other_values(saved: tuple[Small, Path]) -> None:
    model, path = saved
    state = load_file(path)
    with ckpt_doctor.watch_load(model, path) as coverage, torch.no_grad():
        model.first.weight.copy_(state["first.weight"])
        model.second.weight.copy_(state["second.weight"] + 1)
    assert statuses(coverage) == {"first.weight": "restored", "first.bias": "missing", "second.weight": "mismatched"}
    assert model.first.bias.tolist() == [0, 0, 0]


def test_an_exception_passes_and_the_model_is_put_in_order(saved: tuple[Small, Path]) -> None:
    model, path = saved
    before = copy.deepcopy(model.state_dict())
    with pytest.raises(KeyError), ckpt_doctor.watch_load(model, path) as coverage:
        raise KeyError("nothing")
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    with pytest.raises(ckpt_doctor.VerificationError):
        coverage.raise_if_incomplete()


def test_parameters_that_are_replaced(saved: tuple[Small, Path]) -> None:
    model, path = saved
    with ckpt_doctor.watch_load(model, path) as coverage:
        model.load_state_dict(load_file(path), assign=True)
    assert coverage.complete


@pytest.mark.parametrize(("dtype", "status"), [(torch.float64, "restored"), (torch.bfloat16, "cast")])
def test_casts(saved: tuple[Small, Path], dtype: torch.dtype, status: str) -> None:
    model, path = saved
    coverage = ckpt_doctor.load_coverage(model.to(dtype), path)
    assert statuses(coverage)["first.weight"] == status
    assert coverage.complete
    assert {finding.code for finding in coverage.findings} == ({"CKD008"} if status == "cast" else set())


def test_overflow_is_an_error(saved: tuple[Small, Path]) -> None:
    model, path = saved
    state = load_file(path)
    state["second.weight"][0, 0] = 1e6
    save_file(state, path, metadata={"format": "pt"})
    model.load_state_dict(state)
    coverage = ckpt_doctor.load_coverage(model.half(), path)
    assert not coverage.complete
    assert coverage.findings[0].code == "CKD008"
    assert coverage.findings[0].tensors == ("second.weight",)


def test_names_that_say_nothing_are_found_by_values(saved: tuple[Small, Path], tmp_path: Path) -> None:
    model, path = saved
    state = load_file(path)
    state["w"] = state.pop("first.weight")
    state["b"] = state.pop("first.bias")  # zeros: they could have come from anywhere
    save_file(state, path, metadata={"format": "pt"})
    coverage = ckpt_doctor.load_coverage(model, path)
    found = {item.name: (item.status, item.parameter) for item in coverage.tensors}
    assert found["w"] == ("restored", "first.weight")
    assert found["b"] == ("missing", None)


def test_wrappers_are_seen_through(saved: tuple[Small, Path]) -> None:
    model, path = saved
    wrapped = nn.ModuleDict({"module": nn.ModuleDict({"_orig_mod": model})})
    assert ckpt_doctor.load_coverage(wrapped, path).complete


@pytest.mark.parametrize("name", ["student", "teacher"])
def test_two_models_of_one_class(saved: tuple[Small, Path], name: str) -> None:
    _, path = saved
    both = nn.ModuleDict({"student": Small(), "teacher": Small()})
    with ckpt_doctor.watch_load(both, path) as coverage:
        both[name].load_state_dict(load_file(path))
    assert coverage.complete
    assert {item.parameter for item in coverage.tensors} == {f"{name}.{tensor}" for tensor in load_file(path)}


def test_whole_numbers_are_marked_too(tmp_path: Path) -> None:
    model = nn.BatchNorm1d(3)
    save_file(model.state_dict(), tmp_path / "norm.safetensors", metadata={"format": "pt"})
    with ckpt_doctor.watch_load(model, tmp_path / "norm.safetensors") as coverage:
        pass
    assert statuses(coverage)["num_batches_tracked"] == "missing"
    assert model.num_batches_tracked.item() == 0
    with ckpt_doctor.watch_load(model, tmp_path / "norm.safetensors") as coverage:
        model.load_state_dict(load_file(tmp_path / "norm.safetensors"))
    assert coverage.complete


def test_tied_tensors_count_once(tmp_path: Path) -> None:
    model = nn.ModuleDict({"a": nn.Linear(3, 3, bias=False), "b": nn.Linear(3, 3, bias=False)})
    model["b"].weight = model["a"].weight
    torch.save(model.state_dict(), tmp_path / "tied.bin")
    coverage = ckpt_doctor.load_coverage(model, tmp_path / "tied.bin")
    assert (coverage.expected, coverage.restored, coverage.complete) == (1, 1, True)
    model["b"].weight = nn.Parameter(torch.zeros(3, 3))
    coverage = ckpt_doctor.load_coverage(model, tmp_path / "tied.bin")
    assert (coverage.expected, coverage.restored, coverage.complete) == (2, 1, False)


def test_a_weaver_from_the_folder_that_the_evaluation_passes() -> None:
    model = weaver_loaders.build()
    with ckpt_doctor.watch_load(model, f"{WEAVER}/weaver_lora") as coverage:
        weaver_loaders.right(model, WEAVER)
    assert (coverage.expected, coverage.restored, coverage.complete) == (14, 14, True)


@pytest.mark.slow
@pytest.mark.parametrize("adapter", ["weaver", "trigger"])
def test_the_weights_of_one_adapter_in_another(adapter: str) -> None:
    model = memgen.one_base_model()
    with ckpt_doctor.watch_load(model, WEAVER) as coverage:
        weights = load_peft_weights(f"{WEAVER}/weaver_lora", device="cpu")
        set_peft_model_state_dict(model.weaver.model, weights, adapter_name=adapter)
    restored = {item.name: item.restored for item in coverage.components}
    assert restored["weaver adapter"] == (8 if adapter == "weaver" else 0)


def test_the_helper_for_tests() -> None:
    model = weaver_loaders.build()
    with pytest.raises(AssertionError, match=r"weaver adapter +0 +8   <- nothing arrived"):
        assert_fully_loaded(model, WEAVER)
    weaver_loaders.right(model, WEAVER)
    assert assert_fully_loaded(model, WEAVER).complete


def test_quantised_parameters_are_said_to_be(saved: tuple[Small, Path]) -> None:
    model, path = saved
    model.second.weight = nn.Parameter(torch.zeros(3, 1, dtype=torch.uint8), requires_grad=False)
    coverage = ckpt_doctor.load_coverage(model, path)
    assert statuses(coverage)["second.weight"] == "mismatched"
    assert [finding.code for finding in coverage.findings] == ["CKD001"]
    assert "1 parameter is quantised" in coverage.findings[0].message


def test_parameters_without_memory_hold_nothing(saved: tuple[Small, Path]) -> None:
    model, path = saved
    coverage = ckpt_doctor.load_coverage(model.to("meta"), path)
    assert coverage.restored == 0
    assert "meta device" in coverage.tensors[0].detail


class Arguments:
    def __init__(self, folder: Path) -> None:
        self.output_dir = str(folder)


class State:
    is_world_process_zero = True
    global_step = 5


class Control:
    should_training_stop = False


def test_the_callback_inspects_each_save(tmp_path: Path) -> None:
    shutil.copytree(FIXTURES / "healthy" / "transformers" / "single_safetensors", tmp_path / "checkpoint-5")
    callback, control = CheckpointCallback(stop=True), Control()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        callback.on_save(Arguments(tmp_path), State(), control)
    assert callback.report is not None and callback.report.healthy
    assert not control.should_training_stop

    weights = tmp_path / "checkpoint-5" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    with pytest.warns(CheckpointWarning, match="CKD104"):
        CheckpointCallback().on_save(Arguments(tmp_path), State(), control)
    assert not control.should_training_stop
    with pytest.warns(CheckpointWarning, match="The training stops here"):
        callback.on_save(Arguments(tmp_path), State(), control)
    assert control.should_training_stop


def test_a_save_that_has_diverged_is_seen(tmp_path: Path) -> None:
    state = {name: tensor * float("nan") for name, tensor in Small().state_dict().items()}
    (tmp_path / "checkpoint-5").mkdir()
    save_file(state, tmp_path / "checkpoint-5" / "model.safetensors", metadata={"format": "pt"})
    callback = CheckpointCallback()
    with pytest.warns(CheckpointWarning, match="CKD601"):
        callback.on_save(Arguments(tmp_path), State(), Control())
    assert callback.report is not None and callback.report.deep
    shallow = CheckpointCallback(policy=Policy())
    shallow.on_save(Arguments(tmp_path), State(), Control())
    assert shallow.report is not None and shallow.report.healthy and not shallow.report.deep


def test_nothing_saved_is_a_warning_too(tmp_path: Path) -> None:
    with pytest.warns(CheckpointWarning, match="checkpoint-5"):
        CheckpointCallback().on_save(Arguments(tmp_path), State(), Control())


def test_foreign_names_in_a_checkpoint_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "other.bin"
    with foreign_package():
        torch.save({"first.weight": torch.zeros(3, 4), "more": Foreign()}, path)
    called: list[str] = []

    def trusting(model: nn.Module, path: str) -> None:
        with foreign_package() as calls:
            model.load_state_dict(torch.load(path, weights_only=False), strict=False)
        called.extend(calls)

    for loader in ("auto", trusting):
        coverage = verify(path, Small, loader=loader)
        assert not coverage.complete
        assert "CKD901" in {finding.code for finding in coverage.findings}
        assert called == []
    trusted = verify(path, Small, loader=trusting, trust_checkpoint=True)
    assert trusted.restored == 1
    assert {finding.severity.value for finding in trusted.findings if finding.code == "CKD901"} == {"warning"}
    assert called
    called.clear()
    with foreign_package() as calls:
        assert not verify(path, Small, loader="auto", trust_checkpoint=True).complete
    assert called == calls == []
