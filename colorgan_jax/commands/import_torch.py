"""colorgan import-torch: a generator that was trained in PyTorch."""

import argparse

from colorgan_jax.commands.options import local_path
from colorgan_jax.commands.output_file import add_output_options, output_file
from colorgan_jax.params import save_params


def add_parser(commands: argparse._SubParsersAction) -> None:
    """Adds the command and its options."""
    parser = commands.add_parser(
        "import-torch",
        help="read weights that pix2pix's PyTorch code trained",
        description="Reads the generator that pytorch-CycleGAN-and-pix2pix trained with"
        " --model colorization, without PyTorch, and writes it as weights for --params"
        " (docs/export.md).",
    )
    parser.add_argument(
        "file",
        type=local_path,
        metavar="FILE",
        help="the state dict of the generator, such as latest_net_G.pth",
    )
    add_output_options(parser)
    parser.set_defaults(run=_run)


def _run(options: argparse.Namespace) -> int:
    # Not at the top: the other commands do without it.
    from colorgan_jax.weights.pix2pix import load_pix2pix

    with output_file(options) as output:
        params = load_pix2pix(options.file)
        save_params(output, params, {"imported_from": options.file.name})
    print(output)
    return 0
