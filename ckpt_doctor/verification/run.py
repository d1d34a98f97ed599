"""A checkpoint, a model and a loader to coverage: the one way in for the command line and for Python."""

from __future__ import annotations

import gc
import os
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from ckpt_doctor.core.checkpoint import Checkpoint
from ckpt_doctor.core.coverage import MEMGEN_FORK, MEMGEN_UPSTREAM, MISSING, MODES, Coverage, Mode
from ckpt_doctor.core.errors import IncompleteLoadError, UnknownNameError, VerificationError
from ckpt_doctor.core.findings import Finding, Severity
from ckpt_doctor.rules.loader_raised import LoaderRaised

from .hosting.dependencies import require
from .hosting.isolation import run, surroundings_put_back
from .hosting.specs import UserCode, given, loader_spec, model_spec
from .model import loaders
from .model.builders import Plan, plan
from .opening import opened
from .proof.assess import assess
from .proof.counting import nothing_arrived
from .proof.evidence import Evidence
from .proof.safety import Unchanged, broken, unsafe
from .proof.steps import advised
from .values.marks import Marks

if TYPE_CHECKING:
    from torch import nn

    from ckpt_doctor.core.layout import Layout

    from .hosting.specs import ModelSpec
    from .proof.evidence import Progress, Reference

    Stage = Callable[[str, str], None]

AUTO = "auto"
_THEIRS = (MEMGEN_UPSTREAM, MEMGEN_FORK)


def untold(kind: str, name: str) -> None:
    """Nobody wants to know how far it is."""


@surroundings_put_back()
def verify(
    path: str | os.PathLike[str],
    model: str | Callable[..., Any] | nn.Module | None = None,
    *,
    loader: str | Callable[..., Any] | None = None,
    mode: Mode = "load",
    weaver_model: str | None = None,
    trigger_model: str | None = None,
    layout: str | None = None,
    layouts: Sequence[Layout] = (),
    trust_checkpoint: bool = False,
    progress: Progress | None = None,
    stage: Stage = untold,
) -> Coverage:
    """Load the checkpoint at ``path`` into ``model`` with ``loader``, and say which of its tensors arrived.

    ``model`` is what ``--model`` takes (a base model's path or hub id, a MemGen ``*.yaml``, ``module:attribute`` or
    ``file.py:attribute``), a callable, or a module that is there already; without one, the base that the checkpoint
    itself names, if it is a local folder. ``weaver_model`` and ``trigger_model`` are base models of MemGen's parts,
    where these are others. ``loader`` is ``"auto"``, ``"memgen-upstream"``, ``"memgen-fork"``, ``"file.py:function"``
    or a callable ``function(model, path)``. ``mode`` is ``load``, ``keys`` or ``forward``. ``layouts`` are those that a
    team has defined. ``progress`` is called with the bytes compared so far and in all, ``stage`` with what begins:
    ``building``, ``loading`` or ``judging``, and what that is done to or with.

    Raises ``VerificationError`` where nothing could be judged, and what ``open_checkpoint`` raises.
    """
    if mode not in MODES:
        raise UnknownNameError(f"there is no mode {mode!r}: one of {', '.join(MODES)}")
    checkpoint = opened(path, layout, layouts)
    spec = _model(model)
    theirs = loader if isinstance(loader, str) and loader in _THEIRS else None
    code = _memgens(theirs, checkpoint, mode) if theirs is not None else _loader(loader)
    names = _names(model, spec, code)
    if isinstance(spec, UserCode) and not spec.takes_path and code is None and loader is None:
        raise VerificationError(
            f"{spec.name} builds a model but does not load the checkpoint: name the loader with --loader "
            "FILE.py:FUNCTION, or --loader auto for the ecosystem's own"
        )
    refused = unsafe(checkpoint)
    ours = theirs is not None or (code is None and not (isinstance(spec, UserCode) and spec.takes_path))
    if refused and (ours or not trust_checkpoint):
        log = ("" if ours else "the user's loader was not run: --trust-checkpoint lets it read these files",)
        return _coverage(checkpoint, path, names, mode, nothing_arrived(checkpoint), refused, list(filter(None, log)))
    if ours and (mode != "keys" or not isinstance(spec, UserCode)):
        loaders.refuse_unknown(checkpoint)
    require("torch")
    # Who trusts the checkpoint is told all the same what is in it.
    trusted = [item._replace(severity=Severity.WARNING) for item in refused]
    job = _Job(checkpoint, os.fspath(path), names, mode, progress, stage, trusted)
    prepared = job.plan = plan(
        *(checkpoint, spec),
        mode=mode,
        weaver_model=weaver_model,
        trigger_model=trigger_model,
        apart=theirs == MEMGEN_UPSTREAM,
    )
    job.lines += prepared.lines
    if mode == "keys":
        if code is not None:
            job.lines.append(f"{code.name} was not run: --mode keys compares names and shapes, and loads nothing")
        return job.compare_keys(prepared)
    if isinstance(spec, UserCode) and spec.takes_path:
        return job.loaded_by_factory(spec)
    return job.loaded(prepared, code)


def ended(path: str, model: str | None, who: str, how: str, lines: list[str], **options: Any) -> Coverage:
    """The coverage of a load that ``who`` ended the process of; ``options`` are those of :func:`verify`."""
    checkpoint = opened(path, options.get("layout"), options.get("layouts", ()))
    problems = [LoaderRaised().report(who, f"its process {how}"), *broken(checkpoint)]
    names = (model or "", who if who in (options.get("loader"), model) else AUTO)
    mode = options.get("mode", MODES[0])
    return _coverage(checkpoint, path, names, mode, nothing_arrived(checkpoint), problems, lines)


def _model(model: Any) -> ModelSpec | Any:
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


def _memgens(loader: str, checkpoint: Checkpoint, mode: Mode) -> UserCode:
    """One of MemGen's own loaders, as if it were the user's. Raises ``VerificationError`` where it loads nothing."""
    if checkpoint.layout not in loaders.MEMGEN:
        raise VerificationError(
            f"--loader {loader} loads MemGen checkpoints, and {checkpoint.path} is one of the layout "
            f"{checkpoint.layout}: give another loader, or leave --loader out"
        )
    if mode == "keys":
        raise VerificationError(f"--mode keys runs no loader: judge --loader {loader} with --mode load")
    require("torch")
    from .memgen.their_loaders import LOADERS

    return UserCode(loader, lambda model, _: LOADERS[loader](model, checkpoint), None)


def _names(model: Any, spec: Any, code: UserCode | None) -> tuple[str, str]:
    shown = model if isinstance(model, str) else "" if spec is None else getattr(spec, "name", str(model))
    if code is not None:
        return shown, code.name
    takes_path = isinstance(spec, UserCode) and spec.takes_path
    return shown, spec.name if takes_path else AUTO


class _Job:
    """One load that is to be judged."""

    def __init__(
        self,
        checkpoint: Checkpoint,
        path: str,
        names: tuple[str, str],
        mode: Mode,
        progress: Progress | None,
        stage: Stage,
        trusted: list[Finding],
    ) -> None:
        self.checkpoint = checkpoint
        self.path = path
        self.names = names
        self.mode = mode
        self.progress = progress
        self.stage = stage
        self.trusted = trusted
        self.files = Unchanged(checkpoint)
        self.lines: list[str] = []
        self.plan: Plan | None = None

    def compare_keys(self, prepared: Plan) -> Coverage:
        """Names, shapes and nothing else, against a model without memory."""
        self.stage("building", prepared.name)
        outcome = run(prepared.hollow, own_file=prepared.file)
        self.stage("judging", self.path)
        self.lines += outcome.lines
        if outcome.error is not None and prepared.model_class is not None and prepared.model_class.absent:
            # The base could be built, as its modules are known: the adapter is one of another base.
            return self._raised("PEFT", outcome)
        self._raise_if_not_built(outcome, prepared)
        if prepared.quantised:
            self.lines.append(
                f"the checkpoint is quantised ({prepared.quantised}): names and shapes were compared with those of the "
                "model that is not, and no values were read"
            )
        evidence = Evidence(
            outcome.result,
            self.checkpoint,
            values=False,
            whole=prepared.whole,
            exact=prepared.ours,
            folder=self.path,
        )
        tensors, problems, _ = assess(evidence)
        return self._result(tensors, problems)

    def loaded_by_factory(self, spec: UserCode) -> Coverage:
        """A factory that is given the path and returns a model that is loaded already."""

        self.stage("loading", spec.name)
        with Marks(None, self.checkpoint) as marks:
            with marks.watched():
                outcome = run(lambda: spec(self.path), own_file=spec.file)
            self.lines += [*spec.lines, *outcome.lines]
            if outcome.error is not None:
                return self._raised(spec.name, outcome)
            model = _module(outcome.result, None, spec.name, self.lines)
            return self._judge(model, marks, whole=False, reference=self._reference(None))

    def loaded(self, prepared: Plan, code: UserCode | None) -> Coverage:
        """Build the model, mark it where the loader is not ours, load, and compare."""
        own = prepared.load if code is None else None
        alone = own is not None and prepared.loads_alone
        self.stage("building", prepared.name)
        built = run(_nothing if alone else prepared.build, own_file=prepared.file)
        self.lines += built.lines
        self._raise_if_not_built(built, prepared)
        model = built.result
        if own is not None:
            del built
            return self._loaded_by_us(prepared, own, model)
        assert code is not None
        with Marks(model, self.checkpoint) as marks:
            self.stage("loading", code.name)
            with marks.watched():
                outcome = run(lambda: code(model, self.path), own_file=code.file)
            self.lines += [*code.lines, *outcome.lines]
            if outcome.error is not None:
                return self._raised(code.name, outcome)
            returned = _module(outcome.result, model, code.name, self.lines)
            return self._judge(returned, marks, whole=False, reference=self._reference(prepared))

    def _loaded_by_us(self, prepared: Plan, own: Callable[[Any], Any], model: Any) -> Coverage:
        """The ecosystem's own loader, with ``model`` or, where that is ``None``, one that it makes itself."""
        with Marks(model, self.checkpoint) as marks:
            self.stage("loading", prepared.loader)
            with marks.watched():
                outcome = run(lambda: own(model))
            self.lines += outcome.lines
            if isinstance(outcome.error, IncompleteLoadError):
                # Our MemGen loader loads what fits before it complains: the comparison says more.
                if prepared.ours:
                    self.lines.append(f"MemGen loader: {outcome.error}")
                outcome.result, outcome.error = model, None
            if outcome.error is not None and prepared.quantised:
                raise VerificationError(
                    f"{self.path} is quantised ({prepared.quantised}) and cannot be loaded here ({outcome.failure}). "
                    "--mode keys compares names and shapes"
                )
            if outcome.error is not None:
                return self._raised(prepared.loader, outcome, self._shapes(prepared))
            return self._judge(outcome.result, marks, whole=prepared.whole, ours=True)

    def _reference(self, prepared: Plan | None) -> Reference | None:
        """What makes the base of an adapter once more, if anything here does."""
        if self.checkpoint.layout != "peft":
            return None
        try:
            known = prepared or plan(self.checkpoint, None, mode=self.mode)
            return known.reference or known.build
        except VerificationError:
            return None

    def _judge(
        self,
        model: nn.Module,
        marks: Marks | None,
        *,
        whole: bool,
        ours: bool = False,
        reference: Reference | None = None,
    ) -> Coverage:
        self.files.check()
        self.stage("judging", self.path)
        gc.collect()  # what the loader left in cycles is not part of the model
        evidence = Evidence(
            model,
            self.checkpoint,
            fates=marks.fates(model) if marks is not None else None,
            whole=whole,
            final=True,
            folder=self.path,
            reference=reference,
            progress=self.progress,
        )
        tensors, problems, notes = assess(evidence)
        self.lines += notes
        if marks is not None:
            marks.lift()
        if self.mode == "forward":
            from .proof.forward import forward_findings, same_random_state

            parameters = [tensor.parameter for tensor in tensors if tensor.expected and tensor.parameter]
            with same_random_state():
                more, unjudged = forward_findings(model, parameters, self.lines, ours=ours)
            idle = any(item.code == "CKD006" for item in problems)
            problems += [item for item in more if item.code != "CKD006" or not idle]
            self.lines += [f"forward: {reason}" for reason in unjudged]
            return self._result(tensors, problems)._replace(unjudged=unjudged[0] if unjudged else None)
        return self._result(tensors, problems)

    def _shapes(self, prepared: Plan) -> tuple[Any, list[Finding]]:
        """Why a loader of ours may have refused: what is absent or does not fit, seen without memory."""
        outcome = run(prepared.hollow)
        if outcome.error is not None:
            return nothing_arrived(self.checkpoint), []
        tensors, problems, _ = assess(Evidence(outcome.result, self.checkpoint, values=False, exact=prepared.ours))
        lost = tuple(item._replace(status=MISSING) if item.arrived else item for item in tensors)
        return lost, [item for item in problems if item.code in ("CKD003", "CKD004")]

    def _raised(self, loader: str, outcome: Any, more: tuple[Any, list[Finding]] | None = None) -> Coverage:
        problem = LoaderRaised().report(loader, outcome.failure, outcome.place, outcome.wanted_file)
        tensors, problems = more or (nothing_arrived(self.checkpoint), [])
        return self._result(tensors, [problem, *problems])

    def _raise_if_not_built(self, outcome: Any, prepared: Plan) -> None:
        if outcome.error is None:
            return
        if isinstance(outcome.error, VerificationError):
            raise outcome.error
        at = f", at {outcome.place}" if outcome.place else ""
        advice = ". --mode load builds it with memory" if self.mode == "keys" and not prepared.ours else ""
        raise VerificationError(f"{prepared.name} could not be built: {outcome.failure}{at}{advice}") from None

    def _result(self, tensors: Any, problems: list[Finding]) -> Coverage:
        problems = [*problems, *broken(self.checkpoint), *self.trusted]
        known = self.plan
        if known is not None:
            problems = advised([*problems, *known.problems], known.advice)
        judged = _coverage(self.checkpoint, self.path, self.names, self.mode, tensors, problems, self.lines)
        if known is None:
            return judged
        return judged._replace(model_class=known.model_class, departures=known.departures)


def _nothing() -> None:
    """The model of a loader that makes its own."""


def _module(result: Any, model: Any, name: str, lines: list[str]) -> Any:
    """The model to judge: the one that the call returned, also beside a tokenizer, else the one that it was given."""
    import torch

    items = result.values() if isinstance(result, dict) else result if isinstance(result, (tuple, list)) else [result]
    modules = [item for item in items if isinstance(item, torch.nn.Module)]
    if len(modules) == 1:
        return modules[0]
    what = f"{len(modules)} models" if modules else type(result).__name__
    if model is None:
        raise VerificationError(f"{name} returned {what}, not a torch.nn.Module")
    if result is not None:
        lines.append(f"{name} returned {what}: the model that it was given is judged")
    return model


def _coverage(
    checkpoint: Checkpoint,
    path: str | os.PathLike[str],
    names: tuple[str, str],
    mode: Mode,
    tensors: Any,
    problems: list[Finding],
    lines: list[str],
) -> Coverage:
    problems.sort(key=lambda item: (item.severity.rank, item.code, item.path or "", item.tensors))
    return Coverage(
        os.fspath(path),
        checkpoint.layout,
        names[0],
        names[1],
        mode,
        tensors,
        tuple(problems),
        tuple(lines),
        checkpoint.path,
        own_loader=names[1] == AUTO and checkpoint.layout in loaders.MEMGEN,
        grain=checkpoint.kind.grain,
    )
