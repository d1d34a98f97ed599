"""How a reader jumps between files who follows one ``verify`` through the package.

    python benchmarks/walk.py [--steps] [--against CHECKOUT]

What is counted: a MemGen weaver is verified with tiny base models. The reader reads each function when it is called for
the first time, if it is on the path of ``verify``'s argument ``path``: if one of its arguments is that path, the
checkpoint that was read from it or a part of that, or a value that directly holds one of these. The files of these
functions, in the order of reading, make the walk; a file that follows itself is one stay. A return is a stay in a file
that had been left before. Going back to the caller, whose function was read already, is not counted.

The table shows the returns to the files of each room. ``--against`` counts the same in another checkout, in a process
of its own, and ``--steps`` lists the functions.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections import Counter
from itertools import groupby
from pathlib import Path
from types import FrameType
from typing import Any

REPOSITORY = Path(__file__).resolve().parents[1]
WEAVER = Path("fixtures") / "healthy" / "weaver_safetensors" / "weaver"
KINDS = ("Checkpoint", "Part")


class Walk:
    """Records the functions of ``package`` that carry ``path``, each at its first call, as ``(file, function)``."""

    def __init__(self, package: Path, path: Path) -> None:
        self.package = f"{package}{os.sep}"
        self.path = str(path)
        self.steps: list[tuple[str, str]] = []
        self._seen: set[Any] = set()

    def __call__(self, frame: FrameType, event: str, _: Any) -> None:
        """See ``sys.setprofile``."""
        code = frame.f_code
        ours = code.co_filename.startswith(self.package) and code.co_name != "<module>"
        if event == "call" and ours and code not in self._seen and self._carries(frame):
            self._seen.add(code)
            self.steps.append((code.co_filename.removeprefix(self.package), code.co_name))

    def _carries(self, frame: FrameType) -> bool:
        code = frame.f_code
        names = code.co_varnames[: code.co_argcount + code.co_kwonlyargcount]
        values = [frame.f_locals.get(name) for name in names]
        return any(self._is_path(item) for value in values for item in (value, *_inside(value)))

    def _is_path(self, value: Any) -> bool:
        if isinstance(value, (str, Path)):
            return str(value).startswith(self.path)
        return type(value).__name__ in KINDS


def _inside(value: Any) -> tuple[Any, ...]:
    if isinstance(value, tuple):
        return tuple(value)
    return tuple(getattr(value, "__dict__", {}).values()) if not isinstance(value, type) else ()


def returns(files: list[str]) -> Counter[str]:
    """How often each file is entered after it had been left.

    >>> returns(["a", "b", "b", "a", "c"])
    Counter({'a': 1})
    """
    stays = [file for file, _ in groupby(files)]
    return Counter(file for number, file in enumerate(stays) if file in stays[:number])


def walked(checkout: Path) -> list[tuple[str, str]]:
    """The walk through the package in ``checkout``, which this process must not have imported from elsewhere."""
    sys.path[:0] = [str(checkout), str(checkout / "fixtures")]
    import peft  # noqa: F401 - imported before, so that only the walk is recorded
    from tiny_models import REASONER_HIDDEN, WEAVER_HIDDEN, qwen2

    import ckpt_doctor

    package = Path(ckpt_doctor.__file__).parent
    assert package.parent == checkout, f"{package} is not in {checkout}"
    verify = ckpt_doctor.verify
    walk = Walk(package, checkout / WEAVER)
    with tempfile.TemporaryDirectory() as name:
        reasoner, weaver = f"{name}/reasoner", f"{name}/weaver"
        qwen2(REASONER_HIDDEN).save_pretrained(reasoner)
        qwen2(WEAVER_HIDDEN).save_pretrained(weaver)
        sys.setprofile(walk)
        try:
            coverage = verify(checkout / WEAVER, reasoner, weaver_model=weaver)
        finally:
            sys.setprofile(None)
    assert coverage.complete, coverage.findings
    return walk.steps


def walked_apart(checkout: Path) -> list[tuple[str, str]]:
    """:func:`walked` in a process of its own."""
    env = {**os.environ, "HF_HUB_OFFLINE": "1", "TQDM_DISABLE": "1"}
    command = [sys.executable, __file__, "--of", str(checkout)]
    done = subprocess.run(command, env=env, stdout=subprocess.PIPE, text=True, check=True)
    return [(file, name) for file, name in json.loads(done.stdout.splitlines()[-1])]


def by_room(steps: list[tuple[str, str]]) -> Counter[str]:
    """Returns to the files of each room."""
    found: Counter[str] = Counter()
    for file, number in returns([file for file, _ in steps]).items():
        found[Path(file).parts[0].removesuffix(".py")] += number
    return found


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--against", type=Path, help="another checkout of this repository")
    parser.add_argument("--steps", action="store_true", help="list the functions in the order of reading")
    parser.add_argument("--of", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.of is not None:
        print(json.dumps(walked(options.of)))
        return
    steps = walked_apart(REPOSITORY)
    for file, name in steps if options.steps else ():
        print(f"{file}: {name}")
    new = by_room(steps)
    old = by_room(walked_apart(options.against.resolve())) if options.against is not None else None
    print("| returns to files of | here |" + (" there |" if old is not None else ""))
    print("|---|---|" + ("---|" if old is not None else ""))
    for room in sorted({*new, *(old or ())}):
        print(f"| {room} | {new[room]} |" + (f" {old[room]} |" if old is not None else ""))
    print(f"| all rooms | {new.total()} |" + (f" {old.total()} |" if old is not None else ""))


if __name__ == "__main__":
    main()
