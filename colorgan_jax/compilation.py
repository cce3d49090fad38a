"""How XLA compiles the networks, and where what it compiled is kept."""

import contextlib
import functools
import hashlib
import os
import threading
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
from jax import export

from colorgan_jax.paths import replace_file


@functools.cache
def memory_saving_options() -> dict[str, str]:
    """What to give `jax.jit` as `compiler_options` for a program that runs a whole network.

    On a CPU they ask XLA for the order of operations that takes the least memory. By default
    XLA first prepares the kernels of all layers, to keep many cores busy, in a buffer that it
    takes from the system anew for each call: writing to fresh memory took a fifth of the
    generator's time for one photo, and there is two to three times as much of it.

    JAX takes compiler options for the outermost `jit` only, so they are for programs whose
    outermost call is ours: not for functions that others may transform. Starts JAX's
    backend, so call it when the program is made, not at import.
    """
    if jax.default_backend() != "cpu":
        return {}
    options = {"xla_cpu_scheduler_type": "CPU_SCHEDULER_TYPE_MEMORY_OPTIMIZED"}
    try:
        jax.jit(lambda: 0, compiler_options=options)()
    except jax.errors.JaxRuntimeError:  # Another version of XLA may not know it.
        return {}
    return options


def enable_compilation_cache() -> None:
    """Keeps what XLA compiles from now on, and finds it again in later processes.

    The folder is the environment's JAX_COMPILATION_CACHE_DIR, else colorgan_jax in
    XDG_CACHE_HOME, else ~/.cache/colorgan_jax. It can be deleted at any time. Where
    it cannot be made, nothing is kept.
    """
    if _cache_folder() is None:  # JAX reads the environment's itself.
        try:
            caches = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
            folder = Path(caches) / "colorgan_jax"
            folder.mkdir(parents=True, exist_ok=True)
        except (OSError, RuntimeError):  # RuntimeError: there is no home folder
            return
        jax.config.update("jax_compilation_cache_dir", str(folder))
    # JAX's own limit of a second leaves out much of what a short command compiles.
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.1)
    # A damaged entry or a full disk costs the time to compile, and is no news to users.
    warnings.filterwarnings(
        "ignore", "Error (reading|writing) persistent compilation cache entry"
    )


def _cache_folder() -> str | None:
    # JAX's config declares no attributes.
    return jax.config.jax_compilation_cache_dir or None  # pyright: ignore[reportAttributeAccessIssue]


def kept_jit(function: Callable, **options: Any) -> Callable:
    """`jax.jit` for a function that later processes need not trace again.

    JAX's cache keeps what XLA compiles, but to look there it needs the program, and tracing
    the generator takes longer than all else in colorizing one photo. Where that cache is on,
    the program is kept in its folder, too.

    Args:
      function: takes arrays or trees of them, and depends on nothing but them and the source
        of this package.
      **options: of `jax.jit`, but for static arguments.

    Returns:
      A function that returns what `function` does. Threads may call it side by side.
    """
    jitted: Any = jax.jit(function, **options)
    programs: dict[Any, Callable] = {}
    lock = threading.Lock()

    @functools.wraps(function)
    def call(*arguments: Any) -> Any:
        folder = _cache_folder()
        # A program is for one platform; only a CPU is slow enough at tracing.
        if folder is None or jax.default_backend() != "cpu":
            return jitted(*arguments)
        leaves, tree = jax.tree.flatten(arguments)
        shapes = (tree, *(jax.typeof(leaf) for leaf in leaves))
        with lock:
            if shapes not in programs:
                name = f"program-{_digest(function.__qualname__, shapes)}"
                exported = _load_or_export(jitted, arguments, Path(folder, name))
                programs[shapes] = jax.jit(exported.call, **options)
        return programs[shapes](*arguments)

    return call


def _load_or_export(jitted: Any, arguments: tuple, path: Path) -> export.Exported:
    """The program for arguments of these shapes, from a file that may have to be made."""
    try:
        return export.deserialize(bytearray(path.read_bytes()))
    except FileNotFoundError:
        pass
    except Exception:  # Damaged: almost anything can be raised.
        path.unlink(missing_ok=True)
    exported = export.export(jitted)(*arguments)
    with contextlib.suppress(OSError):  # A full disk: it is not kept, then.
        replace_file(path, bytes(exported.serialize()))
    return exported


def _digest(*parts: object) -> str:
    """Stands for all that a program depends on, besides what is given."""
    package = Path(__file__).parent
    source = [
        (str(path), path.stat().st_size, path.stat().st_mtime_ns)
        for path in sorted(package.rglob("*.py"))
    ]
    everything = (*parts, jax.__version__, sorted(jax.config.values.items()), source)
    return hashlib.sha256(repr(everything).encode()).hexdigest()
