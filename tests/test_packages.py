"""What is published: a wheel that runs with what it declares alone, and a source package that can be tested."""

from __future__ import annotations

import email
import importlib.metadata
import json
import os
import re
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.children import LIMIT

pytest.importorskip("hatchling")
pytestmark = pytest.mark.slow

REPOSITORY = Path(__file__).resolve().parents[1]
NOT_PUBLISHED = (".gitignore",)
"""Files for work with git alone; the builder adds this one by itself."""


def built(target: str, folder: Path) -> Path:
    command = [sys.executable, "-m", "hatchling", "build", "-t", target, "-d", str(folder)]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=False, timeout=LIMIT)
    assert done.returncode == 0, done.stderr
    (package,) = folder.iterdir()
    return package


@pytest.fixture(scope="module")
def sdist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The source package, unpacked."""
    folder = tmp_path_factory.mktemp("sdist")
    with tarfile.open(built("sdist", folder / "packed")) as archive:
        archive.extractall(folder / "unpacked", filter="data")
    (root,) = (folder / "unpacked").iterdir()
    return root


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return built("wheel", tmp_path_factory.mktemp("wheel") / "built")


def required(wheel: Path) -> tuple[set[str], dict[str, set[str]]]:
    """The names of the distributions that the wheel needs here, and those that each extra adds."""
    with zipfile.ZipFile(wheel) as archive:
        (name,) = (name for name in archive.namelist() if name.endswith(".dist-info/METADATA"))
        metadata = email.message_from_bytes(archive.read(name))
    needed: set[str] = set()
    extras: dict[str, set[str]] = {extra: set() for extra in metadata.get_all("Provides-Extra", [])}
    for line in metadata.get_all("Requires-Dist", []):
        distribution = re.match(r"[\w.-]+(\[[\w,]+\])?", line)
        assert distribution is not None
        extra = re.search(r"extra == ['\"](\w+)['\"]", line)
        (extras[extra[1]] if extra else needed).add(distribution[0])
    return needed, extras


def linked(distribution: str, site: Path) -> Iterator[str]:
    """Make an installed distribution importable from another folder, without a network; what was linked."""
    for file in importlib.metadata.files(distribution) or ():
        top = file.parts[0]
        source = Path(str(importlib.metadata.distribution(distribution).locate_file(top)))
        if top not in ("..", "__pycache__") and not (site / top).exists():
            (site / top).symlink_to(source.resolve())
            yield top


@pytest.fixture(scope="module")
def python(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The interpreter of an environment that holds the wheel and the distributions that it needs."""
    folder = tmp_path_factory.mktemp("environment")
    subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True, timeout=LIMIT)
    (site,) = folder.glob("lib/python*/site-packages")
    for name in required(wheel)[0]:
        if name == "tomli" and sys.version_info >= (3, 11):
            continue
        assert list(linked(name, site)), name
    python = folder / "bin" / "python"
    command = [str(python), "-m", "pip", "install", "--quiet", "--no-index", "--no-deps", str(wheel)]
    subprocess.run(command, check=True, timeout=LIMIT, env=bare())
    return python


def bare() -> dict[str, str]:
    """The environment without what this run of the tests has put there."""
    return {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "COV_"))}


def run(python: Path, folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    program = python.with_name("ckpt-doctor")
    command = [str(program), *arguments]
    return subprocess.run(command, cwd=folder, env=bare(), capture_output=True, text=True, check=False, timeout=LIMIT)


def test_what_the_wheel_needs(wheel: Path) -> None:
    needed, extras = required(wheel)
    assert needed == {"click", "numpy", "tabulate", "tomli"}
    assert extras["verify"] == {"torch", "safetensors", "transformers", "peft"}
    assert set.union(*(names for extra, names in extras.items() if extra != "dev")) == extras["all"] <= extras["dev"]


def test_the_wheel_holds_the_package_alone(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
    package = {path.relative_to(REPOSITORY).as_posix() for path in (REPOSITORY / "ckpt_doctor").rglob("*.py")}
    assert package <= set(names)
    assert all(name.startswith("ckpt_doctor/") or ".dist-info/" in name for name in names)


def test_the_installed_program_runs(python: Path, tmp_path: Path) -> None:
    code = "import json, sys, importlib.util as u; print(json.dumps([n for n in sys.argv[1:] if u.find_spec(n)]))"
    names = ["torch", "safetensors", "peft", "transformers", "ckpt_doctor"]
    found = subprocess.run(
        [python, "-c", code, *names], cwd=tmp_path, env=bare(), capture_output=True, text=True, check=True, timeout=60
    )
    assert json.loads(found.stdout) == ["ckpt_doctor"]
    weaver = REPOSITORY / "fixtures" / "failures" / "both" / "weaver"
    done = run(python, tmp_path, "inspect", str(weaver))
    assert (done.returncode, done.stderr) == (1, "")
    assert "CKD201" in done.stdout
    healthy = REPOSITORY / "fixtures" / "healthy" / "weaver_safetensors"
    for arguments in (["inspect", "--deep"], ["gate"], ["convert", "--to", "bin"]):
        where = [str(tmp_path / "copy")] if arguments[0] == "convert" else []
        done = run(python, tmp_path, arguments[0], str(healthy), *where, *arguments[1:])
        assert (done.returncode, done.stderr) == (0, ""), arguments
    base = REPOSITORY / "fixtures" / "healthy" / "transformers" / "single_safetensors"
    done = run(python, tmp_path, "verify", str(healthy), "--model", str(base))
    assert done.returncode == 2
    assert "pip install 'ckpt-doctor[verify]'" in done.stderr


def test_the_source_package_holds_what_is_committed(sdist: Path) -> None:
    command = ["git", "ls-files", "-z"]
    listed = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=False, timeout=60)
    if listed.returncode:
        pytest.skip("this is no clone")
    packed = {path.relative_to(sdist).as_posix() for path in sdist.rglob("*") if not path.is_dir()}
    committed = {name for name in listed.stdout.split("\0") if name and (REPOSITORY / name).exists()}
    assert committed - packed - set(NOT_PUBLISHED) == set()


def test_the_source_package_passes_its_tests(sdist: Path) -> None:
    """A few of each kind: the fixtures, the pages, the scripts and the benchmarks are read."""
    tests = [f"tests/{name}" for name in ("test_architecture.py", "docs", "conversion/test_torch_files.py")]
    command = [sys.executable, "-m", "pytest", "-q", "-x", "-m", "not slow", "-p", "no:cacheprovider", *tests]
    env = {**bare(), "PYTHONPATH": os.pathsep.join([str(sdist), os.environ.get("PYTHONPATH", "")])}
    done = subprocess.run(command, cwd=sdist, env=env, capture_output=True, text=True, check=False, timeout=500)
    assert done.returncode == 0, done.stdout[-3000:]
    assert " passed" in done.stdout
