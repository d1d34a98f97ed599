"""The tensors that MemGen's side files hold, and the sizes that must agree between them.

Names and shapes follow the modules ``MemGenModel``, ``MemGenWeaver`` and ``MemGenTrigger``: two ``Linear`` projections
between the hidden sizes of reasoner and weaver, two banks of query latents, in later versions a ``LayerNorm`` and a
scale for each bank, and the trigger's ``Linear(hidden, 2)``.
"""

from __future__ import annotations

from ckpt_doctor.core.entries import Entry

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
