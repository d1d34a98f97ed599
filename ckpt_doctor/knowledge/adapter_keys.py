"""What the name of a tensor in an adapter file says: which module, which adapter parameter, which adapter name.

PEFT saves ``base_model.model.<module>.<parameter>`` and leaves the adapter's name out; a state dict that was saved in
another way still has it between the parameter's first component and its rest (``lora_A.weaver.weight``).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from .peft_types import PEFT_TYPES, PeftType

ROOT = "base_model.model."
_SHORT_ROOT = "base_model."
# Components that wrappers of PEFT put between a module's own name and the adapter parameter.
_WRAPPERS = ("base_layer", "modules_to_save", "original_module", "token_adapter")


@dataclass(frozen=True, slots=True)
class AdapterKey:
    """A tensor name taken apart.

    ``module`` is the path of the module in the base model, without PEFT's prefix. ``parameter`` is the adapter's
    parameter as PEFT saves it (``lora_A.weight``); it is ``None`` for a tensor of the base model. ``adapter_name`` is
    the name that still stands in the key, if one does. ``shared`` marks banks that belong to no module.
    """

    name: str
    rooted: bool
    module: str
    parameter: str | None
    adapter_name: str | None = None
    shared: bool = False


def parse(name: str, kind: PeftType | None) -> AdapterKey:
    """Take the name of a tensor apart by the parameters of this type, or of any type where it is ``None``."""
    rooted = name.startswith(ROOT) or name.startswith(_SHORT_ROOT)
    bare = name.removeprefix(ROOT)
    bare = bare.removeprefix(_SHORT_ROOT) if bare == name else bare
    words = bare.split(".")
    for candidate in [kind] if kind else PEFT_TYPES.values():
        found = _find(words, candidate)
        if found:
            module, parameter, adapter_name, shared = found
            return AdapterKey(name, rooted, module, parameter, adapter_name, shared)
    return AdapterKey(name, rooted, bare, None)


def parse_all(names: Iterable[str], kind: PeftType | None) -> list[AdapterKey]:
    """All names taken apart."""
    return [parse(name, kind) for name in names]


def _find(words: list[str], kind: PeftType) -> tuple[str, str, str | None, bool] | None:
    for suffixes, shared in ((kind.module_suffixes, False), (kind.shared_suffixes, True)):
        for suffix in suffixes:
            wanted = suffix.split(".")
            for start in (len(words) - len(wanted), len(words) - len(wanted) - 1):
                if start < 0 or words[start] != wanted[0]:
                    continue
                rest = words[start + 1 :]
                module = ".".join(words[:start])
                if rest == wanted[1:]:
                    return module, suffix, None, shared
                # One word more than PEFT saves, right behind the parameter's own name: the adapter's.
                if rest[1:] == wanted[1:] and (len(wanted) > 1 or rest[0] not in ("weight", "bias")):
                    return module, suffix, rest[0], shared
    return None


def base_module(module: str) -> str:
    """The module's path without the components that PEFT's own wrappers add."""
    return ".".join(word for word in module.split(".") if word not in _WRAPPERS)
