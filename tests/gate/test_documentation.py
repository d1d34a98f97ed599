"""What the documentation shows of a terminal is what a terminal shows, and the example does what it says."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from shlex import quote

import pytest

from support import transcripts
from support.places import REPOSITORY
from support.transcripts import shell
from support.trees import MODEL, aged, broken, copied, light, weaver

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="the examples are for POSIX shells")

PAGE = REPOSITORY / "docs" / "gate.md"
STEPS = list(transcripts.steps(PAGE))
EXAMPLE = REPOSITORY / "examples" / "evaluate_latest.sh"


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A folder with a weaver, two runs and an evaluation, and the programs of the documentation."""
    weaver(tmp_path)
    for age, day in enumerate((6, 7)):
        aged(weaver(tmp_path / f"runs/2025010{day}-101500"), age)
    (tmp_path / "evaluate.py").write_text("import sys\nprint('evaluating', *sys.argv[1:])\n")
    transcripts.programs(tmp_path, **{"evaluate_latest.sh": f'exec {quote(str(EXAMPLE))} "$@"'})
    return tmp_path


@pytest.mark.slow
@pytest.mark.parametrize("step", STEPS, ids=range(len(STEPS)))
def test_transcript(step: transcripts.Step, home: Path) -> None:
    assert transcripts.run(step, home) == step.shown


def test_there_are_transcripts() -> None:
    assert len(STEPS) >= 6
    typed = "\n".join(step.commands for step in STEPS)
    assert {"gate", "latest"} <= set(re.findall(r"ckpt-doctor (\w+)", typed))


@pytest.mark.slow
def test_the_program_in_the_documentation(home: Path) -> None:
    program = re.search(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    assert program is not None
    for age, day in enumerate((6, 7)):
        aged(light(home / f"light/2025010{day}"), age)
    code = program[1].replace('"runs"', '"light"')
    given = "from support.loaders.light_model import build, right as load\nevaluate = print\n"
    done = shell(f"python -c '{given}{code}'", home)
    assert (done.returncode, done.stdout) == (0, f"{home / 'light' / '20250107'}\n")


class TestExample:
    EVALUATE = "evaluate_latest.sh runs python evaluate.py '{checkpoint}'"

    def test_the_code_is_that_of_the_evaluation(self, home: Path) -> None:
        assert shell("evaluate_latest.sh runs sh -c 'exit 7'", home).returncode == 7

    @pytest.mark.parametrize("arguments", ["", "runs"])
    def test_too_few_arguments(self, home: Path, arguments: str) -> None:
        done = shell(f"evaluate_latest.sh {arguments}", home)
        assert (done.returncode, done.stdout.startswith("usage: ")) == (2, True)

    def test_nothing_runs_where_there_is_nothing(self, home: Path) -> None:
        done = shell("mkdir empty; evaluate_latest.sh empty python evaluate.py", home)
        assert (done.returncode, "evaluating" in done.stdout) == (2, False)

    @pytest.mark.slow
    def test_nothing_runs_where_the_newest_is_broken(self, home: Path) -> None:
        broken(home / "runs/20250108-101500")
        done = shell(self.EVALUATE, home)
        assert (done.returncode, "evaluating" in done.stdout) == (1, False)
        done = shell(self.EVALUATE, home, GATE_OPTIONS="--fallback -q")
        assert (done.returncode, "runs/20250107-101500/weaver\n" in done.stdout) == (0, True)

    @pytest.mark.slow
    def test_options_can_be_given(self, home: Path) -> None:
        copied("weaver_bin/weaver", home / "runs/20250109-101500/weaver")
        assert shell(self.EVALUATE, home).returncode == 1
        assert shell(self.EVALUATE, home, GATE_OPTIONS="--expect bin").returncode == 0

    @pytest.mark.slow
    def test_a_load_is_proved_where_it_is_named(self, home: Path) -> None:
        light(home / "light/20250107")
        command = self.EVALUATE.replace("runs", "light")
        done = shell(command, home, MODEL=f"{MODEL}:build", LOADER=f"{MODEL}:forgets_the_bias", GATE_OPTIONS="-q")
        assert (done.returncode, "CKD001" in done.stdout, "evaluating" in done.stdout) == (1, True, False)
        done = shell(command, home, MODEL=f"{MODEL}:build", LOADER=f"{MODEL}:right", GATE_OPTIONS="-q")
        assert (done.returncode, done.stdout) == (0, f"evaluating {home / 'light/20250107'}\n")
