"""How a kind of checkpoint is loaded (``Load``), and the plan for one question (``Plan``)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from ckpt_doctor.core.checkpoint import Checkpoint
from ckpt_doctor.core.coverage import ModelClass
from ckpt_doctor.core.findings import Finding
from ckpt_doctor.verification.question import Question


def _takes_any_model(_: Any) -> None:
    """The loader itself finds out whether the model can take the checkpoint."""


@dataclass(frozen=True)
class Plan:
    """``build`` makes the model that a loader is given, ``hollow`` the loaded one on the meta device.

    ``load`` is the ecosystem's own loader, and ``refuse`` raises ``VerificationError`` where it is not clear how that
    should load into a model. ``file`` is the user's file, ``ours`` is unset where the model is the user's, and
    ``whole`` is set where the model was built for the checkpoint and must be covered in every parameter. ``exact`` says
    that the loaded model has the names of the files, without prefixes. ``loads_alone`` says that ``load`` makes its own
    model. ``lines`` say what was decided that nobody asked for. ``quantised`` names the quantiser of a whole model, if
    any. ``model_class`` is the class of an adapter's base, ``departures`` what is done that the ecosystem's own loader
    would not do, ``problems`` what is known to be wrong without a load, and ``advice`` what to do where names do not
    fit. ``reference`` makes the base of a merged adapter.
    """

    name: str
    build: Callable[[], Any]
    hollow: Callable[[], Any]
    load: Callable[[Any], Any]
    file: str | None = None
    ours: bool = True
    whole: bool = False
    exact: bool = True
    loads_alone: bool = False
    loader: str = "The ecosystem's own loader"
    lines: tuple[str, ...] = ()
    quantised: str = ""
    model_class: ModelClass | None = None
    departures: tuple[str, ...] = ()
    problems: tuple[Finding, ...] = ()
    advice: Callable[[], str] = str
    reference: Callable[[], Any] | None = None
    refuse: Callable[[Any], None] = _takes_any_model


Loader = Callable[[Any, Checkpoint], Any]
"""Loads a checkpoint into a model and returns the model that holds it."""


def always(_: Checkpoint) -> bool:
    """For what all checkpoints of a kind do."""
    return True


def _never(_: Checkpoint) -> bool:
    return False


def _no_components(_: Checkpoint) -> Mapping[tuple[str, str], str]:
    return {}


def _as_built(build: Callable[[], Any], _: Checkpoint) -> Any:
    return build()


def _no_reference(_: Question, __: Plan) -> None:
    """Nothing but an adapter is merged into anything."""


def _fits_anything(_: Any, __: Checkpoint) -> None:
    """See :func:`_takes_any_model`."""


@dataclass(frozen=True)
class Load:
    """How checkpoints of one kind are loaded: an entry of ``LOADS``, which ``Layout.loads`` names.

    ``plan`` answers a question about a model that is built here, from a base model, and raises ``VerificationError``
    where there is no way. ``into`` loads into a model that is there, such as the user's; before that, ``refuse`` raises
    ``VerificationError`` where it is not clear how. ``hollow`` makes such a model as it would be after the load, on the
    meta device, out of a function that builds it there. ``reference`` makes the base of an adapter once more, for where
    the user's loader may have merged it; it returns ``None`` if nothing here can.

    ``title`` is what messages call the kind. ``loaders`` are further values of ``--loader``, with what they run.
    ``reads_yaml`` says that a MemGen YAML describes its model. ``has_own`` says that ``into`` is a loader of this
    package, because no library has one. ``components`` maps ``(file, tensor name)`` to the part of the model, where
    that is more than the part of the checkpoint. ``switches`` tells whether the model runs with one adapter after the
    other, so one which is not active is not idle; ``must_be_active`` makes an idle adapter an error.
    ``entries_are_unique`` says that the names in its side files mean nothing else in any model.
    """

    plan: Callable[[Question], Plan]
    into: Loader
    title: str = ""
    refuse: Callable[[Any, Checkpoint], None] = _fits_anything
    hollow: Callable[[Callable[[], Any], Checkpoint], Any] = _as_built
    reference: Callable[[Question, Plan], Callable[[], Any] | None] = _no_reference
    loaders: Mapping[str, Loader] = field(default_factory=dict)
    reads_yaml: bool = False
    has_own: bool = False
    components: Callable[[Checkpoint], Mapping[tuple[str, str], str]] = _no_components
    switches: Callable[[Checkpoint], bool] = _never
    must_be_active: bool = False
    entries_are_unique: bool = False
