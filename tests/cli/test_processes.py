"""What only a process of its own shows: pipes, encodings, signals, terminals."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from ckpt_doctor.core.version import __version__
from ckpt_doctor.reporting import FORMATS
from support.children import LIMIT, running
from support.command_line import process, start
from support.places import BROKEN, FIXTURES, HEALTHY_WEAVER

NOT_WINDOWS = pytest.mark.skipif(sys.platform == "win32", reason="POSIX signals, pipes and file names")


def safetensors_file(path: Path, *names: str) -> Path:
    header = {name: {"dtype": "U8", "shape": [1], "data_offsets": [at, at + 1]} for at, name in enumerate(names)}
    text = json.dumps(header).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + bytes(len(names)))
    return path


def test_python_m_says_its_own_name() -> None:
    assert process("--version").stdout.decode().strip() == f"ckpt-doctor {__version__}"
    assert b"Usage: ckpt-doctor inspect" in process("inspect", "--help").stdout


@pytest.mark.slow
@NOT_WINDOWS
@pytest.mark.parametrize("args", [("ls",), ("inspect", "--output-format", "json"), ("explain", "--all")])
def test_a_reader_that_goes_away_leaves_no_traceback(tmp_path: Path, args: tuple[str, ...]) -> None:
    path = safetensors_file(tmp_path / "model.safetensors", *(f"layer.{n}.{'x' * 200}" for n in range(2000)))
    with start(*args, *([] if args[0] == "explain" else [path]), env={"PYTHONUNBUFFERED": ""}) as program:
        assert program.stdout is not None
        program.stdout.close()
        program.stdout = None
        _, errors = program.communicate(timeout=LIMIT)
    assert (program.returncode, errors) == (0, b"")


@NOT_WINDOWS
def test_the_verdict_stands_though_nobody_reads_it() -> None:
    with start("inspect", BROKEN) as program:
        assert program.stdout is not None
        program.stdout.close()
        assert program.wait(LIMIT) == 1


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_full_disk_is_2_and_no_traceback() -> None:
    with Path("/dev/full").open("wb") as full:
        result = process("inspect", HEALTHY_WEAVER, stdout=full)
    assert result.returncode == 2
    assert result.stderr == b"error: cannot write to standard output: No space left on device\n"


@NOT_WINDOWS
def test_a_closed_standard_output_is_2() -> None:
    result = process("inspect", HEALTHY_WEAVER, preexec_fn=lambda: os.close(1))
    assert result.returncode == 2
    assert b"Traceback" not in result.stderr


@pytest.mark.slow
@pytest.mark.parametrize("command", ["inspect", "ls"])
@pytest.mark.parametrize("output_format", ["text", "json"])
def test_ascii_terminals_get_escapes(tmp_path: Path, command: str, output_format: str) -> None:
    path = safetensors_file(tmp_path / "größe.safetensors", "schicht.größe")
    result = process(command, path, "--output-format", output_format, env={"PYTHONIOENCODING": "ascii"})
    assert (result.returncode, result.stderr) == (0, b"")
    assert result.stdout.isascii()
    assert b"\\xf6" in result.stdout or b"\\u00f6" in result.stdout


@pytest.mark.slow
@NOT_WINDOWS
@pytest.mark.parametrize("output_format", FORMATS)
def test_names_that_are_no_utf8(tmp_path: Path, output_format: str) -> None:
    name = os.fsencode(tmp_path) + b"/bad\xff\x1b[31m\n.safetensors"
    try:
        safetensors_file(Path(os.fsdecode(name)), "evil\x1b[2J\u202e")
    except OSError:
        pytest.skip("this file system takes UTF-8 only")
    for command in ("inspect", "ls"):
        if command == "ls" and output_format not in ("text", "json"):
            continue
        result = process(command, name, "--output-format", output_format, "--color", "never")
        assert (result.returncode, result.stderr) == (0, b"")
        assert b"\x1b" not in result.stdout
        text = result.stdout.decode()
        if output_format == "json":
            assert json.loads(text)["checkpoints"][0]["path"] == os.fsdecode(name)
        else:
            assert "\u202e" not in text


@NOT_WINDOWS
def test_control_c_is_130() -> None:
    # A process of its own group, stopped while it inspects.
    code = textwrap.dedent("""
        import time, ckpt_doctor.inspection
        def inspect(*_, **__):
            print("ready", flush=True)
            while True:  # a signal that comes before a long wait begins would not end it
                time.sleep(0.05)
        ckpt_doctor.inspection.inspect = inspect
        from ckpt_doctor.cli.root import cli
        cli.main(["inspect"])
    """)
    streams = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with running([sys.executable, "-c", code], cwd=FIXTURES.parent, **streams) as program:
        assert program.stdout is not None
        assert program.stdout.readline() == b"ready\n"
        program.send_signal(signal.SIGINT)
        _, errors = program.communicate(timeout=LIMIT)
    assert (program.returncode, errors.split()) == (130, [b"interrupted"])


@pytest.mark.slow
@pytest.mark.parametrize(
    "args",
    [
        ("inspect", HEALTHY_WEAVER),
        ("inspect", HEALTHY_WEAVER, "--deep"),
        ("ls", HEALTHY_WEAVER),
        ("lock", HEALTHY_WEAVER, "--values"),
        ("diff", HEALTHY_WEAVER, HEALTHY_WEAVER, "--values"),
        ("explain", "CKD201"),
        ("rules",),
    ],
)
def test_it_works_where_torch_cannot_be_imported(args: tuple[object, ...]) -> None:
    program = """
        import sys
        class Absent:
            def find_spec(self, name, path=None, target=None):
                if name.partition(".")[0] in ("torch", "peft", "transformers", "safetensors"):
                    raise ImportError(f"{name} must not be imported")
        sys.meta_path.insert(0, Absent())
        from ckpt_doctor.cli import main
        main()
    """
    command = [sys.executable, "-c", textwrap.dedent(program), *map(str, args)]
    result = subprocess.run(command, capture_output=True, text=True, cwd=FIXTURES.parent, check=False, timeout=120)
    assert (result.returncode, result.stderr) == (0, "")
    assert result.stdout


@pytest.mark.slow
@pytest.mark.parametrize(
    "args",
    [
        ("inspect", HEALTHY_WEAVER),
        ("ls", HEALTHY_WEAVER),
        ("lock", HEALTHY_WEAVER),
        ("diff", HEALTHY_WEAVER, HEALTHY_WEAVER),
        ("explain", "CKD201"),
        ("rules",),
    ],
)
def test_no_heavy_library_is_imported(args: tuple[object, ...]) -> None:
    command = [sys.executable, "-X", "importtime", "-m", "ckpt_doctor", *map(str, args)]
    # Measuring coverage in the process would import half of the standard library there.
    env = {name: value for name, value in os.environ.items() if not name.startswith("COVERAGE_PROCESS")}
    result = subprocess.run(
        command, capture_output=True, text=True, cwd=FIXTURES.parent, check=True, env=env, timeout=120
    )
    imported = {line.rpartition("|")[2].strip() for line in result.stderr.splitlines()}
    banned = {"torch", "peft", "transformers", "safetensors", "numpy"}
    if args[0] in ("inspect", "lock", "diff"):
        # Each of these costs as much as reading a checkpoint. (On Python 3.10 click itself imports subprocess.)
        banned |= {"tabulate", "zipfile", "hashlib", "importlib.metadata", "tempfile", "multiprocessing"}
    assert "ckpt_doctor.cli.root" in imported
    assert not imported & banned


@NOT_WINDOWS
def test_a_terminal_gets_colours_and_a_progress_bar_on_stderr() -> None:
    pty = pytest.importorskip("pty")
    leader, follower = pty.openpty()
    environment = {"TERM": "xterm", "NO_COLOR": "", "FORCE_COLOR": ""}
    with start("inspect", "--deep", HEALTHY_WEAVER, stderr=follower, env=environment) as program:
        os.close(follower)
        report, _ = program.communicate(timeout=LIMIT)
    shown = os.read(leader, 65536)
    os.close(leader)
    assert program.returncode == 0
    assert b"\x1b" not in report
    assert b"reading tensors" in shown


@pytest.mark.parametrize("extra", [["inspect", "--nope\n\u202e"], ["ls", ".", "extra\n\u202e"], ["{path}"]])
def test_usage_errors_escape_what_was_typed(extra: list[str], tmp_path: Path) -> None:
    hostile = tmp_path / "dir\nY\u202e"
    hostile.mkdir()
    args = [word.format(path=hostile) for word in extra]
    result = subprocess.run(
        [sys.executable, "-m", "ckpt_doctor", *args], capture_output=True, text=True, check=False, timeout=120
    )
    assert result.returncode == 2
    assert "\u202e" not in result.stderr
    assert "\nY" not in result.stderr
