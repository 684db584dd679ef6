"""Pair sets: every kind met in the wild is read, and a hostile pickle is refused without running anything."""

from __future__ import annotations

import hashlib
import json
import pickle
import random
import struct
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from facerec.data.decode import decode_image
from facerec.data.pairs import PairSet, read_pairs, write_pairs
from facerec.errors import MissingPathError, PairSetError

IMAGES = [b"\xff\xd8one", b"two", b"three", b"four"]
BINS = [
    "py2_proto2",
    "py3_highest",
    "py3_list_not_tuple",
    "py3_ndarray_issame",
    "py3_ndarray_u8",
    "py3_npbool_issame",
    "py3_png",
    "py3_proto2",
    "py3_proto4",
]


@pytest.mark.parametrize("name", BINS)
def test_bins_of_the_wild_are_read(shared_data: Path, name: str) -> None:
    folder = shared_data / "mxnet" / "bins"
    expected: dict[str, Any] = json.loads((folder / "expected.json").read_text())
    pairs = read_pairs(folder / f"{name}.bin")
    assert pairs.issame.tolist() == expected["issame"]
    assert pairs.issame.dtype == np.bool_
    assert (pairs.num_pairs, len(pairs.images), pairs.name) == (60, 120, name)
    if name == "py3_png":
        assert all(image.startswith(b"\x89PNG") for image in pairs.images)
    else:
        assert [hashlib.sha256(image).hexdigest() for image in pairs.images] == expected["sha256_of_encoded"]
    # mxnet's decoded pictures are digested as one.
    decoded = hashlib.sha256()
    for image in pairs.images:
        decoded.update(decode_image(image, what=name).tobytes())
    assert decoded.hexdigest() == expected["mxnet_decoded_rgb_sha256"]["png" if name == "py3_png" else "jpeg"]


def test_the_pairs_of_lfw_are_read(shared_data: Path) -> None:
    path = shared_data / "lfw" / "lfw_dev.bin"
    pairs = read_pairs(path)
    assert pairs.num_pairs == 1_200
    assert pairs.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()


def test_what_is_written_is_read_and_plain_pickle_reads_it_too(tmp_path: Path) -> None:
    write_pairs(tmp_path / "x.bin", IMAGES, np.array([True, False]))
    pairs = read_pairs(tmp_path / "x.bin", name="mine")
    assert (pairs.name, pairs.images, pairs.issame.tolist()) == ("mine", tuple(IMAGES), [True, False])
    assert pairs.num_genuine == 1
    assert pickle.loads((tmp_path / "x.bin").read_bytes()) == (IMAGES, [True, False])
    with pytest.raises(PairSetError, match="3 images do not make 2 pairs"):
        write_pairs(tmp_path / "y.bin", IMAGES[:3], [True, False])


@pytest.mark.parametrize("protocol", range(6))
@pytest.mark.parametrize("as_arrays", [False, True])
def test_every_protocol_is_read(tmp_path: Path, protocol: int, as_arrays: bool) -> None:
    images = [np.frombuffer(image, dtype=np.uint8) for image in IMAGES] if as_arrays else IMAGES
    (tmp_path / "x.bin").write_bytes(pickle.dumps((images, np.array([True, False])), protocol=protocol))
    pairs = read_pairs(tmp_path / "x.bin")
    assert (pairs.images, pairs.issame.tolist()) == (tuple(IMAGES), [True, False])


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        ((IMAGES, [True]), "4 images for 1 pairs"),
        (([], []), "holds no pairs"),
        ((IMAGES, [True, 2]), "issame number 1 is 2"),
        ((IMAGES, [True, [IMAGES]]), "issame number 1 is of type list"),
        ((IMAGES, 5), "issame must be a list"),
        ((5, [True]), "images must be a list"),
        (IMAGES, "it must hold"),
        (([b"a", 5], [True]), "image 1 is int"),
        (([b"a", np.zeros((2, 3, 3), np.uint8)], [True]), r"image 1 is an array of shape \(2, 3, 3\)"),
    ],
)
def test_a_set_that_contradicts_itself_is_refused(tmp_path: Path, content: Any, problem: str) -> None:
    (tmp_path / "x.bin").write_bytes(pickle.dumps(content, protocol=4))
    with pytest.raises(PairSetError, match=problem):
        read_pairs(tmp_path / "x.bin")


@pytest.mark.parametrize("as_arrays", [False, True])
def test_an_empty_image_is_refused_by_its_number(tmp_path: Path, as_arrays: bool) -> None:
    images: list[Any] = [IMAGES[0], IMAGES[1], IMAGES[2], b""]
    if as_arrays:
        images = [np.frombuffer(image, dtype=np.uint8) for image in images]
    (tmp_path / "x.bin").write_bytes(pickle.dumps((images, [True, False]), protocol=4))
    with pytest.raises(PairSetError, match=r"image 3 \(of pair 1\) is empty"):
        read_pairs(tmp_path / "x.bin")
    with pytest.raises(PairSetError, match="image 3 is empty"):
        write_pairs(tmp_path / "y.bin", [*IMAGES[:3], b""], [True, False])


@pytest.mark.parametrize("rest", [b"\0", b".", b"another pickle"])
def test_bytes_behind_the_pickle_are_refused(tmp_path: Path, rest: bytes) -> None:
    (tmp_path / "x.bin").write_bytes(pickle.dumps((IMAGES, [True, False]), protocol=4) + rest)
    with pytest.raises(PairSetError, match=f"{len(rest)} bytes follow behind its end"):
        read_pairs(tmp_path / "x.bin")


def test_what_is_no_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(MissingPathError, match="does not exist"):
        read_pairs(tmp_path / "none.bin")
    with pytest.raises(PairSetError, match="no regular file"):
        read_pairs(tmp_path)


def text(value: str) -> bytes:
    return b"\x8c" + bytes([len(value)]) + value.encode()


def code_that_touches(marker: Path) -> dict[str, bytes]:
    """Pickles that would create ``marker`` (or load a module) when unpickled, by one way each."""
    shell, python = f"touch {marker}", f"open({str(marker)!r}, 'w').close()"
    call = text(shell)
    return {
        "GLOBAL": b"cos\nsystem\n(" + call + b"tR.",
        "STACK_GLOBAL": b"\x80\x04" + text("os") + text("system") + b"\x93" + call + b"\x85R.",
        "eval": b"cbuiltins\neval\n(" + text(python) + b"tR.",
        "INST": b"(" + call + b"ios\nsystem\n.",
        "OBJ": b"(cos\nsystem\n" + call + b"o.",
        "NEWOBJ": b"\x80\x02csubprocess\nPopen\n" + text(shell) + b"\x85\x81.",
        "NEWOBJ_EX": b"\x80\x04csubprocess\nPopen\n" + text(shell) + b"\x85}\x92.",
        "BUILD": b"cnumpy\nndarray\n}" + text("__setstate__") + b"cos\nsystem\nsb" + call + b"b.",
        "OBJ of a known name": b"(cnumpy\nndarray\n" + call + b"o.",
        "NEWOBJ of a known name": b"cnumpy\nndarray\n" + call + b"\x85\x81.",
        "BUILD of a known name": b"cnumpy\nndarray\n" + call + b"\x85b.",
        "call of a class": b"cnumpy\nndarray\n" + call + b"\x85R.",
        "PERSID": b"P" + shell.encode() + b"\n.",
        "BINPERSID": call + b"Q.",
        "EXT1": b"\x80\x02\x82\x01.",
        "NEXT_BUFFER": b"\x80\x05\x97.",
        "import": b"cantigravity\nfly\n.",
        "reconstruct": b"cnumpy.core.multiarray\n_reconstruct\n(cos\nsystem\n" + call + b"tR.",
        "dotted": b"\x80\x04" + text("numpy") + text("ndarray.__init__.__globals__") + b"\x93.",
    }


def hostile_shapes() -> dict[str, bytes]:
    """Pickles that would take endless memory, time or stack."""
    # The list on top and itself, from the memo, become a pair, 40 times: 2^40 values in a few bytes.
    nested = b"]q\x00" + b"".join(b"h" + bytes([n]) + b"\x86q" + bytes([n + 1]) for n in range(40))
    as_truths = b"((C\x01aC\x01bl(" + nested + b"lt."
    return {
        "shared": nested + b".",
        "shared truths": as_truths,
        "itself": b"]q\x00(h\x00h\x00e.",
        "itself in a tuple": b"]q\x00h\x00\x85a.",
        "marks": b"(" * 100_000,
        "tuples": b")" + b"\x85" * 100_000 + b".",
        "BINBYTES8": b"\x8e" + struct.pack("<Q", 1 << 60) + b"abc.",
        "BINUNICODE8": b"\x8d" + struct.pack("<Q", (1 << 64) - 1) + b"abc.",
        "LONG4": b"\x8b" + struct.pack("<i", -5) + b"abc.",
        "memo": b"]r\xff\xff\xff\xffj\xff\xff\xff\xffa.",
        "no result": b".",
        "empty": b"",
    }


@pytest.mark.parametrize("way", code_that_touches(Path("marker")))
def test_no_code_of_a_pickle_runs(tmp_path: Path, way: str) -> None:
    marker = tmp_path / "marker"
    (tmp_path / "x.bin").write_bytes(code_that_touches(marker)[way])
    with pytest.raises(PairSetError):
        read_pairs(tmp_path / "x.bin")  # Once before, for what an error itself loads.
    modules = set(sys.modules)
    with pytest.raises(PairSetError, match=r"x\.bin is refused as a pair set: ") as caught:
        read_pairs(tmp_path / "x.bin")
    assert set(sys.modules) == modules
    assert "antigravity" not in sys.modules
    assert not marker.exists()
    assert len(str(caught.value)) < 1000


def test_a_refused_name_is_told_safely(tmp_path: Path) -> None:
    (tmp_path / "x.bin").write_bytes(b"cos\x1b[31m\n" + b"system" * 100_000 + b"\n.")
    with pytest.raises(PairSetError, match=r"asks for os\\x1b\[31m\.system") as caught:
        read_pairs(tmp_path / "x.bin")
    assert len(str(caught.value)) < 500


@pytest.mark.parametrize("shape", hostile_shapes())
def test_hostile_shapes_are_refused_at_once(tmp_path: Path, shape: str) -> None:
    (tmp_path / "x.bin").write_bytes(hostile_shapes()[shape])
    begin = time.process_time()
    with pytest.raises(PairSetError) as caught:
        read_pairs(tmp_path / "x.bin")
    assert time.process_time() - begin < 2
    assert len(str(caught.value)) < 1000


def test_arrays_that_name_one_content_again_and_again_take_no_memory(tmp_path: Path) -> None:
    dtype = b"cnumpy\ndtype\n(U\x02u1tRq\x01"
    raw = b"B" + struct.pack("<I", 1 << 20) + bytes(1 << 20) + b"q\x00"
    side = b"J" + struct.pack("<i", 1 << 20)
    array = b"cnumpy.core.numeric\n_frombuffer\n(h\x00h\x01" + side + b"\x85U\x01CtR"
    first = array.replace(b"h\x00h\x01", raw + dtype, 1)
    (tmp_path / "x.bin").write_bytes(b"((" + first + array * 1999 + b"l(" + b"\x88" * 1000 + b"lt.")
    with pytest.raises(PairSetError, match="more bytes than the file"):
        read_pairs(tmp_path / "x.bin")


def test_text_that_becomes_bytes_again_and_again_takes_no_memory(tmp_path: Path) -> None:
    text = b"X" + struct.pack("<I", 1 << 20) + b"x" * (1 << 20) + b"q\x00"
    encode = b"c_codecs\nencode\n(h\x00U\x06latin1tR"
    (tmp_path / "x.bin").write_bytes(b"((" + encode.replace(b"h\x00", text, 1) + encode * 1999 + b"l(lt.")
    with pytest.raises(PairSetError, match="makes more bytes than the file has"):
        read_pairs(tmp_path / "x.bin")


def test_a_known_name_in_another_module_means_nothing(tmp_path: Path) -> None:
    for module in ("evil", "numpy.evil", "builtins"):
        (tmp_path / "x.bin").write_bytes(b"c" + module.encode() + b"\ndtype\n(U\x02u1tR.")
        with pytest.raises(PairSetError, match=rf"asks for {module}\.dtype; nothing was imported or run"):
            read_pairs(tmp_path / "x.bin")


def test_one_array_may_stand_in_many_pairs(tmp_path: Path) -> None:
    image = np.arange(200, dtype=np.uint8)
    (tmp_path / "x.bin").write_bytes(pickle.dumps(([image] * 200, [True] * 100), protocol=4))
    images = read_pairs(tmp_path / "x.bin").images
    assert images == (image.tobytes(),) * 200
    assert len({id(one) for one in images}) == 1


def outcome(path: Path, content: bytes) -> PairSet | None:
    """The set, or None where it is refused as it should be; any other error fails the test."""
    path.write_bytes(content)
    try:
        return read_pairs(path)
    except PairSetError:
        return None


@pytest.mark.parametrize("protocol", [0, 2, 4])
def test_a_set_that_is_cut_off_anywhere_is_refused(tmp_path: Path, protocol: int) -> None:
    content = pickle.dumps((IMAGES, [True, np.bool_(False)]), protocol=protocol)
    assert outcome(tmp_path / "x.bin", content) is not None
    for length in range(len(content)):
        assert outcome(tmp_path / "x.bin", content[:length]) is None


def test_random_changes_give_a_valid_set_or_the_named_error(tmp_path: Path) -> None:
    rng = random.Random(5)
    arrays = [np.frombuffer(image, dtype=np.uint8) for image in IMAGES]
    starts = [
        pickle.dumps((images, np.array([True, False])), protocol=protocol)
        for images in (IMAGES, arrays)
        for protocol in (0, 2, 4)
    ]
    modules = set(sys.modules)
    num_refused = 0
    for _ in range(200):
        content = bytearray(rng.choice(starts))
        for _ in range(rng.randrange(1, 4)):
            content[rng.randrange(len(content))] = rng.randrange(256)
        pairs = outcome(tmp_path / "x.bin", bytes(content))
        num_refused += pairs is None
        if pairs is not None:
            assert len(pairs.images) == 2 * pairs.num_pairs > 0
            assert all(type(image) is bytes for image in pairs.images)
    assert num_refused > 50
    assert set(sys.modules) == modules
