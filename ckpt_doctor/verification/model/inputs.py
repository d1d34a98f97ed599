"""The inputs of one forward pass: random tokens, sounds or pictures, by what its config says it takes."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

Inputs = dict[str, Any]

_TOKENS = 16
_SEED = 20_240_701
_SAMPLES = 16_000  # a second of sound at the rate that speech models are trained on


def attempts(model: Any) -> Iterator[Inputs]:
    """The inputs to try, one after the other, until the model runs with one of them; none if it takes no known kind.

    The names are those of transformers' ``main_input_name``.
    """
    tokens = random_tokens(model)
    main = getattr(model, "main_input_name", "input_ids")
    main = main if isinstance(main, str) else next(iter(main), "input_ids")  # some take several
    first = {"input_ids": tokens} if main == "input_ids" else {main: _perceived(model, main)}
    if first[main] is None:
        return
    if getattr(getattr(model, "config", None), "is_encoder_decoder", False) and tokens is not None:
        first["decoder_input_ids"] = tokens
    if any(_wants_a_task(config) for config in _adapter_configs(model)):
        import torch

        first["task_ids"] = torch.zeros(1, dtype=torch.long, device=_device(model))
    yield first
    picture = _perceived(model, "pixel_values")
    if main != "pixel_values" and picture is not None:  # models of both text and pictures, some of which want both
        yield {**first, "pixel_values": picture}


def random_tokens(model: Any) -> torch.Tensor | None:
    """Token ids of shape ``[1, 16]``, ``None`` without a vocabulary.

    Among them are those that an adapter trained, and those that call one (activated LoRA is idle before them).
    """
    import torch

    sizes = []
    for module in model.modules():
        config = getattr(module, "config", None)
        for part in (config, getattr(config, "text_config", None)):
            size = getattr(part, "vocab_size", None)
            if isinstance(size, int) and size > 1:
                sizes.append(size)
    if not sizes:
        return None
    tokens = torch.randint(1, min(sizes), (1, _TOKENS), generator=_generator())
    configs = list(_adapter_configs(model))
    trained = sorted({token for config in configs for token in _trained_tokens(config)})
    called = [token for config in configs for token in getattr(config, "alora_invocation_tokens", None) or ()]
    special = [*called, *trained][: _TOKENS // 2]
    tokens[0, : len(special)] = torch.tensor(special, dtype=tokens.dtype)
    return tokens.to(_device(model))


def _perceived(model: Any, name: str) -> torch.Tensor | None:
    """Noise in the shape of the sound or picture that the config describes; ``None`` if it describes none."""
    import torch

    config = getattr(model, "config", None)
    if name == "input_values":
        shape: tuple[Any, ...] = (1, _SAMPLES)
    elif name == "input_features":
        frames = getattr(config, "max_source_positions", None)
        # Whisper's first convolutions halve the frames.
        shape = (1, getattr(config, "num_mel_bins", None), frames * 2 if isinstance(frames, int) else None)
    elif name == "pixel_values":
        vision = getattr(config, "vision_config", None) or config
        size = getattr(vision, "image_size", None) or 224
        height, width = size if isinstance(size, (list, tuple)) else (size, size)
        shape = (1, getattr(vision, "num_channels", None), height, width)
    else:
        return None
    if not all(isinstance(size, int) for size in shape):
        return None
    dtype = next((value.dtype for value in model.parameters() if value.is_floating_point()), torch.float32)
    return torch.randn(shape, generator=_generator()).to(_device(model), dtype)


def _generator() -> torch.Generator:
    import torch

    return torch.Generator().manual_seed(_SEED)


def _device(model: Any) -> torch.device:
    import torch

    return next((value.device for value in model.parameters()), torch.device("cpu"))


def _adapter_configs(model: Any) -> Iterator[Any]:
    for module in model.modules():
        configs = getattr(module, "peft_config", None)
        if isinstance(configs, dict):
            yield from configs.values()


def _wants_a_task(config: Any) -> bool:
    """True if PEFT asks for the number of a task at each pass."""
    return str(getattr(config.peft_type, "value", config.peft_type)) in ("POLY", "MULTITASK_PROMPT_TUNING")


def _trained_tokens(config: Any) -> Iterator[int]:
    for name in ("trainable_token_indices", "token_indices"):
        found = getattr(config, name, None)
        for tokens in found.values() if isinstance(found, dict) else (found,):
            yield from (token for token in tokens or () if isinstance(token, int))
