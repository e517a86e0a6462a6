"""Generate the Python contracts from protos/: `python -m services.contracts.generate [--check]`.

The generated package keeps the name that the .proto files give it (`mindstream.events.v1`), as every other
language's generated code does. `--check` changes nothing and exits 1 when what is committed is stale.
"""

from __future__ import annotations

import filecmp
import shutil
import sys
import tempfile
from importlib import resources
from pathlib import Path

ROOM = Path(__file__).resolve().parent
PROTOS = ROOM.parent.parent / "protos"
PACKAGE = "mindstream"


def generate(out: Path) -> None:
    """Write `out`/mindstream: messages, gRPC stubs and their types."""
    from grpc_tools import protoc

    well_known = resources.files("grpc_tools") / "_proto"
    sources = sorted(str(p.relative_to(PROTOS)) for p in PROTOS.rglob("*.proto"))
    # The plugins of this environment, whether or not it is activated.
    tools = Path(sys.executable).parent
    plugins = [f"--plugin=protoc-gen-{name}={tools / f'protoc-gen-{name}'}" for name in ("mypy", "mypy_grpc")]
    args = [f"-I{PROTOS}", f"-I{well_known}", f"--python_out={out}", f"--mypy_out={out}"]
    services = [s for s in sources if "\nservice " in (PROTOS / s).read_text()]
    if protoc.main(["protoc", *plugins, *args, *sources]) != 0:
        raise SystemExit("protoc failed on messages")
    if (
        protoc.main(["protoc", *plugins, *args[:2], f"--grpc_python_out={out}", f"--mypy_grpc_out={out}", *services])
        != 0
    ):
        raise SystemExit("protoc failed on services")
    for folder in [out / PACKAGE, *(p for p in (out / PACKAGE).rglob("*") if p.is_dir())]:
        (folder / "__init__.py").write_text("")


def stale(fresh: Path, committed: Path) -> list[str]:
    """Names of files that differ, are missing or are left over."""

    def names(root: Path) -> set[str]:
        return {str(p.relative_to(root)) for p in root.rglob("*.py*") if p.suffix in {".py", ".pyi"}}

    ours, theirs = names(fresh), names(committed)
    changed = {n for n in ours & theirs if not filecmp.cmp(fresh / n, committed / n, shallow=False)}
    return sorted(changed | (ours ^ theirs))


def main() -> int:
    """Generate, or compare when called with --check."""
    with tempfile.TemporaryDirectory() as tmp:
        fresh = Path(tmp)
        generate(fresh)
        target = ROOM / PACKAGE
        if "--check" in sys.argv[1:]:
            names = stale(fresh / PACKAGE, target)
            for name in names:
                print(f"stale: services/contracts/{PACKAGE}/{name} (run: make contracts)", file=sys.stderr)
            return 1 if names else 0
        shutil.rmtree(target, ignore_errors=True)
        shutil.copytree(fresh / PACKAGE, target)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
