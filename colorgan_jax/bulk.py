"""Many photos, in order and in bounded memory.

Threads read and write some photos while the network sees others. What a photo is, where
it comes from and where it goes is up to the caller: paths, frames of a film, records.
"""

import dataclasses
import os
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, Generic, TypeVar

import numpy as np

from colorgan_jax.errors import OutputError, PhotoError
from colorgan_jax.hints import Hints
from colorgan_jax.inference import (
    paint_photo,
    photo_lightness,
    predict_photos_ab,
    what_the_network_sees,
)
from colorgan_jax.params import Params, image_size
from colorgan_jax.photos import Photo, count_pixels, read_photo
from colorgan_jax.references import Reference

# So many photos go through the network together: on a CPU that takes a fifth less time
# than one by one, and more of them gain nothing.
BATCH_PHOTOS = 4
# Larger photos go alone, so that one is written while the next is read.
PIXELS_IN_BATCH = 12_000_000
# Bounds the memory, at about 20 bytes a pixel: two photos of 24 megapixels, or one that
# is still larger.
_PIXELS_IN_FLIGHT = 50_000_000
# What a photo counts at least, so that small ones are not read long before their turn.
_LEAST_PIXELS = 1_000_000

# What stands for a photo: the caller's, such as its path.
Item = TypeVar("Item")
Value = TypeVar("Value")


def read_ahead(
    photos: Iterable[Item],
    read: Callable[[Item], Value],
    *,
    count_pixels: Callable[[Item], int] = count_pixels,
) -> Generator[tuple[Item, Value | PhotoError], None, None]:
    """Reads photos in threads, some ahead of the one that is asked for.

    Close the iterator (`contextlib.closing`) where it may not be exhausted: the threads
    then stop at once.

    Args:
      photos: what `read` takes; drawn from as there is room.
      read: called in threads, once for each photo.
      count_pixels: of a photo, before it is read. About 50 million pixels are in memory
        at a time, or one photo that is larger. A `PhotoError` of it is ignored, since
        `read` will tell.

    Yields:
      Each photo, in order, and what `read` returned, or the `PhotoError` that it raised.

    Raises:
      Exception: whatever else `read` raises; nothing more is read then.
    """
    groups = _group(photos, count_pixels, 1)
    yield from _in_order(groups, read, lambda group, threads: None)


def colorize_photos(
    params: Params,
    photos: Iterable[Item],
    *,
    read: Callable[[Item], Photo] = read_photo,
    write: Callable[[Item, Photo], Value],
    count_pixels: Callable[[Item], int] = count_pixels,
    hints: Callable[[Item], Hints | None] = lambda photo: None,
    refine: Callable[[Item, np.ndarray, np.ndarray], np.ndarray] | None = None,
    reference: Reference | None = None,
    saturation: float = 1.0,
) -> Generator[tuple[Item, Value | PhotoError], None, None]:
    """Colorizes photos as `inference.colorize_photo` does, many at a time.

    Close the iterator (`contextlib.closing`) where it may not be exhausted: what is
    being written is then finished, and nothing more is begun.

    Args:
      params: parameters of a generator, from `load_params` or `fold_batch_norm`.
      photos: what `read` and `write` take; drawn from as there is room.
      read: called in threads.
      write: called in threads with what stands for the photo, and with it in color.
      count_pixels: as for `read_ahead`; a photo is in memory until it is written.
      hints: of a photo, as for `inference.colorize_photo`.
      refine: called in order, in the thread that draws from the result, with what stands
        for the photo, what the network sees of it (`Gray.seen`) and the colors that it
        predicts; returns those to use, at the same size.
      reference: of all photos, as for `inference.colorize`.
      saturation: as for `inference.colorize`.

    Yields:
      Each photo, in order, and what `write` returned, or the `PhotoError` that `read` or
      `write` raised.

    Raises:
      ParamsError: if `params` are not a generator's.
      ValueError: if the saturation is negative or no finite number.
      OutputError: raised by `write`: what keeps one result from being written keeps all.
      Exception: whatever else `read` or `write` raises; nothing more is begun then.
    """
    size = image_size(params)

    def colorize(group: "_Group[Item]", threads: ThreadPoolExecutor) -> None:
        readable = {
            place: (photo, future.result())
            for place, (photo, future) in enumerate(
                zip(group.photos, group.futures, strict=True)
            )
            if not isinstance(future.exception(), PhotoError)
        }
        seen = [(gray.seen, hints(photo)) for photo, gray in readable.values()]
        colors = predict_colors(
            params, seen, reference=reference, saturation=saturation
        )
        for (place, (photo, gray)), ab in zip(readable.items(), colors, strict=True):
            if refine is not None:
                ab = refine(photo, gray.seen, ab)
            group.futures[place] = threads.submit(finish, photo, gray, ab)

    def finish(photo: Item, gray: Gray, ab: np.ndarray) -> Value:
        return write(photo, gray.paint(ab))

    yield from _in_order(
        _group(photos, count_pixels, BATCH_PHOTOS),
        lambda photo: Gray.of(read(photo), size),
        colorize,
    )


@dataclasses.dataclass
class Gray:
    """A photo before it is colorized.

    Attributes:
      photo: all but its pixels, whose colors nobody needs any more.
      L: its lightness.
      seen: what the network sees of it.
    """

    photo: Photo
    L: np.ndarray
    seen: np.ndarray

    @classmethod
    def of(cls, photo: Photo, size: int) -> "Gray":
        """Takes the lightness of a photo, for a network that sees `size` pixels."""
        L = photo_lightness(photo.pixels)
        seen = what_the_network_sees(L, photo.alpha, size)
        black = np.broadcast_to(photo.pixels.dtype.type(0), L.shape)  # takes no memory
        return cls(dataclasses.replace(photo, pixels=black), L, seen)

    def paint(self, ab: np.ndarray) -> Photo:
        """The photo in the colors that the network predicts, of any resolution."""
        pixels = paint_photo(self.L, ab, dtype=self.photo.pixels.dtype)
        return dataclasses.replace(self.photo, pixels=pixels)


def predict_colors(
    params: Params,
    photos: Sequence[tuple[np.ndarray, Hints | None]],
    *,
    reference: Reference | None = None,
    saturation: float = 1.0,
) -> list[np.ndarray]:
    """Ab of each photo, whatever their number, by two compiled programs.

    Args:
      params: parameters of a generator.
      photos: what the network sees of each (`Gray.seen`), and its hints.
      reference: as for `inference.colorize`.
      saturation: as for `inference.colorize`.

    Returns:
      ab of each, scaled to [-1, 1], at the size of the network.

    Raises:
      ParamsError: if `params` are not a generator's.
    """
    if len(photos) == BATCH_PHOTOS and all(hints is None for _, hints in photos):
        batch = np.stack([seen for seen, _ in photos])
        return [
            *predict_photos_ab(
                params, batch, reference=reference, saturation=saturation
            )
        ]
    # One by one otherwise, so that no other batch size is ever compiled.
    return [
        predict_photos_ab(
            params,
            seen[None],
            hints=None if hints is None else [hints],
            reference=reference,
            saturation=saturation,
        )[0]
        for seen, hints in photos
    ]


@dataclasses.dataclass
class _Group(Generic[Item]):
    """Photos on their way together.

    Attributes:
      photos: what stands for each.
      pixels: that they count for, all together.
      futures: of each photo, the call that was begun last; none before it is read.
    """

    photos: list[Item]
    pixels: int
    futures: list[Future[Any]] = dataclasses.field(default_factory=list)


def _group(
    photos: Iterable[Item], count_pixels: Callable[[Item], int], largest: int
) -> Iterator[_Group[Item]]:
    """Groups photos, in order, small ones by `largest`."""
    group: _Group[Item] = _Group([], 0)
    for photo in photos:
        try:
            pixels = max(count_pixels(photo), _LEAST_PIXELS)
        except PhotoError:
            pixels = _LEAST_PIXELS
        if group.photos and (
            len(group.photos) == largest or group.pixels + pixels > PIXELS_IN_BATCH
        ):
            yield group
            group = _Group([], 0)
        group.photos.append(photo)
        group.pixels += pixels
    if group.photos:
        yield group


def _in_order(
    groups: Iterator[_Group[Item]],
    read: Callable[[Item], Any],
    go_on: Callable[[_Group[Item], ThreadPoolExecutor], None],
) -> Generator[tuple[Item, Any], None, None]:
    """Reads groups in threads as far as there is room, and goes on with each in turn.

    Args:
      groups: the photos, drawn from as there is room.
      read: called in threads.
      go_on: called in this thread, group by group; may replace a photo's future by that
        of a further call.

    Yields:
      Each photo, in order, and the result of its last future, or its `PhotoError`.
    """
    upcoming = next(groups, None)
    reading: deque[_Group[Item]] = deque()
    ending: deque[_Group[Item]] = deque()

    def has_room_for(more: _Group[Item]) -> bool:
        pixels = sum(group.pixels for group in (*reading, *ending))
        return pixels == 0 or pixels + more.pixels <= _PIXELS_IN_FLIGHT

    threads = ThreadPoolExecutor(os.cpu_count())
    try:
        while True:
            while upcoming and has_room_for(upcoming):
                upcoming.futures = [
                    threads.submit(read, photo) for photo in upcoming.photos
                ]
                reading.append(upcoming)
                upcoming = next(groups, None)
            # The oldest is waited for only where nothing else can go on.
            if ending and (
                not reading or all(future.done() for future in ending[0].futures)
            ):
                group = ending.popleft()
                for photo, future in zip(group.photos, group.futures, strict=True):
                    yield photo, _outcome(future)
            elif reading:
                group = reading.popleft()
                go_on(group, threads)
                ending.append(group)
            else:
                return
    finally:
        # After Ctrl-C and errors, too: what is being written is finished, no more.
        threads.shutdown(cancel_futures=True)


def _outcome(future: Future[Any]) -> Any:
    """What a call returned, or the `PhotoError` that concerns its photo alone."""
    error = future.exception()
    if isinstance(error, PhotoError) and not isinstance(error, OutputError):
        return error
    return future.result()
