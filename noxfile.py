"""What is run before a change lands, each in an environment of its own: ``nox -l`` lists the sessions.

``nox`` alone runs ``lint``, ``types`` and ``fast``.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

import nox

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

nox.needs_version = ">=2024.4.15"
nox.options.sessions = ["lint", "types", "fast"]
nox.options.reuse_existing_virtualenvs = True

PYTHONS = ["3.10", "3.11", "3.12", "3.13"]
CONSTRAINTS = ("-c", "constraints.txt")


def install(session: nox.Session) -> None:
    """This package as it is edited, with everything that the tests need."""
    session.install("-q", *CONSTRAINTS, "-e", ".[dev]")


@nox.session
def lint(session: nox.Session) -> None:
    """Style and formatting."""
    session.install("-q", "ruff>=0.9")
    session.run("ruff", "check", ".")
    session.run("ruff", "format", "--check", ".")


@nox.session
def types(session: nox.Session) -> None:
    """Types, on all three systems."""
    install(session)
    for platform in ("linux", "win32", "darwin"):
        session.run("mypy", "--platform", platform)


@nox.session
def fast(session: nox.Session) -> None:
    """The fast tests."""
    install(session)
    session.run("pytest", "-q", "-n", "auto", "-m", "not slow", *session.posargs)


@nox.session(python=PYTHONS)
def slow(session: nox.Session) -> None:
    """All tests."""
    install(session)
    session.run("pytest", "-q", "-n", "auto", *session.posargs)


@nox.session
def docs(session: nox.Session) -> None:
    """Generated pages are up to date, links lead somewhere, and every sample does what the page shows."""
    install(session)
    session.run("python", "scripts/generate_docs.py", "--check")
    session.run("pytest", "-q", "tests/docs", *session.posargs)


@nox.session
def bench(session: nox.Session) -> None:
    """The three cheap ratios. The large benchmarks are in ``benchmarks/``."""
    session.install("-q", *CONSTRAINTS, "torch", ".", "safetensors-print")
    session.run("python", "benchmarks/cheap.py")


@nox.session(python=PYTHONS[0])
def lowest(session: nox.Session) -> None:
    """The lightest install, with the oldest release of each library that it allows: no torch."""
    session.install("-q", *oldest(), ".", "pytest", "pytest-timeout")
    light(session)


@nox.session
def build(session: nox.Session) -> None:
    """The sdist and the wheel; the wheel is installed and run."""
    session.install("-q", "build", "twine")
    dist = Path(session.create_tmp()) / "dist"
    session.run("python", "-m", "build", "--outdir", str(dist), silent=True)
    files = sorted(dist.iterdir())
    session.run("twine", "check", "--strict", *map(str, files))
    (wheel,) = (file for file in files if file.suffix == ".whl")
    session.install("-q", "--force-reinstall", str(wheel))
    light(session)


def light(session: nox.Session) -> None:
    """Run the installed package from a folder where no source lies."""
    fixtures = Path.cwd() / "fixtures"
    with session.chdir(session.create_tmp()):
        session.run("ckpt-doctor", "--version")
        session.run("ckpt-doctor", "rules", silent=True)
        session.run("ckpt-doctor", "inspect", "--deep", "-q", str(fixtures / "healthy" / "peft"))
        session.run("ckpt-doctor", "inspect", str(fixtures / "failures" / "both"), success_codes=[1], silent=True)
        session.run("ckpt-doctor", "gate", str(fixtures / "healthy" / "peft" / "lora"), "--", "true", external=True)


def oldest() -> list[str]:
    """The dependencies of ``pyproject.toml``, each at the lower bound that it names."""
    project = tomllib.loads(Path("pyproject.toml").read_text(encoding="utf-8"))["project"]
    bound = re.compile(r"^([\w-]+)>=([\w.]+)")
    return [bound.sub(r"\1==\2", requirement) for requirement in project["dependencies"]]
