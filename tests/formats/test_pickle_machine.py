"""The pickle machine: plain values as Python pickles them, names as they are judged, any bytes."""

from __future__ import annotations

import argparse
import collections
import datetime
import pathlib
import pickle
import subprocess
import sys
import types
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from ckpt_doctor.core.weight_file import OpaqueValue
from ckpt_doctor.formats.limits import LIMITS, Limits
from ckpt_doctor.formats.pickle_machine import Outcome, run
from ckpt_doctor.formats.pickle_values import REFUSED, Budget
from ckpt_doctor.formats.pickle_walk import Harvest, harvest
from ckpt_doctor.formats.recognise import recognise
from ckpt_doctor.formats.torch_objects import known_global
from ckpt_doctor.knowledge.inert_globals import CALLABLES, ENUMS, MAPPINGS, OBJECTS, SEQUENCES
from ckpt_doctor.knowledge.pickle_globals import TORCH_ALLOWED
from ckpt_doctor.sources.in_memory import BytesSource
from support.hostile import PACKAGE, call, foreign, tensor, text


def machine(data: bytes) -> Outcome:
    return run(data, Budget.for_stored(len(data)))


def values(data: bytes) -> dict[str, Any]:
    outcome = machine(data)
    assert outcome.error is None
    assert outcome.unsafe == ()
    return harvest(outcome.root, Budget.for_stored(len(data))).values


def unsafe(value: bytes) -> list[str]:
    return [use.name for use in machine(b"\x80\x02" + value + b".").unsafe]


# Plain values

LEAVES = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False)
    | st.text(max_size=300)
    | st.binary(max_size=300)
)
KEYS = st.text(alphabet="abc_é", min_size=1, max_size=5)
TREES = st.dictionaries(
    KEYS, st.recursive(LEAVES, lambda inner: st.lists(inner, max_size=5) | st.dictionaries(KEYS, inner), max_leaves=20)
)


def flattened(prefix: str, tree: Any) -> dict[str, Any]:
    items = tree.items() if isinstance(tree, dict) else enumerate(tree)
    flat = {}
    for key, value in items:
        name = f"{prefix}.{key}" if prefix else str(key)
        flat |= flattened(name, value) if isinstance(value, (dict, list, tuple)) else {name: value}
    return flat


@pytest.mark.slow
@settings(suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
@given(tree=TREES, protocol=st.integers(0, 5))
def test_plain_values_are_those_that_were_pickled(tree: Any, protocol: int) -> None:
    assert values(pickle.dumps(tree, protocol)) == flattened("", tree)


@pytest.mark.slow
@settings(suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
@given(tree=TREES)
def test_the_python_pickler_is_understood_too(tree: Any) -> None:
    import io

    stream = io.BytesIO()
    pickle._Pickler(stream, 4).dump(tree)  # type: ignore[attr-defined]  # frames differently
    assert values(stream.getvalue()) == flattened("", tree)


def test_a_large_string_stands_between_two_frames() -> None:
    tree = {"a": "x" * 200_000, "b": 1}
    outcome = machine(pickle.dumps(tree, 4))
    assert outcome.frames_match
    assert values(pickle.dumps(tree, 4)) == tree


@pytest.mark.parametrize("protocol", range(6))
def test_objects_of_training_files_stay_opaque(protocol: int) -> None:
    tree = {
        "ordered": collections.OrderedDict(a=1),
        "default": collections.defaultdict(list, b=[2]),
        "count": collections.Counter("xx"),
        "args": argparse.Namespace(lr=0.1, nested=argparse.Namespace(rank=16)),
        "space": types.SimpleNamespace(c=3),
        "path": pathlib.PurePosixPath("/tmp/run"),
        "time": datetime.datetime(2025, 1, 7),
        "set": {1},
        "frozen": frozenset({2}),
        "deque": collections.deque([1, 2]),
        "bytearray": bytearray(b"ab"),
        "complex": 1j,
        "range": range(3),
    }
    got = values(pickle.dumps(tree, protocol))
    assert got["ordered.a"] == 1
    assert got["default.b.0"] == 2
    assert got["count.x"] == 2
    assert got["args"] == OpaqueValue("argparse.Namespace")
    assert (got["args.lr"], got["args.nested.rank"]) == (0.1, 16)
    assert got["space.c"] == 3
    assert got["time"] == OpaqueValue("datetime.datetime")
    assert {key.partition(".")[0] for key in got} == set(tree)


def test_python_2_pickles_are_read() -> None:
    # {u"a": OrderedDict([["w", 1L]])} as cPickle wrote it: its memo starts at 1, its strings are bytes.
    data = b"\x80\x02}q\x01(U\x01aq\x02ccollections\nOrderedDict\nq\x03]q\x04]q\x05(U\x01wq\x06\x8a\x01\x01ea\x85Rq\x07"
    assert values(data + b"U\x01b}h\x02U\x01cstu.".replace(b"tu", b"u")) == {"a.w": 1, "b.a": "c"}
    assert values(b"(lp1\nI01\naI00\naI7\naL9L\naF1.5\naS'x\\ny'\naVz\na.") == {
        "0": True,
        "1": False,
        "2": 7,
        "3": 9,
        "4": 1.5,
        "5": "x\ny",
        "6": "z",
    }


def test_keys_that_are_no_strings_become_text() -> None:
    tree = {"state": {0: 1, (1, "a"): 2, None: 3, True: 4, 2.5: 5, b"k": 6}}
    got = values(pickle.dumps(tree, 2))
    assert got == {f"state.{key}": n for n, key in enumerate(("0", "(1, a)", "None", "True", "2.5", "k"), 1)}


def test_of_two_equal_keys_the_last_counts() -> None:
    assert values(b"\x80\x02}(" + text("a") + b"K\x01" + text("a") + b"K\x02u.") == {"a": 2}


def test_cycles_end_and_shared_parts_appear_on_each_path() -> None:
    shared = {"x": 1}
    tree: dict[str, Any] = {"a": shared, "b": shared}
    tree["self"] = tree
    assert values(pickle.dumps(tree, 2)) == {"a.x": 1, "b.x": 1}


def test_long_lists_of_plain_values_are_one_value() -> None:
    got = values(pickle.dumps({"params": list(range(5000)), "short": [1]}, 2))
    assert got == {"params": tuple(range(5000)), "short.0": 1}


# Names


def test_the_three_lists_do_not_overlap_with_what_runs_code() -> None:
    inert = ENUMS | OBJECTS | CALLABLES | MAPPINGS | SEQUENCES
    assert len(inert) == sum(map(len, (ENUMS, OBJECTS, CALLABLES, MAPPINGS, SEQUENCES)))
    assert not inert & TORCH_ALLOWED
    for name in inert | TORCH_ALLOWED:
        assert name.count(" ") == 1
        assert name.partition(" ")[0] not in ("os", "posix", "nt", "sys", "subprocess", "importlib", "pickle")


def test_the_list_is_that_of_the_installed_torch() -> None:
    torch = pytest.importorskip("torch")
    from ckpt_doctor.knowledge.pickle_globals import TORCH_VERSION

    if torch.__version__.split("+")[0] != TORCH_VERSION:
        pytest.skip(f"the list was made with torch {TORCH_VERSION}")
    from torch._weights_only_unpickler import _get_allowed_globals

    assert {name.replace(" ", ".") for name in TORCH_ALLOWED} == set(_get_allowed_globals())


RUNS_CODE = (
    ("os", "system"),
    ("posix", "system"),
    ("nt", "system"),
    ("subprocess", "Popen"),
    ("builtins", "eval"),
    ("builtins", "exec"),
    ("builtins", "__import__"),
    ("__builtin__", "eval"),
    ("runpy", "_run_code"),
    ("importlib", "import_module"),
    ("pickle", "loads"),
    ("functools", "partial"),
    ("operator", "attrgetter"),
    ("operator", "methodcaller"),
    ("torch", "load"),
    ("torch.hub", "load"),
    ("torch.storage", "_load_from_bytes"),
    ("numpy.testing._private.utils", "runstring"),
)


@pytest.mark.parametrize("name", RUNS_CODE, ids=".".join)
def test_what_can_run_code_is_on_no_list(name: tuple[str, str]) -> None:
    assert known_global(" ".join(name)) is None


def test_an_unsafe_name_is_given_with_its_place_and_the_rest_is_read() -> None:
    data = b"\x80\x02}(" + text("a") + foreign() + text("b") + b"K\x02u."
    outcome = machine(data)
    (use,) = outcome.unsafe
    assert (use.name, data[use.position : use.position + 2], use.times) == (f"{PACKAGE} thing", b"cn", 1)
    assert harvest(outcome.root, Budget.for_stored(99)).values == {"a": OpaqueValue(f"{PACKAGE}.thing"), "b": 2}


def test_enums_may_be_looked_up_by_getattr_and_nothing_else() -> None:
    enum = b"ctransformers.trainer_utils\nSchedulerType\n"
    assert unsafe(call("builtins", "getattr", enum, text("COSINE"))) == []
    assert unsafe(call("transformers.trainer_utils", "SchedulerType", text("cosine"))) == []
    assert unsafe(call("builtins", "getattr", enum, text("_private"))) == ["builtins getattr"]
    assert unsafe(call("builtins", "getattr", enum, text("mro"))) == ["builtins getattr"]
    assert unsafe(call("builtins", "getattr", b"ccollections\nOrderedDict\n", text("no_such_attribute"))) == [
        "builtins getattr"
    ]
    member = call("builtins", "getattr", enum, text("COSINE"))
    assert unsafe(member + text("x") + b"\x85R") == ["(a call of a transformers.trainer_utils.SchedulerType)"]
    assert len(unsafe(member + b"}" + text("x") + b"Nsb")) == 1


@pytest.mark.parametrize("name", sorted(OBJECTS))
def test_constructors_of_inert_classes_are_not_called(name: str) -> None:
    module, _, qualified = name.partition(" ")
    assert unsafe(f"c{module}\n{qualified}\n)".encode() + b"\x81}b") == []
    known = known_global(name)
    assert known is not None
    assert known.make(()) is known.make(("x",)) is REFUSED


# Imports


def test_the_readers_import_neither_pickle_nor_anything_that_could_run_one() -> None:
    check = (
        "import sys; before = set(sys.modules); import ckpt_doctor.formats.torch_zip, ckpt_doctor.formats.torch_legacy;"
        "print(*set(sys.modules) - before)"
    )
    run = subprocess.run([sys.executable, "-S", "-c", check], capture_output=True, text=True, check=True, timeout=120)
    loaded = set(run.stdout.split())
    assert "ckpt_doctor.formats.pickle_machine" in loaded
    assert not loaded & {
        "pickle",
        "_pickle",
        "pickletools",
        "zipfile",
        "importlib.metadata",
        "subprocess",
        "torch",
        "numpy",
    }


# Any bytes

OPCODES = st.lists(
    st.sampled_from(
        [bytes([opcode]) for opcode in b"().012NRSQabdeijlostu]}\x81\x85\x86\x87\x88\x89\x8f\x90\x91\x92\x93\x94"]
        + [
            b"K\x01",
            b"h\x00",
            b"q\x00",
            b"r\x01\x00\x00\x00",
            b"X\x01\x00\x00\x00a",
            b"\x8c\x05torch",
            b"I7\n",
            b"Va\n",
        ]
        + [b"ctorch._utils\n_rebuild_tensor_v2\n", b"ctorch\nFloatStorage\n", b"ccollections\nOrderedDict\n"]
        + [b"ctorch._utils\n_rebuild_parameter\n", b"ctorch._tensor\n_rebuild_from_type_v2\n", b"cbuiltins\ngetattr\n"]
        + [text("storage"), b"\x8a\x09" + b"\xff" * 9, b"cbuiltins\nlist\n", b"ctorch\nSize\n", b"c_codecs\nencode\n"]
        + [
            b"ctorch._utils\n_rebuild_sparse_tensor\n",
            b"ctorch._utils\n_rebuild_qtensor\n",
            f"c{PACKAGE}\nthing\n".encode(),
        ]
        + [b"(" + text("storage") + b"ctorch\nFloatStorage\n" + text("0") + text("cpu") + b"K\x04tQ", b"K\x00K\x02\x85"]
    ),
    max_size=60,
).map(b"".join)


SMALL = Limits(opcodes=5, visits=5, characters=50, depth=2, declared=10, digits=2, pickle=100, pickles=2)


@given(data=st.binary(max_size=400) | OPCODES.map(lambda ops: b"\x80\x02" + ops + b"."))
@example(data=b"\x80\x02(K\x00ctorch._tensor\n_rebuild_from_type_v2\nq\x00" + b"h\x00" * 9 + b"R.")
@example(data=b"\x80\x02(o.")
def test_any_bytes_give_an_outcome(data: bytes) -> None:
    outcome = machine(data)
    assert (outcome.error is None) or outcome.root is None
    assert isinstance(harvest(outcome.root, Budget(1000, 1000, 10_000)), Harvest)
    for limits in (LIMITS, SMALL):
        file = recognise(BytesSource(data), "x.bin", limits)
        assert file.defects
        assert file.nbytes == len(data)


def test_calls_in_calls_are_refused() -> None:
    rebuild, tensor_class = b"ctorch._tensor\n_rebuild_from_type_v2\n", b"ctorch\nTensor\n"
    make = b"ctorch._utils\n_rebuild_tensor_v2\n"
    once = b"(" + make + tensor_class + tensor().removeprefix(make).removesuffix(b"R") + b"Nt"
    assert unsafe(rebuild + once + b"R") == []
    assert unsafe(rebuild + b"(" + rebuild + tensor_class + once + b"NtR") == ["torch._tensor _rebuild_from_type_v2"]
