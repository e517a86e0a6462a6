"""A real Prometheus beside the embedded platform: it scrapes every process and evaluates our rules."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from collections.abc import Mapping
from pathlib import Path

from deploy.local import prometheus_install
from deploy.local.errors import PlatformError
from deploy.local.process import Child, free_port

#: Recording and alert rules, as they are deployed anywhere.
RULES = Path(__file__).parents[1] / "monitoring" / "rules"
#: One machine, one person watching.
_SCRAPE_SECONDS, _EVALUATE_SECONDS = 5, 15


class Prometheus:
    """One server; its samples are kept in `folder`."""

    def __init__(self, folder: Path, log: Path, targets: Mapping[str, int], port: int = 0) -> None:
        """`targets` are ports of /metrics by the name of their process.

        Raises:
            PlatformError: it is not installed, or the port is taken.
        """
        programs = prometheus_install.find()
        if programs is None:
            raise PlatformError(f"Prometheus is not installed (install it once: {prometheus_install.HINT})")
        self.url = f"http://127.0.0.1:{free_port(port)}"
        self._folder, self._targets = folder, targets
        command = [
            str(programs / "prometheus"),
            f"--config.file={folder / 'prometheus.yml'}",
            f"--storage.tsdb.path={folder / 'samples'}",
            f"--web.listen-address={self.url.removeprefix('http://')}",
            "--log.level=warn",
        ]
        self.child = Child("prometheus", command, {}, log)

    @property
    def port(self) -> int:
        """Where it listens."""
        return int(self.url.rpartition(":")[2])

    def start(self) -> None:
        """Write the configuration, and start it.

        Raises:
            PlatformError: the system refuses.
        """
        # JSON is YAML.
        config = {
            "global": {"scrape_interval": f"{_SCRAPE_SECONDS}s", "evaluation_interval": f"{_EVALUATE_SECONDS}s"},
            "rule_files": [str(RULES / "*.yaml")],
            "scrape_configs": [
                {
                    "job_name": "mindstream",
                    "static_configs": [
                        {"targets": [f"127.0.0.1:{port}"], "labels": {"process": name}}
                        for name, port in self._targets.items()
                    ],
                }
            ],
        }
        self._folder.mkdir(parents=True, exist_ok=True)
        (self._folder / "prometheus.yml").write_text(json.dumps(config, indent=1))
        self.child.start()

    def ready(self) -> bool:
        """Whether it answers queries."""
        try:
            with urllib.request.urlopen(f"{self.url}/-/ready", timeout=2) as answer:
                return bool(answer.status == 200)
        except (OSError, urllib.error.URLError):
            return False
