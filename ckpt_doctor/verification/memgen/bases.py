"""Which base model each part of a MemGen checkpoint belongs to: as the user, the adapters and their shapes say.

Reasoner, weaver and trigger may each be another model. What the user names wins. Else an adapter's own
``adapter_config.json`` says which base it was trained on; where that is no folder here, the widths of its tensors tell
whether a model that is known can be it. What stays open is asked of the user: a wrong base would show as faults of the
checkpoint.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

from ckpt_doctor.core.coverage import MEMGEN_UPSTREAM
from ckpt_doctor.core.errors import VerificationError
from ckpt_doctor.core.parts import Part
from ckpt_doctor.layouts.adapters import hidden_sizes
from ckpt_doctor.verification.model.bases import base_config
from ckpt_doctor.verification.question import Question

from .config import MemGenSettings
from .contents import ADAPTERS, Adapter, Contents


class Named(NamedTuple):
    """The user's base models: paths or hub ids. ``given`` says that ``reasoner`` is ``--model`` and no YAML's."""

    reasoner: str | None
    weaver: str | None
    trigger: str | None
    given: bool = False


class Bases(NamedTuple):
    """The models by name; of a lone trigger only ``trigger`` counts. ``lines`` say what was taken without being named.

    ``None`` of a whole model: the names of its tensors tell.
    """

    reasoner: str
    weaver: str | None
    trigger: str | None
    lines: tuple[str, ...] = ()


def named(settings: MemGenSettings, base: str | None, weaver_model: str | None, trigger_model: str | None) -> Named:
    """The names on the command line and in the YAML; the former win."""
    return Named(
        settings.model_name if base is None else base,
        weaver_model or settings.weaver_model_name,
        trigger_model or settings.trigger_model_name,
        base is not None,
    )


def find_bases(contents: Contents, asked: Named) -> Bases:
    """The base models of a checkpoint. Raises ``VerificationError``, with what to give, where one is not known."""
    return _Finder(contents, asked).bases()


def base_models(question: Question, contents: Contents, bases: Bases) -> list[str | None]:
    """The base models of reasoner, weaver and trigger for ``build_model``; ``None`` if one shares another's."""
    if contents.lone_trigger:
        return [bases.reasoner, None, bases.trigger]
    if question.ours and question.names.loader == MEMGEN_UPSTREAM:
        return _apart(bases)
    return _shared(bases, question.weaver_model, question.trigger_model)


def _shared(bases: Bases, weaver_model: str | None, trigger_model: str | None) -> list[str | None]:
    """The names for ``build_model``: two parts of one name share a model, except where the user named them apart."""
    reasoner, weaver, trigger = bases.reasoner, bases.weaver, bases.trigger
    own_weaver = weaver if weaver != reasoner or weaver_model is not None else None
    own_trigger = trigger if trigger != weaver or trigger_model is not None else None
    return [reasoner, own_weaver, own_trigger]


def _apart(bases: Bases) -> list[str | None]:
    """A model for each part even where two are the same by name, as upstream MemGen does."""
    return [bases.reasoner, bases.weaver or bases.reasoner, bases.trigger or bases.reasoner]


class _Finder:
    def __init__(self, contents: Contents, asked: Named) -> None:
        self.contents = contents
        self.checkpoint = contents.checkpoint
        self.asked = asked
        self.lines: list[str] = []
        self.parts = _asked_for(contents.adapters)
        self._sizes: dict[str, int | None] = {}
        shapes = {item.tensor.name: item.tensor.shape for item in contents.tensors.values()}
        inner, outer = _two(shapes.get("reasoner_to_weaver.weight", ()))
        head = _two(shapes.get("output_layer.weight", ()))[1]
        self.outer = outer
        """The reasoner's hidden size, as the projections say."""
        # Side files before the adapter: all entries of one must fit, where an adapter may be the part that is wrong.
        self.widths = {"weaver": inner or self.width("weaver"), "trigger": head or self.width("trigger")}

    def width(self, adapter: str) -> int | None:
        """The hidden size that the adapter's tensors show, where they agree on one."""
        known = hidden_sizes(self.parts[adapter], "") if adapter in self.parts else ()
        return next((size.size for size in known if "lora_A" in size.source), None)

    def bases(self) -> Bases:
        own = {name: self.own(name, part) for name, part in self.parts.items()}
        reasoner = self.asked.reasoner or self.reasoner(own)
        if self.contents.whole:
            return Bases(reasoner, self.asked.weaver, self.asked.trigger)
        if self.contents.lone_trigger:
            weaver = self.asked.weaver or reasoner
        else:
            weaver = self.asked.weaver or self.of_the_weaver(own.get("weaver"), reasoner)
        if self.asked.weaver is None:
            self.refuse_the_weavers_model_as_reasoner(reasoner)
        trigger = self.asked.trigger or self.of_the_trigger(own.get("trigger"), reasoner, weaver)
        return Bases(reasoner, weaver, trigger, tuple(self.lines))

    def own(self, adapter: str, part: Part) -> str | None:
        """The base that an adapter's config names: a model that the user named, or a folder here."""
        name = _base_name(part)
        if name is None:
            return None
        given = [item for item in (self.asked.reasoner, self.asked.weaver, self.asked.trigger) if item is not None]
        for item in given:
            if item == name or (Path(item).is_dir() and os.path.realpath(item) == os.path.realpath(name)):
                return item
        for folder in (Path(name), self.checkpoint.root / part.directory / name):
            # What starts with two slashes is a network share on Windows, and would be sent credentials.
            if not name.startswith(("//", "\\\\")) and "\0" not in name and os.path.isfile(folder / "config.json"):  # noqa: PTH113
                return str(folder)
        called = [item for item in given if _is_called(item, name) and self.fits(adapter, item)]
        return called[0] if called else None

    def reasoner(self, own: dict[str, str | None]) -> str:
        """The reasoner's model if the user gave none: an adapter's own base that has its width."""
        order = reversed(ADAPTERS) if self.contents.lone_trigger else ADAPTERS
        candidates = [name for adapter in order if (name := own.get(adapter)) is not None]
        for name in candidates:
            if self.outer is None or self.size(name) == self.outer:
                return name
        if not candidates:
            raise VerificationError(
                f"{self.checkpoint.path} names no base model that is on this machine: name one with --model"
            )
        others = " and ".join(f"{name} ({self.size(name)})" for name in dict.fromkeys(candidates))
        raise VerificationError(
            f"the reasoner's model of {self.checkpoint.path} is not known: it has hidden size {self.outer}, and the "
            f"adapters only name {others}. Give the reasoner's model with --model"
        )

    def of_the_weaver(self, own: str | None, reasoner: str) -> str:
        width = self.widths["weaver"]
        if own is not None:
            return self.taken("weaver", own)
        if self.fits("weaver", reasoner):
            return reasoner
        if self.outer is not None and self.outer != self.size(reasoner):
            return reasoner  # neither side fits: it is the whole evaluation that has another model
        raise VerificationError(
            f"the weaver of {self.checkpoint.path} has hidden size {width} and the reasoner's model "
            f"{self.size(reasoner)}: name the weaver's model too, with --weaver-model"
        )

    def of_the_trigger(self, own: str | None, reasoner: str, weaver: str) -> str:
        lone = self.contents.lone_trigger
        if lone and self.asked.given and self.fits("trigger", reasoner):
            return reasoner  # the one model that is needed, and the user named it
        if own is not None:
            return self.taken("trigger", own)
        part = self.parts.get("trigger")
        known = [weaver, reasoner]
        if part is not None and not self.asked.weaver and self.are_of_two_models():
            known = [name for name in known if name != weaver]
        fitting = [name for name in known if self.fits("trigger", name)]
        if fitting or part is None or part.secondary or (lone and self.asked.given):
            return fitting[0] if fitting else reasoner
        if not known:
            names = ", ".join(f"{name}: {_base_name(part)}" for name, part in self.parts.items())
            raise VerificationError(
                f"the adapters of {self.checkpoint.path} name two base models ({names}), and only {reasoner} is known: "
                "name both, with --weaver-model and --trigger-model"
            )
        sizes = " and ".join(f"{name} has {self.size(name)}" for name in dict.fromkeys(known))
        raise VerificationError(
            f"the trigger of {self.checkpoint.path} has hidden size {self.widths['trigger']}, and {sizes}: name the "
            "trigger's model too, with --trigger-model"
        )

    def taken(self, adapter: str, own: str) -> str:
        if own not in (self.asked.reasoner, self.asked.weaver, self.asked.trigger):
            self.lines.append(f"the {adapter} was built on {own}, which its adapter_config.json names")
        return own

    def fits(self, adapter: str, name: str) -> bool:
        """True if the model has the adapter's width, or one of the two is not known."""
        width = self.widths[adapter]
        return width is None or self.size(name) in (None, width)

    def are_of_two_models(self) -> bool:
        """True if the two adapters name two base models."""
        names = {_last(name) for part in self.parts.values() if (name := _base_name(part)) is not None}
        return len(names) > 1

    def refuse_the_weavers_model_as_reasoner(self, reasoner: str) -> None:
        inner = self.widths["weaver"]
        if self.asked.given and self.outer is not None and inner != self.outer and self.size(reasoner) == inner:
            raise VerificationError(
                f"the reasoner's model of {self.checkpoint.path} is not known: it has hidden size {self.outer}, and "
                f"{reasoner} has {inner}, as the weaver. Give the reasoner's model with --model, and this one with "
                "--weaver-model"
            )

    def size(self, name: str) -> int | None:
        """The hidden size of a model; ``None`` if its config has none."""
        if name not in self._sizes:
            config: Any = base_config(name)
            text = config.get_text_config() if hasattr(config, "get_text_config") else config
            size = getattr(text, "hidden_size", None)
            self._sizes[name] = size if isinstance(size, int) else None
        return self._sizes[name]


def _asked_for(adapters: Iterable[Adapter]) -> dict[str, Part]:
    """The adapters by whose name MemGen knows them; of two of one name the one that was asked for."""
    found: dict[str, Part] = {}
    for name, part in sorted(adapters, key=lambda adapter: adapter.part.secondary):
        if name in ADAPTERS and (part.files or part.config):
            found.setdefault(name, part)
    return found


def _two(shape: tuple[int, ...]) -> tuple[int | None, int | None]:
    return (shape[0], shape[1]) if len(shape) == 2 else (None, None)


def _base_name(part: Part) -> str | None:
    data = (part.config.data if part.config is not None else None) or {}
    name = data.get("base_model_name_or_path")
    return name if isinstance(name, str) and name else None


def _last(name: str) -> str:
    return re.split(r"[/\\]", name.rstrip("/\\"))[-1].casefold()


def _is_called(given: str, name: str) -> bool:
    """True if ``name`` out of a config means the model that the user gave, which may lie elsewhere by now.

    A folder of the hub's cache bears the id's name two levels further up.
    """
    cached = f"models--{name.replace('/', '--')}".casefold()
    return _last(given) == _last(name) or cached in (part.casefold() for part in Path(given).parts)
