"""Colors that a person names at some places, spread over the photo.

The network cannot know what color a dress was; the person often does. What a hint's color
has beyond the predicted one is spread to all that resembles the hint's place: that is
close by, as light, predicted alike, and alike in the features of the network's encoder.
Nothing is trained for it. It is the mean of a Gaussian process (Rasmussen and Williams
2006, "Gaussian Processes for Machine Learning", algorithm 2.1) whose variance also says
how much is known about each pixel from the hints.
"""

import dataclasses
from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import numpy.typing as npt
from jaxtyping import Array, Bool, Float

from colorgan_jax.errors import HintsError
from colorgan_jax.lab import AB_SCALE
from colorgan_jax.upsampling import resize

# Of a hint's spot: 3.5 of the 256 pixels that the network sees.
DEFAULT_RADIUS = 3.5 / 256

LARGEST_RADIUS = 0.5
HIGHEST_AB = 128
# Hints are padded to this number or a power of two times it.
_FEWEST = 16
# Features of different sizes are compared on a grid of as many cells a side, at most.
FEATURE_GRID = 64
# Added to the variance of each hint. It keeps the linear system regular where hints
# coincide, and is too little to be seen: 0.01 of a difference of 100 in ab.
_JITTER = 1e-4
# So that no spot vanishes.
_SMALLEST_RADIUS = 1e-4
# How often what the spots' means lack of the hints' colors is spread once more. With twice,
# 99 % of the spots of random hints come to within 1.7 of ab.
_REFINEMENTS = 2
# Where hints are suggested: so many places a side.
_CANDIDATES = 16
# Mean absolute error of the released weights' a and b at L = 50, in units of CIE ab.
_ERROR = 10.0
# Of features: those that vary less are no difference.
_NO_VARIANCE = 1e-6


class Hints(NamedTuple):
    """Colors of places in a photo; `make_hints` pads them.

    With `jax.vmap` or in a batch all have the same leading dimensions.

    Attributes:
      positions: centers (y, x), as fractions of the photo's height and width.
      ab: the color there, CIE a and b.
      radius: of the spot that has this color, as a fraction of the height and the width.
      mask: False for those that are no hints but padding.
    """

    positions: Float[Array | np.ndarray, "*batch K 2"]
    ab: Float[Array | np.ndarray, "*batch K 2"]
    radius: Float[Array | np.ndarray, "*batch K"]
    mask: Bool[Array | np.ndarray, "*batch K"]


@dataclasses.dataclass(frozen=True)
class Kernel:
    """How much two places must differ for one to tell little about the color of the other.

    Two places whose distance is one width have a covariance of exp(-1/2) in units of the
    variance; the squares of distances of different kinds, in widths, add up.

    Attributes:
      position: width of the distance, as a fraction of the photo's height and width.
      L: width of the difference of lightness, in units of CIE L.
      ab: width of the difference of predicted colors, in units of CIE ab.
      features: for blocks of the encoder, counted from 1, the width of the difference of
        their features. These are scaled such that over the photo each has a mean of 0,
        and all of a block together a variance of 1.
      noise: variance of what is peculiar to a hint's spot and does not reach beyond it.
      spot: how far that reaches, in radiuses of the hint.
      extremes: variance at black and at white, where sRGB has hardly any colors. At
        L = 50 it is 1, and between them a parabola.
    """

    position: float = 2.0
    L: float = 25.0
    ab: float = 17.0
    features: tuple[tuple[int, float], ...] = ((3, 4.5), (4, 3.2), (5, 2.3))
    noise: float = 0.05
    spot: float = 3.0
    extremes: float = 1 / 6


def make_hints(
    positions: npt.ArrayLike,
    ab: npt.ArrayLike,
    radius: float | npt.ArrayLike = DEFAULT_RADIUS,
) -> Hints:
    """Pads hints such that one more seldom has another shape, for which JAX would compile.

    Args:
      positions: centers (y, x) [N, 2], as fractions of the photo's height and width, in
        [0, 1].
      ab: the color there, CIE a and b [N, 2], in [-128, 128].
      radius: of each spot [N] or of all, as a fraction of the height and the width, in
        [0, 0.5].

    Returns:
      Float32 arrays of NumPy for 16, 32, 64 ... hints, of which the first N are those given.
      Those of several photos are stacked for a batch: `jax.tree.map(lambda *x: np.stack(x),
      *hints)`.

    Raises:
      HintsError: other shapes, or numbers outside of these ranges.
    """
    positions, ab = (
        np.asarray(array, np.float32)
        if np.size(array)
        else np.zeros((0, 2), np.float32)
        for array in (positions, ab)
    )
    count = len(positions)
    if positions.shape != (count, 2) or ab.shape != (count, 2):
        raise HintsError(
            "make_hints takes positions [N, 2] and as many ab [N, 2], not"
            f" {[*positions.shape]} and {[*ab.shape]}."
        )
    if np.shape(radius) not in ((), (count,)):
        raise HintsError(
            f"make_hints takes one radius or {count}, not {[*np.shape(radius)]}."
        )
    for name, numbers, lowest, highest in (
        ("positions, fractions of the height and the width,", positions, 0, 1),
        ("ab", ab, -HIGHEST_AB, HIGHEST_AB),
        ("a radius", np.asarray(radius), 0, LARGEST_RADIUS),
    ):
        is_within = (numbers >= lowest) & (numbers <= highest)  # NaN never is.
        if not is_within.all():
            raise HintsError(f"make_hints takes {name} from {lowest} to {highest}.")
    size = _FEWEST
    while size < count:
        size *= 2
    padding = (0, size - count)
    radius = np.broadcast_to(np.asarray(radius, np.float32), count)
    return Hints(
        np.pad(positions, (padding, (0, 0))),
        np.pad(ab, (padding, (0, 0))),
        np.pad(radius, padding),
        np.arange(size) < count,
    )


def spread_hints(
    hints: Hints,
    L: Float[Array | np.ndarray, "H W"],
    ab: Float[Array | np.ndarray, "H W 2"],
    features: Sequence[Float[Array | np.ndarray, "_ _ _"]],
    *,
    kernel: Kernel = Kernel(),
) -> tuple[Float[Array, "H W 2"], Float[Array, "H W"]]:
    """Corrects the predicted colors of one photo by hints.

    Pure, and fit for `jit`, `vmap` and `grad`. Its time is proportional to the number of
    hints, masked ones included, times that of pixels.

    Args:
      hints: of this photo, without leading dimensions.
      L: CIE lightness in [0, 100], at the size of the network or any other.
      ab: the network's colors at the size of L, scaled to [-1, 1].
      features: what `Generator.encode` gives for this photo, without the batch: the
        outermost block first. Blocks that the kernel does not name may be left out at the
        end.
      kernel: the widths.

    Returns:
      ab [H, W, 2], scaled as given, and without hints just as given. The mean over a hint's
      spot is the hint's color to within about 2 (before the gamut limits it);
      and the confidence [H, W] in [0, 1]: the part of the prior variance that the hints
      take away, 0 without any.
    """
    positions, colors, radius, mask = _without_padding(hints)
    ab = jnp.asarray(ab)
    spots, between, across = _covariances(
        positions, radius, mask, jnp.asarray(L), ab, features, kernel
    )
    between += jnp.diag(jnp.where(mask, _JITTER, 1))
    lower = jnp.linalg.cholesky(between)
    missing = jnp.where(mask[:, None], colors - spots.look[:, 1:], 0)
    weights = jax.scipy.linalg.cho_solve((lower, True), missing)

    def correction(weights: jax.Array) -> jax.Array:
        pixels = jnp.einsum("kp,kc->pc", across, weights, precision="highest")
        return pixels.reshape(ab.shape)

    # The kernel compares a spot as if it were one point. Where an edge runs through it,
    # its mean is then not yet the hint's color. Of large spots, in which others may lie,
    # the middle counts.
    middle = jnp.minimum(radius, DEFAULT_RADIUS)
    for _ in range(_REFINEMENTS):
        reached = _means_over_spots(correction(weights), positions, middle)
        left = jnp.where(mask[:, None], missing - reached, 0)
        weights += jax.scipy.linalg.cho_solve((lower, True), left)

    # By the inverse, since solving for so many columns takes XLA much longer on a CPU.
    inverse = jax.scipy.linalg.solve_triangular(lower, jnp.eye(len(lower)), lower=True)
    known = jnp.einsum("jk,kp->jp", inverse, across, precision="highest")
    prior = _variance(jnp.asarray(L), kernel) * (1 + kernel.noise)
    confidence = jnp.sum(known**2, axis=0).reshape(prior.shape) / prior
    return ab + correction(weights) / AB_SCALE, jnp.clip(confidence, 0, 1)


def expected_error(
    L: Float[Array | np.ndarray, "H W"],
    confidence: Float[Array | np.ndarray, "H W"] | float = 0.0,
    *,
    kernel: Kernel = Kernel(),
) -> Float[Array, "H W"]:
    """How far the colors are likely to be off: the map of uncertainty.

    Args:
      L: CIE lightness in [0, 100].
      confidence: from `spread_hints`; without hints 0.
      kernel: as there.

    Returns:
      The mean absolute error of a and of b [H, W], in units of CIE ab.
    """
    variance = _variance(jnp.asarray(L), kernel) * (1 - jnp.asarray(confidence))
    return _ERROR * jnp.sqrt(variance)


def suggest_hints(
    hints: Hints | None,
    L: Float[Array | np.ndarray, "H W"],
    ab: Float[Array | np.ndarray, "H W 2"],
    features: Sequence[Float[Array | np.ndarray, "_ _ _"]],
    *,
    count: int = 1,
    kernel: Kernel = Kernel(),
) -> Float[Array, "{count} 2"]:
    """Where further hints would tell most: the places to ask a person about.

    One after the other, each where a hint takes most of the variance that is left from the
    whole photo. Their colors need not be known for that. Pure, and fit for `jit` and
    `vmap`.

    Args:
      hints: those that there are already, as for `spread_hints`, if any.
      L: as for `spread_hints`.
      ab: as for `spread_hints`.
      features: as for `spread_hints`.
      count: how many places.
      kernel: the widths.

    Returns:
      Positions (y, x), as fractions of the height and the width, the best first: centers of
      cells of a grid of 16x16.
    """
    size = tuple(min(length, FEATURE_GRID) for length in L.shape)
    L, ab = (resize(image, *size) for image in (jnp.asarray(L)[..., None], ab))
    candidates = _centers(_CANDIDATES, _CANDIDATES)
    positions = candidates
    radius = jnp.full(len(candidates), DEFAULT_RADIUS)
    mask = jnp.ones(len(candidates), bool)
    if hints is not None:
        spots, _, radiuses, are_hints = _without_padding(hints)
        positions = jnp.concatenate([spots, positions])
        radius = jnp.concatenate([radiuses, radius])
        mask = jnp.concatenate([are_hints, mask])
    given = len(mask) - len(candidates)
    _, between, across = _covariances(
        positions, radius, mask, L[..., 0], ab, features, kernel
    )

    def tell(covariances: tuple[jax.Array, jax.Array], spot: jax.Array):
        """The covariances that are left when the color of a spot is known."""
        between, across = covariances
        share = between[:, spot] / (between[spot, spot] + _JITTER)
        left = between - share[:, None] * between[spot]
        return (left, across - share[:, None] * across[spot]), None

    def choose(covariances: tuple[jax.Array, jax.Array], _: None):
        between, across = covariances
        taken = jnp.sum(across**2, axis=-1) / (jnp.diagonal(between) + _JITTER)
        best = jnp.argmax(taken[given:])
        return tell(covariances, given + best)[0], candidates[best]

    left, _ = jax.lax.scan(tell, (between, across), jnp.arange(given))
    return jax.lax.scan(choose, left, length=count)[1]


def _without_padding(
    hints: Hints,
) -> tuple[jax.Array, jax.Array, jax.Array, jax.Array]:
    """The fields of hints. Whatever padding holds, it must not get into the sums."""
    positions, colors, radius, mask = jax.tree.map(jnp.asarray, hints)
    positions, colors = (
        jnp.where(mask[:, None], array, 0) for array in (positions, colors)
    )
    radius = jnp.where(mask, jnp.maximum(radius, _SMALLEST_RADIUS), 1)
    return positions, colors, radius, mask


class _Places(NamedTuple):
    """What the kernel compares of hints' spots, or of pixels, but for their features."""

    position: Float[Array, "N 2"]
    look: Float[Array, "N 3"]
    radius: Float[Array, " N"]


def _covariances(
    positions: jax.Array,
    radius: jax.Array,
    mask: jax.Array,
    L: jax.Array,
    ab: jax.Array,
    features: Sequence[Float[Array | np.ndarray, "_ _ _"]],
    kernel: Kernel,
) -> tuple[_Places, jax.Array, jax.Array]:
    """What the kernel says of the spots of hints.

    Returns:
      The spots; the covariances of the differences between them [K, K], and of those with
      the pixels [K, H W]. Where the mask is False they are 0.
    """
    looks = jnp.concatenate([L[..., None], AB_SCALE * ab], axis=-1)
    spots = _Places(positions, _means_over_spots(looks, positions, radius), radius)
    centers = _centers(*L.shape)
    pixels = _Places(
        centers, looks.reshape(-1, 3), _radius_at(centers, positions, radius, mask)
    )
    compared = [
        (jnp.asarray(features[block - 1]), width)
        for block, width in kernel.features
        if block <= len(features)
    ]
    contents = _compare_features(compared, positions, radius, L.shape)
    between, across = (
        _covariance(spots, places, content, kernel)
        for places, content in zip((spots, pixels), contents, strict=True)
    )
    return (
        spots,
        jnp.where(mask[:, None] & mask, between, 0),
        jnp.where(mask[:, None], across, 0),
    )


def _covariance(
    spots: _Places, places: _Places, content: jax.Array, kernel: Kernel
) -> jax.Array:
    """Of the differences at spots and at places, [K, N]; `content` is of their features."""
    apart = squared_distances(spots.position, places.position)
    widths = jnp.asarray([kernel.L, kernel.ab, kernel.ab])
    unlike = squared_distances(spots.look / widths, places.look / widths)
    smooth = jnp.exp(-0.5 * (apart / kernel.position**2 + unlike + content))
    # What is peculiar to a spot: white noise, blurred by Gaussians of the widths of either
    # place (Paciorek and Schervish 2004, "Nonstationary Covariance Functions for Gaussian
    # Process Regression", equation 3): a covariance whatever the radiuses are.
    r, s = kernel.spot * spots.radius[:, None], kernel.spot * places.radius
    squares = r**2 + s**2
    peculiar = 2 * r * s / squares * jnp.exp(-apart / squares)
    scale, scales = (jnp.sqrt(_variance(p.look[:, 0], kernel)) for p in (spots, places))
    return scale[:, None] * scales * smooth * (1 + kernel.noise * peculiar)


def _variance(L: jax.Array, kernel: Kernel) -> jax.Array:
    """Of the differences at this lightness, but for the noise."""
    room = jnp.clip(L * (100 - L) / 50**2, 0, 1)
    return kernel.extremes + (1 - kernel.extremes) * room


def squared_distances(first: jax.Array, second: jax.Array) -> jax.Array:
    """Of each row of `first` [K, D] from each of `second` [N, D], [K, N].

    Axis by axis, which is exact for points that nearly coincide.
    """
    axes = zip(first.T, second.T, strict=True)
    return sum(((x[:, None] - y) ** 2 for x, y in axes), jnp.zeros(()))


def _centers(height: int, width: int) -> jax.Array:
    """Positions (y, x) of all pixels, row by row, [H W, 2]."""
    axes = ((jnp.arange(size) + 0.5) / size for size in (height, width))
    return jnp.stack(jnp.meshgrid(*axes, indexing="ij"), axis=-1).reshape(-1, 2)


def _means_over_spots(
    image: jax.Array, positions: jax.Array, radius: jax.Array
) -> jax.Array:
    """The mean of an image [h, w, C] over each spot [K, C], weighted by a Gaussian.

    Its standard deviation along each axis is that of a disc: half of the radius.
    """

    def weights(position: jax.Array, size: int) -> jax.Array:
        centers = (jnp.arange(size) + 0.5) / size
        deviation = jnp.maximum(radius / 2, 0.5 / size)[:, None]
        distance = (centers - position[:, None]) / deviation
        # Adds up to 1 on the border, too.
        return jax.nn.softmax(-0.5 * distance**2, axis=-1)

    rows, columns = (
        weights(position, size)
        for position, size in zip(positions.T, image.shape, strict=False)
    )
    return jnp.einsum("kh,kw,hwc->kc", rows, columns, image, precision="highest")


def _radius_at(
    centers: jax.Array, positions: jax.Array, radius: jax.Array, mask: jax.Array
) -> jax.Array:
    """The radius of spots, between them interpolated (Shepard 1968), [N].

    At the center of a spot it is the spot's own, even within a larger spot.
    """
    apart = squared_distances(positions, centers)
    weights = jnp.where(mask[:, None], 1 / (apart + 1e-8) ** 2, 1e-30)
    return radius @ weights / weights.sum(axis=0)


def _compare_features(
    features: Sequence[tuple[jax.Array, float]],
    positions: jax.Array,
    radius: jax.Array,
    size: tuple[int, ...],
) -> tuple[jax.Array, jax.Array]:
    """Squared distances of features: between spots [K, K], and to each pixel [K, H W].

    Those to pixels are computed on a grid and interpolated.

    Args:
      features: [h, w, C] and width of each block.
      positions: of the spots [K, 2].
      radius: of the spots [K].
      size: H and W.
    """
    rows, columns = (min(length, FEATURE_GRID) for length in size)
    scaled = [
        resize(standardize(block), rows, columns) / width for block, width in features
    ]
    grid = jnp.concatenate([*scaled, jnp.zeros((rows, columns, 1))], axis=-1)
    own = _means_over_spots(grid, positions, radius)
    across = resize(feature_distances(own, grid), *size).reshape(-1, len(own))
    return feature_distances(own, own), across.T


def feature_distances(
    first: Float[Array, "K C"], second: Float[Array, "*places C"]
) -> Float[Array, "*places K"]:
    """Squared distances of the features of places, by one product of matrices."""
    product = jnp.einsum("kc,...c->...k", first, second, precision="highest")
    squares = jnp.sum(second**2, axis=-1)[..., None] + jnp.sum(first**2, axis=-1)
    # Rounding may make them a little less than 0.
    return jnp.maximum(squares - 2 * product, 0)


def standardize(features: jax.Array) -> jax.Array:
    """Features [h, w, C] less their means, and of a variance of 1 over all channels."""
    features = features - features.mean(axis=(0, 1))
    variance = jnp.mean(features**2, axis=(0, 1))
    return features / jnp.sqrt((variance + _NO_VARIANCE) * features.shape[-1])
