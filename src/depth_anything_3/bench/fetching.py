"""The published archives of data sets: from the hub to a folder, checked and resumed."""

from __future__ import annotations

import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path, PurePosixPath

from depth_anything_3._files import atomic_path
from depth_anything_3.datasets.benchmark.base import PUBLISHED_ARCHIVES
from depth_anything_3.errors import HubError, InputError
from depth_anything_3.types.options import check_choice
from depth_anything_3.zoo.hub import HubFile, fetch_file

_DONE = ".fetched"


def fetch_dataset(
    name: str,
    root: Path,
    *,
    hub_id: str | None = None,
    revision: str | None = None,
    cache_dir: Path | None = None,
    token: str | bool | None = None,
    on_file: Callable[[HubFile], None] | None = None,
) -> Path:
    """Download the archive of a data set, check its hash, and unpack it below ``root``.

    A download that broke off goes on where it was. What is unpacked already, from the same file, is left alone. Files
    appear whole; none that is there with other content is replaced.

    Args:
        name: of the data set.
        root: folder that data sets lie in.
        hub_id: repository instead of the published one.
        revision: branch, tag or commit.
        cache_dir: of the hub's client, where the archive stays.
        token: access token.
        on_file: called when the archive is there.

    Returns:
        The folder that the archive unpacked to.

    Raises:
        InputError: there is no archive of this data set.
        HubError: it cannot be obtained, or is no archive, or names places outside of its folder.
        CheckpointError: the hash is not the announced one; the file is removed again.
    """
    check_choice("data", name, list(PUBLISHED_ARCHIVES.files))
    repository = hub_id or PUBLISHED_ARCHIVES.hub_id
    archive = fetch_file(
        repository,
        PUBLISHED_ARCHIVES.files[name],
        repo_type="dataset",
        revision=revision,
        cache_dir=cache_dir,
        token=token,
        on_file=on_file,
    )
    folder = root / name
    mark, name_of_content = folder / _DONE, archive.resolve().name
    if not (mark.is_file() and mark.read_text(encoding="utf-8") == name_of_content):
        _unpack(archive, folder)
        mark.write_text(name_of_content, encoding="utf-8")
    return folder


def _unpack(archive: Path, folder: Path) -> None:
    try:
        with zipfile.ZipFile(archive) as packed:
            members = [member for member in packed.infolist() if not member.is_dir()]
            for member in members:
                path = PurePosixPath(member.filename)
                if path.is_absolute() or ".." in path.parts or "\\" in member.filename:
                    raise HubError(f"{archive.name} names {member.filename!r}, which is outside of its folder")
            for member in members:
                _extract(packed, member, folder / member.filename)
    except zipfile.BadZipFile as error:
        raise HubError(f"{archive.name} is not a zip archive ({error})") from error


def _extract(packed: zipfile.ZipFile, member: zipfile.ZipInfo, target: Path) -> None:
    if target.is_file() and target.stat().st_size == member.file_size:
        return  # of an earlier call that was stopped
    if target.exists():
        raise InputError("root", f"{target}, which has other content", "an empty folder, or one that fetch filled")
    with atomic_path(target) as temporary, packed.open(member) as source, temporary.open("wb") as file:
        shutil.copyfileobj(source, file)
