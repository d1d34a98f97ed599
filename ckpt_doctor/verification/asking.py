"""The arguments of ``verify`` to a :class:`Question`: what its model and its loader mean."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

from ckpt_doctor.core.checkpoint import Checkpoint
from ckpt_doctor.core.coverage import Mode
from ckpt_doctor.core.errors import VerificationError
from ckpt_doctor.runtime.dependencies import require

from .hosting.specs import ModelSpec, UserCode, given, loader_spec, model_spec
from .model.loads import LOADS, load_of
from .question import AUTO, Names, Question


def ask(
    checkpoint: Checkpoint, path: str, model: Any, loader: str | Callable[..., Any] | None, mode: Mode, **details: Any
) -> Question:
    """The question about ``checkpoint``; ``details`` are the remaining fields of :class:`Question`.

    Raises ``VerificationError`` if a specification leads nowhere, or nothing would load the checkpoint.
    """
    spec = _model(model)
    known = loader if isinstance(loader, str) and _owner(loader) else None
    code = _known_loader(known, checkpoint, mode) if known is not None else _loader(loader)
    names = _names(model, spec, code)
    question = Question(path, checkpoint, spec, code, names, mode, ours=known is not None, **details)
    if question.factory is None and isinstance(spec, UserCode) and code is None and loader is None:
        raise VerificationError(
            f"{spec.name} builds a model but does not load the checkpoint: name the loader with --loader "
            "FILE.py:FUNCTION, or --loader auto for the ecosystem's own"
        )
    return question


def _model(model: Any) -> ModelSpec | None:
    if model is None:
        return None
    if isinstance(model, (str, os.PathLike)):
        return model_spec(os.fspath(model))
    if hasattr(model, "named_parameters") and not isinstance(model, type):
        return UserCode(type(model).__name__, lambda: model, None)
    return given(model)


def _loader(loader: str | Callable[..., Any] | None) -> UserCode | None:
    if loader is None or loader == AUTO:
        return None
    return loader_spec(loader) if isinstance(loader, str) else given(loader)


def _owner(loader: str) -> str:
    """The title of the kind of checkpoint that has a loader of this name; empty if none has."""
    return next((load.title for load in LOADS.values() if loader in load.loaders), "")


def _known_loader(loader: str, checkpoint: Checkpoint, mode: Mode) -> UserCode:
    """A loader that one kind of checkpoint has, as if it were the user's. Raises ``VerificationError``."""
    found = load_of(checkpoint).loaders.get(loader)
    if found is None:
        raise VerificationError(
            f"--loader {loader} loads {_owner(loader)} checkpoints, and {checkpoint.path} is one of the layout "
            f"{checkpoint.layout}: give another loader, or omit --loader"
        )
    if mode == "keys":
        raise VerificationError(f"--mode keys runs no loader: judge --loader {loader} with --mode load")
    require("torch")
    return UserCode(loader, lambda model, _: found(model, checkpoint), None)


def _names(model: Any, spec: ModelSpec | None, code: UserCode | None) -> Names:
    shown = model if isinstance(model, str) else "" if spec is None else getattr(spec, "name", str(model))
    if code is not None:
        return Names(shown, code.name)
    return Names(shown, spec.name if isinstance(spec, UserCode) and spec.takes_path else AUTO)
