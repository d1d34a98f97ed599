"""The loader that this program was started for: as it was, after each of its two fixes, and as it should be.

``build`` and the loaders are given to ``verify`` by the name of this file, as a user gives their own.
"""

from __future__ import annotations

import asyncio
import ctypes
import logging
import os
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import torch
from memgen import MemGenModel
from peft import get_peft_model, load_peft_weights, set_peft_model_state_dict
from safetensors.torch import load_file
from tiny_models import REASONER_HIDDEN, lora_config, qwen2

logger = logging.getLogger(__name__)


def build() -> MemGenModel:
    """A MemGen as an evaluation makes it: nothing in it is trained."""
    weaver = get_peft_model(qwen2(seed=1), lora_config(), adapter_name="weaver")
    trigger = get_peft_model(qwen2(seed=1), lora_config(), adapter_name="trigger")
    return MemGenModel(qwen2(REASONER_HIDDEN, seed=2), weaver, trigger, REASONER_HIDDEN)


def before(model: MemGenModel, path: str) -> None:
    """Opens the safetensors file by name, and knows nothing of projections."""
    _by_name(model, load_file(Path(path) / "weaver_lora" / "adapter_model.safetensors"))


def after_fix_1(model: MemGenModel, path: str) -> None:
    """Reads the .bin."""
    _by_name(model, torch.load(Path(path) / "weaver_lora" / "adapter_model.bin", weights_only=True))


def after_fix_2(model: MemGenModel, path: str) -> None:
    """Reads the .bin and the projections."""
    after_fix_1(model, path)
    _projections(model, path)


def right(model: MemGenModel, path: str) -> None:
    """Lets PEFT put the adapter's name back."""
    weights = load_peft_weights(str(Path(path) / "weaver_lora"), device="cpu")
    set_peft_model_state_dict(model.weaver.model, weights, adapter_name="weaver")
    _projections(model, path)


def _by_name(model: MemGenModel, state: dict[str, torch.Tensor]) -> None:
    live = model.weaver.model.state_dict()
    loaded = 0
    for key, value in state.items():
        if key in live:
            live[key].copy_(value)
            loaded += 1
    logger.info("Loaded %d weaver adapter weights", loaded)


def _projections(model: MemGenModel, path: str) -> None:
    state: dict[str, Any] = torch.load(Path(path) / "projections.pt", map_location="cpu", weights_only=True)
    for name in ("reasoner_to_weaver", "weaver_to_reasoner"):
        getattr(model, name).load_state_dict(state[name])
    model.weaver.prompt_query_latents.data = state["prompt_query_latents"].data
    model.weaver.inference_query_latents.data = state["inference_query_latents"].data


def from_path(path: str) -> MemGenModel:
    """A factory that loads by itself."""
    model = build()
    right(model, path)
    return model


def nothing(model: MemGenModel, path: str) -> None:
    """Does not load at all."""


def leaves(model: MemGenModel, path: str) -> None:
    """Calls sys.exit."""
    sys.exit(3)


def wrecks(model: MemGenModel, path: str) -> None:
    """Loads, and leaves the process in a state of its own."""
    right(model, path)
    torch.set_default_dtype(torch.float64)
    torch.set_default_device("meta")
    torch.set_grad_enabled(False)
    torch.nn.modules.module.register_module_forward_hook(lambda *_: sys.exit(4))
    os.environ["LEFT_BEHIND"] = "1"
    os.chdir("/")
    logging.disable(logging.CRITICAL)
    print("said on standard output")


def returns_another(model: MemGenModel, path: str) -> MemGenModel:
    """Loads into a model of its own."""
    return from_path(path)


def ends_the_process(model: MemGenModel, path: str) -> None:
    """Leaves with an exit code that looks like success, and a process behind that holds everything open."""
    if os.fork() == 0:
        time.sleep(60)
    os._exit(0)


def crashes(model: MemGenModel, path: str) -> None:
    """Reads where nothing is."""
    os.write(2, b"last words\n")
    ctypes.string_at(0)


def writes_to_descriptors(model: MemGenModel, path: str) -> None:
    """Says things past Python's own streams, in colours."""
    os.write(1, b"{\x1b[31mred\x1b[0m on descriptor 1\n")
    subprocess.run(["echo", "from a child"], check=True, timeout=120)
    print("\x1b]0;title\x07\x1b[32mgreen\x1b[0m")
    right(model, path)


def leaves_a_thread(model: MemGenModel, path: str) -> None:
    """Loads, and would keep the process from ending."""
    threading.Thread(target=time.sleep, args=(600,)).start()
    right(model, path)


def sleeps(model: MemGenModel, path: str) -> None:
    """Takes its time."""
    Path("asleep").touch()
    time.sleep(600)


async def waits(model: MemGenModel, path: str) -> None:
    """A loader that must be awaited."""
    await asyncio.sleep(0)
    right(model, path)
