"""The options of a load that is to be proved, the same for every command that proves one."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

import click

from ckpt_doctor.core.coverage import MODES, Mode

if TYPE_CHECKING:
    from ckpt_doctor.core.coverage import Coverage
    from ckpt_doctor.core.policy import Policy

    from .progress import LoadProgress


class LoadOptions(NamedTuple):
    """What was asked for on the command line; ``None`` if nothing was."""

    model: str | None
    loader: str | None
    mode: Mode
    weaver_model: str | None
    trigger_model: str | None
    trust_checkpoint: bool

    @property
    def without_model(self) -> list[str]:
        """The options that were given though they mean nothing where no model is given."""
        if self.model is not None:
            return []
        given = {
            "--loader": self.loader is not None,
            "--mode": self.mode != MODES[0],
            "--weaver-model": self.weaver_model is not None,
            "--trigger-model": self.trigger_model is not None,
            "--trust-checkpoint": self.trust_checkpoint,
        }
        return [name for name, is_given in given.items() if is_given]

    def verify(self, path: str, policy: Policy, progress: LoadProgress) -> Coverage:
        """See :func:`ckpt_doctor.verification.verify_apart`, which this imports."""
        from ckpt_doctor.verification import verify_apart

        return verify_apart(
            path,
            self.model,
            loader=self.loader,
            mode=self.mode,
            weaver_model=self.weaver_model,
            trigger_model=self.trigger_model,
            layout=policy.layout,
            layouts=policy.layouts,
            trust_checkpoint=self.trust_checkpoint,
            progress=progress,
            stage=progress.stage,
        )


_OPTIONS = (
    click.option(
        "--model",
        metavar="SPEC",
        help="Base model (folder or hub id), MemGen *.yaml, or MODULE:NAME or FILE.py:NAME of a function that returns "
        "the model.",
    ),
    click.option(
        "--loader",
        metavar="auto|SPEC",
        help="The loader to judge: MODULE:NAME or FILE.py:NAME, called as function(model, PATH); memgen-upstream or "
        "memgen-fork, the steps of these two loaders.  "
        "[default: auto, the ecosystem's own loader for this layout; for MemGen, ckpt-doctor's own loader]",
    ),
    click.option(
        "--mode",
        type=click.Choice(MODES),
        default=MODES[0],
        show_default=True,
        help="load compares values; keys only names and shapes, without memory for weights; forward also runs one "
        "pass.",
    ),
    click.option("--weaver-model", metavar="SPEC", help="MemGen: base model of the weaver, if it is another one."),
    click.option("--trigger-model", metavar="SPEC", help="MemGen: base model of the trigger, if it is another one."),
    click.option("--trust-checkpoint", is_flag=True, help="Let your own loader read files that could run code."),
)


def load_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Give ``command`` all options of a load; it gets them as one argument, ``load``."""

    @functools.wraps(command)
    def packed(**values: Any) -> Any:
        load = LoadOptions(**{name: values.pop(name) for name in LoadOptions._fields})
        return command(load=load, **values)

    result: Callable[..., Any] = packed
    for option in reversed(_OPTIONS):
        result = option(result)
    return result
