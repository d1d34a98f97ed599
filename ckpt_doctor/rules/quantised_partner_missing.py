"""CKD314."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from ckpt_doctor.analysis.sharding import is_whole
from ckpt_doctor.core.checkpoint import Checkpoint
from ckpt_doctor.core.findings import Finding, Severity
from ckpt_doctor.core.parts import Part
from ckpt_doctor.core.policy import Policy
from ckpt_doctor.core.wording import counted, listed, shape
from ckpt_doctor.knowledge.quantisation import BNB_4BIT, FLOAT8, INT8, Scheme, Settings, mentions_quantiser, settings_of

from ._kit.packed_weights import Lack, Misfit, Packed, PackedWeights
from ._kit.rule import Rule

_AGAIN = "Take the file from where the model was published, or quantise the model again."
_OUTCOMES = {
    "bitsandbytes": "transformers loads them without any message, and the first forward pass raises.",
    "torchao": "transformers raises, because the header lacks torchao's metadata.",
    "fp8": "On a CPU transformers loads them as they are; on a GPU it casts them to float8 and multiplies them by "
    "uninitialised scales.",
}
_MILD = "transformers loads the model without it; other readers of the scheme raise."
_REPLACED = "transformers then expects other tensors, ignores these, and starts from random weights."
# What transformers 5.24 expects on disk for each of these methods. Others quantise plain weights while they load them
# (Quanto), or read them as they are (MXFP4).
_NEVER_PLAIN = frozenset(("bitsandbytes", "gptq", "awq", "compressed-tensors", "torchao", "fp8"))
_SHORT = 40  # what a message repeats of a config
_WORDS_OF_CODES = frozenset(("float64", "float32", "float16", "bfloat16"))


class QuantisedPartnerMissing(Rule):
    """A quantised weight lacks its scale or another partner, or it does not fit what the config says.

    ## What it does
    A quantiser stores codes in place of a weight, and beside them what the codes mean: scales, zero points, a table of
    values, a shape. For each packed weight of a model this looks for those partners, and compares their shapes with
    those that the group or block size in `quantization_config` gives. It also reports partners without codes, packed
    weights beside a `config.json` without any `quantization_config`, and a `quantization_config` beside weights of
    which none is packed. It knows bitsandbytes (4 and 8 bit), GPTQ, AWQ, compressed-tensors, float8 by blocks, rows or
    tensors, MXFP4, HQQ, EETQ, Quanto and torchao. A partner that depends on settings counts as missing where the same
    module has it in other layers. Weights that were cast to float8 without a scale are fine.

    ## Why is this bad?
    transformers loads many of these without an error. Float8 weights without their scales are a hundred times too
    large or more; bitsandbytes weights without their nested scales are garbage; layers of compressed-tensors compute
    NaN; packed weights without a `quantization_config` are ignored, and the model starts from random ones.

    ## Example
    `model.layers.1.mlp.down_proj.weight` is float8, and `model.layers.1.mlp.down_proj.weight_scale_inv` is in no shard.

    ## What to do
    Take the file from where the model was published, or quantise the model again. If only the config is wrong, put the
    `quantization_config` back, or remove it from a model whose weights were dequantised.

    ## References
    vllm-project/vllm#54444, vllm-project/vllm#57108
    """

    code = "CKD314"
    name = "quantised-partner-missing"
    severity = Severity.ERROR
    needs = "headers and configs"

    def check(self, checkpoint: Checkpoint, policy: Policy) -> Iterator[Finding]:
        """See :meth:`Rule.check`."""
        if checkpoint.kind.covers != "model":
            return
        for part in checkpoint.parts_with("model"):
            if is_whole(part):
                config = (part.config.data if part.config is not None else None) or {}
                settings = settings_of(config)
                weights = PackedWeights(part.loaded_tensors, settings)
                yield from self._without_partner(part, weights)
                yield from self._of_other_shape(part, weights)
                yield from self._without_codes(part, weights)
                if weights.found and settings is None:
                    yield from self._without_settings(checkpoint, part, weights)
                elif settings is not None and not weights.found:
                    yield from self._not_packed(part, weights, settings)

    def _without_partner(self, part: Part, weights: PackedWeights) -> Iterator[Finding]:
        groups: dict[Scheme, list[Lack]] = defaultdict(list)
        for lack in weights.lacks():
            groups[lack.packed.scheme].append(lack)
        for scheme, lacks in groups.items():
            codes = {lack.packed.codes.name: lack for lack in lacks}
            mild = all(lack.partner.mild for lack in lacks)
            first = next(lack for lack in lacks if mild or not lack.partner.mild)
            outcome = _MILD if mild else _outcome(scheme, weights.settings)
            yield self.finding(
                f"{counted(len(codes), 'packed weight')} ({scheme.title}) of {len(_of(weights, scheme)):,} "
                f"cannot be decoded: {first.name} is missing for "
                f"{first.packed.codes.name}{_more(lacks)}. {outcome} {_AGAIN}",
                path=_path(part, first.packed.codes.name),
                tensors=codes,
                evidence={"scheme": scheme.title, "missing": [lack.name for lack in lacks[:20]]},
                severity=Severity.WARNING if mild else None,
            )

    def _of_other_shape(self, part: Part, weights: PackedWeights) -> Iterator[Finding]:
        groups: dict[Scheme, list[Misfit]] = defaultdict(list)
        for misfit in weights.misfits():
            groups[misfit.packed.scheme].append(misfit)
        for misfits in groups.values():
            packed, partner, expected = misfits[0]
            wanted = " or ".join(shape(dims) for dims in expected[:3])
            source = _numbers(weights.settings)
            yield self.finding(
                f"{partner.name} is {shape(partner.shape)}, and beside {packed.codes.name} of "
                f"{shape(packed.codes.shape)} it must be {wanted}{source}"
                f"{'' if len(misfits) == 1 else f'; {len(misfits) - 1:,} more like this'}. A loader raises, or "
                f"multiplies weights by the numbers of others. Compare {_config(part)} with that of the model as it "
                f"was published; if they agree: {_AGAIN[0].lower()}{_AGAIN[1:]}",
                path=_path(part, partner.name),
                tensors=[misfit.partner.name for misfit in misfits],
                evidence={
                    misfit.partner.name: {"shape": list(misfit.partner.shape), "codes": list(misfit.packed.codes.shape)}
                    for misfit in misfits[:20]
                },
            )

    def _without_codes(self, part: Part, weights: PackedWeights) -> Iterator[Finding]:
        orphans: dict[str, list[str]] = defaultdict(list)
        for tensor, codes in weights.orphans():
            orphans[codes].append(tensor.name)
        if orphans:
            codes, names = next(iter(orphans.items()))
            yield self.finding(
                f"{counted(len(orphans), 'packed weight')} {'is' if len(orphans) == 1 else 'are'} missing, but "
                f"{'its' if len(orphans) == 1 else 'their'} scales are there: {listed(names)} without "
                f"{codes}. A loader starts {'this weight' if len(orphans) == 1 else 'these weights'} at random, or "
                f"raises. {_AGAIN}",
                path=_path(part, names[0]),
                tensors=[name for names in orphans.values() for name in names],
                evidence={"missing": list(orphans)[:20]},
            )

    def _without_settings(self, checkpoint: Checkpoint, part: Part, weights: PackedWeights) -> Iterator[Finding]:
        config = part.config.data if part.config is not None else None
        if not config or not config.get("model_type") or "auto_map" in config or mentions_quantiser(config):
            return
        # Quanto and older releases of AWQ and GPTQ write settings into a file of their own.
        if any("quant" in other.path.rpartition("/")[2].lower() for other in checkpoint.others):
            return
        first = weights.found[0]
        yield self.finding(
            f"{counted(len(weights.found), 'weight')} {'is' if len(weights.found) == 1 else 'are'} packed "
            f"({first.scheme.title}), such as {first.codes.name}, and {_config(part)} has no quantization_config. "
            f"{_unsaid(first)} Put back the quantization_config of the model as it was published.",
            path=part.config.path if part.config is not None else None,
            tensors=[packed.codes.name for packed in weights.found],
            evidence={"scheme": first.scheme.title},
        )

    def _not_packed(self, part: Part, weights: PackedWeights, settings: Settings) -> Iterator[Finding]:
        if not _must_be_packed(part, settings) or any(
            tensor.dtype.name not in _WORDS_OF_CODES for tensor in weights.tensors.values()
        ):
            return
        plain = [
            tensor.name
            for tensor in weights.tensors.values()
            if _is_matrix_of_a_layer(tensor.name, tensor.shape)
            and not settings.excludes(tensor.name.removesuffix(".weight"))
        ]
        if plain:
            yield self.finding(
                f"{_config(part)} has a quantization_config ({settings.method}), and none of the "
                f"{counted(len(weights.tensors), 'tensor')} is packed: {listed(plain)}. "
                f"{_OUTCOMES.get(settings.method, _REPLACED)} If the weights were dequantised or merged, "
                "remove quantization_config from it; else quantise the model again.",
                path=part.config.path if part.config is not None else None,
                tensors=plain,
                evidence={"quant_method": settings.method},
                severity=Severity.WARNING if settings.method == "fp8" else None,
            )


def _must_be_packed(part: Part, settings: Settings) -> bool:
    """Whether weights that are not packed cannot be what this method wrote."""
    given = settings.given
    config = (part.config.data if part.config is not None else None) or {}
    if settings.method not in _NEVER_PLAIN or not settings.uniform or not config.get("model_type"):
        return False  # other libraries than transformers read these settings in other ways
    if settings.method == "torchao":  # other formats hold its tensors as objects
        return all(file.is_safetensors for file in part.preferred)
    if settings.method != "compressed-tensors":
        return True
    # A model that is being calibrated, or whose cache alone is quantised, has plain weights.
    linear = any(group.get("weights") and "Linear" in _strings(group.get("targets")) for group in settings.groups)
    return linear and given.get("quantization_status") == "compressed" and given.get("format") not in (None, "dense")


def _strings(value: Any) -> list[str]:
    return [item for item in value if isinstance(item, str)] if isinstance(value, list) else []


def _is_matrix_of_a_layer(name: str, shape: tuple[int, ...]) -> bool:
    return name.endswith("_proj.weight") and len(shape) == 2 and any(word.isdecimal() for word in name.split("."))


def _outcome(scheme: Scheme, settings: Settings) -> str:
    return INT8.outcome if scheme is FLOAT8 and settings.method == "compressed-tensors" else scheme.outcome


def _unsaid(packed: Packed) -> str:
    """What transformers 5.24 does with codes where no config says that they are codes."""
    if packed.scheme is BNB_4BIT:
        return "transformers raises, because the shapes differ."
    if packed.codes.name == f"{packed.stem}.weight":
        return "transformers takes the codes for the weights themselves, and says only that the scales are unexpected."
    return "transformers calls them unexpected, and starts from random weights."


def _of(weights: PackedWeights, scheme: Scheme) -> list[str]:
    return [packed.codes.name for packed in weights.found if packed.scheme is scheme]


def _more(lacks: list[Lack]) -> str:
    return f"; {len(lacks) - 1:,} more like this" if len(lacks) > 1 else ""


def _numbers(settings: Settings) -> str:
    """The numbers of the config that decide about shapes."""
    given: Mapping[str, Any] = {**settings.given, **settings.weights}
    keys: Iterable[str] = ("weight_block_size", "block_structure", "bits", "num_bits", "group_size", "strategy")
    said = [f"{key} {given[key]}" for key in keys if len(repr(given.get(key))) < _SHORT and given.get(key) is not None]
    return f" ({', '.join(said)})" if said else ""


def _config(part: Part) -> str:
    return part.config.path if part.config is not None else "config.json"


def _path(part: Part, name: str) -> str | None:
    return next((file.path for file in part.preferred for tensor in file.tensors if tensor.name == name), None)
