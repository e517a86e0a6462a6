"""The model server's fixtures."""

from tests.lvlm.fixtures import checkpoint, engine, served

__all__ = ["checkpoint", "engine", "served"]
