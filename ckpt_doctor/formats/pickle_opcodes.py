"""The opcodes that are rare in state dicts, as a table from opcode to function."""

from __future__ import annotations

from collections.abc import Callable

from .pickle_state import State
from .pickle_values import DictNode, Global, OpaqueNode


def _unknown(state: State) -> None:
    raise state.invalid(f"opcode {state.data[state.position - 1]:#04x} does not exist")


def _proto(state: State) -> None:
    protocol = state.number(1)
    if protocol > 5:
        raise state.invalid(f"protocol {protocol} does not exist")


def _frame(state: State) -> None:
    begin = state.position
    length = state.number(8)
    if state.frame_end is not None and begin - 1 < state.frame_end:
        state.frames_match = False
    if state.position + length > len(state.data):
        if length <= state.available - state.position:
            # The frame goes on behind the part of the file that was read so far.
            raise state.too_long(state.position, length)
        state.frames_match = False
    state.frame_end = state.position + length


def _pop(state: State) -> None:
    if state.stack:
        state.stack.pop()
    else:
        state.marked()


def _pop_mark(state: State) -> None:
    state.marked()


def _dup(state: State) -> None:
    state.stack.append(state.stack[-1])


# Numbers and strings


def _int(state: State) -> None:
    line = state.data[state.position : state.position + 3]
    if line in (b"00\n", b"01\n"):
        # Protocol 0 had no other way to write a boolean.
        state.position += 3
        state.stack.append(line == b"01\n")
    else:
        state.stack.append(state.decimal())


def _long(state: State) -> None:
    state.stack.append(state.decimal(suffix=b"L"))


def _long1(state: State) -> None:
    state.stack.append(state.number(state.number(1), signed=True))


def _long4(state: State) -> None:
    length = state.number(4, signed=True)
    if length < 0:
        raise state.invalid("a number of negative length")
    state.stack.append(state.number(length, signed=True))


def _float(state: State) -> None:
    line = state.line()
    try:
        state.stack.append(float(line[:1000]))
    except ValueError:
        raise state.invalid("a number is invalid") from None


def _text(raw: bytes) -> str | bytes:
    """What Python 2 called a string, as ``torch.load`` decodes it; bytes where it is no text."""
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError:
        return raw


def _string(state: State) -> None:
    line = state.line().strip()
    if len(line) < 2 or line[:1] not in (b'"', b"'") or line[-1:] != line[:1]:
        raise state.invalid("a string without its quotes")
    state.charge_text(line)
    # Python 2 wrote repr(): undo its escapes without evaluating anything.
    try:
        decoded = line[1:-1].decode("latin-1").encode("latin-1", "backslashreplace").decode("unicode_escape")
    except UnicodeDecodeError:
        raise state.invalid("a string with a wrong escape") from None
    state.stack.append(_text(decoded.encode("latin-1", "replace")))


def _binstring(state: State) -> None:
    length = state.number(4, signed=True)
    if length < 0:
        raise state.invalid("a string of negative length")
    state.stack.append(_text(state.take_text(length)))


def _short_binstring(state: State) -> None:
    state.stack.append(_text(state.take_text(state.number(1))))


def _unicode(state: State) -> None:
    line = state.line()
    state.charge_text(line, escaped=b"\\U" in line or b"\\u" in line)
    state.stack.append(line.decode("raw-unicode-escape"))


def _binunicode8(state: State) -> None:
    state.stack.append(state.take_text(state.number(8)).decode("utf-8", "surrogatepass"))


def _binbytes(state: State) -> None:
    state.stack.append(state.take(state.number(4)))


def _short_binbytes(state: State) -> None:
    state.stack.append(state.take(state.number(1)))


def _binbytes8(state: State) -> None:
    state.stack.append(state.take(state.number(8)))


# Containers


def _dict(state: State) -> None:
    items = state.marked()
    node = DictNode()
    state.set_items(node, items, state.position)
    state.stack.append(node)


def _list(state: State) -> None:
    items = state.marked()
    state.stack.append(items)


def _empty_set(state: State) -> None:
    state.stack.append(OpaqueNode("builtins.set", role="set"))


def _additems(state: State) -> None:
    items = state.marked()
    target = state.stack[-1]
    if type(target) is OpaqueNode and target.role == "set":
        target.parts.append(("items", items))
    else:
        state.append_items(target, items, state.position)


def _frozenset(state: State) -> None:
    items = state.marked()
    state.stack.append(OpaqueNode("builtins.frozenset", [("items", items)], "value"))


# The memo


def _get(state: State) -> None:
    state.stack.append(state.get(state.decimal()))


def _put(state: State) -> None:
    index = state.decimal()
    if index < 0:
        raise state.invalid("a negative memo index")
    state.put(index, state.stack[-1])


# Names, and what is made by them


def _global(state: State) -> None:
    position = state.position - 1
    module = state.line().decode("utf-8")
    name = state.line().decode("utf-8")
    state.stack.append(state.resolve(module, name, position))


def _stack_global(state: State) -> None:
    name = state.stack.pop()
    module = state.stack.pop()
    state.stack.append(state.resolve(module, name, state.position - 1))


def _inst(state: State) -> None:
    position = state.position - 1
    module = state.line().decode("utf-8")
    name = state.line().decode("utf-8")
    args = tuple(state.marked())
    state.stack.append(state.make_object(state.resolve(module, name, position), args, position))


def _obj(state: State) -> None:
    items = state.marked()
    state.stack.append(state.make_object(items[0], tuple(items[1:]), state.position - 1))


def _newobj(state: State) -> None:
    args = state.stack.pop()
    state.stack[-1] = state.make_object(state.stack[-1], args, state.position - 1)


def _newobj_ex(state: State) -> None:
    keywords = state.stack.pop()
    args = state.stack.pop()
    cls = state.stack[-1]
    if type(keywords) is DictNode and type(cls) is Global:
        for value in keywords.flat[1::2]:
            state.charge_call(cls, value)
    made = state.make_object(cls, args, state.position - 1)
    if type(made) is OpaqueNode:
        made.parts.append(("keywords", keywords))
    state.stack[-1] = made


def _build(state: State) -> None:
    attributes = state.stack.pop()
    state.build(state.stack[-1], attributes, state.position - 1)


def _extension(width: int) -> Callable[[State], None]:
    def extension(state: State) -> None:
        # What a code means is registered in the process that loads the file: nobody can tell from here.
        position = state.position - 1
        code = state.number(width)
        state.stack.append(state.resolve("copyreg", f"(extension code {code})", position))

    return extension


def _persid(state: State) -> None:
    line = state.line()
    state.stack.append(state.persistent(line, state.position))


def _bytearray8(state: State) -> None:
    state.take(state.number(8))
    state.stack.append(OpaqueNode("builtins.bytearray", role="value"))


def _next_buffer(state: State) -> None:
    raise state.invalid("it needs a buffer from outside the file")


def _readonly_buffer(state: State) -> None:
    state.stack.append(state.stack.pop())  # there must be one


_TABLE: dict[bytes, Callable[[State], None]] = {
    b"\x80": _proto,
    b"\x95": _frame,
    b"0": _pop,
    b"1": _pop_mark,
    b"2": _dup,
    b"I": _int,
    b"L": _long,
    b"\x8a": _long1,
    b"\x8b": _long4,
    b"F": _float,
    b"S": _string,
    b"T": _binstring,
    b"U": _short_binstring,
    b"V": _unicode,
    b"\x8d": _binunicode8,
    b"B": _binbytes,
    b"C": _short_binbytes,
    b"\x8e": _binbytes8,
    b"d": _dict,
    b"l": _list,
    b"\x8f": _empty_set,
    b"\x90": _additems,
    b"\x91": _frozenset,
    b"g": _get,
    b"p": _put,
    b"c": _global,
    b"\x93": _stack_global,
    b"i": _inst,
    b"o": _obj,
    b"\x81": _newobj,
    b"\x92": _newobj_ex,
    b"b": _build,
    b"\x82": _extension(1),
    b"\x83": _extension(2),
    b"\x84": _extension(4),
    b"P": _persid,
    b"\x96": _bytearray8,
    b"\x97": _next_buffer,
    b"\x98": _readonly_buffer,
}

_WEIGHTS_ONLY = frozenset(b"\x80\x8aU\x8fc\x81b")
"""Those of the opcodes above that torch's weights-only unpickler knows, too (``torch/_weights_only_unpickler.py``)."""


def _noted(opcode: int) -> Callable[[State], None]:
    """What the opcode does; where ``torch.load``'s default stops at it, that is noted first."""
    execute = _TABLE.get(bytes([opcode]), _unknown)
    if opcode in _WEIGHTS_ONLY:
        return execute
    name = _NAMES.get(opcode, f"{opcode:#04x}")

    def noted(state: State) -> None:
        state.refuses(name, state.position - 1, "opcode")
        execute(state)

    return noted


_NAMES = {0x95: "FRAME", 0x93: "STACK_GLOBAL", 0x42: "BINBYTES", 0x43: "SHORT_BINBYTES", 0x8B: "LONG4", 0x30: "POP"}

RARE: list[Callable[[State], None]] = [_noted(opcode) for opcode in range(256)]
"""Called with the machine's state, its position behind the opcode."""
