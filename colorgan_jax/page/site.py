"""The page as static files, for any web host.

`static/` holds what a browser runs: HTML, CSS and JavaScript without a build step, and ONNX
Runtime Web with its license. Here the network joins it, as an ONNX model, and `site.json`,
which tells the page what there is.

What is compressed ends in ".gzip", a name that web hosts have no idea of: some of them declare
files that end in ".gz" as compressed, and browsers then decompress these by themselves.
"""

import gzip
import hashlib
import io
import json
import tarfile
from pathlib import Path
from typing import Any

from colorgan_jax import __version__
from colorgan_jax.errors import CommandError
from colorgan_jax.export import export_onnx
from colorgan_jax.params import Params, image_size

_STATIC = Path(__file__).parent / "static"
# Of ONNX Runtime Web. It is in the names of its files, too, since browsers keep them.
RUNTIME_VERSION = "1.30.0"
_FOLDER = f"ort-{RUNTIME_VERSION}"
_RUNTIME = f"{_FOLDER}/ort-wasm-simd-threaded"
_WASM = {
    "module": f"./{_FOLDER}/ort.wasm.min.mjs",
    "loader": f"{_RUNTIME}.mjs",
    "wasm": f"{_RUNTIME}.wasm.gzip",
}
# The build for the GPU is too large to come with this package.
_WEBGPU_SHA256 = "d2228df7e4616bc3348bf504ee888f3bec43789a273f0a63f3e68d203ce3bf71"
_WEBGPU = {
    "module": f"./{_FOLDER}/ort.webgpu.min.mjs",
    "loader": f"{_RUNTIME}.asyncify.mjs",
    "wasm": f"{_RUNTIME}.asyncify.wasm.gzip",
}
_EXAMPLES = {
    "examples/astronaut.jpg": "Eileen Collins, 1999",
    "examples/chelsea.jpg": "A cat",
    "examples/coffee.jpg": "A cup of coffee",
}


def build_site(
    params: Params,
    *,
    webgpu: bytes | None = None,
    server: dict[str, Any] | None = None,
) -> dict[str, bytes]:
    """Makes the files of the site.

    Args:
      params: parameters of a generator.
      webgpu: the package onnxruntime-web as the npm registry has it (.tgz), of release
        `RUNTIME_VERSION`, for the page to run the network on the GPU if people wish.
      server: for the page that a server of the network's sends, what `site.json` says of
        it: its address and the shapes of its features.

    Returns:
      The content of each file, by its path. "index.html" is the page.

    Raises:
      ParamsError: if `params` are not a generator's.
      CommandError: if `webgpu` is another package.
    """
    files = {
        path.relative_to(_STATIC).as_posix(): path.read_bytes()
        for path in sorted(_STATIC.rglob("*"))
        if path.is_file()
    }
    model = export_onnx(params, half_precision=True).SerializeToString()
    packed = gzip.compress(model, mtime=0)
    # Another network has another name, so that no browser takes the one that it has kept.
    model_name = f"model-{hashlib.sha256(model).hexdigest()[:12]}.onnx.gzip"
    files[model_name] = packed
    if webgpu is not None:
        files |= _unpack_webgpu(webgpu)

    def sized(name: str) -> dict[str, Any]:
        return {"name": name, "bytes": len(files[name])}

    def runtime(names: dict[str, str]) -> dict[str, Any]:
        return {**names, "wasm": sized(names["wasm"])}

    site = {
        "version": __version__,
        "size": image_size(params),
        "model": sized(model_name),
        "wasm": runtime(_WASM),
        "webgpu": None if webgpu is None else runtime(_WEBGPU),
        "server": server,
        "examples": [
            {"name": name, "title": title} for name, title in _EXAMPLES.items()
        ],
        # What is kept for offline use from the beginning.
        "files": [name for name in files if not name.endswith(".gzip")],
    }
    files["site.json"] = json.dumps(site, indent=2).encode()
    return files


def _unpack_webgpu(package: bytes) -> dict[str, bytes]:
    """The files of ONNX Runtime Web for the GPU."""
    if hashlib.sha256(package).hexdigest() != _WEBGPU_SHA256:
        raise CommandError(
            "--webgpu takes the file that `npm pack"
            f" onnxruntime-web@{RUNTIME_VERSION}` writes, and no other."
        )
    files = {}
    with tarfile.open(fileobj=io.BytesIO(package)) as archive:
        for name in _WEBGPU.values():
            packed = name.endswith(".gzip")
            path = Path(name.removesuffix(".gzip")).name
            member = archive.extractfile(f"package/dist/{path}")
            assert member is not None  # The digest says that it is there.
            content = member.read()
            files[name.removeprefix("./")] = (
                gzip.compress(content, mtime=0) if packed else content
            )
    return files
