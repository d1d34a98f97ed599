from __future__ import annotations

import pytest

import ckpt_doctor.inspection
from support.command_line import run
from support.places import BROKEN, HEALTHY_WEAVER


def failing(monkeypatch: pytest.MonkeyPatch, error: BaseException) -> None:
    def inspect(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(ckpt_doctor.inspection, "inspect", inspect)


def test_an_interrupt_is_130(monkeypatch: pytest.MonkeyPatch) -> None:
    failing(monkeypatch, KeyboardInterrupt())
    result = run("inspect", HEALTHY_WEAVER)
    assert (result.exit_code, result.stdout) == (130, "")
    assert result.stderr.strip() == "interrupted"


@pytest.mark.parametrize("error", [KeyError("x\n\x1b[2J"), RecursionError("deep"), MemoryError(), EOFError("Ran out")])
def test_a_bug_is_2_and_one_clear_line(monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    failing(monkeypatch, error)
    result = run("inspect", HEALTHY_WEAVER)
    assert (result.exit_code, result.stdout) == (2, "")
    (line,) = result.stderr.strip().splitlines()
    assert line.startswith(f"internal error: {type(error).__name__}")
    assert line.isprintable()
    assert "CKPT_DOCTOR_DEBUG=1" in line


def test_the_traceback_is_there_for_who_asks(monkeypatch: pytest.MonkeyPatch) -> None:
    failing(monkeypatch, KeyError("x"))
    result = run("inspect", HEALTHY_WEAVER, env={"CKPT_DOCTOR_DEBUG": "1"})
    assert result.exit_code == 2
    assert "Traceback (most recent call last)" in result.stderr


def test_an_error_of_the_system_is_no_bug(monkeypatch: pytest.MonkeyPatch) -> None:
    failing(monkeypatch, PermissionError(13, "Permission denied", "runs/a"))
    result = run("inspect", HEALTHY_WEAVER)
    assert (result.exit_code, result.stderr) == (2, "error: runs/a: Permission denied\n")


@pytest.mark.parametrize(
    ("args", "env", "coloured"),
    [
        ((), {}, False),
        ((), {"FORCE_COLOR": "1"}, True),
        ((), {"FORCE_COLOR": "0"}, False),
        ((), {"FORCE_COLOR": "1", "NO_COLOR": "1"}, False),
        ((), {"FORCE_COLOR": "1", "NO_COLOR": ""}, True),
        (("--color", "always"), {"NO_COLOR": "1"}, True),
        (("--color", "never"), {"FORCE_COLOR": "1"}, False),
    ],
)
@pytest.mark.parametrize("command", [("inspect", BROKEN), ("explain", "CKD201"), ("rules",)], ids=lambda args: args[0])
def test_colours(command: tuple[object, ...], args: tuple[str, ...], env: dict[str, str], coloured: bool) -> None:
    assert ("\x1b[" in run(*command, *args, env=env).stdout) is coloured


def test_json_never_has_colours() -> None:
    assert "\x1b" not in run("inspect", BROKEN, "--output-format", "json", "--color", "always").stdout
