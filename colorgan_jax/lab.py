"""Conversion between sRGB and CIE Lab, and the networks' scaling of Lab, in JAX.

The one place with color maths, but for the ICC profiles of photos (photos/profiles.py).
All functions are pure, elementwise over the leading dimensions, and fit for `jit`,
`vmap` and `grad`. Colors are floats with the channels last:

    rgb  [..., 3]  sRGB with its transfer curve, each channel in [0, 1]
    lab  [..., 3]  CIE Lab for the D65 white point: L in [0, 100], a and b in
                   about [-110, 110] (for sRGB colors: -86..98 and -108..95)
    L    [..., 1]  L / 50 - 1, in [-1, 1]     (scaled for the networks)
    ab   [..., 2]  ab / 110, in [-1, 1]       (scaled for the networks)

Inside, each channel is an array of its own: XLA's code for CPUs is several times as
fast on three arrays as on one whose last dimension is 3.

For the millions of pixels of a photo, `levels_to_lightness` and `lab_to_levels` do the
same several times as fast, from and to whole levels: 0 to 255 or to 65535, which is white.

Sources: IEC 61966-2-1 (sRGB), CIE 15:2004 (Lab).
"""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike
from jaxtyping import Array, Bool, Float, Int, UInt
from numpy.polynomial import Chebyshev, Polynomial

# How the networks see Lab: L / L_SCALE - 1 and ab / AB_SCALE. 110 covers every
# sRGB color, so that the range of tanh does.
L_SCALE = 50.0
AB_SCALE = 110.0

# Linear sRGB to CIE XYZ (ITU-R BT.709 primaries, D65), as in OpenCV and scikit-image.
_XYZ_FROM_RGB = np.array(
    [
        [0.412453, 0.357580, 0.180423],
        [0.212671, 0.715160, 0.072169],
        [0.019334, 0.119193, 0.950227],
    ]
)
# XYZ relative to the white point. The white point is that of rgb = (1, 1, 1), so
# that gray has ab = 0 exactly and not only up to the rounding of published tables.
_RELATIVE_XYZ_FROM_RGB = _XYZ_FROM_RGB / _XYZ_FROM_RGB.sum(axis=1, keepdims=True)
_RGB_FROM_RELATIVE_XYZ = np.linalg.inv(_RELATIVE_XYZ_FROM_RGB)
# Relative luminance, of which the lightness is made.
Y_FROM_RGB = _RELATIVE_XYZ_FROM_RGB[1]

# The sRGB transfer curve is a line below these values and a power above them.
SRGB_KINK = 0.04045
_LINEAR_KINK = 0.0031308

# CIE's f(t) is a cube root above the cube of this and a line below it.
LIGHTNESS_KINK = 6 / 29

# How far a linear rgb channel may lie outside [0, 1] and still count as inside the
# gamut: above float32 rounding (1e-6), below what 8 bits or the eye can show.
_GAMUT_TOLERANCE = 1e-5
# The same below 0 for whole levels: of 16 bits one is worth no more than 1.2e-6 there.
_DARK_TOLERANCE = 1e-7
# Halvings of the chroma factor: it ends within 1.6e-5 of the largest one.
_BISECTION_STEPS = 16

# Of the polynomial in place of a power: its error is below 3e-6, a fifth of a level of 16
# bits.
_POWER_DEGREE = 6

# `_power`, or what takes its place.
_Power = Callable[[Any, float, float], Any]


def rgb_to_lab(rgb: Float[ArrayLike, "*colors 3"]) -> Float[Array, "*colors 3"]:
    """Converts sRGB to CIE Lab (D65).

    Args:
      rgb: floats [..., 3], sRGB in [0, 1].

    Returns:
      Lab [..., 3], at least float32: L in [0, 100].

    Raises:
      TypeError: if `rgb` is not floating point.
      ValueError: if its last dimension is not 3.
    """
    linear = [_decode_srgb(channel) for channel in _channels(rgb, "rgb_to_lab")]
    fx, fy, fz = (_f(t) for t in _transform(_RELATIVE_XYZ_FROM_RGB, *linear))
    return jnp.stack([116 * fy - 16, 500 * (fx - fy), 200 * (fy - fz)], axis=-1)


def lab_to_rgb(lab: Float[ArrayLike, "*colors 3"]) -> Float[Array, "*colors 3"]:
    """Converts CIE Lab (D65) to sRGB, clipped to [0, 1].

    Clipping a color outside the sRGB gamut changes its lightness and hue; see
    `limit_chroma`.

    Args:
      lab: floats [..., 3], L in [0, 100].

    Returns:
      sRGB [..., 3] in [0, 1], at least float32.

    Raises:
      TypeError: if `lab` is not floating point.
      ValueError: if its last dimension is not 3.
    """
    linear = jnp.stack(_lab_to_linear_rgb(*_channels(lab, "lab_to_rgb")), axis=-1)
    # Clipped before the transfer curve, which keeps the power away from negative
    # numbers; the curve maps [0, 1] onto itself.
    return jnp.clip(encode_srgb(jnp.clip(linear, 0.0, 1.0)), 0.0, 1.0)


def limit_chroma(lab: Float[ArrayLike, "*colors 3"]) -> Float[Array, "*colors 3"]:
    """Scales ab toward gray, as little as needed, until sRGB can show the color.

    L and hue are kept exactly, where the clipping of `lab_to_rgb` would change
    both. Colors that sRGB can show are returned unchanged. The factor is found by
    bisection in linear rgb and is a constant to differentiation, so that gradients
    reach ab scaled by it. (Beside the ridge of yellow, for one in 10,000 pairs of L
    and hue, a line from gray leaves the gamut and enters it again; the color found
    there is on the gamut's surface too, but not always at the farthest crossing.)

    Args:
      lab: floats [..., 3], L in [0, 100].

    Returns:
      Lab [..., 3], at least float32, inside the sRGB gamut to 1e-5 of linear rgb.

    Raises:
      TypeError: if `lab` is not floating point.
      ValueError: if its last dimension is not 3.
    """
    L, a, b = _channels(lab, "limit_chroma")
    factor = jax.lax.stop_gradient(_chroma_factor(L, a, b))
    return jnp.stack([L, a * factor, b * factor], axis=-1)


def encode_srgb(
    linear: Float[Array | np.ndarray, "*shape"],
) -> Float[Array | np.ndarray, "*shape"]:
    """Applies the transfer curve of sRGB to linear light.

    Args:
      linear: floats of any shape, in [0, 1].

    Returns:
      The same shape and dtype, in [0, 1] up to rounding. A NumPy array is computed by
      NumPy and stays one, so that reading photos needs no device of JAX's.
    """
    return _encode_srgb(linear, _power)


@functools.cache
def decode_levels(white: int) -> Float[Array, " levels"]:
    """Linear rgb of each level, for `levels_to_lightness`.

    Args:
      white: the highest level: 255 or 65535.

    Returns:
      float32 [white + 1] in [0, 1].
    """
    return jax.jit(_decode_srgb)(np.arange(white + 1, dtype=np.float32) / white)


def levels_to_lightness(
    rgb: UInt[Array, "*colors 3"], linear: Float[Array, " levels"]
) -> Float[Array, "*colors"]:
    """CIE lightness of colors that are given by whole levels.

    Args:
      rgb: uint8 or uint16 [..., 3], sRGB.
      linear: `decode_levels` of the same depth.

    Returns:
      float32 [...] in [0, 100].
    """
    red, green, blue = (linear[rgb[..., channel]] for channel in range(3))
    _, Y, _ = _transform(_RELATIVE_XYZ_FROM_RGB, red, green, blue)
    return 116 * _f(Y, _quick_power) - 16


def lab_to_levels(
    L: Float[Array, "*colors"],
    a: Float[Array, "*colors"],
    b: Float[Array, "*colors"],
    white: int,
    *,
    limit: bool,
) -> tuple[list[Int[Array, "*colors"]], Bool[Array, "*colors"]]:
    """Converts Lab to whole levels of sRGB.

    Args:
      L: float32 [...] in [0, 100].
      a: float32 [...].
      b: float32 [...].
      white: the highest level: 255 or 65535.
      limit: whether to limit the chroma first, as `limit_chroma` does. That takes five
        times as long, and most colors of a photo do not need it.

    Returns:
      Red, green and blue, each int32 [...] in [0, white], and whether a color is outside
      the sRGB gamut: unless it is limited, its levels have no meaning.
    """
    if limit:
        factor = _chroma_factor(L, a, b, _DARK_TOLERANCE, unroll=True)
        a, b = a * factor, b * factor
    linear = _lab_to_linear_rgb(L, a, b)
    levels = []
    for channel in linear:
        encoded = _encode_srgb(jnp.maximum(channel, 0), _quick_power)
        # Floats from 2 ** 23 on are whole numbers, which their last bits count. A
        # conversion would take care of infinities and the like as well, and time for it.
        bits = jax.lax.bitcast_convert_type(white * encoded + 2.0**23, jnp.int32)
        levels.append(bits & white)
    return levels, ~_in_gamut(linear, _DARK_TOLERANCE)


def to_network(
    lab: Float[Array | np.ndarray, "*colors 3"],
) -> tuple[Float[Array, "*colors 1"], Float[Array, "*colors 2"]]:
    """Scales Lab for the networks.

    Args:
      lab: floats [..., 3], L in [0, 100].

    Returns:
      L [..., 1] and ab [..., 2], both in [-1, 1] for sRGB colors.
    """
    lab = jnp.asarray(lab)
    return lab[..., :1] / L_SCALE - 1, lab[..., 1:] / AB_SCALE


def from_network(
    L: Float[Array | np.ndarray, "*colors 1"],
    ab: Float[Array | np.ndarray, "*colors 2"],
) -> Float[Array, "*colors 3"]:
    """Joins the networks' L [..., 1] and ab [..., 2] to Lab [..., 3].

    The inverse of `to_network`.
    """
    return jnp.concatenate([(L + 1) * L_SCALE, ab * AB_SCALE], axis=-1)


def _channels(
    colors: ArrayLike, function: str
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Takes colors [..., 3] apart, and promotes half precision, too coarse for Lab."""
    colors = jnp.asarray(colors)
    if not jnp.issubdtype(colors.dtype, jnp.floating):
        raise TypeError(
            f"{function} takes floats, not {colors.dtype}; divide 8-bit rgb by 255."
        )
    if colors.ndim == 0 or colors.shape[-1] != 3:
        raise ValueError(
            f"{function} takes colors of shape [..., 3], not {colors.shape}."
        )
    colors = colors.astype(jnp.promote_types(colors.dtype, jnp.float32))
    return colors[..., 0], colors[..., 1], colors[..., 2]


def _transform(
    matrix: np.ndarray, x: jax.Array, y: jax.Array, z: jax.Array
) -> list[jax.Array]:
    """Multiplies each color (x, y, z) by a 3x3 matrix.

    Written as sums, because matrix units on GPU and TPU round to fewer bits.
    """
    return [x * r + y * s + z * t for r, s, t in matrix.tolist()]


def _library(array: Any) -> Any:
    """NumPy for its arrays, and its twin in JAX for those of JAX."""
    return jnp if isinstance(array, jax.Array) else np


def _power(base: Any, exponent: float, lowest: float) -> Any:
    """Base ** exponent for bases from `lowest` on: on CPU a quarter of the time of `**`.

    The maximum keeps the result and its gradient finite for all other bases. They are for
    the other branch of a `where`, which multiplies the gradient of this one by zero.
    """
    library = _library(base)
    return library.exp(exponent * library.log(library.maximum(base, lowest)))


def _quick_power(base: jax.Array, exponent: float, lowest: float) -> jax.Array:
    """`_power` for bases up to 1, by a polynomial: on CPU half of the time.

    The polynomial is one of the fourth root, whose powers are nearly straight lines. Below
    `lowest`, down to 0, the result is finite and no more.
    """
    polynomial = Chebyshev.interpolate(
        lambda root: root ** (4 * exponent), _POWER_DEGREE, [lowest**0.25, 1]
    )
    *lower, result = polynomial.convert(kind=Polynomial).coef.tolist()
    root = jnp.sqrt(jnp.sqrt(base))
    for coefficient in reversed(lower):
        result = result * root + coefficient
    return result


def _decode_srgb(rgb: jax.Array) -> jax.Array:
    curve = _power((rgb + 0.055) / 1.055, 2.4, (SRGB_KINK + 0.055) / 1.055)
    return jnp.where(rgb <= SRGB_KINK, rgb / 12.92, curve)


def _encode_srgb(linear: Any, power: _Power) -> Any:
    curve = 1.055 * power(linear, 1 / 2.4, _LINEAR_KINK) - 0.055
    return _library(linear).where(linear <= _LINEAR_KINK, 12.92 * linear, curve)


def _f(t: jax.Array, power: _Power = _power) -> jax.Array:
    """CIE's lightness function, from relative XYZ."""
    root = power(t, 1 / 3, LIGHTNESS_KINK**3)
    return jnp.where(t <= LIGHTNESS_KINK**3, t / (3 * LIGHTNESS_KINK**2) + 4 / 29, root)


def _inverse_f(f: jax.Array) -> jax.Array:
    return jnp.where(
        f <= LIGHTNESS_KINK, 3 * LIGHTNESS_KINK**2 * (f - 4 / 29), f * f * f
    )


def _lab_to_linear_rgb(L: jax.Array, a: jax.Array, b: jax.Array) -> list[jax.Array]:
    """Linear red, green and blue, outside [0, 1] for colors outside the gamut."""
    fy = (L + 16) / 116
    relative_xyz = (_inverse_f(f) for f in (fy + a / 500, fy, fy - b / 200))
    return _transform(_RGB_FROM_RELATIVE_XYZ, *relative_xyz)


def _in_gamut(
    linear: list[jax.Array], dark_tolerance: float = _GAMUT_TOLERANCE
) -> jax.Array:
    """Whether linear red, green and blue are those of a color that sRGB can show."""
    red, green, blue = (
        (channel >= -dark_tolerance) & (channel <= 1 + _GAMUT_TOLERANCE)
        for channel in linear
    )
    return red & green & blue


def _chroma_factor(
    L: jax.Array,
    a: jax.Array,
    b: jax.Array,
    dark_tolerance: float = _GAMUT_TOLERANCE,
    *,
    unroll: bool = False,
) -> jax.Array:
    """What `limit_chroma` multiplies a and b by: 1 for colors that sRGB can show.

    `unroll` compiles the bisection without a loop. On a CPU it takes half the time then,
    but XLA repeats it for each array that is made of the result.
    """

    def in_gamut(factor):
        linear = _lab_to_linear_rgb(L, a * factor, b * factor)
        return _in_gamut(linear, dark_tolerance)

    def bisect(step, factor):
        larger = factor + 0.5 ** step.astype(factor.dtype)
        return jnp.where(in_gamut(larger), larger, factor)

    one = jnp.ones_like(L)
    factor = jax.lax.fori_loop(
        1, _BISECTION_STEPS + 1, bisect, jnp.zeros_like(one), unroll=unroll
    )
    return jnp.where(in_gamut(one), one, factor)
