"""An adapter folder of PEFT, alone or beside a whole model and the state of a training run.

The folders of further adapters below it are checkpoints of their own: each can be loaded without the other.
"""

from __future__ import annotations

from ckpt_doctor.core.checkpoint import Checkpoint
from ckpt_doctor.core.layout import Layout, LayoutPart, Sign
from ckpt_doctor.layouts.adapters import is_of_mlx

from . import Hooks


def _finished(checkpoint: Checkpoint) -> Checkpoint:
    config = checkpoint.parts[0].config
    kind = config.data.get("peft_type") if config and config.data else None
    return checkpoint._replace(variant=f"PEFT {kind}") if isinstance(kind, str) else checkpoint


KIND = Layout(
    "peft",
    title="PEFT",
    parts=(
        LayoutPart("adapter", ("",), "folder", ""),
        LayoutPart("model", ("",), "folder", "model", required=False),
    ),
    signs=(Sign(adapters=("",)),),
    general=True,
    nests=True,
    loads="adapter",
    covers="adapter",
)
HOOKS = Hooks(excludes=is_of_mlx, finished=_finished)
