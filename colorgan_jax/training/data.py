"""Photos in, batches of Lab on the devices out.

A source (see sources.py) offers photos by index; several folders are one source. When a
run starts they are read once, in a seeded random order, until enough usable ones are
found. Those are split into training and validation photos, or the validation photos come
from where the config says, and kept in memory as uint8 where they fit. A run that
resumes has the same photos, whatever has come into the source since (see split.py).

Batch k of a run is a pure function of (seed, k): the order, the crops and the flips of
a row of an epoch's batches come from a generator seeded with (seed, epoch, row). Resuming
at batch k therefore needs no saved iterator and decodes nothing of what came before. Of
several hosts each reads the photos of its own rows (see hosts.py).

tf.data reads, crops, resizes and batches in parallel with training. It sees uint8 RGB
only, a quarter of the bytes of Lab; flip and conversion to Lab happen on the devices.
"""

import dataclasses
import functools
import math
import os
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TypeVar

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np
import tensorflow as tf
from absl import logging
from jax.sharding import NamedSharding
from tqdm import tqdm

from colorgan_jax.errors import DataError, PhotoError
from colorgan_jax.lab import rgb_to_lab, to_network
from colorgan_jax.photos import NEARLY_GRAY, is_nearly_gray, resize_photo
from colorgan_jax.training.hosts import (
    gather,
    positions_in_rows,
    rows_of_this_host,
)
from colorgan_jax.training.sources import (
    VALIDATION_FLAG,
    Source,
    find_listed,
    hide_accelerators,
    join_sources,
    open_source,
    source_names,
)
from colorgan_jax.training.split import Split

# What a function returns for one integer: arrays, and bytes for a string.
Example = TypeVar("Example", bound=tuple[np.ndarray | bytes, ...])


@dataclasses.dataclass(frozen=True)
class Photos:
    """Usable photos of a source, at one size.

    Attributes:
      source: where they come from.
      indices: their indices in the source.
      image_size: height and width to which they are resized: what the networks see, or
        more where training takes crops of them.
      pixels: of those that are kept in memory, by their indices: uint8 RGB
        [image_size, image_size, 3]. The others are read whenever they are needed.
    """

    source: Source
    indices: np.ndarray
    image_size: int
    pixels: Mapping[int, np.ndarray]

    def __len__(self) -> int:
        return len(self.indices)

    def part(self, positions: slice) -> "Photos":
        """Those at `positions`."""
        return dataclasses.replace(self, indices=self.indices[positions])

    def cut(self, count: int) -> tuple["Photos", "Photos"]:
        """The first `count` of them, and the others."""
        return self.part(slice(count)), self.part(slice(count, None))

    def at_size(self, image_size: int) -> "Photos":
        """The same photos at another size, of which none is kept in memory."""
        if image_size == self.image_size:
            return self
        return dataclasses.replace(self, image_size=image_size, pixels={})

    def load(self, positions: np.ndarray) -> np.ndarray:
        """Returns the photos at `positions` in `indices`, uint8 RGB [n, S, S, 3]."""
        size = self.image_size
        photos = np.empty((len(positions), size, size, 3), np.uint8)
        for photo, index in zip(photos, self.indices[positions].tolist(), strict=True):
            if index in self.pixels:
                photo[:] = self.pixels[index]
            else:
                photo[:] = _read_resized(self.source, index, size)
        return photos


def load_photos(
    config: ml_collections.ConfigDict, split: Split | None = None
) -> tuple[Photos, Photos]:
    """Finds, checks and splits the photos of a run, or reads those that it began with.

    A new run takes photos in a random order drawn from the seed. Those that cannot be
    read and those that are nearly gray are left out, counted and named in the log. Of
    several hosts all must call it: each looks at its share of the photos, and keeps
    those of its rows of the batches in memory.

    Args:
      config: of the run. Reads `seed`, `image_size`, `batch_size` and of `data`: `source`
        (one name or several), `train_photos` and `validation_photos` (how many to use;
        where there are fewer, all are used in the same proportion, but up to a sixth is
        for validation if so many are asked for; `train_photos` None or 0 means all that
        are not for validation), `validation_source` (where it is
        set, the photos for validation are those that a run on this source alone would
        draw, or those of a list, and are not trained on), `smallest_crop` (side of the
        smallest crop to train on, as a share of the photo's), `minimum_color` (see
        `photos.color_strength`; None means `photos.NEARLY_GRAY`), `memory_gigabytes`
        (how much of the decoded photos to keep in memory, on each host).
      split: of the run that resumes; its photos are taken, and all of them.

    Returns:
      The training photos, so large that their smallest crop is of `image_size`, and the
      validation photos, of `image_size`.

    Raises:
      DataError: if there are fewer usable photos than a batch of training photos and
        one validation photo, if photos of the split are missing or damaged, or if a list
        names photos that are not there.
    """
    names = source_names(config.data.source)
    sources = [open_source(name, config.image_size) for name in names]
    validation_source = config.data.validation_source
    has_list = validation_source is not None and validation_source.endswith(".txt")
    if validation_source is not None and not has_list:
        names.append(validation_source)
        sources.append(
            open_source(validation_source, config.image_size, flag=VALIDATION_FLAG)
        )
    source, parts = join_sources(names, sources)
    places = ", ".join(dict.fromkeys(names))
    logging.info("Reading photos from %s.", places)
    if split is not None:
        training, held_out = split.find(source, places)
        size = _size_to_read(config)
        train = Photos(source, np.array(training, int), size, {})
        validation = Photos(source, np.array(held_out, int), size, {})
    elif validation_source is None:
        train, validation = _draw(source, config)
    elif has_list:
        listed = np.array(find_listed(validation_source, source), int)
        train, validation = _draw_around(listed, len(listed), parts, source, config)
    else:
        order = _random_order(sources[-1], config)
        if sources[-1].held_out:
            order = order[np.isin(order, sources[-1].held_out)]
        wanted = config.data.validation_photos
        train, validation = _draw_around(
            parts[-1][order], wanted, parts[:-1], source, config
        )
    logging.info(
        "%d training photos, %d validation photos.", len(train), len(validation)
    )
    if len(train) < config.batch_size or len(validation) == 0:
        raise DataError(
            f"{places} has {len(train)} usable photos for training and"
            f" {len(validation)} for validation, but one batch takes"
            f" {config.batch_size} (--config.batch_size) and validation at least 1."
        )
    return _keep(train, validation.at_size(config.image_size), config)


def _draw(source: Source, config: ml_collections.ConfigDict) -> tuple[Photos, Photos]:
    """Takes the training and validation photos of a new run out of a source."""
    order = _random_order(source, config)
    held_out = np.isin(order, source.held_out)
    wanted_train = config.data.train_photos or len(order)
    wanted_validation = config.data.validation_photos
    if held_out.any():
        validation = _find_usable(source, config, order[held_out], wanted_validation)
        train = _find_usable(source, config, order[~held_out], wanted_train)
        return train, validation
    both = _find_usable(source, config, order, wanted_train + wanted_validation)
    found = len(both)
    if config.data.train_photos:
        if found < wanted_train + wanted_validation:
            logging.warning(
                "The config asks for %d photos to train on and %d to validate on, but there"
                " are %d: they are divided.",
                wanted_train,
                wanted_validation,
                found,
            )
        share = wanted_validation / (wanted_train + wanted_validation)
        count = max(1, round(share * found), min(wanted_validation, found // 6))
    else:
        count = min(wanted_validation, found // 2)
    validation, train = both.cut(count)
    return train, validation


def _draw_around(
    candidates: np.ndarray,
    wanted_validation: int,
    parts: Sequence[np.ndarray],
    source: Source,
    config: ml_collections.ConfigDict,
) -> tuple[Photos, Photos]:
    """Takes the validation photos first, and those to train on out of the others.

    Args:
      candidates: indices of the photos to validate on, in the order in which to try
        them.
      wanted_validation: how many of them to take.
      parts: indices of the photos to train on, which may be among `candidates`.
      source: of all these.
      config: of the run.
    """
    # A photo may be listed twice, and a file be there under two names.
    candidates = np.array(list(dict.fromkeys(candidates.tolist())), int)
    validation = _find_usable(source, config, candidates, wanted_validation)
    for_training = np.setdiff1d(np.concatenate(parts), source.held_out)
    shared = np.isin(for_training, validation.indices)
    if shared.any():
        logging.info(
            "Of the photos of %s, %d are for validation, and left out of training.",
            ", ".join(source_names(config.data.source)),
            shared.sum(),
        )
    order = _random_order(source, config)
    order = order[np.isin(order, for_training[~shared])]
    train = _find_usable(source, config, order, config.data.train_photos or len(order))
    return train, validation


def _random_order(source: Source, config: ml_collections.ConfigDict) -> np.ndarray:
    return np.random.default_rng(config.seed).permutation(len(source.names))


def split_of(train: Photos, validation: Photos) -> Split:
    """What a run keeps of the photos that it was given, to find them again."""
    keys = train.source.keys
    return Split(
        training=[keys[int(index)] for index in train.indices],
        validation=[keys[int(index)] for index in validation.indices],
        unused=len(keys) - len(train) - len(validation),
    )


def mean_ab(photos: Photos, batch_size: int) -> tuple[float, float]:
    """Mean CIE a and b of photos: the color of all that looks at none of them.

    A baseline (see evaluate.py), hence an estimate: of at most 1,000 photos, every
    fourth pixel of every fourth row. Of several hosts all must call it.
    """
    count = min(1000, len(photos))
    rows = rows_of_this_host(batch_size)
    positions = positions_in_rows(count, batch_size, rows)
    total = np.zeros(3)
    for part in np.array_split(positions, math.ceil(len(positions) / 50) or 1):
        if len(part):
            lab = _lab(photos.load(part)[:, ::4, ::4])
            total += len(part) * np.mean(lab, axis=(0, 1, 2))
    _, a, b = np.sum(gather(total.tolist()), axis=0) / count
    return float(a), float(b)


@jax.jit
def _lab(rgb: jax.Array) -> jax.Array:
    return rgb_to_lab(rgb / 255.0)


def steps_per_epoch(photos: Photos, batch_size: int) -> int:
    """Number of whole batches in an epoch; the rest of a shuffle is left out."""
    return len(photos) // batch_size


def training_batches(
    photos: Photos,
    *,
    image_size: int,
    batch_size: int,
    seed: int,
    first_step: int,
    last_step: int,
    sharding: NamedSharding,
) -> Iterator[dict[str, jax.Array]]:
    """Streams shuffled batches onto the devices, randomly cropped and flipped.

    Args:
      photos: the training photos. Where they are larger than `image_size`, a batch has
        square crops of them, of any size from that to the whole photo, resized.
      image_size: height and width of the batches' images.
      batch_size: of the global batch, over all hosts and devices.
      seed: of order, crops and flips.
      first_step: the step whose batch comes first; the batches of a resumed run are
        those that the run would have had.
      last_step: the step before which the stream ends.
      sharding: how to lay the leading dimension over the devices.

    Yields:
      {"L": [B, S, S, 1], "ab": [B, S, S, 2]}, float32 in [-1, 1], on the devices.
    """
    batches = training_batches_on_host(
        photos,
        image_size=image_size,
        batch_size=batch_size,
        seed=seed,
        first_step=first_step,
        last_step=last_step,
    )
    return _on_devices(batches, sharding, _training_batch)


def training_batches_on_host(
    photos: Photos,
    *,
    image_size: int,
    batch_size: int,
    seed: int,
    first_step: int,
    last_step: int,
    rows: slice | None = None,
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Streams what `training_batches`, of these arguments, puts onto a host's devices.

    Args:
      photos: as there.
      image_size: as there.
      batch_size: as there.
      seed: as there.
      first_step: as there.
      last_step: as there.
      rows: of the global batch; None means those of this host.

    Yields:
      Photos, uint8 RGB [R, S, S, 3], not flipped; and which of them to flip, booleans
      [R], for R rows.
    """
    host_rows = rows_of_this_host(batch_size) if rows is None else rows

    def batch_of_step(step: int) -> tuple[np.ndarray, np.ndarray]:
        positions, flips, crops = random_choices(
            len(photos), batch_size=batch_size, rows=host_rows, seed=seed, step=step
        )
        pixels = photos.load(positions)
        if photos.image_size > image_size:
            pixels = np.stack(
                [
                    random_crop(photo, image_size, crop)
                    for photo, crop in zip(pixels, crops, strict=True)
                ]
            )
        return pixels, flips

    return _parallel(batch_of_step, range(first_step, last_step), tf.uint8, tf.bool)


def validation_batches(
    photos: Photos, *, batch_size: int, sharding: NamedSharding
) -> Iterator[dict[str, jax.Array]]:
    """Streams every photo exactly once, in order and unflipped.

    The last batch is filled up with black, whose "mask" is 0.

    Yields:
      {"L": [B, S, S, 1], "ab": [B, S, S, 2], "mask": [B]}, float32 but for the mask.
    """
    rows = rows_of_this_host(batch_size)

    def batch_of_step(step: int) -> tuple[np.ndarray, np.ndarray]:
        positions = step * batch_size + np.arange(rows.start, rows.stop)
        mask = positions < len(photos)
        size = photos.image_size
        pixels = np.zeros((len(positions), size, size, 3), np.uint8)
        pixels[mask] = photos.load(positions[mask])
        return pixels, mask

    steps = range(math.ceil(len(photos) / batch_size))
    batches = _parallel(batch_of_step, steps, tf.uint8, tf.bool)
    return _on_devices(batches, sharding, _validation_batch)


def random_choices(
    count: int, *, batch_size: int, seed: int, step: int, rows: slice | None = None
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Which photos make up the batch of a step, how each is flipped and cropped.

    Row r has each photo i for which i modulo the batch size is r once an epoch, but where
    the batch size does not divide the number of photos: there one of some rows is left
    out, each epoch another.

    Args:
      count: number of training photos.
      batch_size: of the global batch.
      seed: of the run.
      step: counted from 0 over all epochs.
      rows: of the batch; None means all.

    Returns:
      For R rows: positions [R], integers in [0, count); flips [R], booleans of which
      half are true; crops [R, 3], uniform in [0, 1): what `random_crop` takes.
    """
    rows = rows or slice(0, batch_size)
    epoch, batch = divmod(step, count // batch_size)
    positions, flips, crops = _epoch(
        count, batch_size, seed, epoch, rows.start, rows.stop
    )
    return positions[:, batch], flips[:, batch], crops[:, batch]


@functools.lru_cache(maxsize=2)
def _epoch(
    count: int, batch_size: int, seed: int, epoch: int, first_row: int, last_row: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """What `random_choices` returns for each of an epoch's steps, [R, steps, ...]."""
    steps = count // batch_size
    positions, flips, crops = [], [], []
    for row in range(first_row, last_row):
        generator = np.random.default_rng([seed, epoch, row])
        positions.append(
            generator.permutation(np.arange(row, count, batch_size))[:steps]
        )
        flips.append(generator.random(steps) < 0.5)
        crops.append(generator.random((steps, 3)))
    return np.array(positions), np.array(flips), np.array(crops)


def random_crop(photo: np.ndarray, image_size: int, crop: np.ndarray) -> np.ndarray:
    """A square of a photo, resized to `image_size`.

    Args:
      photo: uint8 [P, P, 3], P at least `image_size`.
      image_size: side of the smallest square, and of the result.
      crop: [3] in [0, 1): where between the smallest and the largest square its side
        is, where between top and bottom it lies, and where between left and right.

    Returns:
      uint8 [image_size, image_size, 3].
    """
    more = len(photo) - image_size
    side = image_size + int(crop[0] * (more + 1))
    top, left = (int(place * (len(photo) - side + 1)) for place in crop[1:])
    square = photo[top : top + side, left : left + side]
    return resize_photo(square, image_size, image_size)


def _read_resized(source: Source, index: int, image_size: int) -> np.ndarray:
    return resize_photo(source.read(index), image_size, image_size)


def _size_to_read(config: ml_collections.ConfigDict) -> int:
    """Height and width of training photos whose smallest crop is what the networks see."""
    return round(config.image_size / config.data.smallest_crop)


def _fits_into_memory(
    sizes: Sequence[tuple[int, int]], config: ml_collections.ConfigDict
) -> bool:
    """Whether so many photos of such a height and width may be kept in memory."""
    needed = sum(count * size * size * 3 for count, size in sizes)
    return needed <= config.data.memory_gigabytes * 1e9


def _find_usable(
    source: Source, config: ml_collections.ConfigDict, order: np.ndarray, wanted: int
) -> Photos:
    """Looks at photos in `order` until `wanted` usable ones are found.

    Several hosts share the work, and do not keep what they have read: most of it belongs
    to the rows of other hosts.
    """
    minimum_color = config.data.minimum_color
    if minimum_color is None:
        minimum_color = NEARLY_GRAY
    size = _size_to_read(config)
    wanted = min(wanted, len(order))
    keeps = jax.process_count() == 1 and _fits_into_memory([(wanted, size)], config)
    gray = "nearly gray"

    def look(index: int) -> tuple[np.ndarray, bytes]:
        """The photo, and what is wrong with it: nothing, `gray` or a sentence."""
        try:
            photo = _read_resized(source, index, size)
        except PhotoError as error:
            problem = str(error).encode(errors="backslashreplace")
            return np.zeros((size, size, 3), np.uint8), problem
        return photo, gray.encode() if is_nearly_gray(photo, minimum_color) else b""

    indices: list[int] = []
    pixels: dict[int, np.ndarray] = {}
    problems: dict[int, str] = {}
    hosts = jax.process_count()
    progress = _progress(wanted // hosts)
    begin = 0
    while len(indices) < wanted and begin < len(order):
        candidates = order[begin : begin + wanted - len(indices)].tolist()
        begin += len(candidates)
        share = candidates[jax.process_index() :: hosts]
        found = []
        looked_at = _parallel(look, share, tf.uint8, tf.string)
        for index, (photo, problem) in zip(share, looked_at, strict=True):
            found.append(problem.decode())
            if not problem:
                progress.update()
                if keeps:
                    pixels[index] = photo
        found_by_all = gather(found)
        for position, index in enumerate(candidates):
            problem = found_by_all[position % hosts][position // hosts]
            if problem:
                problems[index] = problem
            else:
                indices.append(index)
    progress.close()
    unreadable = [problem for problem in problems.values() if problem != gray]
    for problem in unreadable:
        logging.warning("Left out: %s", problem)
    for index, problem in problems.items():
        if problem == gray:
            logging.info("Left out, nearly gray: %s", source.names[index])
    if problems:
        logging.warning(
            "Left out %d photos that cannot be read and %d that are nearly gray.",
            len(unreadable),
            len(problems) - len(unreadable),
        )
    return Photos(source, np.array(indices, int), size, pixels)


def _keep(
    train: Photos, validation: Photos, config: ml_collections.ConfigDict
) -> tuple[Photos, Photos]:
    """Reads the photos of this host's rows into memory, where they fit.

    Raises:
      DataError: if one of them cannot be read, on whichever host.
    """
    rows = rows_of_this_host(config.batch_size)
    own = [
        (
            photos,
            photos.indices[positions_in_rows(len(photos), config.batch_size, rows)],
        )
        for photos in (train, validation)
    ]
    sizes = [(len(indices), photos.image_size) for photos, indices in own]
    if not _fits_into_memory(sizes, config):
        return train, validation
    kept, errors = [], []
    for photos, indices in own:
        pixels = {
            index: photos.pixels[index]
            for index in indices.tolist()
            if index in photos.pixels
        }
        missing = [index for index in indices.tolist() if index not in pixels]
        try:
            pixels |= _read_all(photos, missing)
        except PhotoError as error:
            errors.append(str(error))
        kept.append(dataclasses.replace(photos, pixels=pixels))
    if errors := sum(gather(errors), []):
        raise DataError(
            f"{errors[0]} It is a photo of this run: put it back as it was, or start anew"
            " in another --workdir."
        )
    return kept[0], kept[1]


def _read_all(photos: Photos, indices: Sequence[int]) -> dict[int, np.ndarray]:
    """Reads photos, given by their indices in the source.

    Raises:
      PhotoError: if one of them cannot be read.
    """

    def read(index: int) -> tuple[np.ndarray]:
        return (_read_resized(photos.source, index, photos.image_size),)

    progress = _progress(len(indices))
    pixels = {}
    for index, (photo,) in zip(
        indices, _parallel(read, indices, tf.uint8), strict=True
    ):
        pixels[index] = photo
        progress.update()
    progress.close()
    return pixels


def _progress(total: int) -> tqdm:
    disable = None if jax.process_index() == 0 else True  # None: where no terminal is.
    return tqdm(total=total, desc="Reading photos", unit="photo", disable=disable)


def _parallel(
    function: Callable[[int], Example],
    arguments: Sequence[int] | np.ndarray,
    *dtypes: tf.DType,
) -> Iterator[Example]:
    """Maps a Python function over integers: in parallel, ahead of time, in order.

    Raises:
      PhotoError: if the function does.
    """
    hide_accelerators()
    errors: list[PhotoError] = []

    def noting_errors(argument: np.int64) -> Example:
        try:
            return function(int(argument))
        except PhotoError as error:  # tf.data would bury it in an error of its own.
            errors.append(error)
            raise

    # Without autotuning: its thread can sleep on for up to a minute when the stream is
    # over, and the stream's end waits for it (seen with TensorFlow 2.21).
    options = tf.data.Options()
    options.autotune.enabled = False
    # Decoding, resizing and copying release the interpreter lock, so that the threads
    # of tf.data do run side by side. `map` itself works ahead by as many calls.
    dataset = (
        tf.data.Dataset.from_tensor_slices(np.asarray(arguments, np.int64))
        .map(
            lambda argument: tf.numpy_function(noting_errors, [argument], dtypes),
            num_parallel_calls=os.cpu_count(),
            deterministic=True,
        )
        .with_options(options)
    )
    try:
        # Declared to yield arrays, which it does where a data set holds no tuples.
        yield from dataset.as_numpy_iterator()  # pyright: ignore[reportReturnType]
    except tf.errors.OpError as error:
        if not errors:
            raise
        raise errors[0] from error


def _on_devices(
    batches: Iterator[tuple[np.ndarray, ...]],
    sharding: NamedSharding,
    convert: Callable[..., dict[str, jax.Array]],
) -> Iterator[dict[str, jax.Array]]:
    """Puts batches onto the devices and converts them there, two batches ahead."""
    ahead: deque[dict[str, jax.Array]] = deque()
    try:
        for batch in batches:
            arrays = (
                jax.make_array_from_process_local_data(sharding, x) for x in batch
            )
            ahead.append(convert(*arrays))
            if len(ahead) > 2:
                yield ahead.popleft()
    except PhotoError as error:
        raise DataError(
            f"A photo could be read when the run started, but no longer: {error}"
        ) from error
    yield from ahead


@jax.jit
def _training_batch(rgb: jax.Array, flip: jax.Array) -> dict[str, jax.Array]:
    rgb = jnp.where(flip[:, None, None, None], rgb[:, :, ::-1], rgb)
    L, ab = to_network(_lab(rgb))
    return {"L": L, "ab": ab}


@jax.jit
def _validation_batch(rgb: jax.Array, mask: jax.Array) -> dict[str, jax.Array]:
    L, ab = to_network(_lab(rgb))
    return {"L": L, "ab": ab, "mask": mask}
