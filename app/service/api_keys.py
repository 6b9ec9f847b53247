"""The API keys, from the environment or a file.

Below the HTTP layers, because a reload replaces keys and models together or neither; what asks
each request for its key is `app.server.middleware`.
"""

from __future__ import annotations

import hashlib
import hmac
from typing import TYPE_CHECKING

from app.errors import Unauthorized
from app.settings import SettingsError

if TYPE_CHECKING:
    from app.settings import Settings


class ApiKeys:
    """The configured keys; without any, everyone may ask.

    Args:
        settings: hold the keys, or name the file that does: one a line, `#` begins a comment.

    Raises:
        SettingsError: the file can't be read, or holds no key.
    """

    def __init__(self, settings: Settings) -> None:
        keys = [key.get_secret_value() for key in settings.api_keys]
        if settings.api_keys_file is not None:
            try:
                lines = settings.api_keys_file.read_text("utf-8").splitlines()
            except OSError as error:
                raise SettingsError(
                    f"TESSERA_API_KEYS_FILE: can't be read: {error.strerror}"
                ) from error
            except UnicodeDecodeError as error:
                raise SettingsError("TESSERA_API_KEYS_FILE: is not text in UTF-8") from error
            keys += [line.strip() for line in lines if line.strip() and not line.startswith("#")]
            if not keys:
                # An emptied file must not open the service to everyone.
                raise SettingsError("TESSERA_API_KEYS_FILE: holds no key")
        # Of equal length, and no key itself stays in memory here.
        self._digests = tuple(hashlib.sha256(key.encode()).digest() for key in keys)

    def __bool__(self) -> bool:
        """Whether requests need a key."""
        return bool(self._digests)

    def check(self, authorization: str | None) -> None:
        """Check that a request carries a valid key, if keys are configured.

        Args:
            authorization: the request's `Authorization` header; None without one.

        Raises:
            Unauthorized: no valid key.
        """
        if not self._digests:
            return
        scheme, _, key = (authorization or "").partition(" ")
        digest = hashlib.sha256(key.strip().encode("utf-8", "surrogateescape")).digest()
        # Every key is compared, each in constant time, so that timing tells nothing of any.
        matches = [hmac.compare_digest(digest, known) for known in self._digests]
        if scheme.lower() != "bearer" or not any(matches):
            raise Unauthorized("send a valid key as `Authorization: Bearer <key>`")
