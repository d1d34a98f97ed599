"""The command starts only behind a complete, healthy checkpoint: every situation, proved by what the command does."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest

from support.damages.table import INSPECTED
from support.hostile import hostile_files
from support.places import FAILURES, HEALTHY
from support.trees import MODEL, aged, broken, ckpt_doctor, copied, light, weaver

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="the commands are those of a POSIX shell")

MARKER = "started"
COMMAND = ("--", "touch", MARKER)
BUILD = ("--model", f"{MODEL}:build")


class Situation(NamedTuple):
    """What lies there (``make`` gets an empty folder and returns PATH), what is typed, and what must come of it."""

    make: Callable[[Path], object]
    options: tuple[str, ...] = ()
    code: int = 0
    starts: bool = True
    command: tuple[str, ...] = COMMAND


def stays_shut(
    make: Callable[[Path], object], *options: str, code: int = 1, command: tuple[str, ...] = COMMAND
) -> Situation:
    return Situation(make, options, code, False, command)


def damaged(code: str, name: str) -> Callable[[Path], object]:
    (damage,) = (item for item in INSPECTED if (item.code, item.name) == (code, name))
    return damage.make


def fixture(name: str) -> Callable[[Path], object]:
    return lambda _: HEALTHY / name


def failure(name: str) -> Callable[[Path], object]:
    return lambda _: FAILURES / name


def healthy_weaver(folder: Path) -> Path:
    return weaver(folder)


def with_spaces(folder: Path) -> Path:
    return weaver(folder / "my runs" / "it's $HOME")


def linked(folder: Path) -> Path:
    (folder / "link").symlink_to(weaver(folder / "elsewhere"))
    return folder / "link"


def one_of_two_broken(folder: Path) -> Path:
    weaver(folder / "a")
    broken(folder / "b")
    return folder


def two_healthy(folder: Path) -> Path:
    weaver(folder / "a")
    weaver(folder / "b")
    return folder


def only_texts(folder: Path) -> Path:
    (folder / "config.json").write_text("{}")
    (folder / "README.md").write_text("nothing here")
    return folder


def hostile(name: str) -> Callable[[Path], object]:
    def make(folder: Path) -> Path:
        case = hostile_files()[name]
        (folder / case.filename).write_bytes(case.data)
        return folder / case.filename

    return make


def extra_pickle_with_code(folder: Path) -> Path:
    path = light(folder / "model")
    (path / "extra.pkl").write_bytes(hostile_files()["foreign function in a zip"].data)
    return path


def runs(*names_and_makers: tuple[str, Callable[[Path], object] | None]) -> Callable[[Path], object]:
    """A tree of runs, each written later than the one before it."""

    def make(folder: Path) -> Path:
        tree = folder / "train"
        for age, (name, maker) in enumerate(names_and_makers):
            (tree / name).mkdir(parents=True)
            if maker is not None:
                maker(tree / name)
            aged(tree / name, age)
        return tree

    return make


def light_run(folder: Path) -> Path:
    return light(folder / "model")


def config_only(folder: Path) -> None:
    (folder / "config.json").write_text("{}")


def interrupted(folder: Path) -> None:
    adapter = weaver(folder) / "weaver_lora" / "adapter_model.safetensors"
    adapter.rename(adapter.with_name(adapter.name + ".tmp"))


def broken_trigger(folder: Path) -> None:
    copied("trigger_run", folder / "both").joinpath("trigger/trigger_lora/adapter_config.json").unlink()


def scripts(content: str | None, mode: int = 0o755) -> Callable[[Path], object]:
    def make(folder: Path) -> Path:
        script = folder / "script"
        if content is None:
            script.mkdir()
        else:
            script.write_text(content)
            script.chmod(mode)
        return weaver(folder)

    return make


OLD, NEW = "pn=1_pl=8_in=5_il=8_20250106-101500", "pn=1_pl=8_in=5_il=8_20250107-101500"

STARTS = {
    "a weaver": Situation(healthy_weaver),
    "its adapter's folder": Situation(lambda folder: weaver(folder) / "weaver_lora"),
    "its adapter's config": Situation(lambda folder: weaver(folder) / "weaver_lora" / "adapter_config.json"),
    "the folder of its run": Situation(fixture("run")),
    "a trigger": Situation(fixture("trigger_run")),
    "what upstream MemGen writes": Situation(fixture("memgen_upstream")),
    "an adapter": Situation(fixture("peft/lora")),
    "a model in shards": Situation(fixture("transformers/sharded_safetensors")),
    "a lone file": Situation(lambda folder: weaver(folder) / "projections.pt"),
    "two that are healthy": Situation(two_healthy),
    "a .bin that is expected": Situation(fixture("weaver_bin"), ("--expect", "bin")),
    "a warning": Situation(fixture("weaver_nested")),
    "a path with spaces and quotes": Situation(with_spaces),
    "a link": Situation(linked),
    "every byte read": Situation(healthy_weaver, ("--deep",)),
    "nothing said": Situation(healthy_weaver, ("-q",)),
    "a document": Situation(healthy_weaver, ("--output-format", "json")),
    "findings that do not count": Situation(failure("both"), ("--fail-on", "never")),
    "findings that are ignored": Situation(failure("both"), ("--ignore", "CKD201,CKD202")),
    "findings that are not selected": Situation(failure("both"), ("--select", "CKD1")),
    "the newest": Situation(runs((OLD, broken), (NEW, weaver)), ("--latest",)),
    "an older one that was asked for": Situation(runs((OLD, weaver), (NEW, broken)), ("--latest", "--fallback")),
    "an older one than an empty run": Situation(runs((OLD, weaver), (NEW, None)), ("--latest", "--fallback")),
    "a code of its own": Situation(healthy_weaver, code=3, command=("--", "sh", "-c", f"touch {MARKER}; exit 3")),
    "a signal": Situation(healthy_weaver, code=-9, command=("--", "sh", "-c", f"touch {MARKER}; kill -9 $$")),
    "dashes in its arguments": Situation(
        healthy_weaver,
        command=("--", "sh", "-c", f'[ "$1 $2 $3" = "-q -- --deep" ] && touch {MARKER}', "sh", "-q", "--", "--deep"),
    ),
    "everything arrives": Situation(light, (*BUILD, "--loader", f"{MODEL}:right")),
    "a pickle with code that two options let through": Situation(
        extra_pickle_with_code, (*BUILD, "--loader", f"{MODEL}:right", "--ignore", "CKD901", "--trust-checkpoint")
    ),
    "the newest arrives": Situation(
        runs((OLD, light_run), (NEW, light_run)), ("--latest", *BUILD, "--loader", f"{MODEL}:right")
    ),
}

STAYS_SHUT = {
    "no projections": stays_shut(failure("no_projections")),
    "a .bin that is not expected": stays_shut(failure("bin_instead_of_safetensors")),
    "a warning that counts": stays_shut(fixture("weaver_nested"), "--fail-on", "warning"),
    "one of two broken": stays_shut(one_of_two_broken),
    "cut off": stays_shut(damaged("CKD104", "cut_at_the_end")),
    "a .bin cut off": stays_shut(damaged("CKD106", "zip_without_directory"), "--expect", "any"),
    "a pointer of git-lfs": stays_shut(damaged("CKD101", "lfs_pointer")),
    "a pointer and other rules": stays_shut(damaged("CKD101", "lfs_pointer"), "--select", "CKD201"),
    "a pointer and no rules": stays_shut(damaged("CKD101", "lfs_pointer"), "--ignore", "CKD"),
    "a pointer and nothing fails": stays_shut(damaged("CKD101", "lfs_pointer"), "--fail-on", "never"),
    "cut off and no rules": stays_shut(damaged("CKD104", "cut_at_the_end"), "--ignore", "CKD"),
    "cut off and other rules": stays_shut(damaged("CKD106", "zip_without_directory"), "--select", "CKD311"),
    "a file of 0 bytes": stays_shut(damaged("CKD102", "no_bytes")),
    "a web page": stays_shut(damaged("CKD103", "html_page")),
    "a save that was interrupted": stays_shut(damaged("CKD208", "temporary_file_and_no_other")),
    "a shard that is empty": stays_shut(damaged("CKD208", "empty_shard")),
    "a NaN": stays_shut(damaged("CKD601", "one_nan"), "--deep"),
    "a link to nowhere": stays_shut(damaged("CKD112", "link_to_nowhere")),
    "not readable, findings do not count": stays_shut(damaged("CKD112", "link_to_nowhere"), "--fail-on", "never"),
    "not readable, everything ignored": stays_shut(damaged("CKD112", "link_to_nowhere"), "--ignore", "CKD"),
    "not readable, something else selected": stays_shut(damaged("CKD112", "link_to_nowhere"), "--select", "CKD9"),
    "a fifo": stays_shut(damaged("CKD112", "fifo_in_place_of_weights")),
    "a pickle with code": stays_shut(hostile("foreign function in a zip")),
    "a pickle with code beside it": stays_shut(extra_pickle_with_code),
    "a pickle with code, trusted": stays_shut(
        extra_pickle_with_code, *BUILD, "--loader", f"{MODEL}:anything", "--trust-checkpoint"
    ),
    "a pickle with code, ignored, to be loaded": stays_shut(
        extra_pickle_with_code, *BUILD, "--loader", f"{MODEL}:anything", "--ignore", "CKD901"
    ),
    "trust without a model": stays_shut(extra_pickle_with_code, "--trust-checkpoint", code=2),
    "a loader without a model": stays_shut(light, "--loader", f"{MODEL}:right", code=2),
    "a tensor that does not arrive": stays_shut(light, *BUILD, "--loader", f"{MODEL}:forgets_the_bias"),
    "a loader that raises": stays_shut(light, *BUILD, "--loader", f"{MODEL}:raises"),
    "a loader that leaves with 0": stays_shut(light, *BUILD, "--loader", f"{MODEL}:leaves"),
    "a model that cannot be built": stays_shut(
        light, "--model", f"{MODEL}:cannot_build", "--loader", f"{MODEL}:right", code=2
    ),
    "a model that is nowhere": stays_shut(light, "--model", "nowhere.py:build", "--loader", f"{MODEL}:right", code=2),
    "one model for two checkpoints": stays_shut(two_healthy, *BUILD, "--loader", f"{MODEL}:right", code=2),
    "changed while it was loaded": stays_shut(
        light, *BUILD, "--loader", f"{MODEL}:right_while_it_is_saved_anew", code=2
    ),
    "no such path": stays_shut(lambda folder: folder / "nowhere", code=2),
    "an empty path": stays_shut(lambda _: "", code=2),
    "an empty folder": stays_shut(lambda folder: folder, code=2),
    "a folder of texts": stays_shut(only_texts, code=2),
    "no such rule": stays_shut(healthy_weaver, "--ignore", "CKD999", code=2),
    "no such layout": stays_shut(healthy_weaver, "--layout", "nope", code=2),
    "not of that layout": stays_shut(healthy_weaver, "--layout", "transformers"),
    "no place for the report": stays_shut(healthy_weaver, "--output-file", "no/such/folder/report", code=2),
    "a report over the checkpoint": stays_shut(
        lambda folder: weaver(folder), "--output-file", "weaver/projections.pt", code=2
    ),
    "nothing behind the dashes": stays_shut(healthy_weaver, code=2, command=("--",)),
    "no dashes": stays_shut(healthy_weaver, code=2, command=("touch", MARKER)),
    "fallback from nothing": stays_shut(healthy_weaver, "--fallback", code=2),
    "no such command": stays_shut(healthy_weaver, code=127, command=("--", "no-such-command-anywhere", MARKER)),
    "a command without a name": stays_shut(healthy_weaver, code=127, command=("--", "", MARKER)),
    "no such script": stays_shut(healthy_weaver, code=127, command=("--", "./nowhere/script")),
    "a script that is not executable": stays_shut(
        scripts(f"#!/bin/sh\ntouch {MARKER}\n", 0o644), code=126, command=("--", "./script")
    ),
    "a script that says no interpreter": stays_shut(scripts(f"touch {MARKER}\n"), code=126, command=("--", "./script")),
    "a script with an absent interpreter": stays_shut(
        scripts(f"#!/no/such/sh\ntouch {MARKER}\n"), code=126, command=("--", "./script")
    ),
    "a folder as a command": stays_shut(scripts(None), code=126, command=("--", "./script")),
    "no checkpoint in the tree": stays_shut(runs((OLD, None), (NEW, config_only)), "--latest", code=2),
    "the newest run is empty": stays_shut(runs((OLD, weaver), (NEW, None)), "--latest", code=2),
    "the newest run has a config": stays_shut(runs((OLD, weaver), (NEW, config_only)), "--latest", code=2),
    "the newest save was interrupted": stays_shut(runs((OLD, weaver), (NEW, interrupted)), "--latest"),
    "the newest is broken": stays_shut(runs((OLD, weaver), (NEW, broken)), "--latest"),
    "the trigger of the newest is broken": stays_shut(runs((OLD, weaver), (NEW, broken_trigger)), "--latest"),
    "none is healthy": stays_shut(runs((OLD, broken), (NEW, broken)), "--latest", "--fallback"),
    "nobody knows the newest": stays_shut(lambda folder: aged(two_healthy(folder), 0), "--latest", code=2),
    "the newest does not arrive": stays_shut(
        runs((OLD, light_run), (NEW, light_run)), "--latest", "--fallback", *BUILD, "--loader", f"{MODEL}:raises"
    ),
}

SITUATIONS = {**STARTS, **STAYS_SHUT}


@pytest.mark.slow
@pytest.mark.parametrize("name", SITUATIONS)
def test_situation(name: str, tmp_path: Path) -> None:
    situation = SITUATIONS[name]
    here = tmp_path / "here"
    here.mkdir()
    path = situation.make(here)
    result = ckpt_doctor("gate", path, *situation.options, *situation.command, cwd=here)
    assert result.returncode == situation.code, result.stdout + result.stderr
    assert (here / MARKER).exists() == situation.starts
    assert "Traceback" not in result.stderr
    assert not (here / "opened").exists() or "--trust-checkpoint" in situation.options
    if situation.starts:
        assert result.stdout == ""
    else:
        assert result.stderr


def test_there_are_enough() -> None:
    assert len(SITUATIONS) >= 40
    assert {situation.code for situation in STAYS_SHUT.values()} == {1, 2, 126, 127}
