"""Generators that were trained with the PyTorch code of pix2pix.

github.com/junyanz/pytorch-CycleGAN-and-pix2pix trains the same network for the same values
(`--model colorization`: L / 50 - 1 in, ab / 110 out). It differs in what is stored:

- Blocks are nested: the names of a block begin with those of the block around it.
- In the encoder, the outermost block has no bias, and the innermost has no BatchNorm and no
  bias either.
- What comes over a skip connection is before the other channels, and here behind them.
"""

import os
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np

from colorgan_jax.errors import ParamsError
from colorgan_jax.networks.architecture import Architecture, unet_depth
from colorgan_jax.params import Params, fold_batch_norm
from colorgan_jax.weights.torch_files import TorchFile, open_torch_file, printed

_IMAGE_SIZE = 256
_DEPTH = unet_depth(_IMAGE_SIZE)
_ONLY = (
    "only the unet_256 generator of pytorch-CycleGAN-and-pix2pix can be imported, with"
    " batch normalization, from one channel to two."
)

# Of `torch.nn.DataParallel`, before every name.
_PARALLEL = "module."

_BATCH_NORM = ("weight", "bias", "running_mean", "running_var")


class _Layer(NamedTuple):
    """A layer of ours, by the names of theirs.

    Attributes:
      name: ours.
      convolution: what the names of its arrays begin with.
      norm: the same of the BatchNorm after it, if there is one.
      has_bias: whether the convolution has one.
      has_skip: whether half of the channels that it takes come over a skip connection.
    """

    name: str
    convolution: str
    norm: str | None = None
    has_bias: bool = False
    has_skip: bool = False


def load_pix2pix(path: str | os.PathLike) -> Params:
    """Reads the generator that pix2pix's PyTorch code saved.

    Args:
      path: its state dict, such as latest_net_G.pth: that of a unet_256 with BatchNorm and
        any number of filters, from one channel to two.

    Returns:
      Its parameters, folded: they predict what it predicts in evaluation mode.

    Raises:
      ParamsError: if there is no such file, or it is damaged or holds anything else; it
        says what.
    """
    with open_torch_file(path) as file:
        is_parallel = all(name.startswith(_PARALLEL) for name in file.shapes)
        prefix = _PARALLEL if is_parallel else ""
        shapes = {name.removeprefix(prefix): file.shapes[name] for name in file.shapes}
        _check_kind(shapes)
        _check_shapes(shapes)
        params = fold_batch_norm(_variables(file, prefix))
        for layer, arrays in params.items():
            if not all(np.isfinite(array).all() for array in arrays.values()):
                raise ParamsError(f"its values for {layer} are too large together.")
    return params


def _inner_block(number: int) -> str:
    """What the names of a block begin with, but for the outermost: 2 is within that."""
    return "model.model.1.model." + "3.model." * (number - 2)


def _layers() -> Iterator[_Layer]:
    """All of them, from the outermost block to the innermost."""
    yield _Layer("encoder_1", "model.model.0")
    yield _Layer(f"decoder_{_DEPTH}", "model.model.3", has_bias=True, has_skip=True)
    for number in range(2, _DEPTH + 1):
        block = _inner_block(number)
        is_innermost = number == _DEPTH
        norm = None if is_innermost else f"{block}2"
        yield _Layer(f"encoder_{number}", f"{block}1", norm)
        up, up_norm = ("3", "4") if is_innermost else ("5", "6")
        yield _Layer(
            f"decoder_{_DEPTH + 1 - number}",
            block + up,
            block + up_norm,
            has_skip=not is_innermost,
        )


def _check_kind(shapes: Mapping[str, tuple[int, ...]]) -> None:
    """Says of the network's relatives what they are."""
    if any(".conv_block." in name for name in shapes):
        raise ParamsError(f"it is a ResNet; {_ONLY}")
    first, last = (shapes.get(f"model.model.{layer}.weight", ()) for layer in (0, 3))
    if len(first) != 4 or len(last) != 4:
        raise ParamsError(f"it is not such a U-Net; {_ONLY}")
    depth = 1
    while f"{_inner_block(depth + 1)}1.weight" in shapes:
        depth += 1
    if depth != _DEPTH:
        raise ParamsError(f"it is a U-Net for {2**depth}x{2**depth} pixels; {_ONLY}")
    block = _inner_block(2)
    norm = {f"{block}2.{array}" for array in _BATCH_NORM}
    if f"{block}1.bias" in shapes or not norm <= set(shapes):
        raise ParamsError(f"it has no batch normalization; {_ONLY}")
    if (first[1], last[1]) != (1, 2):
        raise ParamsError(
            f"it goes from {first[1]} to {last[1]} channels, not from L to ab; {_ONLY}"
        )


def _check_shapes(shapes: Mapping[str, tuple[int, ...]]) -> None:
    """Refuses any difference to the network with as many filters."""
    filters = shapes["model.model.0.weight"][0]
    ours = Architecture(filters, None, _IMAGE_SIZE, "unet").layer_shapes()
    expected: dict[str, tuple[int, ...]] = {}
    counts = (
        set()
    )  # of the batches that BatchNorm saw: later versions of PyTorch's have it
    for layer in _layers():
        height, width, *channels = ours[layer.name]["kernel"]
        outputs = ours[layer.name]["bias"]
        expected[f"{layer.convolution}.weight"] = (*channels[::-1], height, width)
        if layer.has_bias:
            expected[f"{layer.convolution}.bias"] = outputs
        if layer.norm:
            expected |= {f"{layer.norm}.{array}": outputs for array in _BATCH_NORM}
            counts.add(f"{layer.norm}.num_batches_tracked")
    for name, shape in expected.items():
        if name not in shapes:
            raise ParamsError(f"it lacks {name}; {_ONLY}")
        if shapes[name] != shape:
            raise ParamsError(f"{name} has shape {shapes[name]} instead of {shape}.")
    if unknown := sorted(set(shapes) - set(expected) - counts):
        raise ParamsError(f"such a U-Net has no {printed(unknown[0])}; {_ONLY}")


def _variables(file: TorchFile, prefix: str) -> dict[str, Any]:
    """Those of a `Generator`.

    Args:
      file: of which the shapes were checked.
      prefix: of all names in it.
    """

    def read(name: str) -> np.ndarray:
        with np.errstate(over="ignore"):
            array = file.read(prefix + name).astype(np.float32)
        if not np.isfinite(array).all():
            raise ParamsError(f"{name} has values that are not finite numbers.")
        return array

    variables: dict[str, Any] = {"params": {}, "batch_stats": {}}
    for layer in _layers():
        # [O, I, 4, 4] and, of transposed convolutions, [I, O, 4, 4]: ours have the sides
        # first, and then the same channels first as theirs have second.
        kernel = read(f"{layer.convolution}.weight").transpose(2, 3, 1, 0)
        if layer.has_skip:
            kernel = np.roll(kernel, kernel.shape[-1] // 2, axis=-1)
        if layer.norm:
            scale, bias, mean, variance = (
                read(f"{layer.norm}.{array}") for array in _BATCH_NORM
            )
            if variance.min() < 0:
                raise ParamsError(f"{layer.norm}.running_var has negative values.")
            block = {"conv": {"kernel": kernel}, "norm": {"scale": scale, "bias": bias}}
            variables["batch_stats"][layer.name] = {
                "norm": {"mean": mean, "var": variance}
            }
        else:
            bias = np.zeros(kernel.shape[-1], np.float32)
            if layer.has_bias:
                bias = read(f"{layer.convolution}.bias")
            block = {"conv": {"kernel": kernel, "bias": bias}}
        variables["params"][layer.name] = block
    return variables
