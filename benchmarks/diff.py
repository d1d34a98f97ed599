"""Measures ``ckpt-doctor diff --values`` against ``cmp`` of the same bytes: ``python benchmarks/diff.py [--quick]``.

Whole processes, start-up included: the median wall time over several runs, and the highest resident memory. The sides
take turns and everything is in the page cache; only the ratios mean something. ``cmp`` is given two files that are
equal byte for byte; it cannot compare two formats, and ends at the first difference. Exit code 1 if a bar is missed.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from run import MEGABYTE, Command

HERE = Path(__file__).resolve().parent
SLOWER_THAN_CMP = 2.0
RESIDENT = 100 * MEGABYTE
NOISE = """
import sys, torch
from safetensors.torch import load_file, save_file
save_file({name: tensor * 1.01 for name, tensor in load_file(sys.argv[1]).items()}, sys.argv[2])
"""


def sides(folder: Path) -> dict[str, Command]:
    """What is measured, by what is said of it."""
    large = folder / "large.safetensors"
    copy, noisy = Path(shutil.copy(large, folder / "copy.safetensors")), folder / "noisy.safetensors"
    subprocess.run([sys.executable, "-c", NOISE, str(large), str(noisy)], check=True)
    diff = (sys.executable, "-m", "ckpt_doctor", "diff", "--values", "-q", str(large))
    return {
        "cmp": Command(("cmp", str(large), str(copy))),
        "diff, equal": Command((*diff, str(copy))),
        "diff, equal, one is a .bin": Command((*diff, str(folder / "large.bin"))),
        "diff, every tensor differs": Command((*diff, str(noisy))),
    }


def main() -> int:
    """Make the files, measure, print the table."""
    from tabulate import tabulate

    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help="0.26 GB; the ratios are not judged")
    parser.add_argument("--folder", type=Path, help="where the files are made (default: a temporary folder)")
    parser.add_argument("--runs", type=int, default=5, help="how often each side is measured")
    arguments = parser.parse_args()
    gigabytes = 0.26 if arguments.quick else 2.6

    with tempfile.TemporaryDirectory(prefix="ckpt-doctor-benchmark-", dir=arguments.folder) as name:
        maker = (sys.executable, str(HERE / "make_files.py"), name, "--gigabytes", str(gigabytes))
        subprocess.run(maker, check=True)
        measured = sides(Path(name))
        for number in range(arguments.runs + 1):
            for side in measured.values():
                side.run(measure=number > 0)
    rows, missed = [], []
    for what, side in measured.items():
        ratio = side.median / measured["cmp"].median
        rows.append([what, f"{side.median:.2f} s", f"{side.resident // MEGABYTE} MB", f"{ratio:.2f}"])
        if "equal" in what and ratio > SLOWER_THAN_CMP and not arguments.quick:
            missed.append(f"{what}: {ratio:.2f} times as long as cmp")
        if side.resident > RESIDENT:
            missed.append(f"{what}: {side.resident // MEGABYTE} MB resident")
    print(tabulate(rows, (f"2 x {gigabytes} GB, 224 tensors", "time", "peak RSS", "times cmp"), disable_numparse=True))
    for line in missed:
        print(f"MISSED {line}")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
