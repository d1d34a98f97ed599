"""The base of every rule: its documentation, its check and what it says how to repair, in one class."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, ClassVar, Literal

from ckpt_doctor.core.actions import Action, Rewrite, Safety
from ckpt_doctor.core.checkpoint import Checkpoint
from ckpt_doctor.core.defects import Defect, DefectKind
from ckpt_doctor.core.findings import MAX_TENSORS, Finding, Fix, Severity
from ckpt_doctor.core.parts import ConfigFile, Part, ShardIndex
from ckpt_doctor.core.policy import Policy
from ckpt_doctor.core.results import RuleInfo
from ckpt_doctor.core.weight_file import WeightFile
from ckpt_doctor.core.wording import capital, shell


class Rule:
    """Base of all rules.

    A subclass has a docstring in Markdown: one sentence that sums it up, then ``## What it does``,
    ``## Why is this bad?``, ``## Example``, ``## What to do``, and where they help ``## Fix safety`` and
    ``## References``. ``needs`` is ``headers``, ``headers and configs``, ``configs``, ``tensor bytes`` or ``a model``.
    ``fix`` is ``safe``, ``unsafe`` or ``none``: what a finding of this rule may offer. ``check`` sees
    values, never files, and yields nothing when it is not sure.
    """

    code: ClassVar[str]
    name: ClassVar[str]
    severity: ClassVar[Severity]
    needs: ClassVar[str] = "headers"
    fix: ClassVar[Safety | Literal["none"]] = "none"

    def check(self, checkpoint: Checkpoint, policy: Policy) -> Iterator[Finding]:
        """Yield what is wrong with ``checkpoint``."""
        raise NotImplementedError

    def finding(
        self,
        message: str,
        *,
        path: str | None = None,
        tensors: Iterable[str] = (),
        evidence: Mapping[str, Any] | None = None,
        severity: Severity | None = None,
        fix: Fix | None = None,
        always_fails: bool = False,
    ) -> Finding:
        """Build a finding of this rule; ``severity`` defaults to the rule's own."""
        names = sorted(set(tensors))
        return Finding(
            code=self.code,
            name=self.name,
            severity=severity or self.severity,
            message=message,
            path=path,
            tensors=tuple(names[:MAX_TENSORS]),
            tensor_count=len(names),
            evidence=evidence or {},
            fix=fix,
            always_fails=always_fails,
        )

    def repair(
        self,
        checkpoint: Checkpoint,
        title: str,
        actions: Iterable[Action],
        *,
        unsafe: bool = False,
        deep: bool = False,
        expect: str | None = None,
    ) -> Fix | None:
        """A fix that ``ckpt-doctor fix`` carries out; ``None`` if there is nothing that it could do.

        There is none either where something else that is wrong with one of the files stands in its way. ``deep`` says
        that it is offered only where the tensor bytes were read, and ``expect`` which expectation it is offered for.
        """
        actions = tuple(actions)
        if not actions or any(is_impossible(checkpoint, action) for action in actions):
            return None
        more = [*(["--expect", expect] if expect else []), *(["--deep"] if deep else [])]
        more += ["--unsafe-fixes"] if unsafe else []
        command = shell("fix", checkpoint.path, "--select", self.code, *more)
        return Fix(title, "unsafe" if unsafe else "safe", command, actions, expect, deep)

    @classmethod
    def info(cls) -> RuleInfo:
        """The rule as data, with its documentation."""
        import inspect

        documentation = inspect.cleandoc(cls.__doc__ or "")
        return RuleInfo(
            code=cls.code,
            name=cls.name,
            severity=cls.severity,
            needs=cls.needs,
            fix=cls.fix,
            summary=" ".join(documentation.partition("\n\n")[0].split()),
            documentation=documentation,
        )


def is_impossible(checkpoint: Checkpoint, action: Action) -> bool:
    """True if an action would be refused, because damage that it does not mend must not look whole afterwards."""
    if not isinstance(action, Rewrite):
        return False
    return any(
        defect.kind not in action.despite
        for file in checkpoint.files
        if file.path == action.path
        for defect in file.defects
    )


def documents(checkpoint: Checkpoint) -> Iterator[ConfigFile | ShardIndex]:
    """The configs and indexes of all parts; one that several parts share comes several times."""
    found = [checkpoint.config, *(item for part in checkpoint.parts for item in (part.config, *part.indexes))]
    return (item for item in found if item is not None)


def sentence(text: str) -> str:
    """What a reader said, with a capital in front and a full stop behind; a name in front keeps its spelling."""
    text = capital(text)
    return text if text.endswith(".") else f"{text}."


class DefectRule(Rule):
    """A rule that passes on what a reader found wrong with a file: one finding for each defect of its ``kinds``."""

    kinds: ClassVar[tuple[DefectKind, ...]]
    advice: ClassVar[str]
    """The next step: appended to the reader's statement."""

    def check(self, checkpoint: Checkpoint, policy: Policy) -> Iterator[Finding]:
        """See :meth:`Rule.check`."""
        for part in checkpoint.parts:
            for file in part.files:
                for defect in file.defects:
                    if defect.kind in self.kinds and self.concerns(part, file, defect):
                        yield self.finding(
                            f"{sentence(self.statement(defect))} {self.advice_for(checkpoint, file, defect)}",
                            path=file.path,
                            tensors=defect.tensors,
                            evidence=defect.evidence,
                            severity=self.severity_in(part, file, defect),
                            fix=self.fix_for(checkpoint, part, file, defect),
                            # What nobody can read, or load, no setting makes healthy.
                            always_fails=not part.auxiliary and (not file.readable or defect.kind.incomplete),
                        )

    def concerns(self, part: Part, file: WeightFile, defect: Defect) -> bool:
        """True if a defect of one of the ``kinds`` is for this rule to report."""
        return True

    def statement(self, defect: Defect) -> str:
        """The defect, in the reader's words."""
        return defect.message

    def advice_for(self, checkpoint: Checkpoint, file: WeightFile, defect: Defect) -> str:
        """The next step for this defect."""
        return self.advice

    def severity_in(self, part: Part, file: WeightFile, defect: Defect) -> Severity:
        """The severity of a defect of this file; at most a warning where no evaluation reads the file."""
        return Severity.WARNING if part.auxiliary else self.severity

    def fix_for(self, checkpoint: Checkpoint, part: Part, file: WeightFile, defect: Defect) -> Fix | None:
        """How to repair this defect, if there is a way; none unless a subclass knows one."""
        return None
