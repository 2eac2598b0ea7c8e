"""What the hub client's cache holds: listing it, comparing its hashes, removing from it."""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from depth_anything_3.errors import CheckpointError, HubError
from depth_anything_3.zoo.cards import find_card

if TYPE_CHECKING:
    from huggingface_hub import CachedRepoInfo, CachedRevisionInfo

CONFIG = "config.json"
WEIGHTS = "model.safetensors"
INDEX = "model.safetensors.index.json"

_SHA256 = re.compile(r"[0-9a-f]{64}")
_GIT_SHA1 = re.compile(r"[0-9a-f]{40}")
_OUR_CONFIG_KEYS = {"model_name", "anyview", "net", "parts"}


@dataclass(frozen=True)
class CachedModel:
    """A model in the cache: its id, the commits that are there, the bytes on disk, the folder, whether it can load."""

    hub_id: str
    commits: tuple[str, ...]
    size: int
    folder: Path
    complete: bool


@dataclass(frozen=True)
class FileCheck:
    """The hash that the hub announced for a cached file beside the hash of its bytes.

    ``expected`` is None where the cache did not record one (systems without symbolic links).
    """

    name: str
    commit: str
    path: Path
    expected: str | None
    actual: str

    @property
    def ok(self) -> bool | None:
        """Whether the two agree; None where there is nothing to compare with."""
        return None if self.expected is None else self.expected == self.actual


def list_cached(cache_dir: str | os.PathLike[str] | None = None) -> tuple[CachedModel, ...]:
    """Every model of this package in the cache, sorted by id; other projects' models are left out."""
    ours = (_describe(repo) for repo in _repositories(cache_dir) if _is_ours(repo))
    return tuple(sorted(ours, key=lambda model: model.hub_id.lower()))


def verify_cached(hub_id: str, *, cache_dir: str | os.PathLike[str] | None = None) -> tuple[FileCheck, ...]:
    """Read every cached file of a model again and compare it with the hash that the hub announced for it.

    Weights are recorded by SHA-256, small files by git's SHA-1. Nothing is changed and nothing is sent.

    Raises:
        HubError: the model is not in the cache.
    """
    repo = _find(hub_id, cache_dir)
    return tuple(
        _check(revision.commit_hash, file.file_path)
        for revision in sorted(repo.revisions, key=lambda revision: revision.commit_hash)
        for file in sorted(revision.files, key=lambda file: str(file.file_path))
    )


def remove_cached(hub_id: str, *, cache_dir: str | os.PathLike[str] | None = None) -> int:
    """Remove every commit of a model from the cache and return the bytes that this frees.

    Raises:
        HubError: the model is not in the cache.
    """
    from huggingface_hub import scan_cache_dir

    commits = [revision.commit_hash for revision in _find(hub_id, cache_dir).revisions]
    strategy = scan_cache_dir(cache_folder(cache_dir)).delete_revisions(*commits)
    strategy.execute()
    return int(strategy.expected_freed_size)


def check_download(hub_id: str, path: Path, announced: str | None) -> None:
    """Compare a file that was just downloaded with the hash that the hub announced for it.

    Args:
        hub_id: named in the error.
        path: of the file in the cache (the pointer, not the blob).
        announced: SHA-256 (of large files) or git's SHA-1 (of small ones), in hexadecimal digits; other kinds of
            entity tags say nothing about the content and are not compared.

    Raises:
        CheckpointError: they differ; the file has been removed from the cache.
    """
    actual = None if announced is None else _digest(path, announced)
    if actual is None or actual == announced:
        return
    _remove_file(path)
    raise CheckpointError(
        f"{hub_id}: {path.name} is damaged: the hub announced the hash {announced}, what arrived has {actual}. "
        "The file was removed from the cache; download it again, and check proxies and mirrors if this persists."
    )


def recorded_hash(path: Path) -> str | None:
    """The hash that the cache recorded for a file: the name of the blob behind the pointer ``path``."""
    return path.readlink().name if path.is_symlink() else None


def _describe(repo: CachedRepoInfo) -> CachedModel:
    revisions = sorted(repo.revisions, key=lambda revision: revision.last_modified, reverse=True)
    return CachedModel(
        hub_id=repo.repo_id,
        commits=tuple(revision.commit_hash for revision in revisions),
        size=repo.size_on_disk,
        folder=repo.repo_path,
        complete=any(_is_complete(revision) for revision in revisions),
    )


def _is_complete(revision: CachedRevisionInfo) -> bool:
    names = {file.file_name for file in revision.files}
    if WEIGHTS in names or (CONFIG in names and "parts" in _read_object(revision.snapshot_path / CONFIG)):
        return True
    return INDEX in names and shards(revision.snapshot_path / INDEX) <= names


def shards(index: Path) -> set[str]:
    """The file names in a ``model.safetensors.index.json``, unchecked; a set with one empty name if unreadable."""
    weight_map = _read_object(index).get("weight_map")
    return {str(name) for name in weight_map.values()} if isinstance(weight_map, dict) and weight_map else {""}


def _is_ours(repo: CachedRepoInfo) -> bool:
    if repo.repo_type != "model":
        return False
    if find_card(repo.repo_id):
        return True
    return any(_is_our_config(_read_object(revision.snapshot_path / CONFIG)) for revision in repo.revisions)


def _is_our_config(config: dict[str, object]) -> bool:
    inner = config.get("config")
    keys = set(config) | (set(inner) if isinstance(inner, dict) else set())
    return bool(keys & _OUR_CONFIG_KEYS)


def _read_object(path: Path) -> dict[str, object]:
    """A JSON object, or an empty one where there is none: whoever loads the model reports that."""
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return value if isinstance(value, dict) else {}


def _repositories(cache_dir: str | os.PathLike[str] | None) -> Iterator[CachedRepoInfo]:
    from huggingface_hub import scan_cache_dir
    from huggingface_hub.errors import CacheNotFound

    try:
        yield from scan_cache_dir(cache_folder(cache_dir)).repos
    except CacheNotFound:
        return


def cache_folder(cache_dir: str | os.PathLike[str] | None = None) -> Path:
    """``cache_dir``, or the client's own cache folder where None is given."""
    from huggingface_hub import constants

    return Path(constants.HF_HUB_CACHE if cache_dir is None else cache_dir).expanduser()


def _find(hub_id: str, cache_dir: str | os.PathLike[str] | None) -> CachedRepoInfo:
    for repo in _repositories(cache_dir):
        if repo.repo_type == "model" and repo.repo_id.lower() == hub_id.lower():
            return repo
    known = ", ".join(model.hub_id for model in list_cached(cache_dir)) or "none"
    raise HubError(f"{hub_id} is not in the cache (cached models: {known})")


def _check(commit: str, path: Path) -> FileCheck:
    recorded = recorded_hash(path)
    actual = None if recorded is None else _digest(path, recorded)
    if actual is None:
        return FileCheck(path.name, commit, path, None, _sha256(path))
    return FileCheck(path.name, commit, path, recorded, actual)


def _digest(path: Path, like: str) -> str | None:
    """The hash of a file in the kind that ``like`` is; None if ``like`` is no hash."""
    if _SHA256.fullmatch(like):
        return _sha256(path)
    if _GIT_SHA1.fullmatch(like):
        header = f"blob {path.stat().st_size}\0".encode()
        return hashlib.sha1(header + path.read_bytes(), usedforsecurity=False).hexdigest()
    return None


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(1 << 22):
            digest.update(chunk)
    return digest.hexdigest()


def _remove_file(pointer: Path) -> None:
    """Remove a file from the cache: the pointer, its blob, and what the blob points to where blobs are shared."""
    chain = [pointer]
    while chain[-1].is_symlink():
        chain.append(chain[-1].parent / chain[-1].readlink())
    for path in chain:
        path.unlink(missing_ok=True)
