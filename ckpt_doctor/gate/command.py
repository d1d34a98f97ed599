"""The command behind the gate: its arguments, its environment, and how it is started."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Mapping, Sequence

from ckpt_doctor.core.errors import CommandError

CHECKPOINT_VARIABLE = "CKPT_DOCTOR_CHECKPOINT"
"""In the environment of the command: the absolute path of what was judged."""

_BECOMES = os.name != "nt"  # whether a process can become another program

_PLACE = "{checkpoint}"
_NOT_FOUND, _NOT_EXECUTABLE = 127, 126  # as shells, env and nohup have it


def placed(command: Sequence[str], checkpoint: str) -> list[str]:
    """The command with the path of the checkpoint in every argument that asks for it; other braces stay.

    >>> placed(["eval", "--ckpt={checkpoint}/weaver_lora", "{}"], "/runs/w")
    ['eval', '--ckpt=/runs/w/weaver_lora', '{}']
    """
    name, *arguments = command
    return [name, *(argument.replace(_PLACE, checkpoint) for argument in arguments)]


def launch(command: Sequence[str], checkpoint: str, environment: Mapping[str, str]) -> int:
    """Become the command: the same process, so signals, terminal and exit code are its own.

    Returns on Windows only, where no process can become another: there, the exit code. Raises ``CommandError`` where
    the command cannot be started.
    """
    words = placed(command, checkpoint)
    environment = {**environment, CHECKPOINT_VARIABLE: checkpoint}
    if not words[0]:
        raise CommandError("the name of the command is empty: is a variable unset?", _NOT_FOUND)
    try:
        if not _BECOMES:
            return run_as_child(words, environment)
        _restore_signals()
        os.execvpe(words[0], words, environment)
    except OSError as error:
        raise _refused(words[0], error) from error


def run_as_child(words: Sequence[str], environment: Mapping[str, str]) -> int:
    """Run the command and wait for it; its exit code. Raises ``OSError``."""
    import subprocess

    with subprocess.Popen(words, env=environment) as process:
        # Ctrl-C reaches the command too, and it decides what that means.
        while process.returncode is None:
            with contextlib.suppress(KeyboardInterrupt):
                process.wait()
        return process.returncode


def _restore_signals() -> None:
    # Python ignores these, a command inherits that, and `command | head` would then not end.
    for name in ("SIGPIPE", "SIGXFSZ", "SIGXFZ"):
        number = getattr(signal, name, None)
        if number is not None:
            signal.signal(number, signal.SIG_DFL)


def _refused(name: str, error: OSError) -> CommandError:
    missing = isinstance(error, (FileNotFoundError, NotADirectoryError))
    if not missing:
        return CommandError(f"{name} cannot be executed: {error.strerror or error}", _NOT_EXECUTABLE)
    if os.path.lexists(name) and "/" in name:
        return CommandError(
            f"{name} cannot be executed: the program that its first line names is absent", _NOT_EXECUTABLE
        )
    return CommandError(f"there is no command {name}", _NOT_FOUND)
