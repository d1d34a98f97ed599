"""A stack machine that reads pickles, protocols 0 to 5, as data.

It has no way to import, look up or call anything: globals are names that are compared with lists, and what calling one
would make is described by ``torch_objects``. Opcodes and their arguments are those of Python's ``pickletools``.
A name on no list is noted where it is resolved, whether or not anything is done with it, and reading goes on.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import repeat
from struct import Struct
from struct import error as StructError
from typing import Any, NamedTuple

from ckpt_doctor.core.defects import DefectKind
from ckpt_doctor.core.dtypes import DType
from ckpt_doctor.core.nothing import NOTHING
from ckpt_doctor.core.weight_file import Refusal

from .pickle_opcodes import RARE
from .pickle_state import COSTLY, LONG_TEXT, UNSET, State
from .pickle_values import REFUSED, Budget, DictNode, Global, PickleError

_UINT16 = Struct("<H").unpack_from
_UINT32 = Struct("<I").unpack_from
_INT32 = Struct("<i").unpack_from
_FLOAT = Struct(">d").unpack_from


class UnsafeUse(NamedTuple):
    """A name on no list, or a use of a name that is not allowed: first byte offset in the pickle, and how often."""

    name: str
    position: int
    times: int


class Outcome(NamedTuple):
    """What a pickle said.

    ``root`` is ``None`` if ``error`` says why reading ended early. ``end`` is the offset behind the last byte that
    was read. ``frames_match`` is false where a frame's declared length disagrees with its content. ``called`` says
    that something was called on the way. ``retyped`` are the keys of storages that have several element types, at most
    twenty; ``id_lengths`` are the numbers of parts that the persistent ids have. ``refusals`` is what
    ``torch.load``'s default would stop at. ``dtypes`` are the element types of all storages, by key.
    """

    root: Any
    end: int
    unsafe: tuple[UnsafeUse, ...]
    error: PickleError | None
    frames_match: bool
    called: bool
    retyped: tuple[str, ...] = ()
    id_lengths: frozenset[int] = frozenset()
    refusals: tuple[Refusal, ...] = ()
    dtypes: Mapping[str, DType] = NOTHING


def run(data: bytes, budget: Budget, start: int = 0, available: int | None = None) -> Outcome:
    """Read one pickle that begins at ``start``.

    ``available`` is the number of bytes that the file holds from the beginning of ``data``, where that is more than
    ``data`` does. Never raises for any content.
    """
    state = State(data, budget, start, len(data) if available is None else available)
    root, error = None, None
    try:
        root = _execute(state, data, budget)
    except PickleError as problem:
        error = problem
    except (IndexError, StructError, UnicodeDecodeError) as problem:
        # The machine's own lists and the data are indexed without asking first: what is not there is found here.
        error = _malformed(state, problem)
    unsafe = tuple(UnsafeUse(name, position, count) for name, (position, count) in state.all_unsafe().items())
    return Outcome(
        root,
        state.position,
        unsafe,
        error,
        state.frames_match,
        state.called,
        tuple(state.retyped),
        frozenset(state.id_lengths),
        state.all_refusals(),
        state.dtypes,
    )


def _malformed(state: State, problem: Exception) -> PickleError:
    if state.position >= len(state.data) or isinstance(problem, StructError):
        return PickleError(DefectKind.TORCH_TRUNCATED, f"the pickle ends after {len(state.data)} bytes, in the middle")
    return PickleError(DefectKind.TORCH_TRUNCATED, f"the pickle is invalid at byte {state.position}")


def _execute(state: State, data: bytes, budget: Budget) -> Any:
    """Run to STOP. The frequent opcodes stand here, in the order of their frequency in state dicts."""
    stack: list[Any] = state.stack
    append = stack.append
    metastack = state.metastack
    memo = state.memo
    depth = budget.depth
    position = state.position
    try:
        for _ in repeat(None, budget.opcodes):
            opcode = data[position]
            position += 1
            if opcode == 0x72:  # LONG_BINPUT
                index = _UINT32(data, position)[0]
                position += 4
                if index == len(memo):
                    memo.append(stack[-1])
                else:
                    state.put(index, stack[-1])
            elif opcode == 0x68:  # BINGET
                value = memo[data[position]]
                position += 1
                if value is UNSET:
                    raise state.invalid("a memo entry that was never written")
                append(value)
            elif opcode == 0x4B:  # BININT1
                append(data[position])
                position += 1
            elif opcode == 0x28:  # MARK
                if len(metastack) >= depth:
                    raise PickleError(DefectKind.RESOURCE_BOMB, f"more than {depth} marks are open at once")
                metastack.append(stack)
                stack = []
                append = stack.append
            elif opcode == 0x58:  # BINUNICODE
                length = _UINT32(data, position)[0]
                position += 4
                end = position + length
                if end > len(data):
                    raise state.too_long(position, length)
                if length > LONG_TEXT:
                    state.charge_text(data[position:end])
                append(data[position:end].decode("utf-8", "surrogatepass"))
                position = end
            elif opcode == 0x86:  # TUPLE2
                last = stack.pop()
                stack[-1] = (stack[-1], last)
            elif opcode == 0x74:  # TUPLE
                items = stack
                stack = metastack.pop()
                append = stack.append
                append(tuple(items))
            elif opcode == 0x52:  # REDUCE
                args = stack.pop()
                function = stack[-1]
                if type(function) is Global and type(args) is tuple:
                    if args and type(args[0]) in COSTLY:
                        state.charge_call(function, args[0])
                    made = function.make(args)
                    stack[-1] = state.refuse(function, args, position) if made is REFUSED else made
                    if function.role == "getattr":
                        state.judged_getattr(made is not REFUSED)
                else:
                    stack[-1] = state.call_odd(function, args, position)
                state.called = True
            elif opcode == 0x29:  # EMPTY_TUPLE
                append(())
            elif opcode == 0x4D:  # BININT2
                append(_UINT16(data, position)[0])
                position += 2
            elif opcode == 0x71:  # BINPUT
                index = data[position]
                position += 1
                if index == len(memo):
                    memo.append(stack[-1])
                else:
                    state.put(index, stack[-1])
            elif opcode == 0x51:  # BINPERSID
                stack[-1] = state.persistent(stack[-1], position)
            elif opcode == 0x89:  # NEWFALSE
                append(False)
            elif opcode == 0x4A:  # BININT
                append(_INT32(data, position)[0])
                position += 4
            elif opcode == 0x85:  # TUPLE1
                stack[-1] = (stack[-1],)
            elif opcode == 0x6A:  # LONG_BINGET
                value = memo[_UINT32(data, position)[0]]
                position += 4
                if value is UNSET:
                    raise state.invalid("a memo entry that was never written")
                append(value)
            elif opcode == 0x94:  # MEMOIZE
                memo.append(stack[-1])
            elif opcode == 0x8C:  # SHORT_BINUNICODE
                end = position + 1 + data[position]
                if end > len(data):
                    raise state.too_long(position, end - position)
                append(data[position + 1 : end].decode("utf-8", "surrogatepass"))
                position = end
            elif opcode == 0x47:  # BINFLOAT
                append(_FLOAT(data, position)[0])
                position += 8
            elif opcode == 0x4E:  # NONE
                append(None)
            elif opcode == 0x88:  # NEWTRUE
                append(True)
            elif opcode == 0x7D:  # EMPTY_DICT
                append(DictNode())
            elif opcode == 0x5D:  # EMPTY_LIST
                append([])
            elif opcode == 0x87:  # TUPLE3
                last = stack.pop()
                middle = stack.pop()
                stack[-1] = (stack[-1], middle, last)
            elif opcode == 0x73:  # SETITEM
                value = stack.pop()
                key = stack.pop()
                state.set_items(stack[-1], [key, value], position)
            elif opcode == 0x75:  # SETITEMS
                items = stack
                stack = metastack.pop()
                append = stack.append
                state.set_items(stack[-1], items, position)
            elif opcode == 0x61:  # APPEND
                item = stack.pop()
                state.append_items(stack[-1], [item], position)
            elif opcode == 0x65:  # APPENDS
                items = stack
                stack = metastack.pop()
                append = stack.append
                state.append_items(stack[-1], items, position)
            elif opcode == 0x2E:  # STOP
                state.position = position
                state.stop()
                return stack.pop()
            else:
                state.stack = stack
                state.position = position
                RARE[opcode](state)
                stack = state.stack
                append = stack.append
                position = state.position
    finally:
        state.position = max(position, state.position)
    raise PickleError(DefectKind.RESOURCE_BOMB, f"more than {budget.opcodes:,} opcodes")
