"""Where the photos of a run come from: folders, TFDS data sets, scikit-image."""

import contextlib
import dataclasses
import functools
import os
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from absl import logging

from colorgan_jax.errors import DataError, PhotoError
from colorgan_jax.paths import AnyPath, in_bucket, read_file, user_path
from colorgan_jax.photos import find_photos, read_rgb

# The color photos that the wheel of scikit-image carries, but for motorcycle_right,
# which shows what motorcycle_left shows.
SKIMAGE_PHOTOS = (
    "astronaut.png",
    "chelsea.png",
    "coffee.png",
    "hubble_deep_field.jpg",
    "ihc.png",
    "motorcycle_left.png",
    "retina.jpg",
    "rocket.jpg",
)

SOURCE_FLAG = "--config.data.source"
VALIDATION_FLAG = "--config.data.validation_source"


@dataclasses.dataclass(frozen=True)
class Source:
    """Photos by index.

    Attributes:
      names: what to call each photo in messages; fit to be printed anywhere.
      keys: what tells a photo apart for the life of a run: in a folder its path below
        that, wherever the folder lies.
      read: returns photo i as uint8 RGB [height, width, 3], or raises `PhotoError`.
      origin: returns what tells photo i from those of any other source: of a file its
        path with all links followed, or its name in a bucket.
      held_out: indices of the photos that the source itself keeps for validation;
        empty where the split is ours to draw.
    """

    names: Sequence[str]
    keys: Sequence[str]
    read: Callable[[int], np.ndarray]
    origin: Callable[[int], str]
    held_out: Sequence[int] = ()


def source_names(value: str | Sequence[str]) -> list[str]:
    """What the config calls `data.source`, as a list: a string is one name.

    Raises:
      DataError: if there is none.
    """
    names = [value] if isinstance(value, str) else list(value)
    if not names:
        raise DataError(
            f"{SOURCE_FLAG} is empty: it must name a source of photos at least."
        )
    return names


def open_source(name: str, image_size: int, *, flag: str = SOURCE_FLAG) -> Source:
    """Opens one of what the config calls `data.source`.

    Args:
      name: "coco_sample" (fastai's COCO sample, the report's data), "tfds:NAME" (any
        TFDS image data set, its split "train"), "skimage" (the photos that
        scikit-image ships) or a folder, of this machine or in a bucket, with all photos
        below it.
      image_size: height and width that is needed: large JPEG photos are decoded at a
        fraction of their size, but not below this.
      flag: where the name was given, for messages.

    Raises:
      DataError: if there are no such photos, or they cannot be downloaded.
      MissingPackageError: a bucket needs the packages of the extra `gcs`.
    """
    choices = f"Set {flag} to a folder of photos, coco_sample, tfds:NAME or skimage"
    if flag == SOURCE_FLAG:
        choices += "; for several, give the flag once for each."
    else:
        choices += ", or to a list of photos, NAME.txt."
    if not name.strip():
        raise DataError(
            f"{flag} is empty, as an unset variable of the shell leaves it. {choices}"
        )
    if name == "skimage":
        return _skimage_source()
    if _is_data_set(name):
        return _tfds_source(name, image_size)
    try:
        paths = find_photos(name)
    except PhotoError as error:
        raise DataError(f"{error} {choices}") from error
    names = [printable(path) for path in paths]
    folder = user_path(name).expanduser()
    return Source(
        names=names,
        keys=[path.relative_to(folder).as_posix() for path in paths],
        read=lambda index: read_rgb(
            paths[index], names[index], minimum_size=image_size
        ),
        origin=lambda index: _origin(paths[index]),
    )


def join_sources(
    names: Sequence[str], sources: Sequence[Source]
) -> tuple[Source, list[np.ndarray]]:
    """Makes one source of several, in which each photo is once.

    The keys of a single source stay its own. Of several they begin with the name of the
    folder, or with as much of the end of its path as tells it from the others.

    Args:
      names: what `open_source` took; a name may be there twice.
      sources: what it returned.

    Returns:
      The source, and for each of `sources` the indices of its photos there.

    Raises:
      DataError: if one of several has no photos.
    """
    places = [_place(name) for name in names]
    if len(set(places)) == 1:
        return sources[0], [np.arange(len(sources[0].names)) for _ in sources]
    labels = _labels(set(places))
    positions: dict[str, int] = {}  # By origin.
    photos, keys, held_out, parts = [], [], [], []
    for name, place, source in zip(names, places, sources, strict=True):
        if not source.names:
            raise DataError(f"{name} holds no photos: leave it out, or fill it.")
        origins = [source.origin(index) for index in range(len(source.names))]
        before = len(photos)
        for index, origin in enumerate(origins):
            if origin not in positions:
                positions[origin] = len(photos)
                if index in source.held_out:
                    held_out.append(len(photos))
                photos.append((source, index))
                keys.append(f"{labels[place]}/{source.keys[index]}")
        repeated = before + len(origins) - len(photos)
        if repeated and place not in places[: len(parts)]:
            logging.info(
                "%d photos of %s are the same files as others, and are taken once.",
                repeated,
                name,
            )
        parts.append(np.array([positions[origin] for origin in origins]))
    return (
        Source(
            names=[source.names[index] for source, index in photos],
            keys=keys,
            read=lambda position: photos[position][0].read(photos[position][1]),
            origin=list(positions).__getitem__,
            held_out=held_out,
        ),
        parts,
    )


def find_listed(file: str, source: Source) -> list[int]:
    """The indices of photos that a text file lists, one key of `source` a line.

    Raises:
      DataError: if the file cannot be read, or a photo is not there.
    """
    try:
        content = read_file(user_path(file).expanduser())
    except OSError as error:
        raise DataError(
            f"{VALIDATION_FLAG}: the list {file} cannot be read: {error.strerror}."
        ) from error
    keys = [line for line in os.fsdecode(content).splitlines() if line.strip()]
    if not keys:
        raise DataError(f"{VALIDATION_FLAG}: the list {file} names no photos.")
    indices = {key: index for index, key in enumerate(source.keys)}
    if missing := [key for key in keys if key not in indices]:
        example = f", such as {printable(source.keys[0])}" if source.keys else ""
        raise DataError(
            f"{VALIDATION_FLAG}: of the {len(keys)} photos that {file} lists"
            f" {len(missing)} are not in {SOURCE_FLAG} (such as {printable(missing[0])}):"
            f" a line is a photo's name as photos.json of a run has it{example}."
        )
    return [indices[key] for key in keys]


def _is_data_set(name: str) -> bool:
    """Whether this is what `open_source` takes other than a folder."""
    return name in ("skimage", "coco_sample") or name.startswith("tfds:")


def _origin(path: AnyPath) -> str:
    """What tells a file from all others, whatever it is called."""
    return os.fspath(path) if in_bucket(path) else os.path.realpath(path)


def _place(name: str) -> tuple[str, ...]:
    """What tells a source from others: the parts of a folder's whole path."""
    if _is_data_set(name):
        return (name,)
    if in_bucket(name):
        return tuple(name.rstrip("/").split("/"))
    return Path(os.path.abspath(os.path.expanduser(name))).parts


def _labels(places: set[tuple[str, ...]]) -> dict[tuple[str, ...], str]:
    """The shortest ends of paths, of equally many parts, that are all different."""
    length = 1
    while True:
        labels = {place: "/".join(place[-length:]) for place in places}
        if len(set(labels.values())) == len(places):
            return labels
        length += 1


def printable(path: str | os.PathLike) -> str:
    """A path as text that can be written anywhere: bytes that are no text are escaped."""
    return os.fsencode(path).decode(errors="backslashreplace")


def hide_accelerators() -> None:
    """Keeps TensorFlow, which serves only tf.data, off the accelerators: they are JAX's.

    Where the program has already used them with TensorFlow, they stay as they are.
    """
    import tensorflow as tf  # Not at the top: a folder is opened without it.

    for kind in ("GPU", "TPU"):
        with contextlib.suppress(RuntimeError):
            tf.config.set_visible_devices([], kind)


def _skimage_source() -> Source:
    """Squares cut from scikit-image's color photos.

    Each photo is three squares high. Its rightmost column of squares is held out; the
    rest gives training squares half a square apart.
    """
    import skimage  # Not at the top: the other sources do without it.

    folder = Path(skimage.__file__).parent / "data"
    names, squares, held_out = [], [], []
    for file in SKIMAGE_PHOTOS:
        photo = read_rgb(folder / file)
        side = photo.shape[0] // 3
        border = (photo.shape[1] // side - 1) * side
        for left in [*range(0, border - side + 1, side // 2), border]:
            for top in range(0, 2 * side + 1, side if left == border else side // 2):
                if left == border:
                    held_out.append(len(squares))
                names.append(f"{file}, row {top}, column {left}")
                squares.append(photo[top : top + side, left : left + side])
    return Source(
        names=names,
        keys=names,
        read=squares.__getitem__,
        origin=names.__getitem__,
        held_out=held_out,
    )


def _tfds_source(name: str, image_size: int) -> Source:
    """The split "train" of a TFDS data set, downloaded and prepared if need be."""
    # Imported here, since the other sources do without the seconds that it takes.
    import tensorflow_datasets as tfds

    hide_accelerators()
    if name == "coco_sample":
        from colorgan_jax.training import coco_sample

        builder = coco_sample.Builder()
    else:
        try:
            builder = tfds.builder(name.removeprefix("tfds:"))
        except (tfds.core.DatasetNotFoundError, ValueError) as error:
            raise DataError(
                f"TFDS has no data set {name.removeprefix('tfds:')};"
                " https://www.tensorflow.org/datasets/catalog lists all."
            ) from error
    features = builder.info.features
    images = [
        feature
        for feature in features
        if isinstance(features[feature], tfds.features.Image)
    ]
    if not images:
        raise DataError(f"{name} is no data set of images.")
    image = images[0]
    try:
        builder.download_and_prepare()
    # The last where TFDS asks for files that it may not download itself.
    except (tfds.download.DownloadError, OSError, AssertionError) as error:
        raise DataError(
            f"{name} cannot be downloaded ({str(error).rstrip('.')}). Set"
            " --config.data.source to a folder of photos, tfds:NAME or skimage."
        ) from error
    if "train" not in builder.info.splits:
        raise DataError(f"{name} has no split train.")

    skip_decoding = {image: tfds.decode.SkipDecoding()}
    if builder.info.file_format is tfds.core.FileFormat.TFRECORD:
        records = _tfrecords(builder.info.splits["train"].file_instructions)
        only_image = tfds.features.FeaturesDict({image: features[image]})

        def encoded(index: int) -> bytes:
            return only_image.deserialize_example_np(
                records[index](), decoders=skip_decoding
            )[image]

    else:
        records = builder.as_data_source("train", decoders=skip_decoding)

        def encoded(index: int) -> bytes:
            return records[index][image]

    names = [f"photo {index} of {name}" for index in range(len(records))]
    return Source(
        names=names,
        keys=names,
        read=lambda index: read_rgb(
            encoded(index), names[index], minimum_size=image_size
        ),
        origin=names.__getitem__,
    )


def _tfrecords(shards: Sequence) -> list[Callable[[], bytes]]:
    """For each record of some TFRecord files, in order, a function that reads it.

    TFDS itself reads such files from the beginning only. A record is its length (8
    bytes), a checksum (4), the payload, and a checksum (4).
    """

    def read(file: str | os.PathLike, start: int, length: int) -> bytes:
        with open(file, "rb") as stream:
            stream.seek(start)
            return stream.read(length)

    records = []
    for shard in shards:
        in_shard = []
        with open(shard.filename, "rb") as stream:
            while header := stream.read(12):
                length = int.from_bytes(header[:8], "little")
                start = stream.tell()
                in_shard.append(functools.partial(read, shard.filename, start, length))
                stream.seek(start + length + 4)
        records += in_shard[shard.skip :][: shard.take if shard.take > 0 else None]
    return records
