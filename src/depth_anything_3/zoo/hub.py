"""Checkpoint files from the Hugging Face hub, or from a mirror of it, through its own client and its own cache.

The client's environment variables count: ``HF_ENDPOINT``, ``HF_HUB_OFFLINE``, ``HF_HOME``, ``HF_TOKEN`` and so on.
Only ``config.json`` and safetensors files are asked for. Pickle files (``pytorch_model.bin``) can run any code when
they are opened; they are never downloaded.
"""

from __future__ import annotations

import json
import os
import re
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any, Literal

from depth_anything_3.errors import CheckpointError, HubError
from depth_anything_3.zoo.cache import (
    CONFIG,
    INDEX,
    WEIGHTS,
    CachedModel,
    FileCheck,
    cache_folder,
    check_download,
    list_cached,
    recorded_hash,
    remove_cached,
    verify_cached,
)

if TYPE_CHECKING:
    from huggingface_hub import HfFileMetadata

__all__ = [
    "CONFIG",
    "HUB_ID",
    "INDEX",
    "PICKLES",
    "WEIGHTS",
    "CachedModel",
    "FileCheck",
    "HubFile",
    "HubFiles",
    "HubUnreachableError",
    "fetch",
    "fetch_file",
    "hub_answers",
    "hub_offline",
    "list_cached",
    "remove_cached",
    "shard_names",
    "verify_cached",
]

PICKLES = ("pytorch_model.bin", "pytorch_model.bin.index.json")
HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")
"""What ``organisation/name`` looks like."""

_COMMIT = re.compile(r"[0-9a-f]{40}")
_TRUE = {"1", "ON", "YES", "TRUE"}


@dataclass(frozen=True)
class HubFile:
    """One file of a repository: its name there, where it lies here, its bytes, and whether this call fetched it."""

    name: str
    path: Path
    size: int
    downloaded: bool


@dataclass(frozen=True)
class HubFiles:
    """A repository's files in the cache.

    Attributes:
        hub_id: ``organisation/name``.
        commit: full hash of the commit that the files belong to.
        folder: of that commit in the cache.
        config: ``config.json``, or None where the repository has none.
        weights: one safetensors file, or several shards; empty where ``config.json`` takes all weights from
            elsewhere (its entry ``parts``).
    """

    hub_id: str
    commit: str
    folder: Path
    config: Path | None
    weights: tuple[Path, ...]


def fetch(
    hub_id: str,
    *,
    revision: str | None = None,
    cache_dir: str | os.PathLike[str] | None = None,
    force_download: bool = False,
    local_files_only: bool = False,
    token: str | bool | None = None,
    on_file: Callable[[HubFile], None] | None = None,
) -> HubFiles:
    """Make sure that a repository's configuration and weights are in the cache, and say where.

    A branch or tag costs one small request, to see whether it moved; a full commit hash that is cached costs none.
    Where the hub cannot be reached, what is cached is used, with a warning.

    Args:
        hub_id: ``organisation/name``.
        revision: branch, tag or commit; ``main`` if None.
        cache_dir: instead of the client's own cache folder.
        force_download: download again what is cached already.
        local_files_only: send nothing; use what is cached.
        token: access token; None or True for the stored one, False for none.
        on_file: called once per file, when it is there and its hash was right.

    Raises:
        HubError: it could not be obtained: no such repository, revision or file, no connection, offline.
            :class:`HubUnreachableError` where the hub did not answer.
        CheckpointError: a downloaded file does not have the hash that the hub announced (it is removed again), or
            the repository holds no safetensors weights.
    """
    offline = "local_files_only=True" if local_files_only else "HF_HUB_OFFLINE is set" if hub_offline() else ""
    if force_download and offline:
        raise HubError(f"{hub_id}: force_download=True cannot work, because {offline}")
    repository = _Repository(
        hub_id,
        revision or "main",
        cache_dir=str(cache_folder(cache_dir)),
        token=token,
        force=force_download,
        offline=offline,
        on_file=on_file,
    )
    repository.pin()
    config = repository.get(CONFIG)
    weights = _fetch_weights(repository, optional=config is not None and _has_parts(config))
    folder = (config or weights[0]).parent
    return HubFiles(hub_id, repository.commit, folder, config, weights)


def fetch_file(
    hub_id: str,
    name: str,
    *,
    repo_type: Literal["model", "dataset"],
    revision: str | None = None,
    cache_dir: str | os.PathLike[str] | None = None,
    token: str | bool | None = None,
    on_file: Callable[[HubFile], None] | None = None,
) -> Path:
    """Make sure that one file of a repository is in the client's cache, checked, and say where.

    A download that broke off goes on where it was.

    Args:
        hub_id: ``organisation/name``.
        name: of the file in the repository.
        repo_type: models and data sets have different places on the hub.
        revision: branch, tag or commit; ``main`` if None.
        cache_dir: instead of the client's own cache folder.
        token: access token; None or True for the stored one, False for none.
        on_file: called when the file is there and its hash was right.

    Raises:
        HubError: it could not be obtained.
        CheckpointError: it does not have the hash that the hub announced; it is removed again.
    """
    from huggingface_hub import hf_hub_download, try_to_load_from_cache

    if not HUB_ID.fullmatch(hub_id):
        raise HubError(f"{hub_id!r} is no hub id; expected organisation/name")
    cache = str(cache_folder(cache_dir))
    known = try_to_load_from_cache(hub_id, name, cache_dir=cache, revision=revision, repo_type=repo_type)
    try:
        path = Path(
            hf_hub_download(
                hub_id,
                name,
                repo_type=repo_type,
                revision=revision,
                cache_dir=cache,
                token=token,
                local_files_only=hub_offline(),
                endpoint=_endpoint(),
            )
        )
    except _client_errors() as error:
        raise HubError(
            f"{hub_id}: {name} could not be obtained ({_one_line(error)}). What arrived is kept, and the next call "
            "goes on from there; HF_ENDPOINT names another hub or mirror."
        ) from error
    downloaded = known != str(path)
    if downloaded:
        check_download(hub_id, path, recorded_hash(path))
    if on_file is not None:
        on_file(HubFile(name, path, path.stat().st_size, downloaded))
    return path


def shard_names(index: Path) -> list[str]:
    """Names of the files that a ``model.safetensors.index.json`` lists, sorted.

    Raises:
        CheckpointError: the index cannot be read, or names anything but safetensors files of its own folder.
    """
    try:
        weight_map = json.loads(index.read_text(encoding="utf-8"))["weight_map"]
        names = sorted(set(weight_map.values()))
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise CheckpointError(f"{index} is not an index of safetensors files: {error!r}") from error
    if not names:
        raise CheckpointError(f"{index} lists no files")
    for name in names:
        plain = isinstance(name, str) and PurePosixPath(name).name == name and "\\" not in name
        if not plain or not name.endswith(".safetensors"):
            raise CheckpointError(f"{index} names {name!r}; only safetensors files beside it are read")
    return names


def _fetch_weights(repository: _Repository, *, optional: bool) -> tuple[Path, ...]:
    single = repository.get(WEIGHTS)
    if single is not None:
        return (single,)
    index = repository.get(INDEX)
    if index is not None:
        return tuple(repository.need(name) for name in shard_names(index))
    if optional:
        return ()
    raise repository.no_weights()


def _has_parts(config: Path) -> bool:
    try:
        raw = json.loads(config.read_text(encoding="utf-8"))
    except ValueError:
        return False  # whoever reads the configuration reports it
    inner = raw.get("config") if isinstance(raw, dict) else None
    return any(isinstance(node, dict) and bool(node.get("parts")) for node in (raw, inner))


def hub_answers(hub_id: str, name: str, *, timeout: float) -> bool:
    """Whether the hub says that it has a file. One request, no second try.

    Args:
        hub_id: ``organisation/name``.
        name: of the file, on the main branch.
        timeout: seconds to wait for a connection and for each part of the answer.
    """
    from huggingface_hub import get_hf_file_metadata, hf_hub_url

    try:
        get_hf_file_metadata(hf_hub_url(hub_id, name, endpoint=_endpoint()), timeout=timeout)
    except HubError:
        return False
    except _client_errors():
        return False
    return True


def hub_offline() -> bool:
    """Whether the client was told to stay offline, also when it was told after it had been imported."""
    from huggingface_hub import constants

    return bool(constants.HF_HUB_OFFLINE) or os.environ.get("HF_HUB_OFFLINE", "").upper() in _TRUE


def _endpoint() -> str:
    """Address of the hub or of its mirror; the variable also counts when it is set after the client was imported."""
    from huggingface_hub import constants

    endpoint = (os.environ.get("HF_ENDPOINT") or constants.ENDPOINT).rstrip("/")
    if not re.match(r"https?://[^/]", endpoint):
        raise HubError(f"HF_ENDPOINT: got {endpoint!r}; expected an address such as https://huggingface.co")
    return endpoint


class HubUnreachableError(HubError):
    """The hub did not answer; what is cached may be used instead."""


@dataclass
class _Repository:
    """One repository at one revision, asked as seldom as possible.

    ``offline`` says why nothing may be sent; empty where sending is allowed. ``commit`` is known after :meth:`pin`.
    """

    hub_id: str
    revision: str
    cache_dir: str
    token: str | bool | None
    force: bool
    offline: str
    on_file: Callable[[HubFile], None] | None
    commit: str = ""
    _heads: dict[str, HfFileMetadata | None] = field(default_factory=dict)
    _downloaded: dict[str, Path] = field(default_factory=dict)

    def pin(self) -> None:
        """Find the commit that the revision stands for."""
        cached = self._cached_commit()
        if cached and (self.offline or (_COMMIT.fullmatch(self.revision) and not self.force)):
            self.commit = cached
        elif self.offline:
            raise self._error(f"it is not in the cache at revision {self.revision!r}, and {self.offline}")
        else:
            self.commit = self._current_commit(cached)

    def get(self, name: str) -> Path | None:
        """The file called ``name``, from the cache or the hub; None if it does not exist, or not here while offline."""
        if name in self._downloaded:
            return self._downloaded[name]
        cached = self._cached(name, self.commit)
        if isinstance(cached, str) and not self.force:
            return self._arrived(name, Path(cached), downloaded=False)
        known_missing = cached is not None and not isinstance(cached, str)
        return None if known_missing or self.offline else self._download(name, self.commit)

    def need(self, name: str) -> Path:
        """As :meth:`get`, but the repository must have it."""
        path = self.get(name)
        if path is None:
            why = f"is not in the cache, and {self.offline}" if self.offline else f"is not in commit {self.commit}"
            raise self._error(f"its index lists {name}, which {why}")
        return path

    def no_weights(self) -> HubError | CheckpointError:
        """Why there are no weights: a partial cache, only pickle files, or none at all."""
        if self.offline:
            return self._error(f"its weights are not in the cache, and {self.offline}")
        if any(self._head(name) is not None for name in PICKLES):
            return CheckpointError(
                f"{self.hub_id} holds its weights only as a pickle file ({PICKLES[0]}), which can run any code when "
                f"it is opened. Only safetensors files are loaded: have it converted to {WEIGHTS}."
            )
        return CheckpointError(f"{self.hub_id} has no weights: neither {WEIGHTS} nor {INDEX} at {self.revision!r}")

    def _cached(self, name: str, revision: str) -> Any:
        """A path, None if unknown, or the client's mark for a file that is known not to exist."""
        from huggingface_hub import try_to_load_from_cache

        return try_to_load_from_cache(self.hub_id, name, cache_dir=self.cache_dir, revision=revision)

    def _cached_commit(self) -> str:
        """The commit that the cache holds for the revision; empty if none."""
        for name in (CONFIG, WEIGHTS, INDEX):
            found = self._cached(name, self.revision)
            if isinstance(found, str):
                return Path(found).parent.name
        return ""

    def _current_commit(self, cached: str) -> str:
        """The commit that the revision stands for on the hub now; the cached one where the hub is out of reach."""
        try:
            name = next((name for name in (CONFIG, WEIGHTS, INDEX) if self._head(name) is not None), None)
        except HubUnreachableError:
            if not cached or self.force:
                raise
            self.offline = "the hub cannot be reached"
            warnings.warn(
                f"{self.hub_id}: {_endpoint()} cannot be reached, so the cached commit {cached} is used. "
                "HF_HUB_OFFLINE=1 says that this is intended.",
                UserWarning,
                stacklevel=4,
            )
            return cached
        if name is None:
            raise self.no_weights()
        head = self._heads[name]
        commit = head.commit_hash if head else None
        if not commit:
            raise self._error(f"{_endpoint()} does not answer like a hub (no commit in its headers)")
        if commit == cached and not self.force:
            return commit
        # By the name of the branch, so that the client records in its cache which commit the branch stands for.
        path = self._download(name, self.revision)
        return path.parent.name if path else commit

    def _head(self, name: str) -> HfFileMetadata | None:
        """What the hub announces about a file (commit, hash); None if the repository does not have it. Asked once."""
        from huggingface_hub import get_hf_file_metadata, hf_hub_url
        from huggingface_hub.errors import EntryNotFoundError

        if name not in self._heads:
            url = hf_hub_url(self.hub_id, name, revision=self.commit or self.revision, endpoint=_endpoint())
            try:
                self._heads[name] = get_hf_file_metadata(url, token=self.token)
            except EntryNotFoundError:
                self._heads[name] = None
            except _client_errors() as error:
                raise self._translate(error) from error
        return self._heads[name]

    def _download(self, name: str, revision: str) -> Path | None:
        """Download one file and check its hash; None if the repository does not have it (the client remembers that)."""
        from huggingface_hub import errors, hf_hub_download

        try:
            path = hf_hub_download(
                self.hub_id,
                name,
                revision=revision,
                cache_dir=self.cache_dir,
                force_download=self.force,
                token=self.token,
                endpoint=_endpoint(),
            )
        except _client_errors() as error:
            missing = isinstance(error, errors.EntryNotFoundError)
            if missing and not isinstance(error, errors.LocalEntryNotFoundError):
                return None
            raise self._translate(error, f"the download of {name} stopped") from error
        self._downloaded[name] = Path(path)
        check_download(self.hub_id, Path(path), self._announced(name, Path(path)))
        return self._arrived(name, Path(path), downloaded=True)

    def _announced(self, name: str, path: Path) -> str | None:
        """The hash that the hub announced for a file that was just downloaded."""
        recorded = recorded_hash(path)
        if recorded is None:  # no symbolic links here: the cache keeps the file without its hash
            head = self._head(name)
            return head.etag if head else None
        return recorded

    def _arrived(self, name: str, path: Path, *, downloaded: bool) -> Path:
        if self.on_file is not None:
            self.on_file(HubFile(name, path, path.stat().st_size, downloaded))
        return path

    def _translate(self, error: Exception, doing: str = "") -> HubError:
        """The client's error in our words."""
        from huggingface_hub import errors

        endpoint = _endpoint()
        refused = _refusal(error)
        if isinstance(error, errors.GatedRepoError):
            return self._error(f"{endpoint} gives it only to accounts that accepted its terms; then pass a token")
        if isinstance(error, errors.RepositoryNotFoundError):
            return self._error(f"{endpoint} has no such repository, or it is private and needs a token")
        if isinstance(error, errors.RevisionNotFoundError):
            return self._error(f"it has no revision {self.revision!r}")
        if refused is not None and refused < 500:
            return self._error(f"{endpoint} refused with HTTP status {refused}")
        if doing:
            return self._error(f"{doing} ({_one_line(error)}); nothing incomplete is used, try again")
        why = f"HTTP status {refused}" if refused else _one_line(error)
        return self._error(f"{endpoint} cannot be reached ({why})", HubUnreachableError)

    def _error(self, what: str, kind: type[HubError] = HubError) -> HubError:
        cached = ", ".join(model.hub_id for model in list_cached(self.cache_dir) if model.complete) or "none"
        return kind(
            f"{self.hub_id}: {what}. Alternatives: a local folder that holds {CONFIG} and {WEIGHTS}; "
            f"a cached model ({cached}); another hub or mirror through the environment variable HF_ENDPOINT."
        )


def _client_errors() -> tuple[type[Exception], ...]:
    """What the client raises: its own errors, and those of the HTTP library below it, which changed over time."""
    from huggingface_hub import errors

    # RuntimeError: the native library for chunked storage reports a broken transfer with it.
    return (OSError, RuntimeError, errors.HFValidationError, *errors.HfHubHTTPError.__bases__)


def _refusal(error: Exception) -> int | None:
    """The HTTP status behind an error, if the hub answered at all."""
    return getattr(getattr(error, "response", None), "status_code", None)


def _one_line(error: Exception) -> str:
    return " ".join(f"{type(error).__name__}: {error}".split())[:300]
