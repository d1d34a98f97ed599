"""The words for what a load restored: like code coverage, for the tensors of a checkpoint."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any, Final, Literal, NamedTuple

from .envelope import envelope
from .errors import IncompleteLoadError
from .findings import MAX_TENSORS, Finding, Severity
from .layout import Grain
from .results import Outcome, finding_document
from .wording import counted, listed

Status = Literal["restored", "cast", "mismatched", "missing"]
"""The outcome of a load for one tensor of the checkpoint."""
RESTORED: Final = "restored"
"""The parameter holds the values of the checkpoint, bit by bit, after a cast to its dtype."""
CAST: Final = "cast"
"""They arrived, and the cast to the parameter's dtype changed some of them."""
MISMATCHED: Final = "mismatched"
"""The parameter has another shape, or other values were written to it."""
MISSING: Final = "missing"
"""The values are nowhere in the model."""

Mode = Literal["load", "keys", "forward"]
"""How a load is judged: by its values, by names and shapes alone, or by its values and one forward pass."""
MODES: tuple[Mode, ...] = ("load", "keys", "forward")
"""Values of ``--mode``, the default first."""


NOTHING_ARRIVED = "   <- nothing arrived"
"""How a line of the table ends whose component was lost."""

MEMGEN_UPSTREAM, MEMGEN_FORK = "memgen-upstream", "memgen-fork"
"""Values of ``--loader`` that mean loaders of MemGen's own code, which no library has."""
OWN_LOADER = "ckpt-doctor's own MemGen loader"


class TensorCoverage(NamedTuple):
    """One tensor of the checkpoint and what became of it.

    ``file`` is relative to the checkpoint. ``parameter`` is the model's name for it, with ``[...]`` behind where it is
    a slice of a fused one, and ``None`` if no name fits. ``detail`` says in words why it is not simply restored.
    ``expected`` is unset for the tensors of an adapter that is only next to the one that was asked for, for further
    copies of one parameter, and for what the model computes by itself.
    """

    name: str
    file: str
    component: str
    status: Status
    parameter: str | None = None
    detail: str = ""
    expected: bool = True

    @property
    def arrived(self) -> bool:
        """True if the model holds it."""
        return self.status in (RESTORED, CAST)


class Component(NamedTuple):
    """A part of the model, with the number of its tensors in the checkpoint and of those that arrived."""

    name: str
    expected: int
    restored: int


class ModelClass(NamedTuple):
    """The class of transformers that the base of an adapter was built as.

    ``reason`` says why it was taken. Of the ``modules`` that the adapter names by their paths it has ``found``;
    ``absent`` lists the others. ``usual`` is the class that ``loader``, PEFT's own way from an adapter to its model,
    would build, with ``usual_found`` of the modules; ``None`` if it has no class for this base.
    """

    name: str
    reason: str
    loader: str
    usual: str | None
    modules: int
    found: int
    absent: tuple[str, ...] = ()
    usual_found: int = 0

    @property
    def differs(self) -> bool:
        """True if PEFT's own loader would have built another class, or none."""
        return self.usual != self.name

    def lines(self) -> Iterator[str]:
        """What was built and why, and how to get the same class where PEFT's own loader takes another."""
        has = "" if not self.modules else f"; {self.found:,} of {self.modules:,} modules of the adapter exist in it"
        yield f"base built as {self.name} ({self.reason}){has}"
        if self.differs:
            theirs = (
                f"builds {self.usual}, which has {self.usual_found:,} of them" if self.usual else "has no class for it"
            )
            yield (
                f"{self.loader} {theirs}: load the base with {self.name}.from_pretrained, and the adapter with "
                "PeftModel.from_pretrained"
            )


class Coverage(NamedTuple):
    """The result of a load. ``log`` holds the loader's own warnings and log lines.

    ``model`` and ``loader`` are named as the user named them; ``mode`` is one of :data:`MODES`. ``root`` is what the
    paths of files are relative to: the checkpoint, where ``path`` may be a folder inside it. Empty means ``path``.
    ``unjudged`` says why the forward pass that was asked for could not be made, where that is so. ``own_loader`` is set
    where the loader is one of this package, because the library that the checkpoint belongs to has none.
    ``model_class`` is there for an adapter whose base was built here; ``departures`` say what was done that the
    ecosystem's own loader would not do. ``grain`` is ``file`` where the checkpoint is one file.
    """

    path: str
    layout: str
    model: str
    loader: str
    mode: Mode
    tensors: tuple[TensorCoverage, ...]
    findings: tuple[Finding, ...] = ()
    log: tuple[str, ...] = ()
    root: str = ""
    unjudged: str | None = None
    own_loader: bool = False
    model_class: ModelClass | None = None
    departures: tuple[str, ...] = ()
    grain: Grain = "folder"

    @property
    def deep(self) -> None:
        """``None``: only an inspection reads the values, and this is a load."""
        return None

    @property
    def loaded_by(self) -> str:
        """The loader as a person should read it."""
        return f"{OWN_LOADER} ({self.loader}; no library has a loader for it)" if self.own_loader else self.loader

    @property
    def caveat(self) -> str | None:
        """The limits of this coverage that are easily overlooked."""
        if not self.own_loader:
            return None
        return "This proves the files, not the loader of your evaluation: name that with --loader"

    @property
    def expected(self) -> int:
        """Number of tensors of the checkpoint that was asked for."""
        return sum(tensor.expected for tensor in self.tensors)

    @property
    def restored(self) -> int:
        """Number of those that arrived, with values changed by a cast or without."""
        return sum(tensor.expected and tensor.arrived for tensor in self.tensors)

    @property
    def ratio(self) -> float:
        """Restored to expected; 0 where nothing was expected."""
        return self.restored / self.expected if self.expected else 0.0

    @property
    def complete(self) -> bool:
        """True if all was judged and arrived and nothing is wrong. A checkpoint without tensors never is."""
        return self.arrived and self.unjudged is None

    @property
    def arrived(self) -> bool:
        """True if all of it arrived and nothing is wrong, as far as it could be judged."""
        return not self.errors and 0 < self.expected == self.restored

    @property
    def errors(self) -> int:
        """Number of findings that are errors."""
        return sum(finding.severity is Severity.ERROR for finding in self.findings)

    @property
    def outcome(self) -> Outcome:
        """How a run that judges this load ends."""
        if self.complete:
            return "passed"
        return "not judged" if self.arrived else "failed"

    @property
    def told(self) -> tuple[Finding, ...]:
        """The findings, with one more where no rule calls a load that is not complete an error."""
        return self.findings if self.complete or self.errors else (_incomplete(self), *self.findings)

    @property
    def components(self) -> tuple[Component, ...]:
        """The parts of the model, in the order of the checkpoint; those that are not expected are left out."""
        counts: dict[str, list[int]] = {}
        for tensor in self.tensors:
            if tensor.expected:
                count = counts.setdefault(tensor.component, [0, 0])
                count[0] += 1
                count[1] += tensor.arrived
        return tuple(Component(name, *count) for name, count in counts.items())

    def table(self) -> Iterator[str]:
        """The components as lines of plain text, with a total."""
        rows = [(item.name, item.restored, item.expected) for item in self.components]
        rows.append(("total", self.restored, self.expected))
        width = max(len("component"), *(len(name) for name, _, _ in rows))
        yield f"{'component'.ljust(width)}  restored  expected"
        for number, (name, restored, expected) in enumerate(rows):
            line = f"{name.ljust(width)}  {restored:8}  {expected:8}"
            if number == len(rows) - 1:
                # Rounded down: 99.9 % is not all.
                line += f"   {int(self.ratio * 100)} %"
            elif expected and not restored:
                line += NOTHING_ARRIVED
            yield line

    def not_restored(self) -> tuple[TensorCoverage, ...]:
        """The expected tensors that did not arrive."""
        return tuple(tensor for tensor in self.tensors if tensor.expected and not tensor.arrived)

    def raise_if_incomplete(self) -> None:
        """Raise ``IncompleteLoadError``, with the table as its message, unless the load is complete."""
        if self.complete:
            return
        lines = [f"{self.path} was not loaded completely", "", *self.table()]
        absent = [tensor.name for tensor in self.not_restored()]
        if absent:
            lines += ["", f"not restored: {listed(absent)}"]
        lines += [f"{finding.code} {finding.name}: {finding.message}" for finding in self.findings]
        lines += [f"the forward pass could not be judged: {self.unjudged}"] if self.unjudged else []
        raise IncompleteLoadError("\n".join(lines))

    def to_dict(self) -> dict[str, Any]:
        """The document of ``verify --output-format json``, version 1, as plain values."""
        return {
            **envelope(),
            "path": self.path,
            "layout": self.layout,
            "model": self.model,
            "loader": self.loader,
            "own_loader": self.own_loader,
            "caveat": self.caveat,
            "mode": self.mode,
            "complete": self.complete,
            "unjudged": self.unjudged,
            "coverage": {"expected": self.expected, "restored": self.restored, "ratio": _rounded(self.ratio)},
            "components": [item._asdict() for item in self.components],
            "tensors": [tensor._asdict() for tensor in self.tensors],
            "findings": [finding_document(finding) for finding in self.findings],
            "log": list(self.log),
            "model_class": None if self.model_class is None else self.model_class._asdict(),
            "departures": list(self.departures),
        }

    def to_json(self) -> str:
        """The document of ``verify --output-format json`` as text."""
        return json.dumps(self.to_dict(), indent=2)


def _incomplete(coverage: Coverage) -> Finding:
    """What means a load that is not complete where no rule found an error: it must not look like a success."""
    absent = [tensor.name for tensor in coverage.not_restored()]
    message = f"{counted(len(absent), 'tensor')} of {coverage.expected:,} did not arrive."
    if coverage.arrived:
        message = f"All tensors arrived, but the forward pass could not be judged: {coverage.unjudged}."
    return Finding(
        "CKD001",
        "tensor-not-restored",
        Severity.ERROR,
        message if absent else "The checkpoint has no tensors to load.",
        tensors=tuple(absent[:MAX_TENSORS]),
        tensor_count=len(absent),
        always_fails=True,
    )


def _rounded(ratio: float) -> float:
    """Four digits, and never 1 where something is absent."""
    return min(round(ratio, 4), 0.9999) if ratio < 1 else ratio
