"""What a tensor is for, as far as its name tells: what the rules about values ask."""

from __future__ import annotations

# Bookkeeping of training frameworks inside a checkpoint file. Lightning's EarlyStopping, for one, starts at inf.
_TRAINING_STATE = frozenset(
    (
        "callbacks",
        "optimizer_states",
        "lr_schedulers",
        "loops",
        "optimizer",
        "optimizer_state_dict",
        "optimizers",
        "scheduler",
        "scheduler_state_dict",
        "lr_scheduler",
        "scaler",
        "grad_scaler",
    )
)
# Observers of quantisation start at +inf and -inf, and keep these for modules that no input has reached.
_OBSERVERS = frozenset(("min_val", "max_val", "min_vals", "max_vals"))


def is_training_bookkeeping(name: str) -> bool:
    """True if the first part of a dotted name is that of an optimizer, a scheduler or a callback."""
    return name.partition(".")[0] in _TRAINING_STATE


def may_be_infinite(name: str) -> bool:
    """True if infinite values belong in a tensor of this name: attention masks, observers, training state.

    >>> may_be_infinite("h.0.attn.masked_bias"), may_be_infinite("h.0.attn.c_attn.weight")
    (True, False)
    """
    return "mask" in name or name.rpartition(".")[2] in _OBSERVERS or is_training_bookkeeping(name)


def may_be_zero(name: str) -> bool:
    """True if a matrix of zeros is nothing unusual under this name: biases, masks, quantisation, caches.

    >>> may_be_zero("model.layers.0.mlp.qzeros"), may_be_zero("reasoner_to_weaver.weight")
    (True, False)
    """
    usual = ("bias", "mask", "zero", "cache", "token_type_embeddings", "running_", "exp_avg", "momentum")
    return any(mark in name for mark in usual) or is_training_bookkeeping(name)
