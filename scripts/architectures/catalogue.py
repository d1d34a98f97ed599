"""Every model type of transformers, with its config class and the classes that ``architectures`` may name."""

from __future__ import annotations

import importlib
import pkgutil
from collections import defaultdict
from dataclasses import dataclass, field

import transformers
from transformers import PreTrainedConfig, PreTrainedModel


@dataclass
class ModelType:
    """One ``model_type``: ``classes`` are its models, the base models first."""

    name: str
    config: type[PreTrainedConfig]
    classes: list[type[PreTrainedModel]] = field(default_factory=list)


def model_types() -> tuple[dict[str, ModelType], dict[str, str]]:
    """The model types by name, and the modules that cannot be imported here, with the reason."""
    found: dict[type[PreTrainedConfig], list[type[PreTrainedModel]]] = defaultdict(list)
    failed: dict[str, str] = {}
    for name in _modules():
        try:
            module = importlib.import_module(name)
        except (ImportError, AttributeError) as error:
            failed[name] = f"{type(error).__name__}: {error}"
            continue
        for public in getattr(module, "__all__", ()):
            cls = getattr(module, public)
            if _is_model(cls):
                found[cls.config_class].append(cls)
    by_type: dict[str, list[ModelType]] = defaultdict(list)
    for config, classes in found.items():
        if getattr(config, "model_type", ""):
            ordered = sorted(set(classes), key=lambda cls: (_is_head(cls), len(cls.__name__), cls.__name__))
            by_type[config.model_type].append(ModelType(config.model_type, config, ordered))
    # Where two config classes share a type, AutoConfig's is the one that reads the file.
    result = {}
    for name, items in sorted(by_type.items()):
        mapped = transformers.models.auto.configuration_auto.CONFIG_MAPPING_NAMES.get(name)
        chosen = [item for item in items if item.config.__name__ == mapped] or items
        if len(chosen) == 1:
            result[name] = chosen[0]
        else:
            failed[name] = "several config classes"
    return result, failed


def _modules() -> list[str]:
    root = transformers.models
    packages = [item.name for item in pkgutil.iter_modules(root.__path__) if item.ispkg]
    names = []
    for package in packages:
        inside = importlib.import_module(f"{root.__name__}.{package}")
        names += [
            f"{root.__name__}.{package}.{item.name}"
            for item in pkgutil.iter_modules(inside.__path__)
            if item.name.startswith("modeling_")
        ]
    return sorted(names)


def _is_model(cls: object) -> bool:
    return (
        isinstance(cls, type)
        and issubclass(cls, PreTrainedModel)
        and isinstance(cls.config_class, type)
        and not cls.__name__.endswith("PreTrainedModel")
    )


def _is_head(cls: type[PreTrainedModel]) -> bool:
    return not cls.__name__.endswith("Model")
