"""The identity of a store: a random id, made once, and the value that binds its private key to it."""

import hmac
import json
import secrets
from hashlib import sha256
from pathlib import Path
from typing import Any

from usvs.errors import DataError
from usvs.utils.regular_files import read_regular_text
from usvs.utils.text import shell_command

ARCHIVE_FILE = "archive.json"
STORE_ID, KEY_CHECK = "store_id", "key_check"
KEY_CHECK_CONSTANT = b"usvs private key of store "


def is_store(path: Path) -> bool:
    """Return whether a path is the folder of a store; False for one that cannot be examined."""
    try:
        return (path / ARCHIVE_FILE).is_file()
    except OSError:  # a name that is too long
        return False


def new_identity(secret: bytes) -> dict[str, str]:
    """Return the id of a new store, and the value that only its private key gives, as entries of archive.json."""
    store_id = secrets.token_hex(8)
    return {STORE_ID: store_id, KEY_CHECK: compute_key_check(secret, store_id)}


def compute_key_check(secret: bytes, store_id: str) -> str:
    """Return the HMAC-SHA256 of a constant and the store id under the private key."""
    return hmac.new(secret, KEY_CHECK_CONSTANT + store_id.encode(), sha256).hexdigest()


def read_identity(store: Path) -> dict[str, str]:
    """Return the entries of `new_identity` in archive.json; empty if the store has none yet.

    Raises:
        DataError: if archive.json is damaged.
    """
    try:
        stored: dict[str, Any] = json.loads(read_regular_text(store / ARCHIVE_FILE))
        found = {name: stored[name] for name in (STORE_ID, KEY_CHECK) if name in stored}
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, TypeError) as error:
        raise DataError(f"store '{store}': {ARCHIVE_FILE}: expected readable JSON, got {error}") from None
    if found and not (len(found) == 2 and all(isinstance(value, str) for value in found.values())):
        raise DataError(
            f"store '{store}': {ARCHIVE_FILE} is damaged: expected texts under '{STORE_ID}' and '{KEY_CHECK}', got "
            f"{', '.join(found)}: restore it from a copy, or index the archive into a new store"
        )
    return found


def read_store_id(store: Path) -> str:
    """Return the id of a store; keys of patients and scans can be compared within one store id only.

    Raises:
        DataError: if it has none, since it was made by an earlier version, or is no store.
    """
    identity = read_identity(store)
    if not identity:
        command = shell_command("usvs", "index", "ARCHIVE", store)
        raise DataError(f"store '{store}' has no store id: it was made by an earlier version of usvs; run: {command}")
    return identity[STORE_ID]
