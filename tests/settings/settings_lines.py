"""How the tests of settings start the program."""

from __future__ import annotations

from pathlib import Path

from click.testing import CliRunner, Result

from ckpt_doctor.cli.root import cli

REPOSITORY = Path(__file__).parents[2]
FIXTURES = REPOSITORY / "fixtures"


def run(*args: object, env: dict[str, str] | None = None) -> Result:
    """Run in this process, with both streams apart."""
    try:
        runner = CliRunner(mix_stderr=False)  # type: ignore[call-arg]
    except TypeError:  # click 8.2 and later keep them apart
        runner = CliRunner()
    return runner.invoke(cli, [str(arg) for arg in args], env=env)
