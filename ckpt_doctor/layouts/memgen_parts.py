"""The parts that MemGen checkpoints are made of, and the sizes that must agree between them.

Names and shapes follow the modules ``MemGenModel``, ``MemGenWeaver`` and ``MemGenTrigger``: two ``Linear`` projections
between the hidden sizes of reasoner and weaver, two banks of query latents, in later versions a ``LayerNorm`` and a
scale for each bank, and the trigger's ``Linear(hidden, 2)``.
"""

from __future__ import annotations

from collections.abc import Iterable

from ckpt_doctor.core.entries import Entry, KnownSize
from ckpt_doctor.core.parts import ConfigFile, Part

from .adapters import hidden_sizes
from .reading import CheckpointReader

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


def known_sizes(parts: Iterable[Part], config: ConfigFile | None) -> tuple[KnownSize, ...]:
    """What adapters, their base models and MemGen's ``config.json`` say about the named dimensions."""
    sizes: list[KnownSize] = []
    for part in parts:
        if part.role != "adapter" or part.secondary:
            continue
        dim = TRIGGER_HIDDEN if part.name.startswith("trigger") else WEAVER_HIDDEN
        sizes += hidden_sizes(part, dim)
    for bank in ("prompt", "inference"):
        length = (config.data or {}).get(f"{bank}_latents_len") if config else None
        if isinstance(length, int):
            sizes.append(KnownSize(f"{bank} latents length", length, f"{bank}_latents_len in config.json"))
    return tuple(sizes)
