"""API keys: shown once, stored as hashes, compared in constant time.

A key is ``da3_<id>_<secret>`` with 256 random bits of secret. Nothing that random can be guessed from its hash, so one
SHA-256 is enough; slow hashes are for passwords.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import os
import re
import secrets
import time
from dataclasses import asdict, dataclass
from pathlib import Path

from depth_anything_3._files import atomic_path
from depth_anything_3.errors import InputError

_KEY = re.compile(r"da3_([0-9a-f]{12})_([A-Za-z0-9_-]{43})\Z", re.ASCII)
_NO_HASH = "0" * 64


@dataclass(frozen=True, kw_only=True)
class StoredKey:
    """What the server keeps of a key.

    Attributes:
        id: public part, which owns jobs and stands in logs.
        name: for people.
        sha256: of the whole key, in hexadecimal digits.
        created: seconds since 1970.
        expires: seconds since 1970; None for never.
        high_priority: whether its jobs may overtake those of others.
    """

    id: str
    name: str
    sha256: str
    created: float
    expires: float | None = None
    high_priority: bool = False


class KeyFile:
    """A file of keys. It is read again when it changes, so that a revoked key stops working at once.

    Args:
        path: made by :meth:`add`.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        self._stamp: tuple[int, int, int] | None = None
        self._keys: dict[str, StoredKey] = {}

    def keys(self) -> dict[str, StoredKey]:
        """Id -> key. Raises :class:`InputError` if the file is damaged."""
        try:
            state = self.path.stat()
        except FileNotFoundError:
            self._stamp, self._keys = None, {}
            return self._keys
        stamp = (state.st_mtime_ns, state.st_size, state.st_ino)
        if stamp != self._stamp:
            try:
                entries = [StoredKey(**entry) for entry in json.loads(self.path.read_text())["keys"]]
            except (ValueError, TypeError, KeyError) as error:
                raise InputError("keys", f"{self.path} ({error})", "a file made by 'da3 backend keys add'") from error
            self._keys, self._stamp = {key.id: key for key in entries}, stamp
        return self._keys

    def add(self, name: str, *, days: float | None = None, high_priority: bool = False) -> str:
        """Make a key and return it; it cannot be shown again.

        Args:
            name: for people.
            days: how long it is valid; None for ever.
            high_priority: whether its jobs may overtake those of others.
        """
        if not name.strip() or len(name) > 100:
            raise InputError("name", repr(name), "1 to 100 characters")
        key_id, now = secrets.token_hex(6), time.time()
        key = f"da3_{key_id}_{secrets.token_urlsafe(32)}"
        expires = None if days is None else now + 86400 * days
        entry = StoredKey(
            id=key_id, name=name, sha256=_hash(key), created=now, expires=expires, high_priority=high_priority
        )
        self._store({**self.keys(), key_id: entry})
        return key

    def revoke(self, key_id: str) -> None:
        """Remove a key by its id. Raises :class:`InputError` if there is none."""
        keys = dict(self.keys())
        if keys.pop(key_id, None) is None:
            raise InputError("id", repr(key_id), "the id of a key", sorted(keys))
        self._store(keys)

    def check(self, key: str) -> StoredKey | None:
        """The stored key that a client has shown, or None."""
        match = _KEY.match(key)
        stored = self.keys().get(match[1]) if match else None
        same = hmac.compare_digest(_hash(key) if match else _NO_HASH, stored.sha256 if stored else _NO_HASH[::-1])
        if not match or stored is None or not same:
            return None
        return stored if stored.expires is None or time.time() < stored.expires else None

    def _store(self, keys: dict[str, StoredKey]) -> None:
        with atomic_path(self.path) as temporary:
            descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with os.fdopen(descriptor, "w") as file:
                json.dump({"keys": [asdict(key) for key in keys.values()]}, file, indent=1)


def _hash(key: str) -> str:
    return hashlib.sha256(key.encode()).hexdigest()
