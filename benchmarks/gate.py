"""Measures what stands between a checkpoint and its evaluation: ``python benchmarks/gate.py``.

Whole processes in turn, as in ``run.py``; only the ratios mean something. Exit code 1 if a bar is missed. Needs torch.
"""

from __future__ import annotations

import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from run import HERE, Command, Comparison, judged

HEALTHY = HERE.parent / "fixtures" / "healthy"
WEAVER = HEALTHY / "weaver_safetensors" / "weaver"
PROGRAM = (sys.executable, "-m", "ckpt_doctor")
FEW, MANY = 40, 1_000


def tree(folder: Path, runs: int) -> Path:
    """A tree of runs, each with a weaver of its own."""
    for number in range(runs):
        hour, minute = divmod(number, 60)
        shutil.copytree(WEAVER, folder / f"pn=1_pl=8_in=5_il=8_20250107-{hour:02}{minute:02}00" / "weaver")
    return folder


def comparisons(folder: Path) -> Iterator[Comparison]:
    """Everything that is measured."""
    few, many = tree(folder / "few", FEW), tree(folder / "many", MANY)

    def inspect(path: Path, *options: str) -> Command:
        return Command((*PROGRAM, "inspect", "-q", str(path), *options))

    def gate(*arguments: str) -> Command:
        return Command((*PROGRAM, "gate", *arguments, "--", "true"))

    torch = Command((sys.executable, "-c", "import torch"))
    yield Comparison("gate weaver -- true", gate(str(WEAVER)), "import torch", torch, bar=0.15)
    yield Comparison(f"inspect {MANY:,} weavers", inspect(many), f"{FEW} of them", inspect(few), bar=25)
    alone = inspect(many, "--jobs", "1")
    yield Comparison(f"inspect {MANY:,} weavers, every core", inspect(many), "--jobs 1", alone)
    yield Comparison("gate one weaver", gate(str(WEAVER)), "inspect", inspect(WEAVER))
    newest = gate(str(many), "--latest")
    yield Comparison(f"gate --latest of {MANY:,} runs", newest, f"of {FEW}", gate(str(few), "--latest"))


def main() -> int:
    """Make the trees, measure, print the table."""
    with tempfile.TemporaryDirectory(prefix="ckpt-doctor-benchmark-") as temporary:
        return judged(comparisons(Path(temporary)))


if __name__ == "__main__":
    sys.exit(main())
