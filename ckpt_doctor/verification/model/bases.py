"""Base models from a path or hub id: with their weights, or on the meta device without memory for any."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

from ckpt_doctor.core.errors import CkptDoctorError, VerificationError
from ckpt_doctor.core.parts import Part
from ckpt_doctor.knowledge.adapter_keys import parse_all
from ckpt_doctor.runtime.dependencies import require
from ckpt_doctor.verification.hosting.isolation import run
from ckpt_doctor.verification.names.quantisers import method

from .live import LiveModel

BY_TASK = {
    "CAUSAL_LM": "AutoModelForCausalLM",
    "SEQ_2_SEQ_LM": "AutoModelForSeq2SeqLM",
    "SEQ_CLS": "AutoModelForSequenceClassification",
    "TOKEN_CLS": "AutoModelForTokenClassification",
    "QUESTION_ANS": "AutoModelForQuestionAnswering",
    "FEATURE_EXTRACTION": "AutoModel",
}
"""The class that ``AutoPeftModelFor…`` builds, by ``task_type``."""
_KINDS = (
    "AutoModelForCausalLM",
    "AutoModelForSeq2SeqLM",
    "AutoModelForMaskedLM",
    "AutoModelForSequenceClassification",
    "AutoModelForTokenClassification",
    "AutoModelForQuestionAnswering",
    "AutoModel",
)
_WEIGHTS = (
    "model.safetensors",
    "model.safetensors.index.json",
    "pytorch_model.bin",
    "pytorch_model.bin.index.json",
)
# What PEFT puts into the name of a weight that it wraps.
_PEFT_WORDS = frozenset(("base_layer", "modules_to_save", "original_module"))


def base_config(name: str) -> Any:
    """The config of a base model. Raises ``VerificationError`` if there is none that transformers understands."""
    transformers = require("transformers")
    # Code that a config names is never run, and no prompt is shown.
    return attempted(
        name,
        lambda: transformers.AutoConfig.from_pretrained(
            name, local_files_only=Path(name).is_dir(), trust_remote_code=False
        ),
    )


def attempted(name: str, call: Callable[[], Any]) -> Any:
    """What ``call`` makes of the config of ``name``, which may hold anything.

    Raises ``VerificationError`` whatever is raised: the libraries do not expect numbers for lists, or text for numbers.
    """
    outcome = run(call)
    if outcome.error is None:
        return outcome.result
    if isinstance(outcome.error, CkptDoctorError):
        raise outcome.error
    file = Path(name) / "config.json"
    if Path(name).is_dir():
        where = f"{file if file.is_file() else name} is not a model that transformers can build"
    else:
        where = f"{name} is not a local folder, and transformers cannot build a model from this hub id"
    raise VerificationError(
        f"{where} ({outcome.failure[:300]}): check the name, or give a function that builds it, with "
        "--model FILE.py:FUNCTION"
    )


def quantiser(config: Any) -> str:
    """The quantisation method of a whole model; empty if it is not."""
    settings = next((item.quantization_config for item in _configs(config) if _is_quantised(item)), None)
    if settings is None:
        return ""
    return method(settings) if isinstance(settings, dict) else type(settings).__name__


def without_quantiser(config: Any) -> Any:
    """The config of the same model with weights that are not quantised."""
    plain = copy.deepcopy(config)
    for item in _configs(plain):
        if _is_quantised(item):
            del item.quantization_config
    return plain


def _configs(config: Any) -> list[Any]:
    inner = getattr(config, "text_config", None)
    return [config] if inner is None else [config, inner]


def _is_quantised(config: Any) -> bool:
    return getattr(config, "quantization_config", None) is not None


def has_weights(name: str) -> bool:
    """True if weights are next to the config; of a hub id it is assumed."""
    folder = Path(name)
    return not folder.is_dir() or any((folder / file).is_file() for file in _WEIGHTS)


def model_class(config: Any, task: str | None = None) -> Any:
    """The class that transformers would load: by the task of an adapter, else by the config's ``architectures``."""
    transformers = require("transformers")
    if task in BY_TASK:
        return getattr(transformers, BY_TASK[task])
    for chosen in named_classes(config):
        return chosen
    mapping = transformers.AutoModelForCausalLM._model_mapping
    return transformers.AutoModelForCausalLM if type(config) in mapping else transformers.AutoModel


def named_classes(config: Any) -> Iterator[Any]:
    """The classes of models that the config names in ``architectures``, as far as transformers has them."""
    named = getattr(config, "architectures", None)
    for name in named if isinstance(named, list) else ():
        found = getattr(require("transformers"), name, None) if isinstance(name, str) else None
        if hasattr(found, "_from_config") or hasattr(found, "from_config"):
            yield found


def new_model(config: Any, chosen: Any) -> Any:
    """A model of this config and class, with random weights."""
    if hasattr(chosen, "from_config"):
        return chosen.from_config(config, trust_remote_code=False)
    return chosen._from_config(config)


def hollow_model(config: Any, chosen: Any) -> Any:
    """The model on the meta device: names, shapes and dtypes, and no memory behind them."""
    torch = require("torch")
    with torch.device("meta"):
        return new_model(config, chosen)


def real_model(name: str, config: Any, chosen: Any) -> Any:
    """The model with its weights; with random ones where only the config is there."""
    if has_weights(name):
        local = Path(name).is_dir()
        return chosen.from_pretrained(
            name, config=config, dtype="auto", local_files_only=local, trust_remote_code=False
        )
    return new_model(config, chosen)


def fitting_class(config: Any, part: Part) -> Any:
    """The class of a whole model: what the config says, and where it says nothing, the one that knows most names."""
    for chosen in named_classes(config):
        return chosen
    transformers = require("transformers")
    names = {tensor.name for tensor in part.loaded_tensors}
    best, most = model_class(config), -1
    for kind in _KINDS:
        chosen = getattr(transformers, kind)
        if type(config) in chosen._model_mapping:
            known = len(names & LiveModel(hollow_model(config, chosen)).tensors.keys())
            if known > most:
                best, most = chosen, known
    return best


def adapted_config(name: str, part: Part) -> tuple[Any, str | None, str | None]:
    """The base's config as the adapter in ``part`` needs it, the adapter's task, and a line about what was changed.

    A classifier of another width is in the checkpoint, so its number of labels is known.
    """
    config = base_config(name)
    data = (part.config.data if part.config is not None else None) or {}
    task = data.get("task_type")
    labels = _labels(part)
    line = None
    if labels is not None and task not in ("CAUSAL_LM", "SEQ_2_SEQ_LM") and config.num_labels != labels:
        line = (
            f"num_labels set to {labels}, as in the adapter's classifier: the base's config gives {config.num_labels}"
        )
        line += f": pass num_labels={labels} as well"
        config.num_labels = labels
    return config, task if isinstance(task, str) else None, line


def _labels(part: Part) -> int | None:
    keys = parse_all((tensor.name for tensor in part.loaded_tensors), None)
    for tensor, key in zip(part.loaded_tensors, keys, strict=True):
        words = tensor.name.split(".")
        # What an adapter trains beside a classifier has the shape of its rank. RoBERTa's head has a hidden layer
        # before the output.
        head = ("score" in words or "classifier" in words) and "dense" not in words
        if head and key.parameter is None and words[-1] == "weight":
            return tensor.shape[0] if len(tensor.shape) == 2 else None
    return None


def resized(model: Any, parts: Iterable[Part]) -> str | None:
    """Give the base as many embeddings as the adapter was saved with; returns a line about it, if it had others."""
    names = _embedding_names(model)
    rows = {
        tensor.shape[0]
        for part in parts
        for tensor in part.loaded_tensors
        if len(tensor.shape) == 2 and _ends_with_one_of(names, tensor.name)
    }
    if len(rows) != 1 or not names:
        return None
    (wanted,) = rows
    there = model.get_input_embeddings().weight.shape[0]
    if there == wanted:
        return None
    model.resize_token_embeddings(wanted, mean_resizing=False)
    return f"the base has {there:,} token embeddings and the adapter {wanted:,}: resized, as the training did"


def _embedding_names(model: Any) -> set[str]:
    """The names of the embedding weights in ``model``, those of the output among them."""
    try:
        embeddings = [model.get_input_embeddings(), model.get_output_embeddings()]
    except (AttributeError, NotImplementedError):  # no model of text
        return set()
    if not hasattr(embeddings[0], "weight"):
        return set()
    kept = [id(item) for item in embeddings if item is not None]
    return {f"{name}.weight" for name, item in model.named_modules() if id(item) in kept}


def _ends_with_one_of(names: set[str], tensor: str) -> bool:
    words = [word for word in tensor.split(".") if word not in _PEFT_WORDS]
    own = ".".join(words)
    return any(own == name or own.endswith(f".{name}") for name in names)
