"""What the animals share: seeds, quiet libraries, parameters that are not at their initial values."""

from __future__ import annotations

import functools
import warnings
from collections.abc import Callable
from pathlib import Path

import torch

Animal = Callable[[Path], Path]


def quiet(build: Animal) -> Animal:
    """``build`` with a fixed seed, one thread, and without the libraries' warnings about tiny models."""

    @functools.wraps(build)
    def wrapper(directory: Path) -> Path:
        import transformers

        directory.mkdir(parents=True, exist_ok=True)
        transformers.logging.set_verbosity_error()
        transformers.utils.logging.disable_progress_bar()
        threads = torch.get_num_threads()
        torch.set_num_threads(1)
        torch.manual_seed(0)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                return build(directory)
        finally:
            torch.set_num_threads(threads)

    return wrapper


def disturb(model: torch.nn.Module, *, trainable_only: bool = False) -> torch.nn.Module:
    """Move every parameter away from its initial value, as training does."""
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.is_floating_point() and (parameter.requires_grad or not trainable_only):
                parameter.add_(0.02 * torch.randn_like(parameter))
    return model
