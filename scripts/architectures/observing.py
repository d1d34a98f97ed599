"""What a model of a class and a config holds on disk, found without memory: on the meta device."""

from __future__ import annotations

import copy
import re
import signal
from collections import defaultdict
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from transformers import PreTrainedConfig, PreTrainedModel
from transformers.conversion_mapping import get_model_conversion_mapping
from transformers.core_model_loading import revert_weight_conversion
from transformers.modeling_utils import _get_tied_weight_keys

Shape = tuple[int, ...]
_TRAINING_ONLY = r"(^|\.)masked_spec_embed$"
"""What training with SpecAugment puts in the place of masked frames: no inference reads it."""
_SECONDS = 5


@dataclass(frozen=True)
class Observation:
    """One model. ``config`` is what would be in its ``config.json``.

    ``saved`` are names and shapes as ``save_pretrained`` writes them, ``inside`` as the model itself has them.
    ``optional`` are names of ``saved`` that may be absent without a word: buffers, and what the class ignores.
    ``tied`` maps a name in ``saved`` to others that hold the same parameter and are not saved, as they would be on
    disk; ``tied_inside`` are groups of names of the model itself. ``old`` are patterns of older names that are read.
    """

    config: Mapping[str, Any]
    saved: Mapping[str, Shape]
    inside: Mapping[str, Shape]
    optional: frozenset[str]
    tied: Mapping[str, tuple[str, ...]]
    tied_inside: tuple[tuple[str, ...], ...]
    old: frozenset[str]


class CannotBuild(Exception):
    """The class cannot be built from the config; the message says why."""


read: set[str] = set()
"""The fields of configs that any model has asked for while it was built, by their last word."""


@contextmanager
def _recording() -> Iterator[None]:
    original = PreTrainedConfig.__getattribute__

    def recording(self: PreTrainedConfig, key: str) -> Any:
        read.add(key)
        return original(self, key)

    PreTrainedConfig.__getattribute__ = recording
    try:
        yield
    finally:
        PreTrainedConfig.__getattribute__ = original


def config_of(cls: type[PreTrainedConfig], given: Mapping[str, Any]) -> PreTrainedConfig:
    """The config that transformers makes of what a ``config.json`` says."""
    try:
        with _limited():
            return cls.from_dict(copy.deepcopy(dict(given)))
    except Exception as error:
        raise CannotBuild(_reason(error)) from error


def build(cls: type[PreTrainedModel], config: PreTrainedConfig) -> PreTrainedModel:
    """A model without memory. Raises ``CannotBuild``."""
    try:
        own = copy.deepcopy(config)
        with _limited(), torch.device("meta"):
            return cls(own)
    except Exception as error:
        raise CannotBuild(_reason(error)) from error


def observe(cls: type[PreTrainedModel], config: PreTrainedConfig, *, recorded: bool = False) -> Observation:
    """Build a model and see what it would save. Raises ``CannotBuild``.

    ``recorded`` says that ``read`` is to have the fields that it asks for.
    """
    with _recording() if recorded else nullcontext():
        model = build(cls, config)
    conversions = _conversions(model)
    state = model.state_dict()
    inside = {name: tuple(tensor.shape) for name, tensor in state.items()}
    try:
        with _limited():
            kept, tied = _without_tied(model, state)
            saved_state = revert_weight_conversion(model, dict(kept)) if conversions else kept
    except Exception as error:
        raise CannotBuild(f"saving: {_reason(error)}") from error
    saved = {name: tuple(tensor.shape) for name, tensor in saved_state.items()}
    given = to_json(config)
    groups = tuple((name, *others) for name, others in tied.items())
    old = frozenset(conversion.compiled_sources.pattern for conversion in conversions)
    names = _on_disk(model, tied, saved) if conversions else {k: v for k, v in tied.items() if k in saved}
    return Observation(given, saved, inside, _optional(model, saved, inside), names, groups, old)


def _conversions(model: PreTrainedModel) -> list[Any]:
    """What transformers does to names and shapes when it reads a file of this class, without what it does in all."""
    return list(get_model_conversion_mapping(model, add_legacy=False))


def to_json(config: PreTrainedConfig) -> dict[str, Any]:
    """What a ``config.json`` of this config says, with everything that has its default."""
    data = config.to_dict()
    return {key: value for key, value in data.items() if key != "transformers_version"}


def _without_tied(
    model: PreTrainedModel, state: dict[str, torch.Tensor]
) -> tuple[dict[str, torch.Tensor], dict[str, tuple[str, ...]]]:
    """What is saved, and the name that is kept of each group of tied parameters with those that are not."""
    ignored = set(model._keys_to_ignore_on_save or ())
    groups: dict[int, list[str]] = defaultdict(list)
    own = dict(model.named_parameters(remove_duplicate=False)) | dict(model.named_buffers(remove_duplicate=False))
    for name in state:
        if name not in ignored:
            groups[id(own.get(name, state[name]))].append(name)
    declared = set(_get_tied_weight_keys(model))
    kept, tied = {}, {}
    for names in groups.values():
        dropped = [name for name in sorted(names) if any(re.search(key, name) for key in declared)]
        if len(dropped) == len(names):
            dropped = dropped[:-1]
        left = [name for name in names if name not in dropped]
        for name in left:
            kept[name] = state[name]
        if len(names) > 1:
            tied[left[0]] = tuple(name for name in names if name != left[0])
    return kept, tied


def _on_disk(
    model: PreTrainedModel, tied: Mapping[str, tuple[str, ...]], saved: Mapping[str, Shape]
) -> dict[str, tuple[str, ...]]:
    def name_of(inside: str) -> str:
        meta = {inside: torch.empty(2, device="meta")}
        try:
            return next(iter(revert_weight_conversion(model, meta)))
        except Exception:
            # A conversion of several tensors has no name for one of them.
            return inside

    pairs = {name_of(name): tuple(map(name_of, others)) for name, others in tied.items()}
    return {name: others for name, others in pairs.items() if name in saved}


def _optional(model: PreTrainedModel, saved: Mapping[str, Shape], inside: Mapping[str, Shape]) -> frozenset[str]:
    parameters = {name for name, _ in model.named_parameters(remove_duplicate=False)}
    ignored = [re.compile(key) for key in (*(model._keys_to_ignore_on_load_missing or ()), _TRAINING_ONLY)]
    return frozenset(
        name
        for name in saved
        if (name in inside and name not in parameters) or any(pattern.search(name) for pattern in ignored)
    )


def leave_values_alone() -> None:
    """Let nothing initialise values: there are none on the meta device, and most of the time would go there."""
    for name in dir(torch.nn.init):
        if name.endswith("_") and not name.startswith("_"):
            setattr(torch.nn.init, name, lambda tensor, *args, **kwargs: tensor)
    for name in ("normal_", "uniform_", "fill_", "zero_"):
        original = getattr(torch.Tensor, name)
        setattr(torch.Tensor, name, _unless_meta(original))


def _unless_meta(original: Any) -> Any:
    def method(tensor: torch.Tensor, *args: Any, **kwargs: Any) -> torch.Tensor:
        return tensor if tensor.device.type == "meta" else original(tensor, *args, **kwargs)

    return method


@contextmanager
def _limited() -> Iterator[None]:
    """Give up on what takes too long: some random configs make huge models."""

    def stop(signum: int, frame: object) -> None:
        raise TimeoutError(f"took more than {_SECONDS} s of processor time")

    before = signal.signal(signal.SIGPROF, stop)
    signal.setitimer(signal.ITIMER_PROF, _SECONDS)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, before)


def _reason(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[-1][:160] if lines else ''}"
