"""Compiled functions kept on disk, so that a second start of a program is quick."""

import os
import warnings
from pathlib import Path

import jax


def enable_compilation_cache() -> None:
    """Keeps what XLA compiles from now on, and finds it again in later processes.

    The folder is the environment's JAX_COMPILATION_CACHE_DIR, else colorgan_jax in
    XDG_CACHE_HOME, else ~/.cache/colorgan_jax. It can be deleted at any time. Where
    it cannot be made, nothing is kept.
    """
    if not jax.config.jax_compilation_cache_dir:  # JAX reads the environment's itself
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
