"""What went wrong on the Hub, in one sentence, and what a user can do about it."""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from minineo.checkpoints.errors import quote

LOG_IN = "log in with `hf auth login`, set HF_TOKEN, or pass token"


class UnreachableError(ConnectionError):
    """The Hub does not answer, or not now."""


@contextmanager
def explaining(name: str, revision: str | None, file: str | None = None) -> Iterator[None]:
    """Turn what `huggingface_hub` raises in the block into an error that a user understands, an OSError."""
    try:
        yield
    except (TypeError, AttributeError, NameError, MemoryError):
        raise  # a mistake in a program, not on the network
    except Exception as error:  # those of httpx, requests and hf_xet have no class in common
        raise _explained(error, name, revision, file) from error


def _explained(error: BaseException, name: str, revision: str | None, file: str | None) -> OSError:
    errors = importlib.import_module("huggingface_hub.errors")
    endpoint: str = importlib.import_module("huggingface_hub.constants").ENDPOINT
    page = f"{endpoint}/{name}"
    if isinstance(error, errors.LocalEntryNotFoundError) and error.__cause__ is not None:
        return _explained(error.__cause__, name, revision, file)  # what kept it from asking the Hub
    if isinstance(error, errors.GatedRepoError):
        return PermissionError(
            f"{name} is gated: accept its conditions on {page}; then, for the account that has accepted them, {LOG_IN}."
        )
    if isinstance(error, errors.RepositoryNotFoundError):
        return FileNotFoundError(
            f"{name}: no such directory ({Path(name).absolute()}), and no such model on the Hub ({page}). Check the "
            f"spelling, owner and capitals included; if the model is private, {LOG_IN}."
        )
    if isinstance(error, errors.RevisionNotFoundError):
        return FileNotFoundError(
            f"{name} has no revision {revision}: expected a branch, a tag, or a commit of 40 digits, as {page}/commits "
            "lists them."
        )
    if isinstance(error, errors.EntryNotFoundError):
        return FileNotFoundError(f"{name} has no {file} any more in revision {revision}. Try again.")
    status = getattr(getattr(error, "response", None), "status_code", None)
    if status is not None:
        return _refused(status, name, page)
    message = quote(" ".join(str(error).split()) or type(error).__name__, 300)
    if isinstance(error, OSError) and error.errno is not None and not _is_of_network(error):
        return OSError(f"{name}: {file or 'the cache'}: {error}")  # a full disk, a folder that may not be written to
    if "Consistency check failed" in message:
        return OSError(f"{name}: {file} arrived cut short or too long. Try again.")
    what = f"the transfer of {file} failed" if file else f"no such directory, and {endpoint} cannot be reached"
    return UnreachableError(
        f"{name}: {what} ({type(error).__name__}: {message}). Check the network, and HF_ENDPOINT and the proxy if they "
        "are set, and try again."
    )


def _refused(status: int, name: str, page: str) -> OSError:
    if status in (401, 403):
        return PermissionError(
            f"{name}: the Hub refuses access ({status}). The token is not valid or may not read this model: {LOG_IN}; "
            f"see {page}."
        )
    if status == 429:
        return UnreachableError(
            f"{name}: too many requests (429). Wait some minutes and try again. To be granted more, {LOG_IN}."
        )
    return UnreachableError(f"{name}: the Hub answers with an error ({status}). Try again later.")


def _is_of_network(error: OSError) -> bool:
    """Whether an OSError comes from a connection: `requests` has its errors from there, too."""
    return isinstance(error, ConnectionError | TimeoutError) or type(error).__module__.startswith("requests")
