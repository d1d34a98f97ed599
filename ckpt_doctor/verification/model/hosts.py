"""Which module of the user's model takes each part of a checkpoint; where that is not clear, the user has to say."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any, NamedTuple

from ckpt_doctor.core.checkpoint import Checkpoint
from ckpt_doctor.core.errors import VerificationError
from ckpt_doctor.core.parts import Part
from ckpt_doctor.verification.names.conversions import is_transformers

from .choosing import adapted_paths
from .live import LiveModel, outermost

if TYPE_CHECKING:
    from torch import nn


class Host(NamedTuple):
    """The module at ``path`` takes ``part``; the model itself has the path ``""``.

    ``partly`` says that the names in the file are full paths, so the module holds other tensors too.
    """

    part: Part
    path: str
    partly: bool = False


def hosts(model: nn.Module, checkpoint: Checkpoint) -> list[Host]:
    """A module for each part that a load reads: whole models first, then side files, then adapters, inner ones first.

    Raises ``VerificationError`` if no module, or more than one, would do for a part.
    """
    parts = parts_to_load(checkpoint)
    found = [_host(model, checkpoint, part) for part in parts if part.role != "adapter" and any(part.loaded_tensors)]
    adapters = [_adapters_host(model, checkpoint, part) for part in parts if part.role == "adapter"]
    found.sort(key=lambda host: host.part.role != "model")
    # What is put around the model itself would change the paths of all others.
    return [*found, *sorted(adapters, key=lambda host: -len(host.path))]


def parts_to_load(checkpoint: Checkpoint) -> list[Part]:
    """The parts with weights that were asked for."""
    return [part for part in awaited_parts(checkpoint) if part.files]


def awaited_parts(checkpoint: Checkpoint) -> list[Part]:
    """The parts that were asked for, also those that are required and have no files."""
    parts = [part for part in checkpoint.parts if (part.files or part.required) and not part.auxiliary]
    return [part for part in parts if not part.secondary]


def adapter_name(part: Part) -> str:
    """The name that PEFT knows an adapter by: ``policy`` for the part ``policy adapter``."""
    return part.name.removesuffix(" adapter")


def refusal(checkpoint: Checkpoint, why: str = "") -> VerificationError:
    """The error for a checkpoint of several parts that nothing here can load; ``why`` is a clause without full stop."""
    names = ", ".join(part.name for part in awaited_parts(checkpoint))
    reason = f". {why}" if why else ""
    return VerificationError(
        f"only your own code knows how to load a {checkpoint.layout} checkpoint ({names}): name the "
        f"model with --model FILE.py:FUNCTION and the loader with --loader FILE.py:FUNCTION{reason}"
    )


def _host(model: nn.Module, checkpoint: Checkpoint, part: Part) -> Host:
    """By its name or role, else by the names and shapes of its tensors."""
    if part.role == "model" and part.config is not None:
        models = [path for path, _ in outermost(model, is_transformers)]
        if models:
            return Host(part, _the_one(checkpoint, part, _preferred(models, part)))
    shapes = {tensor.name: tuple(tensor.shape) for tensor in part.loaded_tensors}
    # Many models call one of their modules "model".
    named = [] if part.role == "model" else _named(model, part)
    fitting = [path for path in named or _paths(model) if _shapes(model.get_submodule(path)) == shapes]
    if named and not fitting:
        return _named_host(checkpoint, part, named)
    whole = _shapes(model)
    full = all("." in name and whole.get(name) == size for name, size in shapes.items())
    if full and not fitting:
        return Host(part, "", partly=True)
    more = ["the model itself"] if full and "" not in fitting else []
    return Host(part, _the_one(checkpoint, part, fitting, more))


def _named_host(checkpoint: Checkpoint, part: Part, named: list[str]) -> Host:
    """The module that is called as the part, though it does not fit: loading shows in what it differs."""
    path = _the_one(checkpoint, part, named)
    full = all(tensor.name.startswith(f"{path}.") for tensor in part.loaded_tensors)
    return Host(part, "" if full else path, partly=full)


def _adapters_host(model: nn.Module, checkpoint: Checkpoint, part: Part) -> Host:
    """The module that has an adapter of this name, else the one with adapters, else the one with its base's modules."""
    adapted = LiveModel(model).adapted
    own = [path for path, module in adapted if adapter_name(part) in module.peft_config]
    places = own or [path for path, _ in adapted]
    if not places:
        modules = adapted_paths(part)
        # A learned prompt names no modules.
        places = list(_with(model, modules)) if modules else [path for path, _ in outermost(model, is_transformers)]
    return Host(part, _the_one(checkpoint, part, _preferred(places, part)))


def _the_one(checkpoint: Checkpoint, part: Part, paths: list[str], more: Iterable[str] = ()) -> str:
    would_do = [*(path or "the model itself" for path in paths), *more]
    if not would_do:
        raise refusal(checkpoint, f"The model has no module that the {part.name} fits into")
    if len(would_do) > 1:
        raise VerificationError(
            f"the {part.name} of {checkpoint.path} fits into {', '.join(would_do[:-1])} and {would_do[-1]}: load it "
            "into the right one with --loader FILE.py:FUNCTION"
        )
    return paths[0]


def _preferred(paths: list[str], part: Part) -> list[str]:
    """Those that are called as the part, where there are several and any is."""
    called = [path for path in paths if _last(path) in _words(part)] if len(paths) > 1 else []
    return called or paths


def _named(model: nn.Module, part: Part) -> list[str]:
    """The modules with the part's name or role; one of the model's own attributes goes before those further in."""
    found = [path for path in _paths(model) if _last(path) in _words(part)]
    return [path for path in found if "." not in path] or found


def _words(part: Part) -> set[str]:
    return {word.replace("-", "_") for word in (adapter_name(part), part.role)}


def _last(path: str) -> str:
    return path.rpartition(".")[2]


def _paths(model: nn.Module) -> list[str]:
    return [path for path, _ in model.named_modules()]


def _shapes(module: Any) -> dict[str, tuple[int, ...]]:
    return {name: tuple(value.shape) for name, value in LiveModel(module).tensors.items()}


def _with(model: nn.Module, modules: list[str]) -> Iterator[str]:
    """The modules that have one at each of the paths ``modules``."""
    paths = set(_paths(model))
    first = modules[0]
    for path in _paths(model):
        start = path.removesuffix(first)
        if path.endswith(first) and start[-1:] in ("", ".") and all(start + other in paths for other in modules):
            yield start.removesuffix(".")
