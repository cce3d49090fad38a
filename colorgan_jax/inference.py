"""Color for photos: the trained generator without BatchNorm, its file, and its use.

Inference needs only `params`: after training, BatchNorm is folded into the
convolutions before it, and the depth and width of the network are read off the
shapes. The folded parameters of a generator for SxS pixels, S = 2 ** N, are

    {"encoder_1": {"kernel": [4, 4, 1, F], "bias": [F]}, ..., "encoder_N": ...,
     "decoder_1": {"kernel": [4, 4, O, I], "bias": [O]}, ..., "decoder_N": ...}

in float32, where I channels go in, O come out, and decoder_1 is the innermost block. With
`encoder="efficientnet"` the layers of `efficientnet.BLOCKS` take the place of encoder_1 to
encoder_5, under their own names: {"stem": {"kernel": [3, 3, 1, 32], "bias": [32]}, ...,
"bottleneck_16_project": ...}. Layouts and ranges of colors are those of `lab`.
"""

import json
import math
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import cv2
import jax
import jax.numpy as jnp
import numpy as np
import safetensors
import safetensors.numpy
from jax.typing import ArrayLike

from colorgan_jax.compilation import jit_network
from colorgan_jax.lab import AB_SCALE, L_SCALE, lab_to_rgb, limit_chroma, rgb_to_lab
from colorgan_jax.networks import efficientnet
from colorgan_jax.networks.convolutions import conv_down, conv_up
from colorgan_jax.networks.generator import BATCH_NORM_EPSILON, leaky_relu, unet_depth
from colorgan_jax.paths import replace_file
from colorgan_jax.photos import resize_photo

Params = Mapping[str, Mapping[str, jax.Array]]

PARAMS_FILE = "params.safetensors"
# The parameters that come with this package (docs/model-card.md).
RELEASED_PARAMS = Path(__file__).parent / "weights" / PARAMS_FILE
_FORMAT = "colorgan_jax generator"
_FORMAT_VERSION = "2"

# `recolor_photo` does the color maths of a large photo on this many pixels at a time:
# it bounds the memory, and one compiled function serves photos of all sizes.
_CHUNK_PIXELS = 2**16


class ParamsError(ValueError):
    """Parameters that are not a generator's, or a file that does not hold any."""


def fold_batch_norm(variables: Mapping[str, Any]) -> Params:
    """Folds BatchNorm's running statistics into the convolutions before it.

    In inference mode BatchNorm is a factor and an offset for each channel:
    norm(conv(x)) = conv'(x) with kernel' = kernel * scale / sqrt(variance + epsilon).

    Args:
      variables: {"params", "batch_stats"} of a `Generator`. May be traced by `jit`.

    Returns:
      The folded parameters, as laid out at the top of this module.
    """
    folded = {}
    for name, block in variables["params"].items():
        if "conv" not in block:  # EfficientNet's: convolutions alone.
            folded |= jax.tree.map(lambda array: array.astype(jnp.float32), block)
            continue
        kernel = block["conv"]["kernel"]
        if "norm" in block:
            statistics = variables["batch_stats"][name]["norm"]
            factor = block["norm"]["scale"] * jax.lax.rsqrt(
                statistics["var"] + BATCH_NORM_EPSILON
            )
            kernel = kernel * (factor[:, None] if _is_transposed(name) else factor)
            bias = block["norm"]["bias"] - statistics["mean"] * factor
        else:
            bias = block["conv"]["bias"]
        folded[name] = {
            "kernel": kernel.astype(jnp.float32),
            "bias": bias.astype(jnp.float32),
        }
    return folded


def image_size(params: Params) -> int:
    """Height and width S of the image that the network sees, read off its depth.

    Args:
      params: folded parameters of a generator.

    Raises:
      ParamsError: if they are anything else; it names the first layer that is wrong.
    """
    if "batch_stats" in params or "params" in params:
        raise ParamsError(
            "These are the variables of a Generator; pass them through"
            " fold_batch_norm first."
        )
    pretrained_layers = _pretrained_layers(params)
    first = len(pretrained_layers) + 1  # of the blocks that are the report's
    depth = len(pretrained_layers) + sum(name.startswith("encoder_") for name in params)
    if depth == 0:
        raise ParamsError("These are not the parameters of a generator: no encoder_1.")
    encoders = [f"encoder_{block}" for block in range(first, depth + 1)]
    decoders = [f"decoder_{block}" for block in range(1, depth + 1)]
    convolutions = [name for block in pretrained_layers for name in block]
    unknown = sorted(set(params) - {*convolutions, *encoders, *decoders})
    if unknown:
        raise ParamsError(f"A generator of depth {depth} has no layer {unknown[0]}.")

    def outputs_of(name: str) -> int:
        layer = params.get(name, {})
        bias = jnp.shape(layer["bias"]) if "bias" in layer else ()
        return bias[0] if bias else 0

    def check(name: str, expected: tuple[int, ...], outputs: int) -> int:
        """Checks one layer and returns its number of output channels."""
        layer = params.get(name, {})
        for array in ("kernel", "bias"):
            if array not in layer:
                raise ParamsError(f"The parameters lack {name}.{array}.")
        kernel, bias = jnp.shape(layer["kernel"]), jnp.shape(layer["bias"])
        if kernel != expected:
            raise ParamsError(
                f"{name}.kernel has shape {kernel} instead of {expected}."
            )
        if bias != (outputs,):
            raise ParamsError(f"{name}.bias has shape {bias}, not {(outputs,)}.")
        return outputs

    skips = [0]
    channels = 1
    for block in pretrained_layers:
        for name, shape in block.items():
            channels = check(name, shape, shape[-1])
        skips.append(channels)
    for name in encoders:
        outputs = outputs_of(name)
        channels = check(name, (4, 4, channels, outputs), outputs)
        skips.append(channels)
    skips[-1] = 0  # the innermost output is no skip, but decoder_1's only input
    for name in decoders:
        outputs = 2 if name == decoders[-1] else outputs_of(name)
        channels = check(name, (4, 4, outputs, channels + skips.pop()), outputs)
    return 2**depth


def _is_transposed(layer: str) -> bool:
    """Whether a layer's kernel has its output channels before its input channels."""
    return layer.startswith("decoder_")


def _pretrained_layers(params: Params) -> list[dict[str, tuple[int, ...]]]:
    """EfficientNet's layers and the shapes of their kernels, by block; or none."""
    if not any(name.startswith("bottleneck_") for name in params):
        return []
    return [
        efficientnet.kernel_shapes(block)
        for block in range(1, len(efficientnet.BLOCKS) + 1)
    ]


def predict_ab(params: Params, L: jax.Array) -> jax.Array:
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
    size = image_size(params)
    if L.ndim != 4 or L.shape[1:] != (size, size, 1):
        raise ValueError(
            f"predict_ab takes L of shape [B, {size}, {size}, 1], not {L.shape}."
        )
    depth = unet_depth(size)
    skips = []
    x = L
    for block in range(1, depth + 1):
        layer = params.get(f"encoder_{block}")
        if layer is None:
            x = efficientnet.encode(block, params, x)
            skips.append(x)
        else:
            if block > 1:
                x = leaky_relu(x)
            x = conv_down(x, layer["kernel"]) + layer["bias"]
            skips.append(jax.nn.relu(x))

    skips.pop()  # The innermost output is no skip, but the decoder's input.
    for block in range(1, depth):
        x = jax.nn.relu(x)
        if block > 1:
            x = jnp.concatenate([x, skips.pop()], axis=-1)
        layer = params[f"decoder_{block}"]
        x = conv_up(x, layer["kernel"]) + layer["bias"]
    # Here the images are large: two convolutions take less time than to join their inputs.
    layer = params[f"decoder_{depth}"]
    kernels = jnp.split(layer["kernel"], [x.shape[-1]], axis=-1)
    x = conv_up(jax.nn.relu(x), kernels[0]) + conv_up(skips.pop(), kernels[1])
    return jnp.tanh(x + layer["bias"])


def colorize(params: Params, L: jax.Array, *, saturation: ArrayLike = 1.0) -> jax.Array:
    """Colorizes images that are given by their CIE lightness.

    The network sees L resized to its own size; the colors that it predicts are
    resized back and joined with the given L. Where sRGB cannot show such a color at
    that lightness, its chroma is lowered: the result has the given lightness.

    Compiled once for each shape of L. `jit`, `vmap` and `grad` go through it.

    Args:
      params: parameters of a generator, from `load_params` or `fold_batch_norm`.
      L: floats [..., H, W], CIE lightness in [0, 100]; any number of leading
        dimensions, any height and width.
      saturation: factor on the predicted ab, from 0 on: 0 gives gray, more than 1
        stronger colors. Another value compiles nothing anew.

    Returns:
      sRGB, float32 [..., H, W, 3] in [0, 1].

    Raises:
      ParamsError: if `params` are not a generator's.
      TypeError: if L is not floating point.
      ValueError: if L has fewer than two dimensions or no pixels.
    """
    image_size(params)
    L = jnp.asarray(L)
    if not jnp.issubdtype(L.dtype, jnp.floating):
        raise TypeError(f"colorize takes L as floats in [0, 100], not {L.dtype}.")
    if L.ndim < 2 or 0 in L.shape[-2:]:
        raise ValueError(
            f"colorize takes L of shape [..., height, width], not {L.shape}."
        )
    return _colorize(params, L.astype(jnp.float32), jnp.float32(saturation))


@jit_network
def _colorize(params: Params, L: jax.Array, saturation: jax.Array) -> jax.Array:
    size = image_size(params)
    height, width = L.shape[-2:]
    images = math.prod(L.shape[:-2])
    seen = L.reshape(images, height, width, 1)
    if (height, width) != (size, size):
        seen = jax.image.resize(seen, (images, size, size, 1), "linear", antialias=True)
    ab = predict_ab(params, seen / L_SCALE - 1)
    if (height, width) != (size, size):
        ab = jax.image.resize(ab, (images, height, width, 2), "cubic")
    return _join(L, saturation * ab.reshape(*L.shape, 2))


def _join(L: jax.Array, ab: jax.Array) -> jax.Array:
    """sRGB of CIE L [...] and the network's ab [..., 2]."""
    lab = jnp.concatenate([L[..., None], ab * AB_SCALE], axis=-1)
    return lab_to_rgb(limit_chroma(lab))


def colorize_photo(
    params: Params, rgb: np.ndarray, *, saturation: float = 1.0
) -> np.ndarray:
    """Colorizes one photo at its full resolution; its own colors are ignored.

    The same as `colorize` up to the method of resizing, for photos on the host:
    nothing is compiled anew for another size, and memory stays bounded.

    Args:
      params: parameters of a generator, from `load_params` or `fold_batch_norm`.
      rgb: uint8 [H, W, 3], sRGB in [0, 255].
      saturation: as for `colorize`.

    Returns:
      uint8 [H, W, 3], sRGB in [0, 255], with the lightness of `rgb`.

    Raises:
      ParamsError: if `params` are not a generator's.
      ValueError: if `rgb` is not uint8 [H, W, 3].
    """
    if rgb.dtype != np.uint8 or rgb.ndim != 3 or rgb.shape[-1] != 3 or 0 in rgb.shape:
        raise ValueError(
            "colorize_photo takes uint8 of shape [height, width, 3], not"
            f" {rgb.dtype} of shape {rgb.shape}."
        )
    size = image_size(params)
    seen = resize_photo(rgb, size, size)
    ab = predict_photos_ab(params, seen[None])[0]
    return recolor_photo(rgb, ab, saturation=saturation)


def predict_photos_ab(params: Params, rgb: np.ndarray) -> np.ndarray:
    """The colors of photos that are as small as the network sees them.

    Together with `recolor_photo` this is `colorize_photo` in two steps, for programs that
    colorize many photos: several share this step, and the other runs in threads.

    Args:
      params: parameters of a generator for SxS pixels.
      rgb: uint8 [B, S, S, 3], sRGB in [0, 255]. Compiled once for each B.

    Returns:
      The network's ab, float32 [B, S, S, 2] in [-1, 1].

    Raises:
      ParamsError: if `params` are not a generator's.
    """
    return np.asarray(_predict_photos_ab(params, rgb))


@jit_network
def _predict_photos_ab(params: Params, rgb: jax.Array) -> jax.Array:
    return predict_ab(params, _lightness(rgb)[..., None] / L_SCALE - 1)


def recolor_photo(
    rgb: np.ndarray, ab: np.ndarray, *, saturation: float = 1.0
) -> np.ndarray:
    """Gives a photo other colors of any resolution, and keeps its own lightness.

    Threads may call this side by side.

    Args:
      rgb: uint8 [H, W, 3], sRGB in [0, 255].
      ab: float32 [h, w, 2], the network's colors in [-1, 1].
      saturation: as for `colorize`.

    Returns:
      uint8 [H, W, 3], sRGB in [0, 255].
    """
    height, width = rgb.shape[:2]
    ab = saturation * ab
    # Enlarged to the full width here and to the full height chunk by chunk: all of it at
    # once would take as much memory as the rest together.
    rows = resize_photo(ab, len(ab), width).reshape(len(ab), -1)
    row_weights = cv2.resize(
        np.eye(len(ab), dtype=np.float32),
        (len(ab), height),
        interpolation=cv2.INTER_CUBIC if height > len(ab) else cv2.INTER_AREA,
    )
    # Cubic interpolation overshoots at edges.
    lowest, highest = (np.tile(f(ab, axis=(0, 1)), width) for f in (np.min, np.max))

    pixels = rgb.reshape(-1, 3)
    result = np.empty_like(pixels)
    for start in range(0, len(pixels), _CHUNK_PIXELS):
        chunk = pixels[start : start + _CHUNK_PIXELS]
        top, bottom = start // width, math.ceil((start + len(chunk)) / width)
        weights = row_weights[top:bottom]
        used = np.flatnonzero(weights.any(axis=0))
        used = slice(used[0], used[-1] + 1)
        chunk_ab = np.clip(weights[:, used] @ rows[used], lowest, highest)
        chunk_ab = chunk_ab.reshape(-1, 2)[start - top * width :][: len(chunk)]
        padding = ((0, _CHUNK_PIXELS - len(chunk)), (0, 0))
        colored = _recolor(np.pad(chunk, padding), np.pad(chunk_ab, padding))
        result[start : start + len(chunk)] = np.asarray(colored)[: len(chunk)]
    return result.reshape(rgb.shape)


@jax.jit
def _recolor(rgb: jax.Array, ab: jax.Array) -> jax.Array:
    """uint8 [N, 3] with the lightness of `rgb` and the network's ab [N, 2]."""
    return jnp.round(_join(_lightness(rgb), ab) * 255).astype(jnp.uint8)


def _lightness(rgb: jax.Array) -> jax.Array:
    """CIE L [...] of uint8 sRGB [..., 3]."""
    return rgb_to_lab(rgb.astype(jnp.float32) / 255)[..., 0]


def save_params(
    path: str | os.PathLike,
    params: Params,
    training: Mapping[str, Any],
    *,
    half_precision: bool = False,
) -> None:
    """Writes the parameters of a generator to a safetensors file.

    The file appears whole or not at all, and replaces an older one.

    Args:
      path: the file; its folder must exist.
      params: folded parameters of a generator.
      training: how they were trained; a plain dictionary that JSON can hold. It is kept
        in the file's metadata (see `load_training`).
      half_precision: writes float16, in half the space: 11 bits of precision.
        `load_params` returns float32 all the same.

    Raises:
      ParamsError: if `params` are not a generator's, or have a value that half precision
        cannot hold.
      OSError: if the file cannot be written.
    """
    image_size(params)
    path = Path(path)
    arrays = {
        f"{name}.{array}": np.ascontiguousarray(value, np.float32)
        for name, layer in params.items()
        for array, value in layer.items()
    }
    if half_precision:
        for name, array in arrays.items():
            if not np.abs(array).max() <= np.finfo(np.float16).max:
                raise ParamsError(
                    f"{name} has values that half precision cannot hold: its largest"
                    " is 65504."
                )
            arrays[name] = array.astype(np.float16)
    metadata = {
        "format": _FORMAT,
        "version": _FORMAT_VERSION,
        "training": json.dumps(training),
    }
    try:
        # Not `save_file`, which lets nobody but its owner read the file.
        replace_file(path, safetensors.numpy.save(arrays, metadata))
    except OSError as error:
        raise OSError(f"{path} cannot be written: {error.strerror}") from error


def load_params(path: str | os.PathLike = RELEASED_PARAMS) -> Params:
    """Reads the parameters of a trained generator.

    Args:
      path: a file written by `save_params`, or the work directory of a training run,
        which holds one named params.safetensors; by default those that come with this
        package.

    Returns:
      The folded parameters, float32, on the default device.

    Raises:
      ParamsError: if there is no such file, or it is damaged, of another format or
        version, or does not hold a generator's parameters.
    """
    path = _params_file(path)
    params: dict[str, dict[str, jax.Array]] = {}
    with _open_params(path) as file:
        # One array after the other, so that there is never a second copy of them all.
        for key in file.offset_keys():
            name, _, array = key.partition(".")
            # Not `jnp.asarray`, which compiles something for each shape.
            values = jax.device_put(file.get_tensor(key).astype(np.float32))
            params.setdefault(name, {})[array] = values
    try:
        image_size(params)
    except ParamsError as error:
        raise ParamsError(f"{path} does not fit a generator: {error}") from error
    return params


def load_training(path: str | os.PathLike = RELEASED_PARAMS) -> dict[str, Any]:
    """Reads how the parameters in a file were trained.

    Args:
      path: as for `load_params`.

    Returns:
      What `save_params` was given. A training run gives "config" (as a dictionary),
      "step" and "mean_ab" (see `data.mean_ab`).

    Raises:
      ParamsError: as for `load_params`.
    """
    with _open_params(_params_file(path)) as file:
        return json.loads(file.metadata().get("training", "{}"))


def _params_file(path: str | os.PathLike) -> Path:
    """The params file that a user means by a file or a work directory."""
    path = Path(path).expanduser()
    if path.is_dir():
        if not (path / PARAMS_FILE).exists():
            raise ParamsError(
                f"The folder {path} holds no {PARAMS_FILE}; a training run writes it"
                " into its work directory when it ends."
            )
        return path / PARAMS_FILE
    if not path.exists():
        raise ParamsError(
            f"{path} does not exist; name a {PARAMS_FILE} or the work directory of a"
            " training run."
        )
    return path


@contextmanager
def _open_params(path: Path) -> Iterator[safetensors.safe_open]:
    """Opens a file of `save_params` and checks its format and version."""
    try:
        with safetensors.safe_open(path, framework="numpy") as file:
            metadata = file.metadata() or {}
            if metadata.get("format") != _FORMAT:
                raise ParamsError(
                    f"{path} is a safetensors file, but not one of colorgan_jax."
                )
            if metadata.get("version") != _FORMAT_VERSION:
                raise ParamsError(
                    f"{path} is of format version {metadata.get('version')}, but this"
                    f" colorgan_jax reads version {_FORMAT_VERSION}: use the"
                    " colorgan_jax that it was made with."
                )
            yield file
    except (OSError, safetensors.SafetensorError) as error:
        raise ParamsError(
            f"{path} is damaged or no safetensors file: {error}."
        ) from error
