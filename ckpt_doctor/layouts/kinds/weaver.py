"""A MemGen ``weaver/`` directory: a LoRA adapter, and ``projections.pt`` beside it."""

from __future__ import annotations

from ckpt_doctor.core.layout import Layout, LayoutPart, Sign

from .memgen_entries import LATENTS, PROJECTIONS, WEAVER_HIDDEN

_ADAPTER = "weaver_lora"
_SIDE_FILE = "projections.pt"
_SHORT = "MemGen weaver, short nesting"
# A trigger may have the projections beside it; its adapter tells it from a weaver.
_TRIGGERS = ("trigger_lora",)

KIND = Layout(
    "weaver",
    title="MemGen weaver",
    parts=(
        LayoutPart("adapter", (_ADAPTER, ""), "folder", "weaver", hidden_size=WEAVER_HIDDEN, gathers=("",)),
        LayoutPart(
            "projections",
            (_SIDE_FILE,),
            "file",
            "projections",
            entries=(*PROJECTIONS, *LATENTS),
            complete=True,
        ),
    ),
    folder="weaver",
    signs=(
        Sign(folders=(_ADAPTER,), place=_ADAPTER),
        # A folder that is called weaver is one as soon as any part of a weaver lies in it: a save may have stopped.
        Sign(named=True, adapters=("weaver",), unless=_TRIGGERS, place="", title=_SHORT),
        Sign(files=(_SIDE_FILE,), adapters=("weaver",), unless=_TRIGGERS, place="", title=_SHORT),
        Sign(files=(_SIDE_FILE,), adapters=("",), unless=_TRIGGERS, place=""),
        Sign(forced=True, adapters=("",), place=""),
        Sign(forced=True, place=_ADAPTER),
        Sign(named=True, files=(_SIDE_FILE,), unless=_TRIGGERS, place=_ADAPTER),
        # The name alone is not MemGen's: a lone file of that name counts only if it holds one of the entries.
        Sign(holds=_SIDE_FILE, alone=True, unless=_TRIGGERS, place=_ADAPTER),
    ),
    expects="safetensors",
    family="memgen",
    loads="memgen",
    covers="adapter",
    resumes=False,
    trainer="MemGen",
)
