"""How XLA compiles the networks, and where what it compiled is kept."""

import functools
import os
import warnings
from pathlib import Path

import jax


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
    # JAX reads the environment's itself. Its config declares no attributes.
    given = jax.config.jax_compilation_cache_dir  # pyright: ignore[reportAttributeAccessIssue]
    if not given:
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
