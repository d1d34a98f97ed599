"""The configuration of a MemGen evaluation, as far as it decides names and shapes.

The keys are those of MemGen's own YAML files: ``model.model_name``, and ``weaver`` and ``trigger`` with their
``model_name``, latents lengths and ``lora_config``, either below ``model`` or beside it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ckpt_doctor.core.errors import PathNotFoundError, VerificationError
from ckpt_doctor.runtime.dependencies import require

_LORA_KEYS = ("lora_config", "lora", "peft_config")
_LENGTHS = ("prompt_latents_len", "inference_latents_len")


@dataclass(frozen=True, slots=True)
class MemGenSettings:
    """The user's settings; ``None`` everywhere else, and then the checkpoint decides.

    The model names are paths or hub ids; a weaver or trigger without one uses the reasoner's model. The lengths count
    latent vectors. The LoRA settings are keyword arguments of ``peft.LoraConfig``.
    """

    model_name: str | None = None
    weaver_model_name: str | None = None
    trigger_model_name: str | None = None
    prompt_latents_len: int | None = None
    inference_latents_len: int | None = None
    weaver_lora: Mapping[str, Any] | None = None
    trigger_lora: Mapping[str, Any] | None = None


def read_memgen_yaml(path: Path) -> MemGenSettings:
    """The settings in a MemGen YAML file. Unknown keys are ignored.

    Raises ``PathNotFoundError``, and ``VerificationError`` if the file is no YAML, names no ``model.model_name``, or
    gives a known key a value of the wrong kind.
    """
    yaml = _yaml()
    if not path.is_file():
        raise PathNotFoundError(f"{path} does not exist or is not a file")
    try:
        document = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError, RecursionError) as error:
        raise VerificationError(f"{path} cannot be read as YAML: {' '.join(str(error).split())}") from error
    if not isinstance(document, dict):
        raise VerificationError(f"{path} is not a MemGen configuration: its top level is not a mapping")
    return _Reader(path).settings(document)


def _yaml() -> Any:
    return require("yaml")  # transformers and peft bring it


@dataclass(frozen=True, slots=True)
class _Reader:
    """Takes values out of mappings and says where one is of the wrong kind."""

    path: Path

    def settings(self, document: Mapping[str, Any]) -> MemGenSettings:
        model = self.mapping(document, "model", "model") or {}
        name = self.text(model, "model_name", "model.model_name")
        if name is None:
            raise VerificationError(f"{self.path} is not a MemGen configuration: it has no model.model_name")
        sections = {part: self.section(document, model, part) for part in ("weaver", "trigger")}
        weaver, trigger = sections["weaver"], sections["trigger"]
        prompt, inference = (
            self.length(weaver, key, f"weaver.{key}")
            if weaver.get(key) is not None
            else self.length(model, key, f"model.{key}")
            for key in _LENGTHS
        )
        return MemGenSettings(
            model_name=name,
            weaver_model_name=self.model_name(weaver, "weaver"),
            trigger_model_name=self.model_name(trigger, "trigger"),
            prompt_latents_len=prompt,
            inference_latents_len=inference,
            weaver_lora=self.lora(weaver, model, "weaver"),
            trigger_lora=self.lora(trigger, model, "trigger"),
        )

    def section(self, document: Mapping[str, Any], model: Mapping[str, Any], part: str) -> Mapping[str, Any]:
        """``weaver`` or ``trigger``, below ``model`` and at the top level; the former wins key by key."""
        outer = self.mapping(document, part, part) or {}
        return {**outer, **(self.mapping(model, part, f"model.{part}") or {})}

    def model_name(self, section: Mapping[str, Any], part: str) -> str | None:
        for key in ("model_name", f"{part}_model_name"):
            name = self.text(section, key, f"{part}.{key}")
            if name is not None:
                return name
        return None

    def lora(self, section: Mapping[str, Any], model: Mapping[str, Any], part: str) -> Mapping[str, Any] | None:
        for key in (*_LORA_KEYS, f"{part}_lora_config"):
            found = self.mapping(section, key, f"{part}.{key}")
            if found is not None:
                return found
        return self.mapping(model, f"{part}_lora_config", f"model.{part}_lora_config")

    def mapping(self, where: Mapping[str, Any], key: str, shown: str) -> Mapping[str, Any] | None:
        value = where.get(key)
        if value is not None and not isinstance(value, dict):
            self.refuse(shown, "a mapping", value)
        return value

    def text(self, where: Mapping[str, Any], key: str, shown: str) -> str | None:
        value = where.get(key)
        if value is not None and not (isinstance(value, str) and value):
            self.refuse(shown, "a path or a hub id", value)
        return value

    def length(self, where: Mapping[str, Any], key: str, shown: str) -> int | None:
        value = where.get(key)
        if value is not None and (not isinstance(value, int) or isinstance(value, bool) or value < 0):
            self.refuse(shown, "a number of latents", value)
        return value

    def refuse(self, shown: str, wanted: str, value: Any) -> None:
        raise VerificationError(f"{self.path}: {shown} should be {wanted}, and is {str(value)[:80]!r}")
