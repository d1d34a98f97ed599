"""The meaning of ``--model`` and ``--loader``."""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import os
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

from ckpt_doctor.core.coverage import MEMGEN_FORK, MEMGEN_UPSTREAM
from ckpt_doctor.core.errors import VerificationError

from .isolation import Outcome, run


@dataclass(frozen=True)
class BaseModel:
    """A base model by the path of its folder or by its hub id."""

    name: str


@dataclass(frozen=True)
class MemGenConfig:
    """A MemGen YAML config."""

    path: Path


class Surroundings(NamedTuple):
    """The module search path, and the variables of the environment that an import set."""

    path: list[str]
    environment: dict[str, str]


@dataclass(frozen=True)
class UserCode:
    """A callable of the user, with the name it was given under, the file it stands in and what its import said.

    ``surroundings`` are what its module left behind when it was imported, and what it may rely on when it runs.
    """

    name: str
    call: Callable[..., Any]
    file: str | None
    lines: tuple[str, ...] = ()
    surroundings: Surroundings | None = None

    def __call__(self, *args: Any) -> Any:
        """Call it, and wait for what an ``async`` function promises."""
        if self.surroundings is not None:
            own = self.surroundings.path
            sys.path[:] = [*own, *(entry for entry in sys.path if entry not in own)]
            os.environ.update(self.surroundings.environment)
        result = self.call(*args)
        if not inspect.isawaitable(result):
            return result
        import asyncio

        async def wait() -> Any:
            return await result

        return asyncio.run(wait())

    @property
    def takes_path(self) -> bool:
        """True if it has a required positional parameter, so it loads by itself."""
        return _required_parameters(self.call) > 0


ModelSpec = BaseModel | MemGenConfig | UserCode


def model_spec(text: str) -> ModelSpec:
    """Tell the kinds of ``--model`` apart. Raises ``VerificationError`` if one leads nowhere."""
    code = _code(text)
    if code is not None:
        return code
    path = Path(text)
    if text.endswith((".yaml", ".yml")):
        if not path.is_file():
            raise VerificationError(f"--model {text}: there is no such file")
        return MemGenConfig(path)
    if path.name == "config.json" and path.is_file():
        return BaseModel(str(path.parent))
    if path.is_dir():
        if not (path / "config.json").is_file():
            raise VerificationError(f"--model {text}: the folder has no config.json, so it is not a base model")
        return BaseModel(text)
    if path.exists() or text.endswith((".py", ".json", ".safetensors", ".bin")) or text.count("/") > 1 or not text:
        raise VerificationError(
            f"--model {text}: neither a folder with a config.json, a MemGen *.yaml, nor FILE.py:FUNCTION"
        )
    return BaseModel(text)


def loader_spec(text: str) -> UserCode:
    """A loader of the user. Raises ``VerificationError``."""
    code = _code(text)
    if code is None:
        raise VerificationError(
            f"--loader {text}: give auto, {MEMGEN_UPSTREAM}, {MEMGEN_FORK}, MODULE:FUNCTION or FILE.py:FUNCTION"
        )
    return code


def given(call: Callable[..., Any]) -> UserCode:
    """A callable that was given as one, in Python."""
    name = getattr(call, "__qualname__", type(call).__name__)
    try:
        file = inspect.getsourcefile(inspect.unwrap(call))
    except TypeError:
        file = None
    return UserCode(name, call, file)


def _code(text: str) -> UserCode | None:
    home, colon, attribute = text.rpartition(":")
    if not colon or not home or not all(word.isidentifier() for word in attribute.split(".")):
        return None
    if home.endswith(".py"):
        if not Path(home).is_file():
            raise VerificationError(f"{text}: there is no file {home}")
        outcome = run(lambda: _import_file(Path(home).resolve()), own_file=home)
    elif all(word.isidentifier() for word in home.split(".")):
        outcome = run(lambda: _surrounded(lambda: importlib.import_module(home), str(Path.cwd())))
    else:
        return None
    module, surroundings = _imported(text, home, outcome)
    value: Any = module
    for word in attribute.split("."):
        if not hasattr(value, word):
            raise VerificationError(f"{text}: {home} has no {attribute}")
        value = getattr(value, word)
    if not callable(value):
        raise VerificationError(f"{text}: {attribute} is not a function")
    return UserCode(text, value, module.__file__, tuple(outcome.lines), surroundings)


_Imported = tuple[ModuleType, Surroundings]
_FILES: dict[tuple[Path, int], _Imported] = {}
"""Files that were imported, by path and time: a model and a loader of one file share what that holds."""


def _imported(text: str, home: str, outcome: Outcome) -> _Imported:
    if outcome.error is not None:
        at = f", at {outcome.place}" if outcome.place else ""
        raise VerificationError(f"{text}: importing {home} failed with {outcome.failure}{at}") from None
    found: _Imported = outcome.result
    return found


def _import_file(path: Path) -> _Imported:
    """Import a file as a script would be run: with its folder first in the search path."""
    key = (path, path.stat().st_mtime_ns)
    if key not in _FILES:
        _FILES[key] = _surrounded(lambda: _executed(path), str(path.parent))
    return _FILES[key]


def _executed(path: Path) -> ModuleType:
    name = path.stem if path.stem.isidentifier() else "loader_under_test"
    existing = sys.modules.get(name)
    if existing is not None and getattr(existing, "__file__", None) != str(path):
        name = f"{name}_under_test"
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # dataclasses and pickle look their module up there
    spec.loader.exec_module(module)
    return module


def _surrounded(imported: Callable[[], ModuleType], folder: str) -> _Imported:
    """A module that is imported with ``folder`` first in the search path, and what it left behind."""
    before = dict(os.environ)
    sys.path.insert(0, folder)
    module = imported()
    changed = {name: value for name, value in os.environ.items() if before.get(name) != value}
    return module, Surroundings(list(sys.path), changed)


def _required_parameters(call: Callable[..., Any]) -> int:
    try:
        parameters = inspect.signature(call).parameters.values()
    except (TypeError, ValueError):  # some built-in callables have no signature
        return 0
    positional = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    return sum(item.kind in positional and item.default is inspect.Parameter.empty for item in parameters)
