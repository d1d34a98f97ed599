"""File names that tell what a file is for."""

from __future__ import annotations

import re

WEIGHT_ENDINGS = (".safetensors", ".bin", ".pt", ".pth", ".ckpt")
"""What the files of the checkpoints that are read here end in; the content is judged by itself."""

# What transformers' Trainer, accelerate, DeepSpeed and FSDP save to resume a training run, and no evaluation loads.
_TRAINING_STATE = re.compile(
    r"(optimizer|scheduler|sampler|dl_state_dict)(_\d+)?\.(pt|bin)"
    r"|(scaler|rng_state(_\d+)?|random_states_\d+)\.(pt|pth|pkl)"
    r"|training_args\.bin"
    r"|(custom_checkpoint_\d+)\.pkl"
    r"|.*(optim_states|model_states)\.pt"
)


def is_training_state(name: str) -> bool:
    """Whether a file of this name holds the state of a training run rather than weights to evaluate."""
    return _TRAINING_STATE.fullmatch(name) is not None


def has_weight_ending(path: str) -> bool:
    """Whether a file of this name usually holds tensors."""
    return path.endswith(WEIGHT_ENDINGS)
