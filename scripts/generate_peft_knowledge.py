"""Write ``ckpt_doctor/knowledge/peft_types.py``: what adapters of every PEFT type are configured by and hold.

Run it with the newest PEFT that the project supports, and scikit-learn for AdaMSS::

    python scripts/generate_peft_knowledge.py

Nothing is taken from documentation: the names are those that tiny adapters really save, the groups are what was found
together in every module of every variant, and ``zero_init`` holds what is zero before training and not after it, and
leaves the model's output unchanged while it is zero.
"""

from __future__ import annotations

import dataclasses
import os
import re
import subprocess
import sys
import textwrap
import warnings
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path

os.environ["HF_HUB_OFFLINE"] = "1"

import peft
import torch
from peft.mapping import PEFT_TYPE_TO_CONFIG_MAPPING, PEFT_TYPE_TO_PREFIX_MAPPING
from peft.utils.constants import EMBEDDING_LAYER_NAMES
from peft_variants import VARIANTS, VOCABULARY, Variant

TARGET = Path(__file__).parents[1] / "ckpt_doctor" / "knowledge" / "peft_types.py"

# Settings that older releases wrote and today's does not know. Found by comparing the config classes of the releases
# 0.1.0 to 0.20.0 with those of 0.21.2; nothing else was ever removed.
REMOVED_KEYS = {"LORA": {"enable_lora", "merge_weights"}, "OFT": {"alpha_pattern", "rank_pattern"}}

# Types that today's release does not read, with the last minor release that did.
REMOVED_TYPES = {"BONE": "0.18"}

# Constants that a setting or an older release leaves out, beside parameters that are always there.
OPTIONAL = re.compile(r"indices|scales|_norm$|_P$|^randlora_[AB]$|^tinylora_|prior$|^prefix_task")

# Outputs with and without an adapter of zeros may differ by rounding.
TOLERANCE = 1e-5


@dataclasses.dataclass
class Observed:
    """What the saved files of one type held: the parameters of each module, and those that belong to none."""

    modules: list[frozenset[str]] = dataclasses.field(default_factory=list)
    shared: set[str] = dataclasses.field(default_factory=set)
    zero: set[str] = dataclasses.field(default_factory=set)

    @property
    def suffixes(self) -> list[str]:
        """Every parameter of a module."""
        return sorted(set().union(*self.modules))

    @property
    def groups(self) -> list[tuple[str, ...]]:
        """Parameters that were found together in every module that held one of them."""
        classes = defaultdict(list)
        for suffix in self.suffixes:
            if "*" not in suffix and not OPTIONAL.search(suffix):
                where = tuple(suffix in module for module in self.modules)
                classes[where].append(suffix)
        return sorted(tuple(names) for names in classes.values() if len(names) > 1)


def main() -> None:
    """Observe every variant and write the table."""
    observed: dict[str, Observed] = defaultdict(Observed)
    for variant in VARIANTS:
        _observe(variant, observed[variant.peft_type])
    missing = {kind.value for kind in PEFT_TYPE_TO_CONFIG_MAPPING} - set(observed)
    if missing:
        raise SystemExit(f"no variant for {sorted(missing)}: add one to peft_variants.py")
    TARGET.write_text(_formatted(_render(observed)))


def _observe(variant: Variant, observed: Observed) -> None:
    model = variant.build().eval()
    names = [name for name, _ in model.get_base_model().named_modules() if name]
    if model.peft_config["default"].is_prompt_learning:
        saved = peft.get_peft_model_state_dict(model, save_embedding_layers=False)
        observed.shared |= {name for name in saved if not name.startswith("base_model.")}
        return
    saved = peft.get_peft_model_state_dict(model, save_embedding_layers=False)
    if variant.peft_type == "XLORA":
        # Its experts are called 0, 1, ..., and saving drops the layers of the classifier that bear these numbers too.
        saved = model.state_dict()
    prefix = _parameter_prefix(variant.peft_type)
    modules: dict[str, set[str]] = defaultdict(set)
    for name in saved:
        words = name.split(".")
        at = next((i for i, word in enumerate(words) if word.startswith(prefix)), None)
        if at is None:
            continue  # biases, whole modules, trainable tokens: not of this type
        if name.startswith("base_model.model."):
            module = ".".join(words[2:at])
            _must(module in names or module.removesuffix(".base_layer") in names, f"{name}: no module {module}")
            modules[module].add(_numberless(".".join(words[at:])))
        else:
            observed.shared.add(words[at])  # a bank, or X-LoRA's classifier
    observed.modules += [frozenset(parameters) for parameters in modules.values()]
    if variant.name == _first_of(variant.peft_type) and modules:
        observed.zero = _zero_until_trained(variant, prefix)


def _parameter_prefix(peft_type: str) -> str:
    # VeRA's banks are not called lambda, adaption prompts have a gate beside the prompt, X-LoRA has a classifier.
    odd = {"ADAPTION_PROMPT": "adaption_", "XLORA": "internal_xlora_"}
    usual = PEFT_TYPE_TO_PREFIX_MAPPING[peft.PeftType(peft_type)].removesuffix("lambda_")
    return odd.get(peft_type, usual)


def _must(condition: bool, message: str) -> None:
    if not condition:
        raise SystemExit(message)


def _first_of(peft_type: str) -> str:
    return next(variant.name for variant in VARIANTS if variant.peft_type == peft_type)


def _numberless(parameter: str) -> str:
    # ``default`` stands in SHADOW's files whatever the adapter is called, and a number there is part of one layer.
    return re.sub(r"\.\d+(?=\.|$)", ".*", parameter)


def _zero_until_trained(variant: Variant, prefix: str) -> set[str]:
    """Trained parameters that start at zero, if together they make the adapter do nothing."""
    model = variant.build().eval()
    tokens = torch.arange(2 * 16).reshape(2, 16) % VOCABULARY
    # Poly routes by task.
    inputs = {"task_ids": torch.zeros(2, dtype=torch.long)} if variant.peft_type == "POLY" else {}
    with torch.no_grad():
        adapted = model(input_ids=tokens, **inputs).logits
        with model.disable_adapter():
            plain = model(input_ids=tokens, **inputs).logits
    before = _by_suffix(model, prefix)
    optimizer = torch.optim.AdamW([parameter for parameter in model.parameters() if parameter.requires_grad], lr=1e-2)
    model.train()
    for _ in range(4):
        model(input_ids=tokens, labels=tokens, **inputs).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    after = _by_suffix(model, prefix)
    zero = {
        suffix
        for suffix, tensors in before.items()
        if not any(tensor.any() for tensor in tensors) and all(tensor.any() for tensor in after[suffix])
    }
    numberless = {suffix for suffix in zero if "*" not in suffix}
    return numberless if torch.allclose(adapted, plain, atol=TOLERANCE) else set()


def _by_suffix(model: peft.PeftModel, prefix: str) -> dict[str, list[torch.Tensor]]:
    tensors = defaultdict(list)
    for name, tensor in peft.get_peft_model_state_dict(model, save_embedding_layers=False).items():
        at = name.find(f".{prefix}")
        if at >= 0 and name.startswith("base_model.model."):
            tensors[_numberless(name[at + 1 :])].append(tensor.detach().clone())
    return tensors


def _render(observed: dict[str, Observed]) -> str:
    common = {field.name for field in dataclasses.fields(peft.PeftConfig)}
    entries = []
    for kind, config in sorted(PEFT_TYPE_TO_CONFIG_MAPPING.items(), key=lambda item: item[0].value):
        seen = observed[kind.value]
        keys = {field.name for field in dataclasses.fields(config)} - common | REMOVED_KEYS.get(kind.value, set())
        entries.append(
            "PeftType("
            f"value={kind.value!r}, prefix={PEFT_TYPE_TO_PREFIX_MAPPING[kind]!r},"
            f"prompt_learning={issubclass(config, peft.PromptLearningConfig)},"
            f"config_keys={_names(keys)},"
            f"module_suffixes={tuple(seen.suffixes)!r}, shared_suffixes={tuple(sorted(seen.shared))!r},"
            f"groups={tuple(seen.groups)!r}, zero_init={tuple(sorted(_all_zero(kind.value, seen)))!r})"
        )
    removed = ", ".join(f"{name!r}: {version!r}" for name, version in REMOVED_TYPES.items())
    return TEMPLATE.format(
        version=peft.__version__,
        common=sorted(common),
        entries=",\n".join(entries),
        removed=removed,
        embeddings=tuple(EMBEDDING_LAYER_NAMES),
    )


def _all_zero(peft_type: str, seen: Observed) -> Iterable[str]:
    # The embedding's half of LoRA starts at zero too; it is in no first variant.
    return seen.zero | ({"lora_embedding_A"} if peft_type == "LORA" else set())


def _names(keys: Iterable[str]) -> str:
    words = sorted(keys)
    if not words:
        return "_keys('')"
    lines = textwrap.fill(" ".join(words), 100, break_long_words=False, break_on_hyphens=False)
    return f'_keys("""\n{lines}\n""")'


def _formatted(source: str) -> str:
    ruff = [str(Path(sys.executable).parent / "ruff"), "format", "--stdin-filename", str(TARGET), "-"]
    return subprocess.run(ruff, input=source, capture_output=True, text=True, check=True).stdout


TEMPLATE = '''"""What adapters of every PEFT type are configured by and hold.

Generated by scripts/generate_peft_knowledge.py.
"""

from __future__ import annotations

from typing import NamedTuple

PEFT_VERSION = {version!r}
"""The PEFT release that the table was read from."""


class PeftType(NamedTuple):
    """One ``peft_type``.

    ``value`` is what ``adapter_config.json`` says. ``prefix`` marks the names of its parameters. ``config_keys`` are
    the settings that any release from 0.1.0 on wrote. ``module_suffixes`` are the names under which the parameters of a
    module are saved, behind the module's own; ``*`` stands for a number. ``shared_suffixes`` are the names of what
    belongs to no module; further components may follow. ``groups`` are parameters of a module that come all or not at
    all. ``zero_init`` are those that are zero in an untrained adapter of default settings; all of them zero means that
    the adapter has no effect. It is empty where that is not so.
    """

    value: str
    prefix: str
    prompt_learning: bool
    config_keys: frozenset[str]
    module_suffixes: tuple[str, ...]
    shared_suffixes: tuple[str, ...]
    groups: tuple[tuple[str, ...], ...]
    zero_init: tuple[str, ...]


REMOVED_TYPES = {{{removed}}}
"""Types of older releases that today's does not read, with the last minor release that did."""

TRAINABLE_TOKENS_SUFFIXES = ("token_adapter.trainable_tokens_delta", "trainable_tokens_delta")
"""How the rows of single tokens are saved: beside another type, and as a type of their own."""

EMBEDDING_LAYER_NAMES = {embeddings!r}
"""Modules that PEFT saves whole once they are targeted or the vocabulary was resized."""

AUTOMATIC_HEADS = {{
    "SEQ_CLS": ("classifier", "score"),
    "TOKEN_CLS": ("classifier", "score"),
    "QUESTION_ANS": ("qa_outputs",),
}}
"""Modules that PEFT adds to ``modules_to_save`` by ``task_type``; a model has one of them."""

_COMMON = frozenset({common!r})


def _keys(words: str) -> frozenset[str]:
    return _COMMON | frozenset(words.split())


_TYPES = (
{entries},
)

PEFT_TYPES: dict[str, PeftType] = {{kind.value: kind for kind in _TYPES}}
"""Every type by its value."""
'''


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    main()
