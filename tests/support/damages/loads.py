"""CKD0xx: what only a load shows, and the healthy loads of which each rule must be silent."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import peft
import tiny_models
import torch
from safetensors.torch import load_file, save_file

import ckpt_doctor
from ckpt_doctor.core.findings import Finding
from ckpt_doctor.gate import decide
from support.damages.record import nothing
from support.places import HEALTHY

FIXTURE = HEALTHY / "peft" / "lora"
WEIGHTS = "adapter_model.safetensors"

Build = Callable[[], Any]
Loader = Callable[[Any, str], Any]
Judge = Callable[[Path, Build, Loader, str], tuple[Finding, ...]]


def by_verify(path: Path, build: Build, loader: Loader, mode: str) -> tuple[Finding, ...]:
    return ckpt_doctor.verify(path, build, loader=loader, mode=mode).findings


def by_gate(path: Path, build: Build, loader: Loader, mode: str) -> tuple[Finding, ...]:
    verdict = decide(path, load=lambda given: ckpt_doctor.verify(given, build, loader=loader, mode=mode))
    return verdict.shown.findings


def healthy_base() -> Any:
    return tiny_models.qwen2()


def right(model: Any, path: str) -> Any:
    return peft.PeftModel.from_pretrained(model, path)


@dataclass(frozen=True)
class LoadDamage:
    """A load that the rule of this ``code`` must report, and that reports ``all_codes`` in all.

    ``loader`` loads a copy of the fixture, to which ``harm`` was done, into what ``build`` returns. ``judge`` is how
    that is asked for. A damage differs from the healthy load of its ``mode`` and ``judge`` in one thing only.
    """

    code: str
    name: str
    loader: Loader = right
    harm: Callable[[Path], None] = nothing
    build: Build = healthy_base
    mode: str = "load"
    severity: str = "error"
    more: tuple[str, ...] = ()
    judge: Judge = by_verify

    def __str__(self) -> str:
        return f"{self.code}-{self.name}"

    @property
    def all_codes(self) -> set[str]:
        return {self.code, *self.more}

    def findings(self, folder: Path) -> tuple[Finding, ...]:
        """What is found in the damaged load."""
        return self._judged(folder / "damaged", self.build, self.loader, self.harm)

    def healthy_findings(self, folder: Path) -> tuple[Finding, ...]:
        """What is found in the healthy load of the same kind."""
        return self._judged(folder / "healthy", healthy_base, right, nothing)

    def _judged(self, path: Path, build: Build, loader: Loader, harm: Callable[[Path], None]) -> tuple[Finding, ...]:
        shutil.copytree(FIXTURE, path)
        harm(path)
        return self.judge(path, build, loader, self.mode)


DAMAGES: list[LoadDamage] = []


def loader_for(code: str, **options: Any) -> Callable[[Loader], Loader]:
    """Register a loader that does something wrong."""

    def register(loader: Loader) -> Loader:
        DAMAGES.append(LoadDamage(code, loader.__name__, loader, **options))
        return loader

    return register


def harm_for(code: str, **options: Any) -> Callable[[Callable[[Path], None]], Callable[[Path], None]]:
    """Register a change of the checkpoint that shows in the load."""

    def register(harm: Callable[[Path], None]) -> Callable[[Path], None]:
        DAMAGES.append(LoadDamage(code, harm.__name__, harm=harm, **options))
        return harm

    return register


def model_for(code: str, **options: Any) -> Callable[[Build], Build]:
    """Register a model that the checkpoint is not for."""

    def register(build: Build) -> Build:
        DAMAGES.append(LoadDamage(code, build.__name__, build=build, **options))
        return build

    return register


def adapted(model: Any, path: str, name: str = "default", **settings: Any) -> Any:
    """The model with an adapter that has the checkpoint's config, but for these ``settings``, and no weights yet."""
    config = peft.PeftConfig.from_pretrained(path)
    for key, value in settings.items():
        setattr(config, key, value)
    return peft.get_peft_model(model, config, adapter_name=name)


def fill(model: Any, state: dict[str, torch.Tensor]) -> None:
    peft.set_peft_model_state_dict(model, state, ignore_mismatched_sizes=True)


def edit(path: Path, change: Callable[[torch.Tensor], torch.Tensor], ending: str) -> None:
    """Change the tensors whose names end so."""
    state = load_file(path / WEIGHTS)
    changed = {name: change(value) if name.endswith(ending) else value for name, value in state.items()}
    save_file(changed, path / WEIGHTS, {"format": "pt"})


@loader_for("CKD001")
def forgets_a_layer(model: Any, path: str) -> Any:
    result = adapted(model, path)
    fill(result, {name: value for name, value in load_file(Path(path) / WEIGHTS).items() if ".layers.1." not in name})
    return result


@loader_for("CKD001")
def loads_nothing(model: Any, path: str) -> Any:
    return model


@harm_for("CKD001", more=("CKD003",))
def a_name_of_another_model(path: Path) -> None:
    state = load_file(path / WEIGHTS)
    changed = {name.replace("layers.0.self_attn.q_proj", "layers.0.attn.wq"): value for name, value in state.items()}
    save_file(changed, path / WEIGHTS, {"format": "pt"})


@loader_for("CKD002")
def opens_another_file(model: Any, path: str) -> Any:
    return adapted(model, str(Path(path) / "weaver_lora"))


@loader_for("CKD002")
def calls_sys_exit(model: Any, path: str) -> Any:
    raise SystemExit(3)


@loader_for("CKD003")
def adapts_more_modules(model: Any, path: str) -> Any:
    result = adapted(model, path, target_modules=["q_proj", "v_proj", "k_proj"])
    fill(result, load_file(Path(path) / WEIGHTS))
    return result


@harm_for("CKD003")
def a_layer_is_not_in_the_file(path: Path) -> None:
    state = load_file(path / WEIGHTS)
    save_file({n: v for n, v in state.items() if ".layers.1." not in n}, path / WEIGHTS, {"format": "pt"})


@loader_for("CKD004")
def makes_an_adapter_of_another_rank(model: Any, path: str) -> Any:
    result = adapted(model, path, r=2)
    fill(result, load_file(Path(path) / WEIGHTS))
    return result


@model_for("CKD004", mode="keys")
def base_of_another_size() -> Any:
    return tiny_models.qwen2(tiny_models.REASONER_HIDDEN)


@loader_for("CKD005", more=("CKD001",))
def compares_names(model: Any, path: str) -> Any:
    result = adapted(model, path, "weaver")
    result.load_state_dict(load_file(Path(path) / WEIGHTS), strict=False)
    return result


@loader_for("CKD006")
def switches_the_adapter_off(model: Any, path: str) -> Any:
    result = right(model, path)
    result.base_model.disable_adapter_layers()
    return result


@loader_for("CKD006")
def activates_another_adapter(model: Any, path: str) -> Any:
    result = right(model, path)
    result.add_adapter("other", peft.PeftConfig.from_pretrained(path))
    result.set_adapter("other")
    return result


@loader_for("CKD006", severity="warning")
def switches_one_layer_off(model: Any, path: str) -> Any:
    result = right(model, path)
    next(module for module in result.modules() if hasattr(module, "lora_A")).enable_adapters(False)
    return result


@harm_for("CKD006", mode="forward", severity="warning")
def an_adapter_of_zeros(path: Path) -> None:
    edit(path, torch.zeros_like, "lora_B.weight")


@model_for("CKD007", mode="forward")
def base_with_nan() -> Any:
    model = tiny_models.qwen2()
    with torch.no_grad():
        model.lm_head.weight[0, 0] = torch.nan
    return model


@loader_for("CKD008", severity="note")
def casts_to_bfloat16(model: Any, path: str) -> Any:
    return right(model, path).to(torch.bfloat16)


@harm_for("CKD008", loader=lambda model, path: right(model, path).half())
def values_beyond_float16(path: Path) -> None:
    edit(path, lambda value: torch.full_like(value, 1e6), "layers.0.self_attn.q_proj.lora_B.weight")


@loader_for("CKD010")
def scales_otherwise(model: Any, path: str) -> Any:
    result = adapted(model, path, lora_alpha=32)
    fill(result, load_file(Path(path) / WEIGHTS))
    return result


@model_for("CKD011", judge=by_gate)
def cannot_be_built() -> Any:
    raise RuntimeError("no such model")
