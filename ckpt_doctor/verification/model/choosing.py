"""Which class of transformers the base of an adapter is built as: the one in which the adapter's modules exist.

A LoRA names its modules by their paths in the class that it was trained on. That need not be the class of its task: a
wrapper such as ``Qwen3_5ForConditionalGeneration`` calls ``model.language_model.layers`` what the ``Auto`` class for
causal language models calls ``model.layers``.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

from ckpt_doctor.core.coverage import ModelClass
from ckpt_doctor.core.parts import Part
from ckpt_doctor.core.wording import counted, listed
from ckpt_doctor.knowledge.adapter_keys import base_module, parse_all
from ckpt_doctor.knowledge.peft_types import PEFT_TYPES
from ckpt_doctor.runtime.dependencies import require
from ckpt_doctor.verification.hosting.isolation import run
from ckpt_doctor.verification.names.segments import Edit, one_edit

from .bases import BY_TASK, attempted, hollow_model, named_classes

_FIRST = (
    "AutoModelForCausalLM",
    "AutoModelForImageTextToText",
    "AutoModelForMultimodalLM",
    "AutoModelForSeq2SeqLM",
    "AutoModelForSpeechSeq2Seq",
    "AutoModelForMaskedLM",
    "AutoModelForSequenceClassification",
    "AutoModelForTokenClassification",
    "AutoModelForQuestionAnswering",
    "AutoModel",
)
"""The classes that are tried before any other one that transformers has for the config."""
_MOST = 12
"""Classes that are built, each without memory, before the best of them is taken."""


class Candidate(NamedTuple):
    """A class to build with, and why it is one. ``usual`` is set for what ``AutoPeftModel`` would take."""

    kind: Any
    reason: str
    usual: bool = False


class Choice(NamedTuple):
    """The class that was taken, a model of it without memory, and the report's words for it.

    ``edit`` is the one change of a path by which all modules would exist, where only that is wrong.
    """

    kind: Any
    model: Any
    report: ModelClass
    edit: Edit | None = None


def choose(name: str, config: Any, task: str | None, part: Part) -> Choice:
    """The class for the base ``name`` of the adapter in ``part``.

    The first one in which all modules exist: what ``AutoPeftModel`` would take, what the base's config names, what
    else transformers has for it. Where none has them all, the first of those that have the most. Raises
    ``VerificationError`` where transformers can build none.
    """
    paths = adapted_paths(part)
    best: tuple[Candidate, Any, list[str]] | None = None
    usual: tuple[str, int] | None = None
    found: list[Candidate] = []
    for candidate in _candidates(config, task, part):
        found.append(candidate)
        outcome = run(lambda kind=candidate.kind: hollow_model(config, kind))  # type: ignore[misc]
        if outcome.error is not None or not _can_be_wrapped(outcome.result, task):
            continue
        absent = _absent(outcome.result, paths)
        if candidate.usual:
            usual = type(outcome.result).__name__, len(paths) - len(absent)
        if best is None or len(absent) < len(best[2]):
            best = candidate, outcome.result, absent
        if not absent:
            break
    if best is None:
        kind = found[0].kind if found else require("transformers").AutoModel
        best = Candidate(kind, "nothing else is known"), attempted(name, lambda: hollow_model(config, kind)), paths
    taken, model, absent = best
    edit = one_edit(dict.fromkeys(paths, None), dict.fromkeys(_places(model), None)) if absent else None
    report = ModelClass(
        type(model).__name__,
        taken.reason,
        _loader(task),
        usual[0] if usual is not None else None,
        len(paths),
        len(paths) - len(absent),
        tuple(absent),
        0 if usual is None else usual[1],
    )
    return Choice(taken.kind, model, report, edit)


def kinds(config: Any) -> Iterator[Any]:
    """Every class that transformers could build a whole model of this config as, the likely ones first."""
    return (candidate.kind for candidate in _candidates(config, None, None))


def none_fits(choice: Choice) -> str:
    """What to do where no class has all modules of the adapter; empty if one has."""
    report = choice.report
    if not report.absent:
        return ""
    text = f"{counted(len(report.absent), 'module')} of the adapter ({listed(report.absent)}) "
    text += f"{'does' if len(report.absent) == 1 else 'do'} not exist in {report.name}, nor in another class of its "
    text += "config. "
    if choice.edit is not None:
        return f"{text}{choice.edit.words('modules')} {choice.edit.for_peft()}"
    return f"{text}Name the base that the adapter was trained on with --model."


def _loader(task: str | None) -> str:
    return BY_TASK[task].replace("AutoModel", "AutoPeftModel") if task in BY_TASK else "AutoPeftModel"


def _candidates(config: Any, task: str | None, part: Part | None) -> Iterator[Candidate]:
    """Every class once, in the order in which they are tried."""
    seen: set[str] = set()
    for candidate in _all_candidates(config, task, part):
        name = _concrete(candidate.kind, config)
        if name not in seen and len(seen) < _MOST:
            seen.add(name)
            yield candidate


def _all_candidates(config: Any, task: str | None, part: Part | None) -> Iterator[Candidate]:
    transformers = require("transformers")
    if task in BY_TASK:
        kind = getattr(transformers, BY_TASK[task])
        if _has(kind, config):
            yield Candidate(kind, f"the class for task_type {task}", usual=True)
    elif part is not None:
        yield from _of_auto_mapping(part)
    for kind in named_classes(config):
        yield Candidate(kind, "named in the base's config.json")
    others = sorted(name for name in dir(transformers) if name.startswith("AutoModel") and name not in _FIRST)
    for name in (*_FIRST, *others):
        kind = getattr(transformers, name)
        if _has(kind, config):
            yield Candidate(kind, f"the class that {name} builds")


def _of_auto_mapping(part: Part) -> Iterator[Candidate]:
    """The class that PEFT writes down where an adapter has no task, if it is one of transformers."""
    data = (part.config.data if part.config is not None else None) or {}
    mapping = data.get("auto_mapping")
    name = mapping.get("base_model_class") if isinstance(mapping, dict) else None
    kind = getattr(require("transformers"), name, None) if isinstance(name, str) else None
    if hasattr(kind, "_from_config"):
        yield Candidate(kind, "named in auto_mapping of adapter_config.json", usual=True)


def _has(kind: Any, config: Any) -> bool:
    return type(config) in getattr(kind, "_model_mapping", ())


def _concrete(kind: Any, config: Any) -> str:
    """The name of the class that an ``Auto`` class builds."""
    if not hasattr(kind, "_model_mapping"):
        return str(kind.__name__)
    found = kind._model_mapping[type(config)]
    return str((found[0] if isinstance(found, (tuple, list)) else found).__name__)


def adapted_paths(part: Part) -> list[str]:
    """The paths of the modules that the adapter's tensors are for, as the base calls them."""
    data = (part.config.data if part.config is not None else None) or {}
    peft_type = data.get("peft_type")
    kind = PEFT_TYPES.get(peft_type) if isinstance(peft_type, str) else None
    if kind is not None and kind.prompt_learning:
        return []
    keys = parse_all((tensor.name for tensor in part.loaded_tensors), kind)
    paths = (
        key.module if key.parameter is not None else key.module.rpartition(".")[0] for key in keys if not key.shared
    )
    return sorted({base_module(path) for path in paths} - {""})


def _can_be_wrapped(model: Any, task: str | None) -> bool:
    """True if PEFT can put its class for this task around the model: it asks models that generate for this method."""
    return task not in ("CAUSAL_LM", "SEQ_2_SEQ_LM") or hasattr(model, "prepare_inputs_for_generation")


def _absent(model: Any, paths: list[str]) -> list[str]:
    if not paths:
        return []
    places = _places(model)
    return [path for path in paths if path not in places]


def _places(model: Any) -> set[str]:
    return {name for name, _ in model.named_modules()}
