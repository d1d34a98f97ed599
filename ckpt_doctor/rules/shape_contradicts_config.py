"""CKD513."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from ckpt_doctor.analysis.architecture.adapters import BaseModules, base_modules
from ckpt_doctor.analysis.architecture.expected import key_of
from ckpt_doctor.core.actions import Action, EditJson
from ckpt_doctor.core.architecture import Misshapen
from ckpt_doctor.core.checkpoint import Checkpoint
from ckpt_doctor.core.findings import Finding, Severity
from ckpt_doctor.core.policy import Policy
from ckpt_doctor.core.wording import counted, listed
from ckpt_doctor.knowledge.adapter_keys import base_module

from ._kit.adapter_view import AdapterView, adapters
from ._kit.model_view import ModelView, judged_models
from ._kit.rule import Rule


class ShapeContradictsConfig(Rule):
    """A tensor has another shape than `config.json` gives it.

    ## What it does
    Computes the shape of each tensor of a whole transformers model from `config.json` and compares. For an adapter
    whose base has its `config.json` on this machine, compares the inputs of `lora_A` and the outputs of `lora_B` with
    those of the base's module. Only plain floating-point tensors are judged: packed ones have other shapes.

    ## Why is this bad?
    `from_pretrained` raises `size mismatch`, or with `ignore_mismatched_sizes` fills the tensor with random values.
    Servers that allocate by the config read past the end, or refuse.

    ## Example
    `"vocab_size": 151936`, and `model.embed_tokens.weight` has 151,940 rows: the embedding was resized, and an older
    config was copied beside it.

    ## What to do
    Take the config that was saved with the weights, or correct the setting.

    ## Fix safety
    Unsafe: offered for the vocabulary's size only, where every matrix of the vocabulary agrees on another one. The
    weights might be the wrong part of the two.

    ## References
    unslothai/unsloth-zoo#1073
    """

    code = "CKD513"
    name = "shape-contradicts-config"
    severity = Severity.ERROR
    needs = "headers and configs"
    fix = "unsafe"

    def check(self, checkpoint: Checkpoint, policy: Policy) -> Iterator[Finding]:
        """See :meth:`Rule.check`."""
        for model in judged_models(checkpoint):
            yield from self._model(checkpoint, model)
        for view in adapters(checkpoint):
            modules = base_modules((view.part.adapter and view.part.adapter.base_config) or {})
            if modules is not None:
                yield from self._adapter(view, modules)

    def _model(self, checkpoint: Checkpoint, model: ModelView) -> Iterator[Finding]:
        groups: dict[tuple[str | None, int | None, str], list[Misshapen]] = {}
        for item in model.fit.misshapen:
            if item.field is None or item.field.rpartition(".")[2] != "num_labels":
                key = "" if item.field is not None else key_of(item.name)
                groups.setdefault((item.field, item.size, key), []).append(item)
        for (field, size, _), items in groups.items():
            others = {item.size for item in model.fit.misshapen if item.field == field}
            sure = field is not None and others == {size} and field not in model.fit.confirmed
            yield self.finding(
                _statement(model, field, size, items),
                path=items[0].file,
                tensors=[item.name for item in items],
                evidence={
                    "shape": list(items[0].shape),
                    "expected": list(items[0].expected),
                    **({"field": field, "size": size} if field is not None else {}),
                },
                fix=self.repair(
                    checkpoint,
                    f"set {field} to {size} in {model.config}",
                    _corrected(model, field, size) if sure and field is not None and size is not None else (),
                    unsafe=True,
                ),
            )

    def _adapter(self, view: AdapterView, modules: BaseModules) -> Iterator[Finding]:
        wrong: dict[str, str] = {}
        tensors = view.file.by_name
        for module, names in view.modules.items():
            path = base_module(module)
            first, second = (tensors.get(names.get(half, "")) for half in ("lora_A.weight", "lora_B.weight"))
            if first is None or second is None or len(first.shape) != 2 or len(second.shape) != 2 or module != path:
                continue
            size = modules.features(path)
            own = (first.shape[1], second.shape[0])
            # GPT-2's Conv1D stores its weight the other way round.
            if size is not None and own not in (size, size[::-1]):
                wrong[first.name] = f"{path} maps {size[0]} to {size[1]} features, and the adapter {own[0]} to {own[1]}"
        if wrong:
            yield self.finding(
                f"{counted(len(wrong), 'module')} of the base {'has' if len(wrong) == 1 else 'have'} other sizes by "
                f"its config.json: {listed(wrong.values(), 2)}. PEFT refuses the adapter: load it onto the model it "
                "was trained on.",
                path=view.file.path,
                tensors=wrong,
            )


def _statement(model: ModelView, field: str | None, size: int | None, items: list[Misshapen]) -> str:
    names = listed(item.name for item in items)
    config, cls, first = model.config, model.fit.cls, items[0]
    if field is not None:
        one = len(items) == 1
        return (
            f"{field} in {config} does not fit: {names} {'has' if one else 'have'} {size:,} there, in the shape "
            f"{list(first.shape)} where the config gives {_shape(first)}. from_pretrained refuses the file. Take the "
            f"config that was saved with the weights, or set {field} to {size}."
        )
    return (
        f"{names} {'has' if len(items) == 1 else 'have'} the shape {list(first.shape)}, and {cls} gives "
        f"{'it' if len(items) == 1 else 'them'} {_shape(first)} by {config}. from_pretrained refuses the file. Take "
        "the config that was saved with the weights, or save the model again."
    )


def _shape(item: Misshapen) -> str:
    return "[" + ", ".join("?" if size is None else str(size) for size in item.expected) + "]"


def _corrected(model: ModelView, field: str, size: int) -> tuple[Action, ...]:
    """Set the vocabulary's size, which may stand in a section of the config."""
    section, _, name = field.rpartition(".")
    config: Mapping[str, Any] = (model.part.config.data if model.part.config is not None else None) or {}
    if name != "vocab_size" or "." in section:
        return ()
    inner = config.get(section) if section else config
    if not isinstance(inner, Mapping) or type(inner.get(name)) is not int:
        return ()
    values = {section: {**inner, name: size}} if section else {name: size}
    return (EditJson(model.config, values),)
