"""Color for photos with a trained generator. Layouts and ranges are those of `lab`.

The network sees a photo's lightness, averaged over areas to its own size; the colors that
it predicts are brought to the photo's size (`upsampling`) and joined with its lightness.
`colorize` does that in one program of JAX, `colorize_photo` on the host, bit by bit.
"""

import dataclasses
import functools
import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import cv2
import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike
from jaxtyping import Array, Float, Shaped

from colorgan_jax.compilation import kept_jit, memory_saving_options
from colorgan_jax.hints import (
    Hints,
    expected_error,
    spread_hints,
    suggest_hints,
)
from colorgan_jax.lab import (
    AB_SCALE,
    L_SCALE,
    decode_levels,
    lab_to_levels,
    lab_to_rgb,
    levels_to_lightness,
    limit_chroma,
)
from colorgan_jax.params import Params, image_size
from colorgan_jax.photos import Photo, check_pixels, resize_photo
from colorgan_jax.references import Look, Reference, spread_reference
from colorgan_jax.upsampling import resize, upsample, upsample_parts

if TYPE_CHECKING:
    from colorgan_jax.networks.generator import Generator

# On the host, the color maths of a large photo is done on this many pixels at a time: it
# bounds the memory, and one compiled function serves photos of all sizes.
_CHUNK_PIXELS = 2**17
# The same for pixels outside the gamut, of which there are few.
_OUTSIDE_PIXELS = 2**14


def predict_ab(
    params: Params, L: Float[Array | np.ndarray, "B S S 1"]
) -> Float[Array, "B S S 2"]:
    """The generator's forward pass in inference mode, with folded parameters.

    Args:
      params: folded parameters of a generator for SxS pixels.
      L: [B, S, S, 1], scaled to [-1, 1] as by `lab.to_network`.

    Returns:
      ab [B, S, S, 2], scaled to [-1, 1].

    Raises:
      ParamsError: if `params` are not a generator's.
      ValueError: if L has another shape.
    """
    generator = _generator(params)
    size = generator.image_size
    if L.ndim != 4 or L.shape[1:] != (size, size, 1):
        raise ValueError(
            f"predict_ab takes L of shape [B, {size}, {size}, 1], not {L.shape}."
        )
    ab = generator.apply({"params": params}, L, train=False)
    return ab  # pyright: ignore[reportReturnType] (a tuple for mutable collections only)


def _generator(params: Params) -> "Generator":
    """The folded generator that has these parameters."""
    # Not with the module: where the program is kept, nobody needs Flax, which it brings.
    from colorgan_jax.networks.generator import Generator

    return Generator.from_params(params)


def _predict_corrected_ab(
    params: Params,
    L: Float[Array | np.ndarray, "B S S"],
    saturation: ArrayLike,
    hints: Hints | None,
    reference: Reference | None,
) -> Float[Array, "B S S 2"]:
    """The network's ab in [-1, 1] times the saturation, corrected by what is known.

    That is the reference of all photos, and then the hints of each. L is CIE lightness in
    [0, 100].
    """
    if hints is None and reference is None:
        return jnp.multiply(saturation, predict_ab(params, L[..., None] / L_SCALE - 1))
    look = look_at(params, L, saturation)
    if reference is not None:
        known = resize(
            jnp.concatenate([reference.L[..., None], reference.ab], axis=-1),
            *L.shape[1:],
        )
        theirs = look_at(params, known[None, ..., 0], saturation)
        theirs = jax.tree.map(lambda array: array[0], theirs)
        # One after the other: each takes 256 numbers a pixel.
        ab = jax.lax.map(
            lambda photo: spread_reference(known[..., 1:], theirs, photo), look
        )
        look = look._replace(ab=ab)
    if hints is not None:
        spread = jax.vmap(lambda hints, look: spread_hints(hints, *look)[0])
        look = look._replace(ab=spread(hints, look))
    return jnp.asarray(look.ab)


def look_at(
    params: Params, L: Float[Array | np.ndarray, "B S S"], saturation: ArrayLike = 1.0
) -> Look:
    """What the network makes of photos, its ab times the saturation."""
    generator = _generator(params)

    def apply(method: str, x: Any) -> Any:
        return generator.apply({"params": params}, x, train=False, method=method)

    features = apply("encode", L[..., None] / L_SCALE - 1)
    return Look(L, jnp.multiply(saturation, apply("decode", features)), features)


@jax.jit
def colorize(
    params: Params,
    L: Float[ArrayLike, "*batch H W"],
    *,
    hints: Hints | None = None,
    reference: Reference | None = None,
    saturation: ArrayLike = 1.0,
) -> Float[Array, "*batch H W 3"]:
    """Colorizes images that are given by their CIE lightness.

    Where sRGB cannot show a predicted color at the given lightness, its chroma is
    lowered: the result has the given lightness.

    A `jax.jit` of its own, compiled once for each shape of its arguments: `.lower` and
    `jax.export` take it, and `jit`, `vmap` and `grad` go through it.

    Args:
      params: parameters of a generator, from `load_params` or `fold_batch_norm`.
      L: floats [..., H, W], CIE lightness in [0, 100]; any number of leading
        dimensions, any height and width.
      hints: colors of places in the images, from `make_hints` or `read_hints`, with the
        leading dimensions of L. Further ones compile nothing anew up to a padded number.
      reference: a photo of the same place or subject whose colors are known, from
        `make_reference`; one for all images.
      saturation: factor on the predicted ab, from 0 on: 0 gives gray, more than 1
        stronger colors. Hints' colors stay. Another number compiles nothing anew; the
        default is a program of its own.

    Returns:
      sRGB, float32 [..., H, W, 3] in [0, 1].

    Raises:
      ParamsError: if `params` are not a generator's.
      TypeError: if L is not floating point.
      ValueError: if L has fewer than two dimensions, no pixels, or a last dimension of 1,
        3 or 4 behind two others, which is almost always one of channels; or if the hints
        have other leading dimensions.
    """
    size = image_size(params)
    L, hints = _check_images(L, hints, function="colorize")
    if 0 in L.shape:
        return jnp.zeros((*L.shape, 3), jnp.float32)
    images = L.reshape(-1, *L.shape[-2:])
    seen = resize(images[..., None], size, size)[..., 0]
    ab = _predict_corrected_ab(params, seen, saturation, hints, reference)
    return _join(L, upsample(ab, images).reshape(*L.shape, 2))


@functools.partial(jax.jit, static_argnames="count")
def where_to_ask(
    params: Params,
    L: Float[ArrayLike, "*batch H W"],
    *,
    hints: Hints | None = None,
    count: int = 1,
) -> tuple[Float[Array, "*batch {count} 2"], Float[Array, "*batch S S"]]:
    """Where in images a person's hints would help most, and how sure the colors are.

    A `jax.jit` of its own, like `colorize`.

    Args:
      params: as for `colorize`.
      L: as for `colorize`.
      hints: those that there are already, as for `colorize`.
      count: how many places.

    Returns:
      Positions (y, x), as fractions of the height and the width, the best first; and what
      mean absolute error of a and of b is to be expected with the given hints, in units of
      CIE ab, at the size of the network.

    Raises:
      ParamsError: as `colorize`.
      TypeError: as `colorize`.
      ValueError: as `colorize`.
    """
    size = image_size(params)
    L, hints = _check_images(L, hints, function="where_to_ask")
    batch = L.shape[:-2]
    if 0 in batch:
        return jnp.zeros((*batch, count, 2)), jnp.zeros((*batch, size, size))
    seen = resize(L.reshape(-1, *L.shape[-2:], 1), size, size)[..., 0]

    def ask(hints: Hints | None, look: Look) -> tuple[jax.Array, jax.Array]:
        known = 0.0 if hints is None else spread_hints(hints, *look)[1]
        return suggest_hints(hints, *look, count=count), expected_error(look.L, known)

    positions, error = jax.vmap(ask)(hints, look_at(params, seen))
    return positions.reshape(*batch, count, 2), error.reshape(*batch, size, size)


def _check_images(
    L: ArrayLike, hints: Hints | None, *, function: str
) -> tuple[jax.Array, Hints | None]:
    """Refuses what no L is.

    Returns:
      L in float32, and the hints of all its images with one leading dimension.
    """
    L = jnp.asarray(L)
    if not jnp.issubdtype(L.dtype, jnp.floating):
        raise TypeError(
            f"{function} takes L as floats in [0, 100], not {L.dtype}: CIE lightness, which"
            " colorgan_jax.lab.rgb_to_lab(rgb)[..., 0] gives of sRGB in [0, 1]."
        )
    if L.ndim < 2 or 0 in L.shape[-2:]:
        raise ValueError(
            f"{function} takes L of shape [..., height, width], not {L.shape}."
        )
    if L.ndim > 2 and L.shape[-1] in (1, 3, 4):
        lightness = "L" if L.shape[-1] == 1 else "colorgan_jax.lab.rgb_to_lab(rgb)"
        raise ValueError(
            f"{function} takes L of shape [..., height, width] without a channel axis,"
            f" not {L.shape}: pass {lightness}[..., 0]."
        )
    batch = L.shape[:-2]
    if hints is not None:
        if hints.mask.shape[:-1] != batch:
            raise ValueError(
                f"L has the leading dimensions {batch}, its hints"
                f" {hints.mask.shape[:-1]}: stack those of a batch, as make_hints says."
            )
        count = math.prod(batch)
        hints = Hints(*(x.reshape(count, *x.shape[len(batch) :]) for x in hints))
    return L.astype(jnp.float32), hints


def _join(L: jax.Array, ab: jax.Array) -> jax.Array:
    """SRGB of CIE L [...] and the network's ab [..., 2]."""
    lab = jnp.concatenate([L[..., None], ab * AB_SCALE], axis=-1)
    return lab_to_rgb(limit_chroma(lab))


def colorize_photo(
    params: Params,
    photo: Photo,
    *,
    hints: Hints | None = None,
    reference: Reference | None = None,
    saturation: float = 1.0,
) -> Photo:
    """Colorizes one photo at its full resolution; its own colors are ignored.

    The same as `colorize` to within one level, for photos on the host: nothing is compiled
    anew for another size, and memory stays bounded.

    Args:
      params: parameters of a generator, from `load_params` or `fold_batch_norm`.
      photo: from `read_photo`, or `Photo(pixels)` of an array.
      hints: colors of places in it, from `make_hints` or `read_hints`.
      reference: as for `colorize`.
      saturation: as for `colorize`.

    Returns:
      The photo in color, with its lightness and all else of it, at its own depth.

    Raises:
      ParamsError: if `params` are not a generator's.
      ValueError: if the photo has no pixels, or its pixels are no photo's; or if the
        saturation is negative or no finite number.
    """
    L = photo_lightness(photo.pixels)
    seen = what_the_network_sees(L, photo.alpha, image_size(params))
    (ab,) = predict_photos_ab(
        params,
        seen[None],
        hints=None if hints is None else [hints],
        reference=reference,
        saturation=saturation,
    )
    pixels = paint_photo(L, ab, dtype=photo.pixels.dtype)
    return dataclasses.replace(photo, pixels=pixels)


# The four steps of `colorize_photo`, for programs that colorize many photos: several share
# the third, and the others run in threads.


def photo_lightness(pixels: Shaped[np.ndarray, "H W *C"]) -> Float[np.ndarray, "H W"]:
    """CIE lightness of a photo. Threads may call this side by side.

    Args:
      pixels: uint8 or uint16, [H, W] or [H, W, 3], sRGB over the whole range.

    Returns:
      float32 [H, W] in [0, 100].

    Raises:
      ValueError: if `pixels` are anything else.
    """
    check_pixels(pixels)
    if pixels.ndim == 2:
        return np.take(_gray_lightness(pixels.dtype), pixels)
    linear = decode_levels(np.iinfo(pixels.dtype).max)
    L = np.empty(pixels.shape[:2], np.float32)
    colors, lightness = pixels.reshape(-1, 3), L.reshape(-1)
    for start in range(0, len(colors), _CHUNK_PIXELS):
        chunk = colors[start : start + _CHUNK_PIXELS]
        size = len(chunk)
        if size < _CHUNK_PIXELS:
            chunk = np.pad(chunk, [(0, _CHUNK_PIXELS - size), (0, 0)])
        lightness[start : start + size] = np.asarray(_lightness(chunk, linear))[:size]
    return L


_lightness = jax.jit(levels_to_lightness)


@functools.cache
def _gray_lightness(dtype: np.dtype) -> np.ndarray:
    """CIE lightness of each gray, float32."""
    grays = np.arange(np.iinfo(dtype).max + 1, dtype=dtype)
    return photo_lightness(np.stack([grays] * 3, axis=-1)[None])[0]


def what_the_network_sees(
    L: Float[np.ndarray, "H W"], alpha: Shaped[np.ndarray, "H W"] | None, size: int
) -> Float[np.ndarray, "{size} {size}"]:
    """The lightness of a photo at the size of the network, on white.

    Args:
      L: of the photo, float32 [H, W] in [0, 100].
      alpha: its opacity, uint8 or uint16; None where all is opaque.
      size: height and width that the network sees.
    """
    if alpha is not None:
        opacity = alpha / np.float32(np.iinfo(alpha.dtype).max)
        L = 100 - (100 - L) * opacity
    return resize_photo(L, size, size)


def predict_photos_ab(
    params: Params,
    L: Float[np.ndarray, "B S S"],
    *,
    hints: Sequence[Hints] | None = None,
    reference: Reference | None = None,
    saturation: float = 1.0,
) -> Float[np.ndarray, "B S S 2"]:
    """The colors of photos that are as small as the network sees them.

    Args:
      params: parameters of a generator for SxS pixels.
      L: float32 [B, S, S], CIE lightness in [0, 100]. Compiled once for each B.
      hints: of each, padded to the same number.
      reference: as for `colorize`.
      saturation: as for `colorize`.

    Returns:
      ab, float32 [B, S, S, 2], scaled to [-1, 1].

    Raises:
      ParamsError: if `params` are not a generator's.
      ValueError: if the saturation is negative or no finite number.
    """
    if not 0 <= saturation < math.inf:
        raise ValueError(f"The saturation is a number from 0 on, not {saturation}.")
    # Programs are kept for plain tuples.
    spots = hints and tuple(map(np.stack, zip(*hints, strict=True)))
    known = reference and tuple(reference)
    predict = _photos_predictor()
    return np.asarray(predict(params, L, np.float32(saturation), spots, known))


@functools.cache
def _photos_predictor() -> Callable[..., jax.Array]:
    def predict(
        params: Params,
        L: jax.Array,
        saturation: jax.Array,
        spots: tuple[jax.Array, ...] | None,
        known: tuple[jax.Array, ...] | None,
    ) -> jax.Array:
        hints = None if spots is None else Hints(*spots)
        reference = None if known is None else Reference(*known)
        return _predict_corrected_ab(params, L, saturation, hints, reference)

    return kept_jit(predict, compiler_options=memory_saving_options())


def paint_photo(
    L: Float[np.ndarray, "H W"],
    ab: Float[np.ndarray, "h w 2"],
    *,
    dtype: np.dtype | type[np.unsignedinteger] = np.uint8,
) -> Shaped[np.ndarray, "H W 3"]:
    """Gives a photo colors. Threads may call this side by side.

    Args:
      L: the photo's lightness, float32 [H, W] in [0, 100].
      ab: float32 [h, w, 2], scaled to [-1, 1], of any resolution.
      dtype: uint8 or uint16.

    Returns:
      sRGB [H, W, 3] over the whole range of the dtype.
    """
    rgb = np.empty((*L.shape, 3), dtype)
    white = np.iinfo(rgb.dtype).max
    colors, lightness = rgb.reshape(-1, 3), L.reshape(-1)
    lab = _aligned(3, _CHUNK_PIXELS)
    # Pixels outside the gamut are put aside until there are enough for a call.
    outside = _aligned(3, _OUTSIDE_PIXELS)
    places = np.empty(_OUTSIDE_PIXELS, int)
    count = 0

    def paint_outside() -> None:
        painted = np.asarray(_paint(outside, white=white, limit=True)).view(dtype)
        colors[places[:count]] = painted[:count, :3]

    ab = np.float32(AB_SCALE) * ab
    for part in upsample_parts(ab, L, lab[1:]):
        size = part.stop - part.start
        lab[0, :size] = lightness[part]
        painted = np.asarray(_paint(lab, white=white))[:size]
        cv2.cvtColor(
            painted.view(dtype)[None], cv2.COLOR_RGBA2RGB, dst=colors[None, part]
        )
        found = np.flatnonzero(painted[:, -1] < 0)
        while len(found):
            chosen = found[: _OUTSIDE_PIXELS - count]
            new = slice(count, count + len(chosen))
            outside[:, new] = lab[:, chosen]
            places[new] = part.start + chosen
            found, count = found[len(chosen) :], new.stop
            if count == _OUTSIDE_PIXELS:
                paint_outside()
                count = 0
    if count:
        paint_outside()
    return rgb


@functools.partial(jax.jit, static_argnames=("white", "limit"))
def _paint(lab: jax.Array, *, white: int, limit: bool = False) -> jax.Array:
    """The levels of sRGB of CIE Lab, as OpenCV and photos have them: interleaved.

    Args:
      lab: float32 [3, N].
      white: the highest level, 255 or 65535.
      limit: whether to limit the chroma first.

    Returns:
      int32 [N, 1] whose bytes are red, green, blue and the sign, or [N, 2] of 16 bits each.
      Where the (last) number is negative, the color is outside the gamut.
    """
    L, a, b = lab
    (red, green, blue), outside = lab_to_levels(L, a, b, white, limit=limit)
    sign = jnp.where(outside, jnp.iinfo(jnp.int32).min, 0)
    if white > 255:
        return jnp.stack([red | green << 16, blue | sign], axis=-1)
    return (red | green << 8 | blue << 16 | sign)[:, None]


def _aligned(*shape: int) -> np.ndarray:
    """A float32 array of zeros that XLA reads where it is; most others it copies first."""
    size = math.prod(shape)
    room = np.zeros(size + 16, np.float32)
    start = -room.ctypes.data % 64 // room.itemsize
    return room[start : start + size].reshape(shape)
