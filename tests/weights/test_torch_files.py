"""Files of torch.save are read exactly, and damaged or hostile ones end in a sentence."""

import os
import pickle
import struct
import time
import tracemalloc
import zipfile
from pathlib import Path

import numpy as np
import pytest
from torch_writer import dictionary, plain, save, tensor, write_archive

from colorgan_jax.errors import ParamsError
from colorgan_jax.weights.torch_files import open_torch_file

GOLDEN = Path(__file__).parents[1] / "golden"
NUMBERS = np.arange(4, dtype="<f4").tobytes()


def read(path):
    with open_torch_file(path) as file:
        return {name: np.array(file.read(name)) for name in file.shapes}


def look(path):
    with open_torch_file(path) as file:
        return file.shapes


def refusal(path):
    """The sentence in which a file is refused, at once and without much memory."""
    tracemalloc.start()
    start = time.monotonic()
    with pytest.raises(ParamsError) as caught:
        look(path)
    assert time.monotonic() - start < 10
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 2**28
    sentence = str(caught.value)
    assert sentence.startswith(str(path)) and sentence.endswith((".", "FILE)."))
    assert sentence.isprintable()
    return sentence


@pytest.fixture(scope="module")
def golden():
    return read(GOLDEN / "latest_net_G.pth")


def test_the_two_formats_hold_the_same(golden):
    legacy = read(GOLDEN / "legacy_net_G.pth")
    assert list(legacy) == [f"module.{name}" for name in golden]
    for name, array in golden.items():
        np.testing.assert_array_equal(legacy[f"module.{name}"], array)
    counts = {name for name in golden if name.endswith("num_batches_tracked")}
    assert {golden[name].dtype.name for name in counts} == {"int64"}
    assert {golden[name].dtype.name for name in golden.keys() - counts} == {"float32"}


def test_a_tensor_is_a_view_of_its_storage(tmp_path):
    description = dictionary(
        {
            "turned": tensor(strides=(1, 2)),
            "second": tensor(key="1", offset=1, shape=(3,), strides=(1,)),
            "scalar": tensor(key="2", offset=3, shape=(), strides=()),
        }
    )
    arrays = read(write_archive(tmp_path / "a.pth", description, [NUMBERS] * 3))
    np.testing.assert_array_equal(arrays["turned"], [[0, 2], [1, 3]])
    np.testing.assert_array_equal(arrays["second"], [1, 2, 3])
    np.testing.assert_array_equal(arrays["scalar"], 3)


def test_half_precisions_and_doubles(tmp_path):
    ones = {
        "HalfStorage": b"\x00\x3c",
        "BFloat16Storage": b"\x80\x3f",
        "FloatStorage": struct.pack("<f", 1),
        "DoubleStorage": struct.pack("<d", 1),
        "LongStorage": struct.pack("<q", 1),
    }
    description = {
        kind: tensor(key=str(key), length=1, shape=(1,), strides=(1,), kind=kind)
        for key, kind in enumerate(ones)
    }
    path = write_archive(tmp_path / "a.pth", dictionary(description), ones.values())
    for kind, array in read(path).items():
        assert array.astype(float) == [1], kind


def test_pytorch_reads_what_these_tests_write(tmp_path):
    torch = pytest.importorskip("torch")
    array = np.random.default_rng(0).normal(size=(2, 3)).astype(np.float32)
    path = save(tmp_path / "a.pth", {"a": array, "b": np.array(3)})
    loaded = torch.load(path, weights_only=True)
    np.testing.assert_array_equal(loaded["a"].numpy(), array)
    assert loaded["b"].item() == 3


@pytest.mark.parametrize("name", ["latest_net_G.pth", "legacy_net_G.pth"])
def test_no_part_of_a_file_is_taken_for_the_whole(tmp_path, name):
    content = (GOLDEN / name).read_bytes()
    path = tmp_path / name
    for length in [0, 1, 4, 20, *np.linspace(30, len(content) - 1, 60).astype(int)]:
        path.write_bytes(content[:length])
        with pytest.raises(ParamsError):
            look(path)


def test_a_changed_bit_changes_no_value(tmp_path, golden):
    """Of the archives, which have checksums; bits of dates and the like do not matter."""
    content = (GOLDEN / "latest_net_G.pth").read_bytes()
    path = tmp_path / "a.pth"
    random = np.random.default_rng(0)
    refused = 0
    for position in random.integers(len(content), size=200):
        changed = bytearray(content)
        changed[position] ^= 1 << random.integers(8)
        path.write_bytes(changed)
        try:
            arrays = read(path)
        except ParamsError:
            refused += 1
            continue
        assert list(arrays) == list(golden)
        for name, array in arrays.items():
            np.testing.assert_array_equal(array, golden[name])
    assert 20 < refused < 200


def test_a_changed_description_is_refused_or_followed(tmp_path):
    """Where no checksum tells: nothing but a sentence may come of it."""
    content = (GOLDEN / "legacy_net_G.pth").read_bytes()
    end = content.index(b"\x80\x02]")  # The list of storages, after all tensors.
    path = tmp_path / "a.pth"
    random = np.random.default_rng(0)
    refused = 0
    for position in random.integers(end + 1000, size=300):
        changed = bytearray(content)
        changed[position] = random.integers(256)
        path.write_bytes(changed)
        try:
            read(path)
        except ParamsError as error:
            assert str(error).isprintable()
            refused += 1
    assert 100 < refused < 300


class Harm:
    def __init__(self, canary):
        self.canary = canary

    def __reduce__(self):
        return os.system, (f"touch {self.canary}",)


@pytest.mark.parametrize("is_legacy", [False, True])
@pytest.mark.parametrize("protocol", [0, 2, 4])
def test_nothing_of_a_file_is_run(tmp_path, is_legacy, protocol):
    canary = tmp_path / "canary"
    harm = pickle.dumps({"a": Harm(canary)}, protocol)
    path = tmp_path / "a.pth"
    if is_legacy:
        content = (GOLDEN / "legacy_net_G.pth").read_bytes()
        description = content.index(b"ccollections")
        path.write_bytes(content[: description - 2] + harm)
    else:
        write_archive(path, harm[:-1])
    refusal(path)
    assert not canary.exists()
    assert pickle.loads(harm) and canary.exists()  # It would have been run.


def test_a_python_object_is_named(tmp_path):
    path = write_archive(tmp_path / "a.pth", b"cmodels.networks\nUnetGenerator\n)\x81")
    assert "models.networks.UnetGenerator" in refusal(path)
    assert "net.state_dict()" in refusal(path)


@pytest.mark.parametrize(
    "lie",
    [
        {"offset": 1},
        {"offset": -1},
        {"offset": 2**80, "shape": (1,), "strides": (1,)},
        {"strides": (3, 1)},
        {"strides": (-2, 1), "offset": 2},
        {"strides": (2**62, 2**62)},
        {"strides": (2,)},
        {"shape": (2**30,), "strides": (0,)},
        {"shape": (2**70, 2**70), "strides": (0, 0)},
        {"shape": (0, 2**70), "strides": (1, 1)},
        {"shape": (0, 2)},
        {"shape": (-1, -1)},
        {"shape": (1,) * 20000, "strides": (0,) * 20000},
        {"shape": (2.0, 2.0)},
        {"shape": [2, 2]},
        {"length": 5},
        {"length": 3},
        {"length": -4},
        {"length": 2**62, "shape": (2**62,), "strides": (1,)},
        {"length": 4.0},
        {"key": "1"},
        {"key": "../../etc/passwd"},
        {"key": 0},
        {"kind": "DoubleStorage"},
    ],
    ids=str,
)
def test_no_tensor_leaves_its_storage(tmp_path, lie):
    def file(**options):
        description = dictionary({"a": tensor(**options)})
        return write_archive(tmp_path / "a.pth", description, [NUMBERS])

    assert read(file())["a"].tolist() == [[0, 1], [2, 3]]
    assert "damaged" in refusal(file(**lie))


def nested(depth):
    """A tuple of the one before, twice, and so on: to hash it takes 2**depth steps."""
    return b")" + b"q\x00h\x00\x86" * depth


COLLIDING = b"".join(plain(number * (2**61 - 1)) + b"N" for number in range(70_000))
HOSTILE = {
    "a key that takes forever": b"}" + nested(30) + b"Ns",
    "a type that takes forever": dictionary({"a": tensor()}).replace(
        b"ctorch\nFloatStorage\n", nested(30)
    ),
    "keys of one hash": b"}(" + COLLIDING + b"u",
    "a large number of a kept value": b"Nr\xff\xff\xff\xff",
    "a string that is not there": b"}X\xff\xff\xff\x7f",
    "a number that is not there": b"\x8b\xff\xff\xff\x7f",
    "bytes to make room for": b"\x96" + struct.pack("<Q", 2**40),
    "many dictionaries": b"ccollections\nOrderedDict\nq\x00" + b"h\x00)R" * 100_000,
    "deep lists": b"]" * 2**19 + b"a" * (2**19 - 1),
    "marks alone": b"(" * 2**19,
    "nothing to pop": b"\x87",
    "nothing to keep": b"q\x00",
    "nothing kept": b"h\x05",
    "items of no dictionary": b"K\x01K\x02K\x03s",
    "an odd number of items": b"}(K\x01u",
    "a call of no function": plain("collections OrderedDict") + b"K\x01R",
    "a call with arguments": b"ccollections\nOrderedDict\n(K\x01tR",
    "a call of a type": b"ctorch\nFloatStorage\n)R",
    "a tensor of nothing": b"ctorch._utils\n_rebuild_tensor_v2\n)R",
    "an attribute": dictionary({"a": tensor() + b"}" + plain("read") + b"Nsb"})[:-1],
    "a reference to nothing": b"NQ",
    "a name twice": dictionary({"a": tensor()}) + plain("a") + tensor() + b"s",
    "a storage in two ways": dictionary({"a": tensor(), "b": tensor(length=3)}),
    "a name with control characters": dictionary({"\x1b[31m\n\ud800": b"N"}),
    "a long name": dictionary({"a" * 10_000: b"N"}),
    "an object with control characters": b"c\x1b[31m\ros\nsystem\n",
    "no dictionary": b"N",
    "more than a state dict": dictionary({"epoch": b"K\x03", "net": b"}"}),
}


@pytest.mark.parametrize("kind", HOSTILE)
def test_hostile_descriptions_are_refused_at_once(tmp_path, kind):
    refusal(write_archive(tmp_path / "a.pth", HOSTILE[kind], [NUMBERS]))


def test_a_long_description_is_not_read(tmp_path):
    name = "a" * 2**20
    path = write_archive(tmp_path / "a.pth", dictionary({name: b"N"}))
    assert "damaged" in refusal(path)
    path = write_archive(tmp_path / "a.pth", dictionary({name[:1000]: b"N"}))
    assert "is not a tensor" in refusal(path)


def test_more_tensors_than_the_file_has_room_for(tmp_path):
    length = 2**16
    views = {
        name: tensor(length=length, shape=(length,), strides=(1,)) for name in "abcdef"
    }
    path = write_archive(tmp_path / "a.pth", dictionary(views), [bytes(4 * length)])
    assert "damaged" in refusal(path)


def test_compressed_archives_are_refused_before_they_are_read(tmp_path):
    path = tmp_path / "a.pth"
    deflated = zipfile.ZIP_DEFLATED
    write_archive(path, dictionary({"a": tensor()}), [NUMBERS], compression=deflated)
    assert "damaged" in refusal(path)
    length = 2**25
    description = tensor(length=length, shape=(length,), strides=(1,))
    with zipfile.ZipFile(path, "w", deflated, compresslevel=1) as archive:
        stored = (
            b"\x80\x02" + dictionary({"a": description}) + b".",
            zipfile.ZIP_STORED,
        )
        archive.writestr("archive/data.pkl", *stored)
        archive.writestr("archive/data/0", bytes(4 * length))
    assert path.stat().st_size < 2**20
    assert "damaged" in refusal(path)


def test_a_compressed_storage_is_not_read(tmp_path):
    path = tmp_path / "a.pth"
    length = 100
    description = tensor(length=length, shape=(length,), strides=(1,))
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        content = b"\x80\x02" + dictionary({"a": description}) + b"."
        archive.writestr("archive/data.pkl", content)
        archive.writestr("archive/data/0", bytes(4 * length), zipfile.ZIP_DEFLATED)
    with pytest.raises(ParamsError, match="damaged"):
        read(path)


def test_a_size_that_an_archive_has_not(tmp_path):
    path = write_archive(tmp_path / "a.pth", dictionary({"a": tensor()}), [NUMBERS])
    content = bytearray(path.read_bytes())
    # The last of the archive's list: signature, 16 bytes, checksum, sizes.
    entry = content.rindex(b"PK\1\2")
    for place in (entry + 20, entry + 24):
        assert content[place : place + 4] == struct.pack("<I", 16)
        content[place : place + 4] = struct.pack("<I", 2**31)
    path.write_bytes(content)
    assert "damaged" in refusal(path)


def test_a_long_list_of_files(tmp_path):
    path = tmp_path / "a.pth"
    with zipfile.ZipFile(path, "w") as archive:
        for number in range(65):
            archive.writestr(f"{number}" + "a" * 65_000, b"")
    assert "damaged" in refusal(path)


def test_two_files_of_one_name(tmp_path):
    path = write_archive(tmp_path / "a.pth", dictionary({"a": tensor()}), [NUMBERS])
    with (
        zipfile.ZipFile(path, "a") as archive,
        pytest.warns(UserWarning, match="Duplicate"),
    ):
        archive.writestr("archive/data/0", NUMBERS)
    assert "damaged" in refusal(path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "does not exist"),
        (b"", "not a file of torch.save"),
        (b"Once upon a time\n" * 100, "not a file of torch.save"),
        (pickle.dumps({"a": 1}), "not a file of torch.save"),
    ],
    ids=["missing", "empty", "text", "pickle"],
)
def test_no_file_of_pytorch(tmp_path, content, message):
    path = tmp_path / "a.pth"
    if content is not None:
        path.write_bytes(content)
    assert message in refusal(path)


def test_a_folder(tmp_path):
    assert "is not a file" in refusal(tmp_path)


def test_another_archive(tmp_path):
    np.savez(tmp_path / "a.npz", a=np.zeros(3))
    assert "not one of torch.save" in refusal(tmp_path / "a.npz")


def test_big_endian_files_are_refused(tmp_path):
    path = tmp_path / "a.pth"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/byteorder", "big")
        archive.writestr("archive/data.pkl", "")
    assert "big-endian" in refusal(path)
    content = (GOLDEN / "legacy_net_G.pth").read_bytes()
    is_little = content.index(b"\x88", content.index(b"little_endian"))
    path.write_bytes(content[:is_little] + b"\x89" + content[is_little + 1 :])
    assert "big-endian" in refusal(path)
