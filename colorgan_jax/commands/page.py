"""colorgan page and colorgan serve: the page that colorizes photos in the browser."""

import argparse
from pathlib import Path

from colorgan_jax.commands.extras import extra
from colorgan_jax.commands.options import (
    add_address_options,
    add_params_option,
    local_path,
)
from colorgan_jax.errors import CommandError
from colorgan_jax.params import load_params
from colorgan_jax.paths import replace_file


def add_parsers(commands: argparse._SubParsersAction) -> None:
    """Adds both commands and their options."""
    parser = commands.add_parser(
        "page",
        help="write the colorizing page as static files",
        description="Writes the page that colorizes photos in the browser, network"
        " included, as static files for any web host (docs/page.md).",
    )
    _add_shared_options(parser)
    parser.add_argument(
        "--output",
        required=True,
        type=local_path,
        metavar="FOLDER",
        help="where to write it; created if it does not exist",
    )
    parser.add_argument(
        "--overwrite",
        action="store_true",
        help="replace files in a folder that is not empty",
    )
    parser.set_defaults(run=_write)

    parser = commands.add_parser(
        "serve",
        help="serve the colorizing page from this computer",
        description="Serves the page that colorizes photos in the browser until Ctrl-C."
        " The network runs in each browser or, if people choose so there, here.",
    )
    _add_shared_options(parser)
    add_address_options(parser, people="people")
    parser.set_defaults(run=_serve)


def _add_shared_options(parser: argparse.ArgumentParser) -> None:
    add_params_option(parser)
    parser.add_argument(
        "--webgpu",
        type=local_path,
        metavar="FILE",
        help="let people run the network on their GPU: FILE is the package"
        " onnxruntime-web from the npm registry (.tgz, docs/page.md)",
    )


def _write(options: argparse.Namespace) -> int:
    folder = options.output
    try:
        if folder.is_dir() and any(folder.iterdir()) and not options.overwrite:
            raise CommandError(
                f"The folder {folder} is not empty: --overwrite replaces files in it, or"
                " name another --output."
            )
        with extra("page", "colorgan page"):
            from colorgan_jax.page.site import build_site

            files = build_site(
                load_params(options.params), webgpu=_read_webgpu(options.webgpu)
            )
        folder.mkdir(parents=True, exist_ok=True)
        for name, content in files.items():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            replace_file(folder / name, content)
    except OSError as error:
        raise CommandError(
            f"The folder {folder} cannot be written: {error.strerror or error}."
        ) from error
    print(f"{folder}: {sum(map(len, files.values())) / 1e6:.1f} MB")
    return 0


def _serve(options: argparse.Namespace) -> int:
    with extra("page", "colorgan serve"):
        from colorgan_jax import serving
        from colorgan_jax.page import server

    with serving.listen(options.host, options.port) as listener:
        with extra("page", "colorgan serve"):  # The model is made by `onnx`.
            web_server = server.create_server(
                load_params(options.params), webgpu=_read_webgpu(options.webgpu)
            )
        print(f"{serving.addresses(listener)} Ctrl-C stops it.", flush=True)
        try:
            web_server.run(sockets=[listener])
        except KeyboardInterrupt:
            pass  # the way to stop it
    return 0


def _read_webgpu(path: Path | None) -> bytes | None:
    if path is None:
        return None
    try:
        return path.read_bytes()
    except OSError as error:
        raise CommandError(f"{path} cannot be read: {error.strerror}.") from error
