"""Measures ``ckpt-doctor convert`` against ``cp`` and against torch: ``python benchmarks/convert.py [--quick]``.

Both directions. Whole processes, start-up included: the median wall time over several runs, and the highest resident
memory. The sides take turns, each with the disk at rest and its target not there; only the ratios mean something. All
of them end with the new file on the disk. ``--before FOLDER`` also measures another version, the ``ckpt_doctor`` in
that folder. Exit code 1 if a bar is missed, or if the bytes are not those that torch's way writes.
"""

from __future__ import annotations

import argparse
import filecmp
import os
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from run import MEGABYTE, Command

HERE = Path(__file__).resolve().parent
COPY = 'cp "$0" "$1" && sync "$1"'
IN_FOLDER = 'cd "$0" && exec "$@"'
SAVE_FILE = """
import os, sys, torch
from safetensors.torch import save_file
save_file(torch.load(sys.argv[1], weights_only=True), sys.argv[2], metadata={"format": "pt"})
os.fsync(os.open(sys.argv[2], os.O_RDONLY))
"""
TORCH_SAVE = """
import os, sys, torch
from safetensors import safe_open
with safe_open(sys.argv[1], framework="pt") as source, open(sys.argv[2], "wb") as target:
    torch.save({name: source.get_tensor(name) for name in source.offset_keys()}, target)
os.fsync(os.open(sys.argv[2], os.O_RDONLY))
"""


class Direction(NamedTuple):
    """A format to convert to, how torch does it, and the bars for a large file.

    ``slower_than_copy`` is the most times that it may take as long as ``cp`` and ``sync``; ``faster_than`` names other
    sides with the fewest times that they must take as long; ``resident`` is in bytes.
    """

    to: str
    source: str
    torch: str
    slower_than_copy: float
    faster_than: dict[str, float]
    resident: int


DIRECTIONS = (
    Direction("safetensors", ".bin", SAVE_FILE, 2.0, {"torch": 4.0}, 100 * MEGABYTE),
    Direction("bin", ".safetensors", TORCH_SAVE, 1.3, {"before": 3.0}, 60 * MEGABYTE),
)


def measure(
    direction: Direction, source: Path, folder: Path, runs: int, before: Path | None
) -> tuple[dict[str, Command], bool]:
    """The ways to get ``source`` elsewhere, measured in turn; and whether ours and torch's bytes are the same."""
    targets = {name: folder / f"{name}.{direction.to}" for name in ("convert", "unchecked", "cp", "torch", "before")}

    def convert(name: str, *options: str) -> tuple[str, ...]:
        files = (str(source), str(targets[name]))
        return (sys.executable, "-m", "ckpt_doctor", "convert", *files, "--to", direction.to, *options)

    sides = {
        "convert": Command(convert("convert")),
        "unchecked": Command(convert("unchecked", "--no-check")),
        "cp": Command(("sh", "-c", COPY, str(source), str(targets["cp"]))),
        "torch": Command((sys.executable, "-c", direction.torch, str(source), str(targets["torch"]))),
    }
    if before is not None:
        sides["before"] = Command(("sh", "-c", IN_FOLDER, str(before.absolute()), *convert("before")))
    for number in range(runs + 1):
        for name, side in sides.items():
            targets[name].unlink(missing_ok=True)
            os.sync()
            side.run(measure=number > 0)
    same = alike(targets["convert"], targets["torch"])
    for target in targets.values():
        target.unlink(missing_ok=True)
    return sides, same


def alike(ours: Path, theirs: Path) -> bool:
    """Whether two files are the same; of torch files all but the id, which is another with each C++ library."""
    if ours.suffix != ".bin":
        return filecmp.cmp(ours, theirs, shallow=False)

    def members(path: Path) -> list[tuple[str, int, int, int]]:
        with zipfile.ZipFile(path) as archive:
            # The last member is the id.
            found = archive.infolist()[:-1]
            return [(item.filename, item.header_offset, item.file_size, item.CRC) for item in found]

    return ours.stat().st_size == theirs.stat().st_size and members(ours) == members(theirs)


def missed(direction: Direction, sides: dict[str, Command]) -> Iterator[str]:
    """What is said of each bar that was missed."""
    ours = sides["convert"]
    if ours.median > direction.slower_than_copy * sides["cp"].median:
        yield f"{ours.median / sides['cp'].median:.2f} times as long as cp"
    for name, times in direction.faster_than.items():
        if name in sides and sides[name].median < times * ours.median:
            yield f"only {sides[name].median / ours.median:.2f} times as fast as {name}"
    if ours.resident > direction.resident:
        yield f"{ours.resident // MEGABYTE} MB resident"


def main() -> int:
    """Make the files, measure, print the table."""
    from tabulate import tabulate

    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help="0.26 GB and 10,000 tensors; the ratios are not judged")
    parser.add_argument("--folder", type=Path, help="where the files are made (default: a temporary folder)")
    parser.add_argument("--runs", type=int, default=5, help="how often each side is measured")
    parser.add_argument("--before", type=Path, help="a folder with the ckpt_doctor of another version")
    parser.add_argument("--to", choices=[direction.to for direction in DIRECTIONS], help="one direction only")
    parser.add_argument("--large", action="store_true", help="the large file only, without the many small tensors")
    arguments = parser.parse_args()
    gigabytes, count = (0.26, 10_000) if arguments.quick else (2.6, 100_000)

    rows, complaints = [], []
    with tempfile.TemporaryDirectory(prefix="ckpt-doctor-benchmark-", dir=arguments.folder) as name:
        folder = Path(name)
        maker = (sys.executable, str(HERE / "make_files.py"), name, "--gigabytes", str(gigabytes))
        subprocess.run([*maker, "--tensors", str(count)], check=True)
        for direction in DIRECTIONS:
            if arguments.to not in (None, direction.to):
                continue
            for size, stem in ((f"{gigabytes} GB", "large"), (f"{count:,} tensors", f"tensors-{count}")):
                if arguments.large and stem != "large":
                    continue
                what = f"{size}, to {direction.to}"
                source = folder / f"{stem}{direction.source}"
                sides, same = measure(direction, source, folder, arguments.runs, arguments.before)
                for label, side in sides.items():
                    ratios = (side.median / sides["cp"].median, sides["torch"].median / side.median)
                    shown = [f"{ratio:.2f}" for ratio in ratios]
                    rows.append([what, label, f"{side.median:.2f} s", f"{side.resident // MEGABYTE} MB", *shown])
                if not same:
                    complaints.append(f"{what}: not the bytes that torch's way writes")
                # Of many small tensors, the headers are the larger part; and of small files, the start of Python.
                if stem == "large" and not arguments.quick:
                    complaints += [f"{what}: {complaint}" for complaint in missed(direction, sides)]
    headers = ("file", "how", "time", "peak RSS", "times cp + sync", "times faster than torch")
    print(tabulate(rows, headers, disable_numparse=True))
    for line in complaints:
        print(f"MISSED {line}")
    return 1 if complaints else 0


if __name__ == "__main__":
    sys.exit(main())
