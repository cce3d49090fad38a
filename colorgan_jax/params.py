"""Parameters of a trained generator: folded, checked, saved and loaded.

Inference needs only `params`: after training, BatchNorm is folded into the
convolutions before it, and the depth and width of the network are read off the
shapes. The folded parameters of a generator for SxS pixels, S = 2 ** N, are

    {"encoder_1": {"kernel": [4, 4, 1, F], "bias": [F]}, ..., "encoder_N": ...,
     "decoder_1": {"kernel": [4, 4, O, I], "bias": [O]}, ..., "decoder_N": ...}

in float32, where I channels go in, O come out, and decoder_1 is the innermost block. With
`encoder="efficientnet"` the layers of `efficientnet.BLOCKS` take the place of encoder_1 to
encoder_5, under their own names: {"stem": {"kernel": [3, 3, 1, 32], "bias": [32]}, ...,
"bottleneck_16_project": ...}.
"""

import hashlib
import json
import os
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import safetensors
import safetensors.numpy

from colorgan_jax import hub
from colorgan_jax.errors import ParamsError, PathError
from colorgan_jax.networks.architecture import BATCH_NORM_EPSILON, Architecture
from colorgan_jax.paths import (
    AnyPath,
    in_bucket,
    is_file,
    read_file,
    replace_file,
    user_path,
)

Params = Mapping[str, Mapping[str, jax.Array | np.ndarray]]

PARAMS_FILE = "params.safetensors"
# The parameters that come with this package (docs/model-card.md), and their name.
RELEASED = "released"
RELEASED_PARAMS = Path(__file__).parent / "weights" / PARAMS_FILE
_FORMAT = "colorgan_jax generator"
_FORMAT_VERSION = "2"


def fold_batch_norm(variables: Mapping[str, Any]) -> Params:
    """Folds BatchNorm's running statistics into the convolutions before it.

    In inference mode BatchNorm is a factor and an offset for each channel:
    norm(conv(x)) = conv'(x) with kernel' = kernel * scale / sqrt(variance + epsilon).

    Args:
      variables: {"params", "batch_stats"} of a `Generator`. May be traced by `jit`.

    Returns:
      The folded parameters, as laid out at the top of this module. Those of a generator
      that was trained folded stay as they are.
    """
    folded = {}
    for name, block in variables["params"].items():
        if "kernel" in block:
            folded[name] = block
            continue
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


def image_size(params: Mapping[str, Any]) -> int:
    """Height and width S of the image that the network sees, read off its depth.

    Args:
      params: folded parameters of a generator, or their shapes.

    Raises:
      ParamsError: if they are anything else; it names the first layer that is wrong.
    """
    return Architecture.from_params(params).image_size


def _is_transposed(layer: str) -> bool:
    """Whether a layer's kernel has its output channels before its input channels."""
    return layer.startswith("decoder_")


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
      path: the file, on this machine, where its folder must exist, or in a bucket.
      params: folded parameters of a generator.
      training: how they were trained; a plain dictionary that JSON can hold. It is kept
        in the file's metadata (see `load_training`).
      half_precision: writes float16, in half the space: 11 bits of precision.
        `load_params` returns float32 all the same.

    Raises:
      ParamsError: if `params` are not a generator's, or have a value that half precision
        cannot hold.
      MissingPackageError, PathError: as `paths.user_path`.
      OSError: if the file cannot be written.
    """
    image_size(params)
    path = user_path(path)
    arrays: dict[str, np.ndarray] = {
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


def load_params(path: str | os.PathLike = RELEASED) -> Params:
    """Reads the parameters of a trained generator.

    Args:
      path: a file written by `save_params`, or the work directory of a training run,
        which holds one named params.safetensors, either of this machine or in a bucket,
        "gs://BUCKET/NAME"; or a name on the Hugging Face Hub: "hf://OWNER/NAME",
        "hf://OWNER/NAME@REVISION" or "hf://OWNER/NAME/FILE". (The text itself: a `Path`
        would lose a slash.) "released", and by default, those that come with this package.

    Returns:
      The folded parameters, float32, on the default device.

    Raises:
      MissingPackageError: a name on the hub needs the package huggingface_hub, and one in
        a bucket those of the extra `gcs`.
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


def load_training(path: str | os.PathLike = RELEASED) -> dict[str, Any]:
    """Reads how the parameters in a file were trained.

    Args:
      path: as for `load_params`.

    Returns:
      What `save_params` was given. A training run gives "config" (as a dictionary),
      "step" and "mean_ab" (see `data.mean_ab`); `colorgan import-torch` gives
      "imported_from", the name of a file.

    Raises:
      MissingPackageError, ParamsError: as for `load_params`.
    """
    with _open_params(_params_file(path)) as file:
        return json.loads(file.metadata().get("training", "{}"))


def fingerprint(params: Params) -> str:
    """Stands for parameters: other ones have another, however they were stored.

    Args:
      params: parameters of a generator.

    Returns:
      32 hexadecimal digits.
    """
    seen = hashlib.sha256()
    for layer, arrays in sorted(params.items()):
        for name, array in sorted(arrays.items()):
            seen.update(f"{layer}.{name} {array.shape} {array.dtype}".encode())
            seen.update(np.asarray(array).tobytes())
    return seen.hexdigest()[:32]


def _params_file(path: str | os.PathLike) -> AnyPath:
    """The params file that a user means by a file, a work directory or a name."""
    if os.fspath(path) == RELEASED:
        return RELEASED_PARAMS
    if hub.is_hub_name(path):
        return hub.download(str(path), PARAMS_FILE)
    try:
        path = user_path(path).expanduser()
    except PathError as error:
        raise ParamsError(str(error)) from error
    if in_bucket(path):
        try:
            for file in (path, path / PARAMS_FILE):
                if is_file(file):
                    return file
        except OSError as error:
            raise ParamsError(f"{path} cannot be read: {error.strerror}.") from error
        raise ParamsError(
            f"{path} is no file, nor a folder that holds {PARAMS_FILE}; a training run"
            " writes it into its work directory when it ends."
        )
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
def _on_this_machine(path: AnyPath) -> Iterator[AnyPath]:
    """A file itself, or a copy of one in a bucket."""
    if not in_bucket(path):
        yield path
        return
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / PARAMS_FILE
        try:
            copy.write_bytes(read_file(path))
        except OSError as error:
            raise ParamsError(f"{path} cannot be read: {error.strerror}.") from error
        yield copy


@contextmanager
def _open_params(path: AnyPath) -> Iterator[safetensors.safe_open]:
    """Opens a file of `save_params` and checks its format and version."""
    try:
        with (
            _on_this_machine(path) as local,
            safetensors.safe_open(local, framework="numpy") as file,
        ):
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
