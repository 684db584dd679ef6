"""Pickles read as data: the forms of old writers are read, and every other form is refused with its byte."""

from __future__ import annotations

import pickle
import struct

import numpy as np
import pytest

from facerec.data import pickle_code
from facerec.data.pickles import MAX_DEPTH, UnsafePickleError, read_pickle

U1 = b"cnumpy\ndtype\n(U\x02u1tR"
FROMBUFFER = b"cnumpy.core.numeric\n_frombuffer\n"
RECONSTRUCT = b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\n(I0\ntU\x01btR"


def test_the_text_form_that_python_2_writes_is_read() -> None:
    # What `pickle.dumps((images, issame))` gave in Python 2, whose strings are bytes and whose default is protocol 0.
    content = rb"""((lp0
S'\xff\xd8a\'b\n'
p1
aS"it's"
p2
ag1
aS''
a(lp3
I01
aI00
atp4
."""
    assert read_pickle(content) == ([b"\xff\xd8a'b\n", b"it's", b"\xff\xd8a'b\n", b""], [True, False])


@pytest.mark.parametrize("value", [0, 1, -1, 255, 65536, 2**40, -(2**40), 1.5, True, False, None, "text", b"raw", ""])
@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_plain_values_of_every_protocol_are_read(value: object, protocol: int) -> None:
    found = read_pickle(pickle.dumps([value, (value,), [value, value, (1, 2, 3)]], protocol=protocol))
    assert found == [value, (value,), [value, value, (1, 2, 3)]]
    assert type(found[0]) is type(value)


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
@pytest.mark.parametrize("dtype", [np.uint8, np.bool_, np.int8, np.int32, np.int64, np.uint64])
def test_arrays_of_every_protocol_and_order_are_read(order: str, protocol: int, dtype: type) -> None:
    array = np.asarray(np.arange(6).reshape(2, 3).astype(dtype), order=order)
    found, number = read_pickle(pickle.dumps([array, array[1, 2]], protocol=protocol))
    assert found.dtype == array.dtype
    np.testing.assert_array_equal(found, array)
    assert number == array[1, 2].item()


def test_what_is_named_twice_is_one_object() -> None:
    image = np.arange(4, dtype=np.uint8)
    first, second = read_pickle(pickle.dumps([image, image]))
    assert first is second


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"", "cut off"),
        (b".", "the stack is empty"),
        (b"a.", "the stack is empty"),
        (b"(.", "a mark stands where a value belongs"),
        (b"I1\nI2\n.", "values are left over"),
        (b"l.", "there is no mark"),
        (b"I1\nI2\na.", "appended to what is no list"),
        (b"](I1\ne", "cut off"),
        (b"h\x07.", "nothing was stored under number 7"),
        (b"(" * (MAX_DEPTH + 1), "nested too deeply"),
        (b")" + b"\x85" * (MAX_DEPTH + 2) + b".", "nested too deeply"),
        (b"S'abc\n.", "a string has no quotes"),
        (b"Sabc\n.", "a string has no quotes"),
        (b"S'\n.", "a string has no quotes"),
        (rb"S'\q'" + b"\n.", "an escape that does not exist"),
        (b"S'abc'", "a line has no end"),
        (b"I" + b"9" * 65 + b"\n.", "a number is too long"),
        (b"\x8a\x41" + b"\x01" * 65 + b".", "a number is too long"),
        (b"Ione\n.", "damaged at byte 0"),
        (b"X\x01\x00\x00\x00\xff.", "damaged at byte 0"),
        (b"T" + struct.pack("<i", -1) + b".", "a length is negative"),
        (b"C\x05ab.", "5 bytes are announced, 3 are left"),
        (b"}.", "the operation EMPTY_DICT is not allowed"),
        (b"\xfe.", "the operation 0xfe is not allowed"),
        (b"K\x01K\x02\x93.", "whose name is no text"),
        (b"cnumpy\nndarray\n.", "a name of code"),
        (b"K\x01)R.", "calls something that is no known function"),
        (b"cnumpy\nndarray\nK\x01R.", "calls something that is no known function"),
        (b"cnumpy\ndtype\n)R.", "an array of type ''"),
        (b"cnumpy\ndtype\n(U\x02f8tR.", "an array of type 'f8'; pair sets hold u1 and b1"),
        (b"cnumpy\ndtype\n(K\x01tR.", "text is missing where a type is named"),
        (U1 + b"(K\x03U\x01>NNNK\xffK\xffK\x00tb.", "an unknown byte order or of records"),
        (U1 + b"(K\x03U\x01|NU\x01aNK\xffK\xffK\x00tb.", "an unknown byte order or of records"),
        (U1 + b"K\x01b.", "sets attributes of an object"),
        (b"K\x01(K\x01tb.", "sets attributes of an object"),
        (FROMBUFFER + b"(U\x02abtR.", "a call has 1 arguments in place of 4"),
        (FROMBUFFER + b"(U\x02abK\x01K\x02U\x01CtR.", "an array has no type"),
        (FROMBUFFER + b"(U\x02ab" + U1 + b"K\x02U\x01CtR.", "an array has no proper shape"),
        (FROMBUFFER + b"(U\x02ab" + U1 + b"(K\x02tU\x01CtR.", None),
        (FROMBUFFER + b"(U\x02ab" + U1 + b"(K\x03tU\x01CtR.", "does not fit its 2 values"),
        (FROMBUFFER + b"(U\x02ab" + U1 + b"(K\x01tU\x01CtR.", r"shape \(1,\) comes with 2 values"),
        (FROMBUFFER + b"(U\x02ab" + U1 + b"(J\xff\xff\xff\xfftU\x01CtR.", "does not fit its 2 values"),
        (FROMBUFFER + b"(U\x02ab" + U1 + b"(\x88K\x02tU\x01CtR.", "does not fit its 2 values"),
        (FROMBUFFER + b"(K\x05" + U1 + b"(K\x02tU\x01CtR.", "bytes are missing where content belongs"),
        (b"cnumpy.core.multiarray\n_reconstruct\n)R.", "builds an object that is no array"),
        (RECONSTRUCT + b".", "an array without content"),
        (RECONSTRUCT + b"(K\x01(K\x02t" + b"cnumpy\ndtype\n(U\x02i4tR" + b"\x89U\x02abtb.", "does not fit its type"),
        (b"cnumpy.core.multiarray\nscalar\n(" + U1 + b"U\x02abtR.", "a number of numpy has the wrong size"),
        (b"c_codecs\nencode\n(X\x01\x00\x00\x00aU\x05utf-7tR.", "bytes are missing where content belongs"),
        (b"c__builtin__\nbytes\n(K\x05tR.", "bytes are missing where content belongs"),
    ],
)
def test_what_no_pair_set_holds_is_refused_with_its_byte(content: bytes, problem: str | None) -> None:
    if problem is None:
        assert read_pickle(content).tobytes() == b"ab"
        return
    with pytest.raises(UnsafePickleError, match=problem):
        read_pickle(content)


def test_bytes_of_python_3_in_an_old_protocol_are_read() -> None:
    assert read_pickle(b"c__builtin__\nbytes\n)R.") == b""
    for protocol in (0, 1, 2):
        assert read_pickle(pickle.dumps(b"\x00\xff\x80", protocol=protocol)) == b"\x00\xff\x80"
        assert read_pickle(pickle.dumps(bytearray(b"\x00\xff"), protocol=protocol)) == b"\x00\xff"


def test_a_pickle_of_endless_operations_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pickle_code, "MAX_OPERATIONS", 10)
    assert read_pickle(b"N" + b"\x85" * 8 + b".")
    with pytest.raises(UnsafePickleError, match="more than 10 operations"):
        read_pickle(b"N" + b"\x85" * 9 + b".")
