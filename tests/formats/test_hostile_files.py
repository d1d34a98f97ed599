"""What a reader must refuse is refused, at the limits that it is given, and nothing is done with it."""

from __future__ import annotations

import json
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from ckpt_doctor.core.defects import DefectKind
from ckpt_doctor.core.dtypes import BY_NAME
from ckpt_doctor.core.weight_file import Storage, WeightFile
from ckpt_doctor.formats import read_weight_file
from ckpt_doctor.formats.limits import LIMITS, Limits
from ckpt_doctor.formats.pickle_machine import run
from ckpt_doctor.formats.pickle_values import Budget, TensorNode
from ckpt_doctor.formats.pickle_walk import Harvest
from ckpt_doctor.formats.recognise import recognise
from ckpt_doctor.formats.torch_tensors import describe
from ckpt_doctor.sources.in_memory import BytesSource
from support.children import environment
from support.hostile import PACKAGE, HostileCase, archive, hostile_files, legacy, legacy_saved, saved, tensor, text

TESTS = Path(__file__).parents[1]
KINDS = {
    "CKD103": DefectKind.IMPOSTOR,
    "CKD901": DefectKind.UNSAFE_GLOBAL,
    "CKD902": DefectKind.AMBIGUOUS_ARCHIVE,
    "CKD903": DefectKind.RESOURCE_BOMB,
    "CKD904": DefectKind.EXECUTABLE_ARCHIVE,
    "CKD905": DefectKind.PATH_ESCAPE,
}
CASES = hostile_files()


def kinds(file: WeightFile) -> set[DefectKind]:
    return {defect.kind for defect in file.defects}


@pytest.mark.parametrize("name", CASES)
def test_they_are_reported(name: str, tmp_path: Path) -> None:
    case = CASES[name]
    path = tmp_path / case.filename
    path.write_bytes(case.data)
    file = read_weight_file(path, case.filename, case.limits)
    assert {KINDS[code] for code in case.codes} <= kinds(file)
    for defect in file.defects:
        json.dumps(defect.evidence)
        assert defect.message.endswith(".")
        assert len(defect.message) < 2000


LIMITED = {name: case for name, case in CASES.items() if case.limits != LIMITS}


@pytest.mark.parametrize("name", LIMITED)
def test_only_the_small_limits_make_them_costly(name: str) -> None:
    """So that it is the limit which the case is about that refuses it."""
    case = LIMITED[name]
    assert DefectKind.RESOURCE_BOMB not in kinds(recognise(BytesSource(case.data), case.filename))


def test_the_limits_are_what_they_were() -> None:
    assert Limits()._asdict() == {
        "opcodes": 1_000_000,
        "most_opcodes": 64_000_000,
        "visits": 250_000,
        "most_visits": 16_000_000,
        "characters": 16_000_000,
        "depth": 1000,
        "declared": 1 << 30,
        "digits": 4300,
        "pickle": 1 << 30,
        "pickles": 100,
        "inflated": 32 << 20,
        "inflation": 32,
        "directory": 1 << 30,
        "side_piece": 1 << 16,
        "side_total": 16 << 20,
        "side_opcodes": 2_000_000,
        "word": 100,
        "script_code": 64 << 20,
        "second_format": 16 << 20,
        "exact_zeros": 64 << 20,
        "header": 100_000_000,
        "rank": 1024,
        "config_file": 16 << 20,
        "index_file": 256 << 20,
        "json_depth": 200,
    }


def test_a_budget_grows_with_the_file_and_ends_at_the_most() -> None:
    assert Budget.for_stored(500) == Budget(1_000_500, 250_500, 16_004_000, 1000, 1 << 30, 4300)
    assert Budget.for_stored(1 << 40)[:2] == (64_000_000, 16_000_000)


def test_they_are_small() -> None:
    assert all(len(case.data) <= 10_240 for case in CASES.values())


# What is done with them

Events = list[list[str]]


@pytest.fixture(scope="module")
def watched(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[Events]]:
    """For each case what the interpreter reports of reading it, and of loading what is in it with ``pickle``."""
    command = [sys.executable, "-m", "support.watched_reading", str(tmp_path_factory.mktemp("cases"))]
    env = environment()
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=120, env=env)
    found: dict[str, list[Events]] = json.loads(done.stdout)
    assert found.keys() == CASES.keys()
    return found


def test_reading_imports_and_opens_and_runs_nothing(watched: dict[str, list[Events]]) -> None:
    """The interpreter reports each import, file, process and piece of code: there is none but the file itself."""
    assert {name: events for name, (events, _) in watched.items() if events} == {}


def test_the_watcher_sees_what_a_load_would_do(watched: dict[str, list[Events]]) -> None:
    for name in ("raw pickle", "foreign function in a zip", "NEWOBJ", "names from the memo"):
        assert watched[name][1][-2:] == [["pickle.find_class", PACKAGE], ["import", PACKAGE]]


def test_not_even_a_load_would_do_anything(watched: dict[str, list[Events]]) -> None:
    """The cases are harmless: there is nothing in them but names that lead nowhere and plain values."""
    harmless = {"import", "pickle.find_class", "open", "object.__setattr__"}
    for name, (_, events) in watched.items():
        assert {event for event, _ in events} <= harmless, name


COST = r"""
import re, resource, sys, time
from pathlib import Path
from ckpt_doctor.formats import read_weight_file
begin = time.process_time()
file = read_weight_file(Path(sys.argv[1]), "x.bin")
assert [defect.kind.value for defect in file.defects] == ["resource-bomb"], file.defects
status = Path("/proc/self/status")
if status.exists():  # getrusage would count the process that started this one
    peak = int(re.search(r"VmHWM:\s+(\d+) kB", status.read_text())[1]) * 1024
else:
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
print(time.process_time() - begin, peak)
"""


def test_a_small_file_that_spends_its_opcodes_takes_seconds_and_little_memory(tmp_path: Path) -> None:
    path = tmp_path / "x.bin"
    path.write_bytes(archive(b"\x80\x02" + b"N0" * 510_000 + b"N.", compression=zipfile.ZIP_DEFLATED))
    assert path.stat().st_size < 10_000
    command = [sys.executable, "-c", COST, str(path)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
    seconds, nbytes = map(float, done.stdout.split())
    assert seconds < 2
    assert nbytes < 200e6


def limited(case: HostileCase, **changes: int) -> WeightFile:
    return recognise(BytesSource(case.data), case.filename, LIMITS._replace(**changes))


def test_the_directory_of_an_archive_has_a_limit() -> None:
    whole = HostileCase("a.bin", archive(b"\x80\x02}."), frozenset())
    assert limited(whole, directory=1000).defects == ()
    file = limited(whole, directory=100)
    assert DefectKind.TORCH_TRUNCATED in kinds(file)
    assert file.tensors == ()


def test_a_long_word_is_no_version() -> None:
    case = HostileCase("a.bin", archive(saved(b"N"), {"archive/version": b"3" + b"\n" * 20}), frozenset())
    assert limited(case).defects == limited(case, word=21).defects == ()
    assert kinds(limited(case, word=20)) == {DefectKind.TORCH_TRUNCATED}


def test_pickles_outside_of_whole_archives_have_a_limit() -> None:
    old = HostileCase("a.bin", legacy(legacy_saved(b"N")), frozenset())
    cut = HostileCase("a.bin", archive(saved(text("x" * 100)))[:-1], frozenset())
    for case, pickle in ((old, 150), (cut, 100)):
        assert [info.name for info in limited(case).tensors] == ["weight"]
        assert limited(case, pickle=pickle).tensors == ()
        assert DefectKind.TORCH_TRUNCATED in kinds(limited(case, pickle=pickle))


def test_messages_stay_short_whatever_is_found() -> None:
    names = b"".join(f"c{PACKAGE}\nThing{index}\n0".encode() for index in range(150))
    long = f"c{PACKAGE}\n{'n' * 3000}\n0".encode()
    case = HostileCase("a.bin", archive(saved(long + names + b"N")), frozenset())
    (defect,) = limited(case).defects
    assert len(defect.evidence["globals"]) == 151
    assert max(len(entry["name"]) for entry in defect.evidence["globals"]) == 501
    assert len(defect.message) < 3000
    case = HostileCase(
        "a.bin", archive(saved(b"N"), {f"archive/{'y' * 1000}{index:03}": b"x" for index in range(50)}), frozenset()
    )
    doubled = HostileCase("a.bin", case.data.replace(b"archive/yy", b"archive/zz", 50), frozenset())
    (defect,) = limited(doubled).defects
    assert defect.kind is DefectKind.AMBIGUOUS_ARCHIVE
    assert len(defect.evidence["oddities"]) == 20
    assert max(map(len, defect.evidence["oddities"])) < 500


def test_tensors_have_as_many_dimensions_as_torch_allows() -> None:
    for count, expected in ((64, set()), (65, {DefectKind.STORAGE_MISSING})):
        ones = b"(" + b"K\x01" * count + b"t"
        described = tensor().replace(b"K\x02\x85K\x01\x85", ones + ones)
        assert kinds(limited(HostileCase("a.bin", archive(saved(described)), frozenset()))) == expected


def test_dimensions_are_counted_before_they_are_looked_at() -> None:
    class Looked(int):
        """A type that is no whole number of ours."""

    odd = TensorNode(None, BY_NAME["float32"], (Looked(1),) * 65, (1,) * 65, 0, False)
    found = Harvest()
    found.tensors.append(("weight", ("weight",), odd))
    (defect,) = describe(found, lambda reference: (Storage(reference.key, reference.nbytes, None), None))[1]
    assert "65 dimensions" in defect.message


def test_names_have_a_cost_and_many_of_them_are_one() -> None:
    name = f"c{PACKAGE}\nthing\n0".encode()
    case = HostileCase("a.bin", archive(saved(name * 40 + b"N"), compression=zipfile.ZIP_DEFLATED), frozenset())
    assert kinds(limited(case)) == {DefectKind.UNSAFE_GLOBAL}
    assert kinds(limited(case, characters=500)) == {DefectKind.UNSAFE_GLOBAL, DefectKind.RESOURCE_BOMB}
    many = b"".join(f"ca{number}\nb\n".encode() for number in range(1100))
    outcome = run(b"\x80\x02(" + many + b"t.", Budget.for_stored(0))
    assert len({id(value) for value in outcome.root}) == 1001
    assert len(outcome.unsafe) == 1000


def test_tensors_have_few_attributes() -> None:
    for count, expected in ((100, set()), (101, {DefectKind.UNSAFE_GLOBAL})):
        attributes = b"}(" + b"".join(text(f"a{index}") + b"N" for index in range(count)) + b"u"
        parameter = b"ctorch._utils\n_rebuild_parameter_with_state\n(" + tensor() + b"\x88ccollections\nOrderedDict\n)R"
        case = HostileCase("a.bin", archive(saved(parameter + attributes + b"tR")), frozenset())
        assert kinds(limited(case)) == expected


def test_pickles_that_are_no_weights_are_judged_up_to_a_number() -> None:
    name = f"c{PACKAGE}\nthing\n".encode()
    case = HostileCase("a.bin", b"\x80\x02N." * 4 + b"\x80\x02" + name + b".", frozenset())
    assert kinds(limited(case, pickles=5)) == {
        DefectKind.UNSAFE_GLOBAL,
        DefectKind.AMBIGUOUS_ARCHIVE,
        DefectKind.IMPOSTOR,
    }
    assert kinds(limited(case, pickles=4)) == {DefectKind.AMBIGUOUS_ARCHIVE, DefectKind.IMPOSTOR}
