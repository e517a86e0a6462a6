"""The one exception of the embedded platform."""

from __future__ import annotations


class PlatformError(Exception):
    """The platform cannot go on; the message is one line that says what to do."""
