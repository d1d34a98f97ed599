"""The parts that MemGen checkpoints are made of, and the sizes that must agree between them.

Names and shapes follow the modules ``MemGenModel``, ``MemGenWeaver`` and ``MemGenTrigger``: two ``Linear`` projections
between the hidden sizes of reasoner and weaver, two banks of query latents, in later versions a ``LayerNorm`` and a
scale for each bank, and the trigger's ``Linear(hidden, 2)``.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from ckpt_doctor.checkpoint import ConfigFile, Entry, KnownSize, Part

from .adapters import adapter_part, holds_adapter
from .reading import CheckpointReader, join

WEAVER_HIDDEN = "weaver hidden size"
REASONER_HIDDEN = "reasoner hidden size"
TRIGGER_HIDDEN = "trigger hidden size"

PROJECTIONS = (
    Entry("reasoner_to_weaver.weight", (WEAVER_HIDDEN, REASONER_HIDDEN)),
    Entry("reasoner_to_weaver.bias", (WEAVER_HIDDEN,)),
    Entry("weaver_to_reasoner.weight", (REASONER_HIDDEN, WEAVER_HIDDEN)),
    Entry("weaver_to_reasoner.bias", (REASONER_HIDDEN,)),
)
LATENTS = (
    Entry("prompt_query_latents", ("prompt latents length", WEAVER_HIDDEN)),
    Entry("inference_query_latents", ("inference latents length", WEAVER_HIDDEN)),
)
LATENT_NORMS = (
    *(
        Entry(f"{bank}_latent_ln.{parameter}", (WEAVER_HIDDEN,))
        for bank in ("prompt", "inference")
        for parameter in ("weight", "bias")
    ),
    Entry("prompt_latent_scale", (1,)),
    Entry("inference_latent_scale", (1,)),
)
TRIGGER_HEAD = (
    Entry("output_layer.weight", (2, TRIGGER_HIDDEN)),
    Entry("output_layer.bias", (2,)),
)


def side_part(reader: CheckpointReader, path: str, name: str, role: str, entries: tuple[Entry, ...]) -> Part:
    """The side file at ``path``, which must hold ``entries`` and nothing else; without files where it is absent."""
    present = reader.disk.has_file(reader.root / path)
    return Part(
        name=name,
        role=role,
        files=reader.weights([path] if present else []),
        expected_files=(path,),
        entries=entries,
        complete_entries=True,
    )


def adapters_below(reader: CheckpointReader, directory: str, wanted: str, *, nesting_is_usual: bool) -> list[Part]:
    """The adapter named ``wanted`` in ``directory``, and after it those that lie beside it.

    PEFT writes an adapter called ``default`` into the folder itself and every other into a folder of its own name.
    ``nesting_is_usual`` says that the loaders of this layout look there.
    """
    folder = reader.folder(directory)
    children = {name: folder.child(name) for name in folder.folders}
    # A folder that nobody can look into may hold an adapter, so it must not be passed over.
    nested = [name for name, child in children.items() if holds_adapter(child) or child.listing_error() is not None]
    direct = holds_adapter(folder) or not nested
    if nesting_is_usual and (wanted in nested or not holds_adapter(folder)):
        primary = wanted
    elif direct:
        primary = ""
    else:
        primary = wanted if wanted in nested else nested[0]
    first = adapter_part(
        reader,
        join(directory, primary) if primary else directory,
        f"{wanted} adapter",
        nested_from=directory if primary and not nesting_is_usual else None,
    )
    others = (name for name in nested if name != primary)
    return [
        first,
        *(adapter_part(reader, join(directory, name), f"{name} adapter", secondary=True) for name in others),
    ]


# Modules whose input is the hidden state, by the name they bear in today's causal language models.
_READS_HIDDEN_STATE = ("q_proj", "k_proj", "v_proj", "qkv_proj", "gate_proj", "up_proj", "c_attn", "query_key_value")


def known_sizes(parts: Iterable[Part], config: ConfigFile | None) -> tuple[KnownSize, ...]:
    """What adapters, their base models and MemGen's ``config.json`` say about the named dimensions."""
    sizes: list[KnownSize] = []
    for part in parts:
        if part.role != "adapter" or part.secondary:
            continue
        dim = TRIGGER_HIDDEN if part.name.startswith("trigger") else WEAVER_HIDDEN
        hidden = _adapter_input_size(part)
        if hidden is not None:
            sizes.append(KnownSize(dim, hidden, f"the {part.name}'s lora_A"))
        base = _hidden_size(part.base_config or {})
        if base is not None:
            sizes.append(KnownSize(dim, base, f"hidden_size of the {part.name}'s base model"))
    for bank in ("prompt", "inference"):
        length = (config.data or {}).get(f"{bank}_latents_len") if config else None
        if isinstance(length, int):
            sizes.append(KnownSize(f"{bank} latents length", length, f"{bank}_latents_len in config.json"))
    return tuple(sizes)


def _adapter_input_size(part: Part) -> int | None:
    """The hidden size that a LoRA was trained on, where all its attention and MLP inputs agree on one."""
    widths = {
        tensor.shape[1]
        for tensor in part.tensors
        if len(tensor.shape) == 2
        and ".lora_A." in tensor.name
        and tensor.name.partition(".lora_A.")[0].rpartition(".")[2] in _READS_HIDDEN_STATE
    }
    return widths.pop() if len(widths) == 1 else None


def _hidden_size(config: Any) -> int | None:
    """``hidden_size`` of a ``config.json``, or that of its text model; GPT-2 calls it ``n_embd``."""
    text = config.get("text_config")
    for section in (config, text if isinstance(text, dict) else {}):
        for key in ("hidden_size", "n_embd", "d_model"):
            if isinstance(section.get(key), int):
                return int(section[key])
    return None
