"""Which save is the newest."""

from __future__ import annotations

import os
import random
import shutil
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ckpt_doctor.core.errors import GateError, NoCheckpointError, UnknownNameError
from ckpt_doctor.core.policy import Policy
from ckpt_doctor.gate.names import counter_of, family_of, time_of
from ckpt_doctor.gate.order import newest, newest_first, written_later
from ckpt_doctor.gate.save import Save
from ckpt_doctor.gate.saves import saves
from ckpt_doctor.layouts import Found
from ckpt_doctor.layouts.registry import WEAVER
from support.trees import aged, broken, copied, light, weaver


def save(path: str, written: int = 0) -> Save:
    found = Found(WEAVER, Path(path), path)
    return Save(path, (found,), tuple(path.split("/")), written)


@pytest.mark.parametrize(
    ("older", "newer"),
    [
        ("checkpoint-500", "checkpoint-1000"),
        ("checkpoint-9", "checkpoint-10"),
        ("step_5", "Step_12"),
        ("global_step5", "global_step12"),
        ("epoch=3-step=1200", "epoch=4-step=100"),
        ("checkpoint-500", "tmp-checkpoint-1000"),
        ("pn=9_pl=8_in=5_il=8_20250106-235959", "pn=1_pl=8_in=5_il=8_20250107-000000"),
        ("20241231-235959", "20250101-000000"),
        ("2025-01-07_10-15-00", "2025-01-07_10-15-01"),
        ("2025-01-07T10:15:00", "20250107101501"),
        ("run_20250106", "run_20250107"),
        ("b_20250106/weaver", "a_20250107/weaver"),
        ("gsm8k/qwen/20250107-101500/weaver", "aqua/qwen/20250107-101501/weaver"),
        ("20250107-101500/checkpoint-900", "20250108-101500/checkpoint-100"),
        ("2025-01-07/10-15-00", "2025-01-07/12-00-00"),
        ("2025-01-07/23-15-00", "2025-01-08/00-00-00"),
        ("exp_20250109/20250106-101500", "exp_20250101/20250107-101500"),
    ],
)
def test_names_decide_before_times_of_files(older: str, newer: str) -> None:
    first, second = save(older, written=9), save(newer, written=1)
    assert newest([first, second]) is newest([second, first]) is second
    assert written_later(second, [first, second]) is first
    assert written_later(first, [first, second]) is None


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("a/checkpoint-500", "b/checkpoint-500"),
        ("a/checkpoint-500", "b/checkpoint-1000"),
        ("checkpoint-500", "step-1000"),
        ("checkpoint-500", "best"),
        ("best", "last"),
        ("20250107-101500", "best"),
        ("20250107-101500/checkpoint-500", "20250107-101500/weaver"),
        ("20250107", "20250107-101500"),
        ("run-1", "run-2"),
        ("lr=0.1", "lr=0.2"),
        ("qwen2", "qwen3"),
        ("seed_99999999", "seed_20251399"),
    ],
)
def test_where_names_do_not_compare_times_of_files_decide(one: str, other: str) -> None:
    assert newest([save(one, 1), save(other, 2)]).path == other
    assert newest([save(one, 2), save(other, 1)]).path == one
    with pytest.raises(GateError, match="cannot tell which is the newest"):
        newest([save(one, 1), save(other, 1)])


def test_a_series_sends_its_best_and_no_other() -> None:
    # By its files checkpoint-500 is the newest of all, but checkpoint-1000 counts for both.
    tree = [save("checkpoint-500", 9), save("checkpoint-1000", 1), save("best", 5)]
    assert [item.path for item in newest_first(tree)] == ["best", "checkpoint-1000", "checkpoint-500"]


NAMES = ("checkpoint-5", "checkpoint-10", "step_3", "20250107-101500", "20250108", "best", "run-1", "10-15-00", "x")


@given(
    st.lists(st.lists(st.sampled_from(NAMES), min_size=1, max_size=3).map("/".join), unique=True, max_size=9),
    st.randoms(),
)
def test_the_order_is_one_order(paths: list[str], shuffled: random.Random) -> None:
    tree = [save(path, written) for written, path in enumerate(paths)]
    first = list(newest_first(tree))
    assert sorted(item.path for item in first) == sorted(paths)
    shuffled.shuffle(tree)
    assert list(newest_first(tree)) == first


@pytest.mark.slow
@given(st.text(max_size=40))
def test_any_name_can_be_asked(name: str) -> None:
    counter_of(name)
    family_of(name)
    time = time_of((name,))
    assert time is None or len(time) in (3, 6)


def names(tree: Path, layout: str | None = None) -> dict[str, int]:
    """Path of each save below the tree to its number of checkpoints."""
    return {os.path.relpath(item.path, tree): len(item.found) for item in saves(tree, Policy(layout=layout))}


class TestSaves:
    def test_a_weaver_and_its_trigger_are_one(self, tmp_path: Path) -> None:
        copied("trigger_run", tmp_path / "a")
        copied("trigger_run/trigger", tmp_path / "b" / "trigger")
        both = copied("weaver_safetensors/weaver", tmp_path / "c")
        copied("trigger_run/trigger/trigger_lora", both / "trigger_lora")
        assert names(tmp_path) == {"a/weaver": 2, "b/trigger": 1, "c": 2}

    def test_an_adapter_and_those_that_were_saved_with_it_are_one(self, tmp_path: Path) -> None:
        copied("peft/lora", tmp_path / "run")
        copied("peft/lora", tmp_path / "run" / "other")
        copied("peft/lora", tmp_path / "run" / "checkpoint-5")
        assert names(tmp_path) == {"run": 2, "run/checkpoint-5": 1}

    def test_the_last_file_that_was_written_dates_a_save(self, tmp_path: Path) -> None:
        path = aged(weaver(tmp_path / "run"), 0)
        (found,) = saves(tmp_path)
        os.utime(path / "projections.pt", (1_800_000_000, 1_800_000_000))
        os.utime(path / "weaver_lora" / "adapter_config.json", (1_900_000_000, 1_900_000_000))
        assert (found.written, saves(tmp_path)[0].written) == (1_700_000_000 * 10**9, 1_800_000_000 * 10**9)

    def test_the_state_of_a_training_dates_nothing(self, tmp_path: Path) -> None:
        path = aged(light(tmp_path / "checkpoint-5"), 0)
        (path / "optimizer.pt").write_bytes(b"later")
        assert saves(tmp_path)[0].written == 1_700_000_000 * 10**9

    def test_a_link_is_not_another_one(self, tmp_path: Path) -> None:
        light(tmp_path / "checkpoint-500")
        light(tmp_path / "checkpoint-1000")
        (tmp_path / "latest").symlink_to("checkpoint-500")
        assert names(tmp_path) == {"checkpoint-500": 1, "checkpoint-1000": 1}
        assert newest(saves(tmp_path)).path == str(tmp_path / "checkpoint-1000")

    def test_files_count_too(self, tmp_path: Path) -> None:
        for step in (900, 1000):
            file = light(tmp_path / "made") / "model.safetensors"
            file.rename(tmp_path / f"epoch=1-step={step}.safetensors")
        assert newest(saves(tmp_path)).path == str(tmp_path / "epoch=1-step=1000.safetensors")

    @pytest.mark.parametrize(
        ("held", "empty"),
        [
            ("run_20250106", "run_20250107"),
            ("pn=1_pl=8_in=5_il=8_20250107-101500", "20250108-101500"),
            ("checkpoint-500", "checkpoint-1000"),
            ("checkpoint-500", "tmp-checkpoint-1000"),
            ("best", "last"),
            ("weaver", "trigger"),
            ("2025-01-07/10-15-00", "2025-01-07/11-15-00"),
        ],
    )
    def test_a_folder_where_one_should_be_is_a_save(self, tmp_path: Path, held: str, empty: str) -> None:
        aged(copied("weaver_safetensors/weaver", tmp_path / held), 0)
        (tmp_path / empty).mkdir()
        (tmp_path / empty / "training.yaml").write_text("{}")
        assert names(tmp_path) == {held: 1, empty: 0}
        assert newest(saves(tmp_path)).path == str(tmp_path / empty)

    @pytest.mark.parametrize(
        ("held", "other"),
        [
            ("run_20250106", "logs"),
            ("run_20250106", "eval_20250107"),
            ("run_20250106", "evaluation-results-20250107"),
            ("run_20250106", ".20250107"),
            ("train/20250106", "evaluate/20250107"),
            ("checkpoint-500", "runs"),
            ("checkpoint-500", "20250107"),
            ("a", "b"),
            ("weaver", "tokenizer"),
        ],
    )
    def test_what_is_named_otherwise_is_none(self, tmp_path: Path, held: str, other: str) -> None:
        copied("weaver_safetensors/weaver", tmp_path / held)
        (tmp_path / other).mkdir(parents=True)
        assert names(tmp_path) == {held: 1}

    def test_a_checkpoints_own_folders_are_none(self, tmp_path: Path) -> None:
        path = copied("memgen_upstream", tmp_path / "checkpoint-5")
        (path / "weaver" / "trigger").mkdir()
        assert names(tmp_path) == {"checkpoint-5": 1}

    def test_only_of_a_layout(self, tmp_path: Path) -> None:
        weaver(tmp_path / "a")
        copied("peft/lora", tmp_path / "b")
        assert names(tmp_path, "weaver") == {"a/weaver": 1}
        shutil.rmtree(tmp_path / "a")
        with pytest.raises(NoCheckpointError, match="no weaver checkpoint"):
            saves(tmp_path, Policy(layout="weaver"))  # the folder itself is not taken for one
        with pytest.raises(UnknownNameError):
            saves(tmp_path, Policy(layout="nope"))

    @pytest.mark.parametrize("inner", ["", "weaver", "weaver/weaver_lora"])
    def test_asked_for_a_checkpoint_it_is_that_one(self, tmp_path: Path, inner: str) -> None:
        weaver(tmp_path / "run")
        (found,) = saves(tmp_path / "run" / inner)
        assert found.path == str(tmp_path / "run" / "weaver")

    def test_health_is_another_matter(self, tmp_path: Path) -> None:
        broken(tmp_path / "20250107")
        assert names(tmp_path) == {"20250107/weaver": 1}
