"""Files of the Hugging Face Hub, by the optional package huggingface_hub.

They are named as huggingface_hub and fsspec do: hf://OWNER/NAME is a repository of models,
hf://OWNER/NAME@REVISION its branch, tag or commit, and hf://OWNER/NAME/a/b.safetensors a file
of it.
"""

import os
import re
import urllib.parse
from pathlib import Path

from colorgan_jax.errors import MissingPackageError, ParamsError

_SCHEME = "hf://"
_NAME = re.compile(
    _SCHEME + r"(?P<repository>[^/@]+/[^/@]+)"
    # Only refs, such as that of a pull request, have slashes that are not %2F.
    r"(@(?P<revision>refs/[^/]+/[^/]+|[^/]+))?"
    r"(/(?P<file>.+?))?/?"
)


def is_hub_name(name: str | os.PathLike) -> bool:
    """Whether a name is of a file on the hub, and of none on this machine."""
    return str(name).startswith(_SCHEME)


def download(name: str, default_file: str) -> Path:
    """Downloads a file, unless the cache of huggingface_hub has it as it is on the hub.

    Where the hub cannot be reached, what the cache has is taken.

    Args:
      name: as at the top of this module.
      default_file: of a repository, where the name has none.

    Returns:
      The file in the cache.

    Raises:
      MissingPackageError: huggingface_hub is not installed.
      ParamsError: the name is wrong, or the file cannot be had.
    """
    found = _NAME.fullmatch(name)
    if found is None:
        raise ParamsError(
            f"{name} is not of the form hf://OWNER/NAME, hf://OWNER/NAME@REVISION or"
            " hf://OWNER/NAME/FILE."
        )
    try:
        import huggingface_hub  # Not at the top: optional, and few need it.
        from huggingface_hub import errors
    except ModuleNotFoundError as error:
        raise MissingPackageError(
            f"{name} needs the package {error.name}, which is not installed: pip install"
            " 'colorgan_jax[hub]'"
        ) from error

    repository = found["repository"]
    revision = found["revision"] and urllib.parse.unquote(found["revision"])
    file = found["file"] or default_file
    try:
        return Path(
            huggingface_hub.hf_hub_download(repository, file, revision=revision)
        )
    except errors.GatedRepoError as error:
        raise ParamsError(
            f"{name} is gated: ask for access on the page of {repository}, and log in with"
            " `hf auth login`."
        ) from error
    except errors.RepositoryNotFoundError as error:
        raise ParamsError(
            f"{name}: the hub has no {repository}, or it is private; check the name, or"
            " log in with `hf auth login`."
        ) from error
    except errors.RevisionNotFoundError as error:
        raise ParamsError(
            f"{name}: {repository} has no revision {revision}."
        ) from error
    except errors.LocalEntryNotFoundError as error:
        raise ParamsError(
            f"{name} is not on this machine yet, and the hub cannot be reached:"
            f" {_first_line(error.__cause__ or error)}"
        ) from error
    except errors.EntryNotFoundError as error:
        raise ParamsError(f"{name}: {repository} holds no file {file}.") from error
    # Of many kinds: those of HTTP libraries, which differ by version, and of the disk.
    except Exception as error:
        raise ParamsError(
            f"{name} cannot be downloaded: {_first_line(error)}"
        ) from error


def _first_line(error: BaseException) -> str:
    """What an error says at first; huggingface_hub's say a lot."""
    return next(iter(str(error).strip().splitlines()), type(error).__name__)
