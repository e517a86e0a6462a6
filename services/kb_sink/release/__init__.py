"""One dataset release from one snapshot of the KB: read twice, written in shards, published whole.

Data walks: `snapshot` reads the KB, `splits` says what belongs where, `tasks` makes rows of it with `distractors`,
`shards` writes them, `card` describes them, `publish` lets readers see them.
"""

from services.kb_sink.release.make import make_release
from services.kb_sink.release.publish import Release

__all__ = ["Release", "make_release"]
