"""The reader believes nothing a file says about itself; the writer leaves nothing half done."""

import io
import os
import pathlib
import pickle
import resource
import struct
import zipfile

import ml_dtypes
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lit_tf.checkpoints.npz import open_npz, write_npz
from lit_tf.errors import CheckpointError, nearest

ARRAYS = {
    "img/kernel": np.arange(24, dtype=np.float32).reshape(2, 3, 4),
    "img/half": np.linspace(-1, 1, 5).astype(np.float16),
    "img/brain": np.linspace(-3, 3, 7).astype(ml_dtypes.bfloat16).reshape(1, 7),
    "opt/count": np.array(1234, np.int32),
    "chrono/time": np.array(12.5),
    "empty": np.zeros((0, 3), np.float32),
    "t": np.array([3.5], np.float32),
}


def npy(array=None, *, descr="<f4", fortran=False, shape=(2,), data=b"\0" * 8, version=b"\x01\x00"):
    """Returns the bytes of a .npy member, with any lie in its header."""
    if array is not None:
        buffer = io.BytesIO()
        np.lib.format.write_array(buffer, array)
        return buffer.getvalue()
    text = f"{{'descr': {descr!r}, 'fortran_order': {fortran!r}, 'shape': {shape!r}, }}\n".encode()
    size = struct.pack("<H" if version == b"\x01\x00" else "<I", len(text))
    return b"\x93NUMPY" + version + size + text + data


def archive(path, members, compression=zipfile.ZIP_STORED):
    """Writes a zip of (name, bytes)."""
    with zipfile.ZipFile(path, "w", compression) as f:
        for name, data in members:
            f.writestr(name, data)
    return path


def read_all(path):
    with open_npz(path) as f:
        return {k: f.read(k) for k in f.keys()}


def refusal(path, *words):
    """Asserts that reading `path` is refused in one line with all `words`; returns the message."""
    with pytest.raises(CheckpointError) as e:
        read_all(path)
    message = str(e.value)
    assert "\n" not in message
    for word in (str(path), *words):
        assert word in message, message
    return message


def assert_same(found, expected):
    assert list(found) == list(expected)
    for key, array in expected.items():
        assert found[key].dtype == array.dtype, key
        assert found[key].shape == array.shape, key
        assert found[key].tobytes() == array.tobytes(), key


def test_what_is_written_is_read_back_bit_for_bit_in_order(tmp_path):
    write_npz(tmp_path / "a.npz", ARRAYS.items())
    assert_same(read_all(tmp_path / "a.npz"), ARRAYS)


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_files_from_numpy_are_read(tmp_path, save):
    save(tmp_path / "a.npz", **ARRAYS)
    assert_same(read_all(tmp_path / "a.npz"), ARRAYS)


def test_shapes_and_dtypes_are_known_without_reading(tmp_path):
    write_npz(tmp_path / "a.npz", ARRAYS)
    with open_npz(tmp_path / "a.npz") as f:
        assert f.keys() == list(ARRAYS)
        for key, array in ARRAYS.items():
            assert (f.shape(key), f.dtype(key)) == (array.shape, array.dtype)


def test_numpy_reads_what_is_written_and_equal_arrays_give_equal_bytes(tmp_path):
    write_npz(tmp_path / "a.npz", ARRAYS.items())
    write_npz(tmp_path / "b.npz", iter(ARRAYS.items()))
    assert (tmp_path / "a.npz").read_bytes() == (tmp_path / "b.npz").read_bytes()
    with np.load(tmp_path / "a.npz", allow_pickle=False) as f:
        np.testing.assert_array_equal(f["img/kernel"], ARRAYS["img/kernel"])
        assert f["img/brain"].dtype == np.dtype("V2")


def test_big_endian_and_fortran_arrays_come_back_native(tmp_path):
    plain = np.arange(6, dtype=np.float32).reshape(2, 3)
    archive(
        tmp_path / "a.npz",
        [("big.npy", npy(plain.astype(">f4"))), ("fortran.npy", npy(np.asfortranarray(plain)))],
    )
    for array in read_all(tmp_path / "a.npz").values():
        assert array.dtype.isnative
        np.testing.assert_array_equal(array, plain)


def test_no_such_file(tmp_path):
    refusal(tmp_path / "none.npz", "No such file")


@pytest.mark.parametrize("kind", ["pipe", "endless"])
def test_what_is_no_file_is_refused_without_being_read(tmp_path, kind):
    path = tmp_path / "pipe" if kind == "pipe" else pathlib.Path("/dev/zero")
    if kind == "pipe":
        os.mkfifo(path)
    refusal(path, "a device or a pipe")


def test_a_file_of_kerass_is_named(tmp_path):
    with zipfile.ZipFile(tmp_path / "x.keras", "w") as archive:
        archive.writestr("metadata.json", "{}")
    refusal(tmp_path / "x.keras", "keras.saving.load_model reads")


def test_a_folder(tmp_path):
    refusal(tmp_path, "folder")


@pytest.mark.parametrize(
    ("content", "word"),
    [
        (b"", "empty file"),
        (b"[CLS]\n[SEP]\nthe\n", "starts with"),
        (pickle.dumps({"t": 1}), "pickle"),
        (npy(np.zeros(3)), "single .npy"),
        (b"<html>404</html>", "HTML"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "LFS"),
        (b"PK\x03\x04" + b"\0" * 100, "damaged or truncated"),
        (b"PK\x05\x06" + b"\0" * 18, "empty archive"),
    ],
)
def test_other_files_are_named_for_what_they_are(tmp_path, content, word):
    (tmp_path / "a.npz").write_bytes(content)
    refusal(tmp_path / "a.npz", word)


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9, 0.999])
def test_truncated_files(tmp_path, share):
    write_npz(tmp_path / "a.npz", ARRAYS)
    content = (tmp_path / "a.npz").read_bytes()
    (tmp_path / "a.npz").write_bytes(content[: int(len(content) * share)])
    refusal(tmp_path / "a.npz", "truncated")


def test_pickled_objects_are_refused_and_never_run(tmp_path):
    ran = tmp_path / "ran"

    class Bomb:
        def __reduce__(self):
            return open, (str(ran), "w")

    np.savez(tmp_path / "a.npz", t=np.array([Bomb()], dtype=object))
    refusal(tmp_path / "a.npz", "'t'", "pickled object")
    assert not ran.exists()


@pytest.mark.parametrize(
    "array",
    [
        np.array(["a", "b"]),
        np.array([b"a"]),
        np.zeros(2, np.complex64),
        np.zeros(2, "M8[s]"),
        np.zeros(2, [("a", "<f4"), ("b", "<i4")]),
        np.zeros(2, "V4"),
        np.zeros(2, "V1"),
    ],
    ids=lambda a: str(a.dtype),
)
def test_what_is_not_a_number_is_refused(tmp_path, array):
    archive(tmp_path / "a.npz", [("x/y.npy", npy(array))])
    refusal(tmp_path / "a.npz", "'x/y'", "dtype")


@pytest.mark.parametrize(
    ("member", "word"),
    [
        (npy(shape=(10**6, 10**6, 10**6)), "takes 4,000,000,000,000,000,000 bytes"),
        (npy(shape=(2**62, 2**62)), "takes"),
        (npy(shape=(3,)), "takes 12 bytes, the archive holds 8"),
        (npy(shape=(1,)), "takes 4 bytes, the archive holds 8"),
        (npy(shape=(0, 2**62, 2**62), data=b""), "damaged"),
        (npy(shape=(-2,)), "malformed"),
        (npy(shape=(True, 2)), "malformed"),
        (npy(shape=(2.0,)), "malformed"),
        (npy(shape=[2]), "malformed"),
        (npy(shape=(1,) * 40), "takes 4 bytes"),
        (npy(fortran="yes"), "malformed"),
        (npy(descr="<f4,<f4"), "dtype"),
        (npy(descr="nonsense" * 50), "dtype"),
        (npy(descr=("<f4", (2,))), "dtype"),
        (b"\x93NUMPY\x01\x00\x10\x00" + b"(" * 16, "malformed"),
        (b"\x93NUMPY\x01\x00\x00\xff" + b"(" * 0xFF00, "malformed"),
        (b"\x93NUMPY\x02\x00\xff\xff\xff\xff{}", "malformed"),
        (b"\x93NUMPY\x09\x09" + b"\0" * 50, "version (9, 9)"),
        (b"not an array at all", ".npy header"),
        (b"", ".npy header"),
        (b"\x93NUMPY\x01\x00", "malformed"),
    ],
)
@pytest.mark.parametrize("compression", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_headers_that_lie_are_refused_before_anything_is_allocated(
    tmp_path, member, word, compression
):
    archive(tmp_path / "a.npz", [("img/x.npy", member)], compression)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    refusal(tmp_path / "a.npz", "'img/x'", word)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 50_000  # KiB


def test_newer_npy_versions_are_read(tmp_path):
    archive(tmp_path / "a.npz", [("x.npy", npy(version=v)) for v in (b"\x02\x00",)])
    np.testing.assert_array_equal(read_all(tmp_path / "a.npz")["x"], np.zeros(2, np.float32))


def test_a_zip_bomb_is_refused_but_a_small_array_of_zeros_is_not(tmp_path):
    np.savez_compressed(tmp_path / "bomb.npz", x=np.zeros(8 << 20, np.float32))
    with pytest.raises(CheckpointError, match="'x'.*unpack"):
        open_npz(tmp_path / "bomb.npz")  # before a model of that size is made
    np.savez_compressed(tmp_path / "zeros.npz", x=np.zeros(1 << 20, np.float32))
    assert not read_all(tmp_path / "zeros.npz")["x"].any()


def test_overlapping_members_are_refused(tmp_path):
    archive(tmp_path / "a.npz", [("a.npy", npy(np.zeros(1000))), ("b.npy", npy(np.zeros(1000)))])
    content = bytearray((tmp_path / "a.npz").read_bytes())
    directory = content.index(b"PK\x01\x02")
    first = content[directory : content.index(b"PK\x01\x02", directory + 4)]
    end = content.rindex(b"PK\x05\x06")
    copies = b"".join(bytes(first).replace(b"a.npy", b"%c.npy" % c) for c in b"abcdefgh")
    tail = bytearray(content[end:])
    struct.pack_into("<HHII", tail, 8, 8, 8, len(copies), directory)
    (tmp_path / "a.npz").write_bytes(bytes(content[:directory]) + copies + bytes(tail))
    refusal(tmp_path / "a.npz", "claim")


@pytest.mark.parametrize(
    "name", ["../x", "/x", "a//b", "a/../b", "a\\b", "C:x", "", "a/", "a\nb", "x" * 2000]
)
def test_keys_that_are_no_plain_paths_are_refused(tmp_path, name):
    archive(tmp_path / "a.npz", [(name + ".npy", npy())])
    refusal(tmp_path / "a.npz", "not allowed")
    with pytest.raises(CheckpointError, match="not allowed"):
        write_npz(tmp_path / "b.npz", {name: np.zeros(1)})


@pytest.mark.parametrize("name", ["readme.txt", "folder/", "x.npy.bak"])
def test_members_that_are_no_arrays_are_refused(tmp_path, name):
    archive(tmp_path / "a.npz", [("t.npy", npy()), (name, b"")])
    refusal(tmp_path / "a.npz", "not an array")


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_a_key_that_is_there_twice_is_refused(tmp_path):
    archive(tmp_path / "a.npz", [("t.npy", npy()), ("t.npy", npy())])
    refusal(tmp_path / "a.npz", "'t'", "twice")


def test_an_encrypted_member_is_refused(tmp_path):
    archive(tmp_path / "a.npz", [("t.npy", npy())])
    content = bytearray((tmp_path / "a.npz").read_bytes())
    for signature, offset in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        content[content.index(signature) + offset] |= 1
    (tmp_path / "a.npz").write_bytes(content)
    refusal(tmp_path / "a.npz", "'t'", "encrypted")


@pytest.mark.parametrize("compression", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_compression_that_numpy_never_writes_is_refused(tmp_path, compression):
    archive(tmp_path / "a.npz", [("t.npy", npy())], compression)
    refusal(tmp_path / "a.npz", "'t'", "compression")


def test_one_flipped_bit_of_data_is_noticed(tmp_path):
    write_npz(tmp_path / "a.npz", ARRAYS)
    content = bytearray((tmp_path / "a.npz").read_bytes())
    content[content.index(ARRAYS["img/kernel"].tobytes()) + 17] ^= 1
    (tmp_path / "a.npz").write_bytes(content)
    refusal(tmp_path / "a.npz", "'img/kernel'", "CRC")


def test_a_missing_key_names_its_neighbours(tmp_path):
    write_npz(tmp_path / "a.npz", ARRAYS)
    with open_npz(tmp_path / "a.npz") as f, pytest.raises(CheckpointError, match="'img/kernel'"):
        f.read("img/kernels")
    assert nearest("img/kernels", ARRAYS).startswith("; did you mean 'img/kernel'")
    assert nearest("zzzz", ARRAYS) == ""


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path):
    path = tmp_path / "a.npz"
    write_npz(path, {"t": np.ones(1)})
    before = path.read_bytes()

    def arrays():
        yield "a", np.zeros(100)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_npz(path, arrays())
    for bad, word in (
        ([("a", np.zeros(1)), ("a", np.zeros(1))], "twice"),
        ([("a", np.array([None]))], "dtype object"),
        ([("a", np.array(["x"]))], "dtype"),
        ([], "no arrays"),
    ):
        with pytest.raises(CheckpointError, match=word):
            write_npz(path, bad)
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["a.npz"]


def test_a_folder_that_cannot_be_written_is_named(tmp_path):
    with pytest.raises(CheckpointError, match="nowhere.*cannot be written"):
        write_npz(tmp_path / "nowhere" / "a.npz", ARRAYS)


def test_arrays_are_asked_for_one_at_a_time_and_read_without_a_second_copy(tmp_path):
    """60 MB in ten arrays: neither writing nor reading may hold more than a few of them."""
    import tracemalloc

    size, count = 1_500_000, 10
    tracemalloc.start()
    write_npz(tmp_path / "a.npz", ((f"x{i}", np.full(size, i, np.float32)) for i in range(count)))
    assert tracemalloc.get_traced_memory()[1] < 3 * 4 * size
    tracemalloc.reset_peak()
    with open_npz(tmp_path / "a.npz") as f:
        for i in range(count):
            assert f.read(f"x{i}")[-1] == i
    assert tracemalloc.get_traced_memory()[1] < 2.6 * 4 * size
    tracemalloc.stop()


@pytest.fixture(scope="module")
def valid(tmp_path_factory):
    """A folder to write in, and the bytes of a stored and of a deflated archive."""
    folder = tmp_path_factory.mktemp("fuzz")
    np.savez(folder / "a.npz", **ARRAYS)
    np.savez_compressed(folder / "b.npz", **ARRAYS)
    return folder, [(folder / name).read_bytes() for name in ("a.npz", "b.npz")]


def survives(path):
    """Reads what can be read; only CheckpointError may come of it, and no large array."""
    try:
        with open_npz(path) as f:
            for key in f.keys():
                try:
                    assert f.read(key).nbytes < 1 << 20
                except CheckpointError:
                    pass
    except CheckpointError as e:
        assert str(path) in str(e)


@settings(max_examples=600, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(data=st.data())
def test_no_mutation_of_a_file_raises_anything_else(valid, data):
    folder, contents = valid
    content = bytearray(data.draw(st.sampled_from(contents)))
    # Half of the edits go to the zip directory at the end, which mutations would seldom hit.
    directory = content.index(b"PK\x01\x02")
    for _ in range(data.draw(st.integers(1, 4))):
        low = data.draw(st.sampled_from([0, directory]))
        at = data.draw(st.integers(low, len(content) - 1))
        new = data.draw(
            st.binary(max_size=8) | st.sampled_from([b"\xff" * 4, b"\0" * 4, b"\xff" * 8])
        )
        drop = data.draw(st.sampled_from([0, len(new), len(new), len(new) + 3]))
        content[at : at + drop] = new
    (folder / "mutated.npz").write_bytes(content)
    survives(folder / "mutated.npz")


@settings(max_examples=100, deadline=None)
@given(content=st.binary(max_size=200), prefix=st.sampled_from([b"", b"PK\x03\x04", b"PK\x05\x06"]))
def test_no_random_bytes_raise_anything_else(valid, content, prefix):
    path = valid[0] / "random.npz"
    path.write_bytes(prefix + content)
    survives(path)


@settings(max_examples=200, deadline=None)
@given(
    text=st.text(max_size=60)
    | st.builds(
        "{{'descr': {!r}, 'fortran_order': {!r}, 'shape': {!r}}}".format,
        st.sampled_from(["<f4", "|V2", ">i8", "|O", "f", ""]) | st.text(max_size=5),
        st.booleans() | st.none(),
        st.lists(st.integers(-2, 2**65), max_size=3).map(tuple),
    )
)
def test_no_header_raises_anything_else(valid, text):
    encoded = text.encode()
    member = b"\x93NUMPY\x01\x00" + struct.pack("<H", len(encoded)) + encoded + b"\0" * 8
    survives(archive(valid[0] / "header.npz", [("x.npy", member)]))
