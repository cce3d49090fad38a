"""colorgan export: the generator for other programs."""

import argparse

from colorgan_jax.commands.extras import extra
from colorgan_jax.commands.options import add_params_option
from colorgan_jax.commands.output_file import add_output_options, output_file
from colorgan_jax.errors import CommandError
from colorgan_jax.params import load_params, load_training, save_params
from colorgan_jax.paths import replace_file

_FORMATS = ("stablehlo", "onnx", "safetensors")


def add_parser(commands: argparse._SubParsersAction) -> None:
    """Adds the command and its options."""
    parser = commands.add_parser(
        "export",
        help="write the network for other programs",
        description="Writes the network as one file for other programs: StableHLO for"
        " JAX and XLA, ONNX for all else, or its weights as safetensors (docs/export.md).",
    )
    add_params_option(parser)
    parser.add_argument("--format", required=True, choices=_FORMATS)
    add_output_options(parser)
    parser.add_argument(
        "--half-precision",
        action="store_true",
        help="keep the weights in float16, in half the space (onnx, safetensors)",
    )
    parser.set_defaults(run=_run)


def _run(options: argparse.Namespace) -> int:
    if options.format == "stablehlo" and options.half_precision:
        raise CommandError("--half-precision is for the formats onnx and safetensors.")
    with output_file(options) as output:
        params = load_params(options.params)
        if options.format == "safetensors":
            training = load_training(options.params)
            save_params(output, params, training, half_precision=options.half_precision)
        else:
            # Not at the top: the other commands do without it.
            from colorgan_jax import export

            if options.format == "onnx":
                with extra("export", "colorgan export --format onnx"):
                    model = export.export_onnx(
                        params, half_precision=options.half_precision
                    )
                content = model.SerializeToString()
            else:
                content = export.export_stablehlo(params)
            replace_file(output, content)
    print(output)
    return 0
