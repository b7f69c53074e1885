"""A model on the Hugging Face Hub: its files, downloaded into the cache that `transformers` uses, too.

The cache holds a folder for each commit of a model, `models--OWNER--NAME/snapshots/COMMIT`. Such a folder, with the
files that are needed in it, is what `download` returns; whatever reads a checkpoint directory reads it. All that goes
over the network is left to `huggingface_hub`, with its cache, its environment variables and its progress bars.
"""

from __future__ import annotations

import hashlib
import importlib
import re
import warnings
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

from minineo.checkpoints.directory import FORMATS, Format, read_index, weight_files
from minineo.checkpoints.errors import CheckpointError, quote, some_of
from minineo.checkpoints.hub_errors import UnreachableError, explaining
from minineo.config import CONFIG_FILE, GENERATION_CONFIG_FILE
from minineo.location import Part
from minineo.tokenizer.files import NAMES as TOKENIZER_FILES

FILES: dict[Part, tuple[str, ...]] = {
    "config": (CONFIG_FILE,),
    "tokenizer": TOKENIZER_FILES,
    "weights": (GENERATION_CONFIG_FILE,),
}
NOT_BESIDE_TOKENIZER_JSON = ("vocab.json", "merges.txt", "added_tokens.json")  # they say the same, and are not read
COMMIT = re.compile("[0-9a-f]{40}")


class Repository(NamedTuple):
    """A commit of a model on the Hub: what is in it, and how to get it."""

    api: Any
    """huggingface_hub.HfApi"""
    name: str
    commit: str
    listing: dict[str, Any]
    """Its files by name, each with its size and hash (huggingface_hub.hf_api.RepoSibling)."""
    cache_dir: Any
    force_download: bool


def download(
    name: str,
    required: Sequence[Part],
    optional: Sequence[Part] = (),
    formats: Sequence[Format] | None = None,
    *,
    revision: str | None = None,
    token: str | bool | None = None,
    cache_dir: Any = None,
    local_files_only: bool = False,
    force_download: bool = False,
) -> Path:
    """Download what is needed of a model, unless it is in the cache; see `HubOptions` for the arguments.

    Without the Hub (`local_files_only`, HF_HUB_OFFLINE, or no network) the cache has to do. Of several formats of
    weights the first in `formats` is taken, unless there is one in the cache.

    Returns:
        The folder of the snapshot, with all of `required` in it, and those of `optional` that the model has.

    Raises:
        ImportError: huggingface_hub is not installed.
        FileNotFoundError: there is no such model or revision, the model lacks a part, or the cache does.
        PermissionError: the model is gated, or the token is not valid.
        ConnectionError: the Hub cannot be reached, has an error, or asks to wait.
        OSError: a file arrived damaged; it is removed again.
        ValueError: the arguments contradict each other, an index of shards is broken, or `token` can be none.
    """
    library = _library(name)
    token = _clean_token(token)
    offline = local_files_only or library.constants.HF_HUB_OFFLINE
    if offline and force_download:
        raise ValueError("force_download: nothing can be downloaded with local_files_only=True or HF_HUB_OFFLINE=1.")
    formats = FORMATS if formats is None else formats
    snapshot = None if force_download else _cached(library, name, revision, cache_dir, (*required, *optional))
    complete = snapshot is not None and _has(snapshot, required, formats)
    if offline and not complete:
        raise FileNotFoundError(_not_in_cache(name, revision, local_files_only, required))
    if snapshot is not None and complete and (offline or (not optional and COMMIT.fullmatch(revision or ""))):
        return snapshot
    try:
        repository = _open(library, name, revision, token, cache_dir, force_download)
        return _fetch(repository, required, optional, formats, revision)
    except (UnreachableError, PermissionError) as error:
        if snapshot is None or not complete:
            raise
        warnings.warn(f"{error} Using what is in the cache, {snapshot}.", stacklevel=4)
        return snapshot


def _library(name: str) -> Any:
    try:
        importlib.import_module("huggingface_hub.constants")  # which huggingface_hub does not import by itself
        return importlib.import_module("huggingface_hub")
    except ImportError as error:
        raise ImportError(
            f"{name}: no such directory. To load a model of this name from the Hugging Face Hub, install "
            'huggingface_hub: pip install "minineo[hub]".'
        ) from error


def _clean_token(token: object) -> str | bool | None:
    """A token without the line end that a file has after it; the error for what can be none does not show it.

    It would be sent in a header, and the errors of those who cannot send such a header show all of it.
    """
    if token is None or isinstance(token, bool):
        return token
    if not isinstance(token, str):
        raise TypeError(f"token: received a {type(token).__name__}, expected a str, True, False or None.")
    token = token.strip()
    if not re.fullmatch("[!-~]+", token):
        what = f"{len(token)} characters, some of which no token has" if token else "an empty text"
        raise ValueError(f"token: received {what}, expected letters and digits such as hf_..., or None.")
    return token


# -- the cache ---------------------------------------------------------------------------------------------------------


def _cached(library: Any, name: str, revision: str | None, cache_dir: Any, parts: Sequence[Part]) -> Path | None:
    """The newest snapshot of a revision in the cache, if any file of it can be there."""
    weights = [file for format_ in FORMATS for file in (format_.weights_name, format_.index_name)]
    for file in (*(file for part in parts for file in FILES[part]), *weights):
        found = library.try_to_load_from_cache(name, file, cache_dir=cache_dir, revision=revision)
        if isinstance(found, str):
            return Path(found).parent
    return None


def _has(snapshot: Path, parts: Sequence[Part], formats: Sequence[Format]) -> bool:
    """Whether a snapshot holds all parts."""
    names = {path.name for path in snapshot.iterdir() if path.is_file()}
    if any(missing_files(part, names, formats) for part in parts):
        return False
    try:
        return "weights" not in parts or bool(weight_files(snapshot, formats))
    except CheckpointError:
        return False


def missing_files(part: Part, names: set[str] | dict[str, Any], formats: Sequence[Format]) -> str:
    """What has to be among the files `names` and is not; empty if the part can be read."""
    if part == "config":
        return "" if CONFIG_FILE in names else CONFIG_FILE
    if part == "tokenizer":
        there = "tokenizer.json" in names or {"vocab.json", "merges.txt"} <= set(names)
        return "" if there else "tokenizer.json, nor vocab.json and merges.txt"
    there = any(format_.weights_name in names or format_.index_name in names for format_ in formats)
    return "" if there else " or ".join(format_.weights_name for format_ in formats)


def _not_in_cache(name: str, revision: str | None, local_files_only: bool, parts: Sequence[Part]) -> str:
    switch = "local_files_only=True" if local_files_only else "HF_HUB_OFFLINE=1"
    what, option = (f"{name}, revision {revision},", f" --revision {revision}") if revision else (name, "")
    return (
        f"{what} is not in the cache with its {' and '.join(parts) or 'files'}, and {switch} says not to ask the Hub. "
        f"Download it once with a network: minineo download {name}{option}."
    )


# -- the Hub -----------------------------------------------------------------------------------------------------------


def _open(
    library: Any, name: str, revision: str | None, token: str | bool | None, cache_dir: Any, force_download: bool
) -> Repository:
    """Ask the Hub which commit a revision is, and what is in it."""
    from minineo import __version__

    api = library.HfApi(token=token, library_name="minineo", library_version=__version__)
    with explaining(name, revision):
        timeout = library.constants.HF_HUB_ETAG_TIMEOUT
        info = api.model_info(name, revision=revision, files_metadata=True, timeout=timeout)
    if not COMMIT.fullmatch(str(info.sha)):
        raise OSError(
            f"{name}: {api.endpoint} says that its commit is {quote(info.sha)}, expected 40 hexadecimal digits."
        )
    listing = {file.rfilename: file for file in info.siblings or ()}
    return Repository(api, name, str(info.sha), listing, cache_dir, force_download)


def _fetch(
    repository: Repository,
    required: Sequence[Part],
    optional: Sequence[Part],
    formats: Sequence[Format],
    revision: str | None,
) -> Path:
    """Download the parts of a model; its name for the revision is written down when all is there."""
    listing, parts = repository.listing, (*required, *optional)
    for part in required:
        if missing := missing_files(part, listing, formats):
            raise FileNotFoundError(
                f"{repository.name} has no {missing}; it holds {some_of(sorted(listing)) or 'nothing'}. "
                f"Expected a GPT-Neo model with its {' and '.join(required)}."
            )
    names = [file for part in dict.fromkeys(parts) for file in FILES[part] if file in listing]
    if "tokenizer.json" in names:
        names = [file for file in names if file not in NOT_BESIDE_TOKENIZER_JSON]
    paths = [_get(repository, file) for file in names]
    if "weights" in parts and not missing_files("weights", listing, formats):
        paths += _get_weights(repository, formats)
    if not paths:
        raise FileNotFoundError(
            f"{repository.name} has nothing that minineo reads; it holds {some_of(sorted(listing)) or 'nothing'}."
        )
    if revision != repository.commit:
        # all files are there: this notes the commit of the revision, for those who are offline later
        with suppress(OSError), explaining(repository.name, revision):
            repository.api.hf_hub_download(
                repository.name, paths[0].name, revision=revision, cache_dir=repository.cache_dir
            )
    return paths[0].parent


def _get_weights(repository: Repository, formats: Sequence[Format]) -> list[Path]:
    """Download the weights in one format: the first that is in the cache, else the first that the model has."""
    present = [
        (format_, name)
        for format_ in formats
        for name in (format_.weights_name, format_.index_name)
        if name in repository.listing
    ]
    in_cache = [(format_, name) for format_, name in present if _find(repository, name) is not None]
    format_, name = (in_cache or present)[0]
    first = _get(repository, name)
    if name == format_.weights_name:
        return [first]
    shards = sorted(set(read_index(first).values()))
    for shard in shards:
        if shard not in repository.listing:
            raise FileNotFoundError(f"{repository.name} has no {shard}, which its {name} names. Tell its owner.")
    return [first, *(_get(repository, shard) for shard in shards)]


def _find(repository: Repository, file: str) -> Path | None:
    """A file of this commit that is in the cache."""
    library = importlib.import_module("huggingface_hub")
    found = library.try_to_load_from_cache(
        repository.name, file, cache_dir=repository.cache_dir, revision=repository.commit
    )
    return Path(found) if isinstance(found, str) else None


def _get(repository: Repository, file: str) -> Path:
    """A file from the cache, where it has the size that the Hub says, or else from the Hub."""
    found, entry = _find(repository, file), repository.listing[file]
    force = repository.force_download or (found is not None and entry.size not in (None, found.stat().st_size))
    if found is not None and not force:
        return found
    with explaining(repository.name, repository.commit, file):
        path = repository.api.hf_hub_download(
            repository.name,
            file,
            revision=repository.commit,
            cache_dir=repository.cache_dir,
            force_download=force,
        )
    _check(Path(path), repository.name, entry)
    return Path(path)


def _check(path: Path, name: str, entry: Any) -> None:
    """Hold a file that was downloaded just now against the size and the hash that the Hub has of it, or remove it.

    Large files have their SHA-256 there (Git LFS), small ones the SHA-1 that Git has, of a header and the file.
    """
    if entry.lfs is not None:
        kind, expected, digest = "SHA-256", entry.lfs.sha256, hashlib.sha256()
    else:
        kind, expected, digest = "Git hash", entry.blob_id, hashlib.sha1(usedforsecurity=False)
        digest.update(b"blob %d\0" % path.stat().st_size)
    size = path.stat().st_size
    with path.open("rb") as file:
        while expected is not None and (piece := file.read(1 << 20)):
            digest.update(piece)
    if entry.size not in (None, size):
        wrong = f"{size:,} bytes, expected {entry.size:,}"
    elif expected not in (None, digest.hexdigest()):
        wrong = f"the {kind} {digest.hexdigest()}, expected {expected}"
    else:
        return
    path.resolve().unlink()
    path.unlink(missing_ok=True)
    raise OSError(f"{name}: {path.name} arrived damaged and was removed: it had {wrong}. Try again.")
