"""The generator as programs for others: StableHLO and ONNX.

Both take photos as sRGB and give the network's colors, so that their users need no color
math of their own before the network. Image size and weights are fixed, the batch is not.

    rgb       float32 [batch, S, S, 3] in [0, 1], squashed to the network's size
    ab        float32 [batch, S, S, 2], CIE a and b
"""

from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np

from colorgan_jax.inference import predict_ab
from colorgan_jax.lab import (
    AB_SCALE,
    L_SCALE,
    LIGHTNESS_KINK,
    SRGB_KINK,
    Y_FROM_RGB,
    rgb_to_lab,
)
from colorgan_jax.networks import efficientnet
from colorgan_jax.networks.architecture import (
    Architecture,
    is_efficientnet_block,
    unet_depth,
)
from colorgan_jax.networks.layers import LEAKY_SLOPE
from colorgan_jax.params import Params, image_size

if TYPE_CHECKING:
    import onnx

_PLATFORMS = ("cpu", "cuda", "tpu")
# Of ONNX's operators: the lowest in which all of them are as they are used here.
_OPSET = 13
# Of the file format that came with that opset.
_IR_VERSION = 7


def export_stablehlo(params: Params) -> bytes:
    """The generator as one program for CPUs, CUDA and TPUs.

    Args:
      params: parameters of a generator, from `load_params` or `fold_batch_norm`.

    Returns:
      What `jax.export.deserialize` takes; `.call(rgb)` then gives ab.

    Raises:
      ParamsError: if `params` are not a generator's.
    """
    size = image_size(params)

    @jax.jit
    def predict(rgb: jax.Array) -> jax.Array:
        L = rgb_to_lab(rgb)[..., :1]
        return AB_SCALE * predict_ab(params, L / L_SCALE - 1)

    (batch,) = jax.export.symbolic_shape("batch")
    rgb = jax.ShapeDtypeStruct((batch, size, size, 3), jnp.float32)
    exported = jax.export.export(predict, platforms=_PLATFORMS)(rgb)
    return bytes(exported.serialize())


def export_onnx(params: Params, *, half_precision: bool = False) -> "onnx.ModelProto":
    """The generator as an ONNX model.

    Beside "ab" it gives what hints compare: "features_1", "features_2", ..., the output of
    each block of the encoder, float32 [batch, C, h, w] (as `Generator.encode`, but with the
    channels first).

    Args:
      params: parameters of a generator, from `load_params` or `fold_batch_norm`.
      half_precision: keeps the weights in float16, in half the space. They are computed
        with in float32.

    Returns:
      A model of opset 13 that passes `onnx.checker`.

    Raises:
      ParamsError: if `params` are not a generator's.
    """
    import onnx

    architecture = Architecture.from_params(params)
    graph = _Graph(params, np.float16 if half_precision else np.float32)
    size = architecture.image_size
    features = _add_encoder(graph, architecture, _add_lightness(graph, "rgb"))
    outputs = [f"features_{block}" for block in range(1, len(features) + 1)]
    for feature, output in zip(features, outputs, strict=True):
        graph.add("Identity", [feature], output=output)
    _add_decoder(graph, architecture, features)

    def floats(name: str, *shape: int | None) -> onnx.ValueInfoProto:
        return onnx.helper.make_tensor_value_info(
            name, onnx.TensorProto.FLOAT, ["batch", *shape]
        )

    model = onnx.helper.make_model(
        onnx.helper.make_graph(
            graph.nodes,
            "colorgan_jax generator",
            [floats("rgb", size, size, 3)],
            [
                floats("ab", size, size, 2),
                *(floats(output, None, None, None) for output in outputs),
            ],
            graph.weights,
        ),
        opset_imports=[onnx.helper.make_opsetid("", _OPSET)],
        ir_version=_IR_VERSION,
        producer_name="colorgan_jax",
    )
    onnx.checker.check_model(model, full_check=True)
    return model


class _Graph:
    """Nodes and weights of an ONNX graph in the making."""

    def __init__(self, params: Params, dtype: type[np.floating]):
        self.nodes: list[onnx.NodeProto] = []
        self.weights: list[onnx.TensorProto] = []
        self._params = params
        self._dtype = dtype

    def add(
        self,
        operator: str,
        inputs: list[str],
        *,
        output: str | None = None,
        **attributes: Any,
    ) -> str:
        """Adds a node with one output, and returns the output's name."""
        import onnx

        output = output or f"{operator.lower()}_{len(self.nodes)}"
        self.nodes.append(
            onnx.helper.make_node(operator, inputs, [output], **attributes)
        )
        return output

    def constant(self, values: Any) -> str:
        """Adds float32 numbers."""
        return self._weight(
            np.asarray(values, np.float32), f"constant_{len(self.weights)}"
        )

    def _weight(self, values: np.ndarray, name: str) -> str:
        import onnx

        self.weights.append(onnx.numpy_helper.from_array(values, name))
        return name

    def convolve(self, operator: str, x: str, layer: str, **attributes: Any) -> str:
        """Adds a layer of the generator, with its kernel and bias."""
        import onnx

        kernel, bias = (
            np.asarray(self._params[layer][name]) for name in ("kernel", "bias")
        )
        # [H, W, in, out] and, of transposed convolutions, [H, W, out, in]: ONNX has the
        # side first that comes last.
        kernel = np.ascontiguousarray(kernel.transpose(3, 2, 0, 1), self._dtype)
        names = [
            self._weight(kernel, f"{layer}.kernel"),
            self._weight(bias.astype(self._dtype), f"{layer}.bias"),
        ]
        if self._dtype != np.float32:
            names = [
                self.add("Cast", [name], to=onnx.TensorProto.FLOAT) for name in names
            ]
        return self.add(operator, [x, *names], output=layer, **attributes)


def _add_lightness(graph: _Graph, rgb: str) -> str:
    """From sRGB, channels last, to what the network takes, channels first."""

    def op(operator: str, x: str, number: float) -> str:
        return graph.add(operator, [x, graph.constant(number)])

    curve = op("Pow", op("Div", op("Add", rgb, 0.055), 1.055), 2.4)
    is_line = op("LessOrEqual", rgb, SRGB_KINK)
    linear = graph.add("Where", [is_line, op("Div", rgb, 12.92), curve])
    Y = graph.add("MatMul", [linear, graph.constant(Y_FROM_RGB[:, None])])
    # CIE's lightness: a cube root above the kink and a line below it.
    root = op("Pow", Y, 1 / 3)
    is_line = op("LessOrEqual", Y, LIGHTNESS_KINK**3)
    line = op("Add", op("Div", Y, 3 * LIGHTNESS_KINK**2), 4 / 29)
    L = op("Sub", op("Mul", graph.add("Where", [is_line, line, root]), 116.0), 16.0)
    scaled = op("Sub", op("Div", L, L_SCALE), 1.0)
    return graph.add("Transpose", [scaled], perm=[0, 3, 1, 2])


def _add_encoder(graph: _Graph, architecture: Architecture, x: str) -> list[str]:
    """As `Generator.encode`."""
    features: list[str] = []
    for block in range(1, unet_depth(architecture.image_size) + 1):
        if is_efficientnet_block(architecture.encoder, block):
            x = _add_efficientnet(graph, block, x)
        else:
            if features:
                x = graph.add("LeakyRelu", [x], alpha=LEAKY_SLOPE)
            x = graph.convolve(
                "Conv", x, f"encoder_{block}", strides=[2, 2], pads=[1, 1, 1, 1]
            )
        features.append(x)
    return features


def _add_efficientnet(graph: _Graph, block: int, x: str) -> str:
    """As `efficientnet.encode`."""

    def convolve(x: str, layer: str, *, stride: int = 1, groups: int = 1) -> str:
        return graph.convolve(
            "Conv",
            x,
            layer,
            strides=[stride, stride],
            group=groups,
            auto_pad="SAME_UPPER",
        )

    def relu6(x: str) -> str:
        return graph.add("Clip", [x, graph.constant(0), graph.constant(6)])

    if block == 1:
        x = relu6(convolve(x, efficientnet.STEM, stride=2))
    for bottleneck in efficientnet.BLOCKS[block - 1]:
        features = x
        if bottleneck.expansion > 1:
            features = relu6(convolve(x, bottleneck.expand))
        features = relu6(
            convolve(
                features,
                bottleneck.depthwise,
                stride=bottleneck.stride,
                groups=bottleneck.expansion * bottleneck.inputs,
            )
        )
        features = convolve(features, bottleneck.project)
        x = graph.add("Add", [x, features]) if bottleneck.is_residual else features
    return x


def _add_decoder(
    graph: _Graph, architecture: Architecture, features: list[str]
) -> None:
    """As `Generator.decode`, to "ab" in units of CIE ab, channels last."""
    *outer, x = features
    for block, skip in enumerate([None, *outer[::-1]], start=1):
        x = graph.add("Relu", [x])
        if skip is not None:
            number = len(features) + 1 - block
            if not is_efficientnet_block(architecture.encoder, number):
                skip = graph.add("Relu", [skip])
            x = graph.add("Concat", [x, skip], axis=1)
        x = graph.convolve(
            "ConvTranspose", x, f"decoder_{block}", strides=[2, 2], pads=[1, 1, 1, 1]
        )
    scaled = graph.add("Transpose", [graph.add("Tanh", [x])], perm=[0, 2, 3, 1])
    graph.add("Mul", [scaled, graph.constant(AB_SCALE)], output="ab")
