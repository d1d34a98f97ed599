"""A MemGen ``trigger/`` directory: a LoRA adapter alone."""

from __future__ import annotations

from ckpt_doctor.core.layout import Layout, LayoutPart, Sign

_ADAPTER = "trigger_lora"

KIND = Layout(
    "trigger",
    title="MemGen trigger",
    parts=(LayoutPart("adapter", (_ADAPTER, ""), "folder", "trigger", gathers=(_ADAPTER, "")),),
    folder="trigger",
    signs=(
        Sign(folders=(_ADAPTER,), place=_ADAPTER),
        # The short nesting: trigger/trigger/.
        Sign(named=True, adapters=("trigger",), place=""),
        Sign(forced=True, place=""),
    ),
    expects="safetensors",
    family="memgen",
    loads="memgen",
    covers="adapter",
    resumes=False,
    trainer="MemGen",
)
