"""What a ``quantization_config`` says, as far as it decides which tensors are on disk and in which shape."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from ckpt_doctor.core.nothing import NOTHING

_DEPTH = 3
# Composite models keep it beside their text model: text_config, llm_config, thinker_config.text_config.
_EXCLUSIONS = ("modules_to_not_convert", "ignored_layers", "ignore", "llm_int8_skip_modules", "skip_modules")
# GPTQModel, AutoRound, ModelOpt and Quark describe single modules here: the numbers beside hold for others only.
_SINGLE_MODULES = (
    *("dynamic", "extra_config", "modules_in_block_to_quantize", "quantized_layers", "layer_quant_config"),
)


class Settings(NamedTuple):
    """The settings of one quantiser. ``given`` is empty if no config has any.

    ``method`` is the ``quant_method`` in lower case, ``bitsandbytes`` where only ``load_in_4bit`` and the like say it.
    """

    method: str = ""
    given: Mapping[str, Any] = NOTHING

    @property
    def uniform(self) -> bool:
        """True if the numbers hold for every module that is quantised."""
        if any(self.given.get(key) for key in _SINGLE_MODULES) or len(self.groups) > 1:
            return False
        kinds = section(self.given, "quant_type")  # torchao's, "default" for all modules or a name for some
        return "Fqn" not in str(section(kinds, "default").get("_type")) and set(kinds) <= {"default"}

    @property
    def groups(self) -> tuple[Mapping[str, Any], ...]:
        """The ``config_groups`` of compressed-tensors."""
        groups = self.given.get("config_groups")
        return tuple(item for item in groups.values() if isinstance(item, dict)) if isinstance(groups, dict) else ()

    @property
    def weights(self) -> Mapping[str, Any]:
        """How compressed-tensors quantises weights; empty if there are several ways."""
        return section(self.groups[0], "weights") if len(self.groups) == 1 else NOTHING

    def number(self, key: str) -> int | None:
        """A whole number that holds for every module; ``None`` if it is absent, or only for some."""
        value = self.given.get(key)
        return value if type(value) is int and self.uniform else None

    def excludes(self, module: str) -> bool:
        """True if the module is left as it is.

        A pattern is the beginning or the end of a path or a regular expression, as in ``should_convert_module`` of
        transformers 5.24, and one with ``re:`` in front as compressed-tensors writes it.
        """
        found = (self.given.get(key) for key in _EXCLUSIONS)
        patterns = [item for value in found if isinstance(value, list) for item in value if isinstance(item, str)]
        return any(_matches(pattern, module) for pattern in patterns)


def settings_of(config: Mapping[str, Any] | None) -> Settings | None:
    """The settings in a ``config.json`` or in a section of it; ``None`` if there are none."""
    for place in _sections(config or {}, _DEPTH):
        given = place.get("quantization_config") or place.get("compression_config")
        if isinstance(given, dict):
            method = given.get("quant_method")
            bits = any(given.get(key) for key in ("load_in_4bit", "load_in_8bit"))
            return Settings("bitsandbytes" if bits else str(method or "").lower(), given)
    return None


def mentions_quantiser(config: Mapping[str, Any]) -> bool:
    """True if anything in a config is about quantising, under whatever name: ``quantization_bit``, ``quant_config``."""
    return any("quant" in key.lower() and value for place in _sections(config, _DEPTH) for key, value in place.items())


def section(given: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    """A dictionary inside settings; empty if there is none."""
    value = given.get(key)
    return value if isinstance(value, dict) else NOTHING


def _sections(config: Mapping[str, Any], depth: int) -> Iterator[Mapping[str, Any]]:
    yield config
    if depth:
        for value in config.values():
            if isinstance(value, dict):
                yield from _sections(value, depth - 1)


def _matches(pattern: str, module: str) -> bool:
    """True if a pattern may mean the module.

    A pattern comes from a file and is not run as a regular expression: its words must occur in their order, the last
    one at the end of a step of the path. One with alternatives or classes may mean anything.
    """
    plain = pattern.removeprefix("re:").strip("^$").replace("\\.", ".").replace(".*", "*")
    if any(mark in plain for mark in "()[]{}|?+\\"):
        return True
    *words, last = plain.split("*")
    rest = f"{module}."
    for word in (*words, f"{last.removesuffix('.')}." if last else ""):
        _, found, rest = rest.partition(word) if word else ("", "*", rest)
        if not found:
            return False
    return True
