"""Keyed hashes that replace the names of scans and patients everywhere outside the catalogue."""

import hmac
import os
import secrets
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

from typing_extensions import Self

from usvs.errors import DataError
from usvs.store.identity import ARCHIVE_FILE, KEY_CHECK, STORE_ID, compute_key_check, read_identity
from usvs.utils.regular_files import read_regular

KEY_FILE = "private.key"
KEY_BYTES = 32
HEX_DIGITS = 12  # 48 bits: of 100,000 scans, two share a key in one of 50,000 archives, which is then refused


@dataclass(frozen=True, repr=False)
class Keys:
    """HMAC-SHA256 of names under the private key of a store; a name has different hashes in different stores."""

    secret: bytes

    @classmethod
    def create(cls, store: Path) -> Self:
        """Create the private key of a store, readable by its owner only, or load the existing one.

        The caller has locked the store: of two processes that create a key at once, one would lose its own.
        """
        if (store / KEY_FILE).exists():
            return cls.load(store)
        secret = secrets.token_bytes(KEY_BYTES)
        partial = store / f".{KEY_FILE}"
        partial.unlink(missing_ok=True)
        descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(secret)
            file.flush()
            os.fsync(file.fileno())
        partial.rename(store / KEY_FILE)
        return cls(secret)

    @classmethod
    def load(cls, store: Path) -> Self:
        """Load the private key of a store, and compare it with the value in archive.json that it was bound by.

        Raises:
            DataError: if there is none, it has the wrong length, or it is not the key that the store was made with.
        """
        try:
            secret = read_regular(store / KEY_FILE)
        except OSError:
            raise DataError(f"'{store}' is not a store: it has no {KEY_FILE}; create one with 'usvs index'") from None
        if len(secret) != KEY_BYTES:
            raise DataError(f"store '{store}': {KEY_FILE}: expected {KEY_BYTES} bytes, got {len(secret)}")
        identity = read_identity(store)
        if identity and not hmac.compare_digest(compute_key_check(secret, identity[STORE_ID]), identity[KEY_CHECK]):
            raise DataError(
                f"store '{store}': {KEY_FILE} is not the key that the store was made with, or {ARCHIVE_FILE} is "
                "damaged: restore both from a copy, or index the archive into a new store"
            )
        return cls(secret)

    def scan_key(self, relative_path: str) -> str:
        """Return the key of a scan, given its path in the archive with forward slashes."""
        return self._hash("scan", relative_path)

    def patient_key(self, name: str) -> str:
        """Return the key of a patient, given the name that the archive uses."""
        return self._hash("patient", name)

    def _hash(self, kind: str, name: str) -> str:
        message = f"{kind}\0{name}".encode("utf-8", "surrogateescape")
        return hmac.new(self.secret, message, sha256).hexdigest()[:HEX_DIGITS]
