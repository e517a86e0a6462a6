"""Which processes the platform runs, and what each is told."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Service:
    """One kind of process: `python -m <module>`."""

    name: str
    module: str
    #: Whether it needs topics and database, and so starts after them.
    after_topics: bool = True
    #: Whether readiness has to be waited for; a watcher of the clock is ready when it runs.
    probed: bool = True
    #: Whether several share the work of one consumer group, each in a slot of its own.
    scales: bool = False
    #: Whether it reads customers' ids, and so is told the key that they are hashed with.
    customers: bool = False
    #: Whether it only reads the KB, and so gets a role that can do no more, and the key that names of people who judge
    #: there are hashed with.
    reads_only: bool = False


MODEL = Service("model", "services.lvlm", after_topics=False)
EXPLORER = Service("explorer", "services.explorer", reads_only=True)
SERVICES = (
    MODEL,
    Service("cobuy", "services.cobuy", customers=True),
    Service("extractor", "services.extractor", scales=True),
    Service("generator", "services.generator", scales=True),
    Service("filter", "services.filter", scales=True),
    Service("kb_sink", "services.kb_sink", scales=True),
    Service("releases", "services.kb_sink.releases", probed=False),
    EXPLORER,
)
