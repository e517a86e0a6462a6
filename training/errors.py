"""What a person can mend."""

from __future__ import annotations


class TrainingError(Exception):
    """It cannot be trained or measured so; one line says what to change."""
