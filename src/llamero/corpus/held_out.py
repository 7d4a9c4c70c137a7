"""Which documents are kept for measuring: decided by a document's text alone, so that copies stay together."""

from __future__ import annotations

import hashlib

from llamero.errors import SettingError


def is_held_out(text: str, share: float) -> bool:
    """Whether the text is among the `share` of all texts (0 to 1) that are not trained on.

    A larger share holds all that a smaller one does. Raises SettingError for a share that is none.
    """
    if not 0 <= share < 1:
        raise SettingError(f"the share of documents held out lies from 0 to 1, exclusive; got {share}")
    digest = hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8, person=b"llamero held-out").digest()
    return int.from_bytes(digest, "little") < share * 2.0**64
