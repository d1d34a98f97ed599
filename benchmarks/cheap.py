"""The three ratios that need no large file, for every change: ``python benchmarks/cheap.py``.

Whole processes in turn, as in ``run.py``; only the ratios mean something. Exit code 1 if a bar is missed. Needs torch,
and ``pip install safetensors-print``.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator

from run import HERE, INSPECT, WEAVER, Command, Comparison, judged, safetensors_print

LORA = HERE.parent / "fixtures" / "healthy" / "peft" / "lora" / "adapter_model.safetensors"
HEALTHY = HERE.parent / "fixtures" / "healthy" / "weaver_safetensors" / "weaver"


def comparisons() -> Iterator[Comparison]:
    """The three, with the bars of ``run.py`` and ``gate.py``."""
    printer = safetensors_print()
    if printer is None:
        raise SystemExit("safetensors-print is not installed: pip install safetensors-print")
    torch = Command((sys.executable, "-c", "import torch"))
    gate = Command((sys.executable, "-m", "ckpt_doctor", "gate", str(HEALTHY), "--", "true"))
    yield Comparison("inspect weaver", Command((*INSPECT, str(WEAVER))), "import torch", torch, bar=0.1)
    lone = Command((*INSPECT, str(LORA)))
    yield Comparison("inspect one .safetensors", lone, "safetensors-print", Command((printer, str(LORA))), bar=2)
    yield Comparison("gate weaver -- true", gate, "import torch", torch, bar=0.15)


if __name__ == "__main__":
    sys.exit(judged(comparisons()))
