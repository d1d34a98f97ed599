"""Many checkpoints at once: the same report from one process or many, and none hides the others."""

from __future__ import annotations

import os
import pickle
import shutil
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from ckpt_doctor.core.policy import Policy
from ckpt_doctor.core.results import Report
from ckpt_doctor.inspection import inspect, judge, several
from ckpt_doctor.layouts import Found, Survey, find, read, survey
from ckpt_doctor.layouts.registry import WEAVER as WEAVER_LAYOUT
from ckpt_doctor.runtime.cores import available_cores
from support.acting import Acting
from support.children import LIMIT, running
from support.command_line import run, start
from support.damages.table import INSPECTED
from support.hostile import hostile_files

REPOSITORY = Path(__file__).parents[2]
HEALTHY = REPOSITORY / "fixtures" / "healthy"
WEAVER = HEALTHY / "weaver_safetensors" / "weaver"
NOT_WINDOWS = pytest.mark.skipif(sys.platform == "win32", reason="POSIX signals")


@pytest.fixture
def eager(monkeypatch: pytest.MonkeyPatch) -> None:
    """Processes are started as soon as there are two checkpoints left."""
    monkeypatch.setattr(several, "_WORTH", 1e-9)


ACTING = Found(WEAVER_LAYOUT, Path("acting"), "acting")
"""A checkpoint whose judgement runs a program: the one that :func:`running_in` is given."""


def running_in(program: str) -> Acting:
    return Acting({"acting": program})


def ending(how: str) -> Acting:
    return running_in(f"import os, signal; {how}")


def healthy(count: int) -> list[Found]:
    return find(WEAVER) * count


def verdicts(report: Report) -> list[bool]:
    return [diagnosis.healthy for diagnosis in report.diagnoses]


@pytest.mark.slow
@pytest.mark.parametrize("deep", [False, True], ids=["headers", "deep"])
def test_processes_say_what_one_says(eager: None, tmp_path: Path, deep: bool) -> None:
    for number, damage in enumerate({damage.code: damage for damage in reversed(INSPECTED)}.values()):
        folder = tmp_path / f"damage-{number}"
        folder.mkdir()
        damage.make(folder)
    for name, case in hostile_files().items():
        folder = tmp_path / name.replace("/", "_")
        folder.mkdir()
        (folder / case.filename).write_bytes(case.data)
    policy = Policy(deep=deep)
    alone = inspect([HEALTHY, tmp_path], policy)
    assert len(alone.diagnoses) >= 140
    assert inspect([HEALTHY, tmp_path], policy, jobs=3) == alone


def test_the_order_is_that_of_one_process(eager: None, tmp_path: Path) -> None:
    for name in "abcdef":
        shutil.copytree(WEAVER, tmp_path / name / "weaver")
    found = find(tmp_path)
    found.insert(1, ACTING)
    standard = running_in("import time; time.sleep(0.3); raise KeyError")
    diagnoses = judge(found, standard=standard, jobs=2).diagnoses
    paths = [Path(item.checkpoint.path).parent.name or "slow" for item in diagnoses]
    assert paths == ["a", "slow", *"bcdef"]


@pytest.mark.slow
@NOT_WINDOWS
@pytest.mark.parametrize(
    ("how", "said"),
    [
        (
            "os.kill(os.getpid(), signal.SIGKILL)",
            "was ended by SIGKILL, as the system does when memory runs out. Inspect it alone",
        ),
        ("os.kill(os.getpid(), signal.SIGSEGV)", "was ended by SIGSEGV. Inspect it alone to see why."),
        ("os._exit(3)", "ended by itself with exit code 3"),
    ],
)
def test_a_process_that_dies_names_its_checkpoint(eager: None, how: str, said: str) -> None:
    report = judge([*healthy(4), ACTING, *healthy(4), ACTING], standard=ending(how), jobs=2)
    assert verdicts(report) == [*[True] * 4, False, *[True] * 4, False]
    (finding,) = report.diagnoses[4].findings
    assert (finding.code, finding.always_fails) == ("CKD112", True)
    assert said in finding.message
    assert list(report.failing("never"))


@pytest.mark.slow
@NOT_WINDOWS
def test_what_only_fails_beside_others_is_judged_alone(eager: None, tmp_path: Path) -> None:
    # As where memory suffices for one: it is killed the first time.
    standard = running_in(f"""
        import os, pathlib, signal
        note = pathlib.Path({str(tmp_path / "note")!r})
        if not note.exists():
            note.touch()
            os.kill(os.getpid(), signal.SIGKILL)
    """)
    large = find(WEAVER)[0]._replace(path="acting")
    assert verdicts(judge([*healthy(3), large, *healthy(3)], standard=standard, jobs=2)) == [True] * 7
    assert (tmp_path / "note").exists()


@pytest.mark.slow
@pytest.mark.parametrize("jobs", [1, 2])
@pytest.mark.parametrize(
    ("error", "said"), [("KeyError('x')", "KeyError: 'x'. This is a bug"), ("MemoryError()", "memory ran out")]
)
def test_an_exception_is_a_finding_of_its_checkpoint(eager: None, jobs: int, error: str, said: str) -> None:
    report = judge([*healthy(3), ACTING, *healthy(3)], standard=running_in(f"raise {error}"), jobs=jobs)
    assert verdicts(report) == [*[True] * 3, False, *[True] * 3]
    (finding,) = report.findings
    assert finding.always_fails
    assert said in finding.message


def test_of_one_checkpoint_an_exception_is_an_exception() -> None:
    with pytest.raises(KeyError):
        judge([ACTING], standard=running_in("raise KeyError('x')"))


def test_what_cannot_be_handed_over_is_done_here(eager: None) -> None:
    local = Acting({}, lambda: None)
    diagnoses = several.judge_several(healthy(5), Policy(), [None, None, local, None, None], jobs=2)
    assert [diagnosis.healthy for diagnosis in diagnoses] == [True] * 5


def test_what_is_found_can_be_handed_over(tmp_path: Path) -> None:
    (tmp_path / "latest").write_text("global_step2")
    (tmp_path / "global_step1").mkdir()
    for name in ("lone.pt", "lone.bin"):
        shutil.copy(HEALTHY / "weaver_bin/weaver/projections.pt", tmp_path / name)
    found = [*survey(HEALTHY).found, *survey(tmp_path).found]
    assert {item.absent for item in found} == {True, False}
    again = pickle.loads(pickle.dumps(found))
    assert again == found
    assert list(map(read, again)) == list(map(read, found))


@pytest.mark.parametrize("executable", ["", "/nonexistent/python", shutil.which("false") or "false"])
def test_without_processes_it_is_done_here(eager: None, monkeypatch: pytest.MonkeyPatch, executable: str) -> None:
    monkeypatch.setattr(sys, "executable", executable)
    assert verdicts(judge(healthy(5), jobs=2)) == [True] * 5


def test_progress_counts_checkpoints(eager: None) -> None:
    seen: list[tuple[int, int]] = []
    judge(healthy(6), jobs=2, counter=lambda done, total: seen.append((done, total)))
    assert seen == [(number, 6) for number in range(1, 7)]


def test_a_small_tree_starts_no_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ckpt_doctor.inspection.workers", None)  # importing it would raise
    assert judge(healthy(5), jobs=8).healthy


PROGRAM = """
    import sys
    from pathlib import Path
    sys.path.insert(0, {tests!r})
    from support.acting import Acting
    from ckpt_doctor.inspection import run, several
    from ckpt_doctor.layouts import Found, Survey, find
    from ckpt_doctor.layouts.registry import WEAVER

    several._WORTH = 1e-9
    note = "import os, time; open(os.path.join({folder!r}, str(os.getpid())), 'w').close(); time.sleep({seconds})"
    sleeper = Found(WEAVER, Path("x"), "x")
    healthy = find({weaver!r})
    asleep = [sleeper._replace(root=Path(str(n))) for n in range(4)]
    run.survey = lambda *_, **__: Survey([healthy[0], *asleep])
    run._standards = lambda found, _: [Acting({{"x": note}})] * len(found)
    from ckpt_doctor.cli.root import cli
    cli.main(["inspect", "whatever", "--jobs", "2"])
"""


@contextmanager
def sleeping(folder: Path, seconds: float) -> Iterator[tuple[subprocess.Popen[str], list[int]]]:
    """An inspection whose two processes are asleep, and their numbers."""
    folder.mkdir()
    places = {"folder": str(folder), "weaver": str(WEAVER), "tests": str(Path(__file__).parents[1])}
    program = textwrap.dedent(PROGRAM).format(seconds=seconds, **places)
    streams = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with running([sys.executable, "-c", program], cwd=REPOSITORY, text=True, **streams) as first:
        deadline = time.monotonic() + LIMIT
        while len(list(folder.iterdir())) < 2 and first.poll() is None and time.monotonic() < deadline:
            time.sleep(0.02)
        yield first, [int(path.name) for path in folder.iterdir()]


def is_alive(number: int) -> bool:
    try:
        os.kill(number, 0)
    except ProcessLookupError:
        return False
    return True


@NOT_WINDOWS
def test_control_c_ends_every_process_at_once(tmp_path: Path) -> None:
    begin = time.monotonic()
    with sleeping(tmp_path / "pids", 600) as (first, numbers):
        assert len(numbers) == 2
        first.send_signal(signal.SIGINT)
        out, err = first.communicate(timeout=LIMIT)  # far less than the processes sleep
    assert time.monotonic() - begin < 600
    assert (first.returncode, out, err.strip()) == (130, "", "interrupted")
    assert not [number for number in numbers if is_alive(number)]


@pytest.mark.slow
@NOT_WINDOWS
def test_processes_end_when_the_first_is_killed(tmp_path: Path) -> None:
    with sleeping(tmp_path / "pids", 1) as (first, numbers):
        assert len(numbers) == 2
        first.kill()
        first.communicate(timeout=LIMIT)
    deadline = time.monotonic() + LIMIT
    while any(map(is_alive, numbers)) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not [number for number in numbers if is_alive(number)]


@pytest.mark.slow
def test_nothing_is_imported_from_the_current_directory(tmp_path: Path) -> None:
    for name in ("pickle", "json", "numpy", "ckpt_doctor", "signal", "encodings", "sitecustomize"):
        (tmp_path / f"{name}.py").write_text("raise SystemExit(9)\n")
    program = f"""
        import sys
        sys.path.insert(0, {str(REPOSITORY)!r})
        from ckpt_doctor.inspection import inspect, several
        several._WORTH = 1e-9
        report = inspect({str(HEALTHY)!r}, jobs=2)
        sys.exit(not ("ckpt_doctor.inspection.workers" in sys.modules and len(report.diagnoses) > 5))
    """
    command = [sys.executable, "-I", "-c", textwrap.dedent(program)]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=120)
    assert (done.returncode, done.stderr) == (0, "")


@NOT_WINDOWS
def test_a_process_that_dies_is_never_0(eager: None, monkeypatch: pytest.MonkeyPatch) -> None:
    found = [item._replace(root=Path(str(number))) for number, item in enumerate(healthy(4))]
    odd = "run/w\x1b[2J"
    found.insert(2, ACTING._replace(path=odd))
    standard = Acting({odd: "import os, signal; os.kill(os.getpid(), signal.SIGKILL)"})
    monkeypatch.setattr("ckpt_doctor.inspection.run.survey", lambda *_, **__: Survey(found))
    monkeypatch.setattr("ckpt_doctor.inspection.run._standards", lambda found, _: [standard] * len(found))
    result = run("inspect", "runs", "--jobs", "2", "--fail-on", "never", "--ignore", "CKD")
    assert (result.exit_code, result.stderr) == (1, "")
    assert "run/w\\x1b[2J" in result.stdout
    assert "CKD112" in result.stdout


@pytest.mark.parametrize(
    ("args", "env", "jobs"), [((), {}, None), (("--jobs", "3"), {}, 3), ((), {"CKPT_DOCTOR_JOBS": "4"}, 4)]
)
def test_the_number_of_processes(
    monkeypatch: pytest.MonkeyPatch, args: tuple[str, ...], env: dict[str, str], jobs: int | None
) -> None:
    seen: list[object] = []

    def inspected(*_: object, jobs: int, **__: object) -> Report:
        seen.append(jobs)
        return Report(())

    monkeypatch.setattr("ckpt_doctor.inspection.inspect", inspected)
    assert run("inspect", *args, env={"CKPT_DOCTOR_JOBS": None, **env}).exit_code == 0  # type: ignore[dict-item]
    assert seen == [jobs or available_cores()]


@pytest.mark.parametrize("args", [("--jobs", "0"), ("--jobs", "two"), ()])
def test_no_number_of_processes_is_2(args: tuple[str, ...]) -> None:
    result = run("inspect", WEAVER, *args, env={} if args else {"CKPT_DOCTOR_JOBS": "many"})
    assert (result.exit_code, result.stdout) == (2, "")
    assert "--jobs" in result.stderr


@NOT_WINDOWS
def test_a_terminal_sees_how_many_are_done(tmp_path: Path) -> None:
    pty = pytest.importorskip("pty")
    for name in "abc":
        shutil.copytree(WEAVER, tmp_path / name / "weaver")
    leader, follower = pty.openpty()
    with start("inspect", tmp_path, stderr=follower, env={"TERM": "xterm"}) as program:
        os.close(follower)
        out, _ = program.communicate(timeout=LIMIT)
    shown = os.read(leader, 65536)
    os.close(leader)
    assert (program.returncode, b"inspecting" in shown, b"3/3" in shown) == (0, True, True)
    assert b"inspecting" not in out


@pytest.mark.slow
@NOT_WINDOWS
def test_paths_that_are_no_utf8_are_the_same_in_every_process(tmp_path: Path) -> None:
    tree = tmp_path / os.fsdecode(b"bad\xff")
    try:
        for name in "abcd":
            shutil.copytree(WEAVER, tree / name / "weaver")
    except OSError:
        pytest.skip("this file system takes UTF-8 only")
    program = """
        import os, sys
        from ckpt_doctor.inspection import inspect, several
        several._WORTH = 1e-9
        report = inspect(sys.argv[1], jobs=2)
        sys.exit(not (report.healthy and len(report.diagnoses) == 4 and "subprocess" in sys.modules))
    """
    for settings in (
        {"LC_ALL": "C"},
        {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"},
        {"PYTHONUTF8": "1"},
    ):
        command = [sys.executable, "-c", textwrap.dedent(program), str(tree)]
        env = {**os.environ, **settings}
        assert subprocess.run(command, cwd=REPOSITORY, env=env, check=False, timeout=120).returncode == 0
