"""CKD303."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from ckpt_doctor.analysis.sharding import is_whole
from ckpt_doctor.core.checkpoint import Checkpoint
from ckpt_doctor.core.findings import Finding, Severity
from ckpt_doctor.core.parts import Part
from ckpt_doctor.core.policy import Policy
from ckpt_doctor.core.wording import counted, listed

from ._kit.adapter_view import AdapterView, adapters, names_in
from ._kit.rule import Rule

if TYPE_CHECKING:
    from ckpt_doctor.core.architecture import Architecture

# What transformers' models call the list of their layers.
_LISTS = frozenset(("layers", "layer", "h", "blocks", "block"))
_MOST_LAYERS = 10_000
_COUNTS = ("num_hidden_layers", "n_layer", "n_layers", "num_layers")
_SIDES = {"encoder": ("encoder_layers",), "decoder": ("decoder_layers", "num_decoder_layers")}

# Causal models in which every layer has the same modules, so that an adapter on one layer is on all of them.
_UNIFORM = frozenset(
    ("llama", "mistral", "qwen2", "qwen3", "gemma", "gemma2", "gemma3_text", "phi", "phi3", "gpt2", "gpt_neox", "gptj")
) | frozenset(("opt", "bloom", "falcon", "stablelm", "olmo", "olmo2", "starcoder2", "cohere", "granite", "mixtral"))
_RESTRICTIONS = ("layers_to_transform", "exclude_modules", "layers_pattern", "target_parameters", "layer_replication")


class LayerGap(Rule):
    """Layers in the middle, or at the end, are missing.

    ## What it does
    In a whole model, compares the layers in the file with the number that `config.json` states: by what the class in
    `architectures` has in each layer where that is known, else by the names. In an adapter, looks
    for layers on which a module that is adapted elsewhere is not. For adapters it is an error only where the
    `config.json` of a local base model shows layers that are all alike and the adapter's configuration restricts
    nothing (`layers_to_transform`, a regular expression, `exclude_modules`); otherwise it is a note.

    ## Why is this bad?
    The missing layers stay at random initialisation, or at the base model's weights.

    ## Example
    A file with `model.layers.0` to `model.layers.30` beside `"num_hidden_layers": 32`.

    ## What to do
    Look for a lost shard; else save the model again.
    """

    code = "CKD303"
    name = "layer-gap"
    severity = Severity.ERROR
    needs = "headers and configs"

    def check(self, checkpoint: Checkpoint, policy: Policy) -> Iterator[Finding]:
        """See :meth:`Rule.check`."""
        for part in checkpoint.parts_with("model"):
            if part.architecture is not None:
                yield from self._known_model(part, part.architecture)
            elif checkpoint.kind.covers == "model" and part.config and part.config.data and is_whole(part):
                yield from self._whole_model(part, part.config.data)
        for view in adapters(checkpoint):
            yield from self._adapter(view)

    def _known_model(self, part: Part, fit: Architecture) -> Iterator[Finding]:
        for found in fit.layers:
            yield self._absent(part, found.stack, list(found.indices), found.layers, found.total)

    def _whole_model(self, part: Part, config: Mapping[str, Any]) -> Iterator[Finding]:
        stacks = _stacks(tensor.name for tensor in part.loaded_tensors)
        for stack, missing, layers in _gaps(stacks, config):
            yield self._absent(part, stack, missing, layers, len(missing))

    def _absent(self, part: Part, stack: str, missing: list[int], layers: int, count: int) -> Finding:
        names = [f"{stack}.{index}" for index in missing]
        rest = f" and {count - 3:,} more" if count > 3 else ""
        return self.finding(
            f"{counted(count, 'layer')} of {layers:,} {'is' if count == 1 else 'are'} missing: "
            f"{', '.join(names[:3])}{rest}. {'It stays' if count == 1 else 'They stay'} at random initialisation. Look "
            "for a lost shard, or save the model again.",
            path=part.preferred[0].path,
            tensors=names,
            evidence={"stack": stack, "missing": missing[:50], "layers": layers},
        )

    def _adapter(self, view: AdapterView) -> Iterator[Finding]:
        seen: dict[tuple[str, str], set[int]] = {}
        for module in view.modules:
            found = _place(module)
            if found:
                stack, index, inner = found
                seen.setdefault((stack, inner), set()).add(index)
        count = _uniform_layers(view)
        gaps = []
        for (stack, inner), layers in sorted(seen.items()):
            whole = range(count) if count is not None and max(layers) < count else range(min(layers), max(layers) + 1)
            # Where most are absent, these are not the layers of a model.
            if len(whole) > 4 * len(layers) + 4:
                continue
            gaps += [f"{stack}.{layer}.{inner}" for layer in whole if layer not in layers]
        if not gaps or any(view.settings.get(key) for key in _RESTRICTIONS):
            return
        sure = count is not None
        yield self.finding(
            f"{counted(len(gaps), 'module')} between adapted layers "
            f"{'has' if len(gaps) == 1 else 'have'} no adapter weights: {listed(gaps)}. "
            + (
                f"All {count} layers of the base model are alike and the configuration adapts all of them: weights are "
                "lost. Save the adapter again."
                if sure
                else "This is right if some layers have no such module, or were not meant to be adapted."
            ),
            path=view.file.path,
            tensors=gaps,
            evidence={"modules": gaps[:20], "layers": count},
            severity=None if sure else Severity.NOTE,
        )


def _place(name: str) -> tuple[str, int, str] | None:
    """The outermost list of layers that a name lies in, its index there, and the rest of the name."""
    words = name.split(".")
    for position, word in enumerate(words):
        if word.isdecimal():
            if not position or words[position - 1] not in _LISTS or len(word) > 5 or int(word) >= _MOST_LAYERS:
                return None
            return ".".join(words[:position]), int(word), ".".join(words[position + 1 :])
    return None


def _stacks(names: Iterable[str]) -> dict[str, set[int]]:
    """The outermost lists of layers: their names and the indices that occur."""
    stacks: dict[str, set[int]] = {}
    for name in names:
        found = _place(name)
        if found:
            stacks.setdefault(found[0], set()).add(found[1])
    return stacks


def _gaps(stacks: Mapping[str, set[int]], config: Mapping[str, Any]) -> Iterator[tuple[str, list[int], int]]:
    """Stack, missing indices and expected number of layers, where that can be told."""
    sides = {
        side: count for side, keys in _SIDES.items() for key in keys if (count := _integer(config, key)) is not None
    }
    judged = set()
    for side, count in sides.items():
        own = [stack for stack in stacks if side in stack.split(".")]
        if len(own) == 1:
            judged.add(own[0])
            missing = sorted(set(range(count)) - stacks[own[0]])
            if missing:
                yield own[0], missing, count
    if sides:
        return
    text = config.get("text_config")
    count = _layer_count(config) or (_layer_count(text) if isinstance(text, dict) else None)
    if not count or not stacks:
        return
    # Which stack the number is about is not said. If any has them all, nothing is missing from it; else it is the one
    # that comes closest, provided that it is most of one.
    if any(layers >= set(range(count)) for layers in stacks.values()):
        return
    stack, layers = max(stacks.items(), key=lambda item: (len(item[1]), item[0]))
    missing = sorted(set(range(count)) - layers)
    rivals = [other for name, other in stacks.items() if name != stack and 2 * len(other) >= count]
    if 2 * len(layers) >= count and max(layers) < count and not rivals:
        yield stack, missing, count


def _layer_count(config: Mapping[str, Any]) -> int | None:
    for key in _COUNTS:
        count = _integer(config, key)
        if count is not None:
            return count
    return None


def _integer(config: Mapping[str, Any], key: str) -> int | None:
    value = config.get(key)
    return value if isinstance(value, int) and 0 < value <= _MOST_LAYERS else None


def _uniform_layers(view: AdapterView) -> int | None:
    """The number of layers of the local base model, where each has the same modules and all are to be adapted."""
    base = view.part.adapter and view.part.adapter.base_config
    if not base or base.get("model_type") not in _UNIFORM or not names_in(view.settings.get("target_modules")):
        return None
    kinds = base.get("layer_types") or []
    if not isinstance(kinds, list) or not set(map(str, kinds)) <= {"full_attention", "sliding_attention"}:
        return None
    return _layer_count(base)
