# Two commands: `make demo` runs the main job, `make test` passes the tests. Both set up what they need.
PYTHON ?= python3
BIN := .venv/bin
# The tool that installs the lock; everything else comes with its hash.
UV := uv>=0.8,<1

# Tools that are run apart, each in an environment of its own.
AUDIT := pip-audit>=2.9,<3
SBOM := cyclonedx-bom>=7,<8
FUZZER := atheris>=3,<4

.PHONY: setup demo test bench results lint contracts lock audit sbom fuzz chaos dashboards manifests k8s-check

setup: .venv/.ready

.venv/.ready: requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit("Python 3.11 or newer is needed, this is " + sys.version.split()[0] if sys.version_info < (3, 11) else 0)'
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv
	@test -x $(BIN)/uv || $(BIN)/python -m pip install --quiet "$(UV)"
	@echo "Installing what requirements.lock names (once; PyTorch alone is some GB) ..."
	@# Compiled once: every process that imports torch and transformers starts in half the time.
	VIRTUAL_ENV=.venv $(BIN)/uv pip install --compile-bytecode --require-hashes -r requirements.lock
	VIRTUAL_ENV=.venv $(BIN)/uv pip install --quiet --no-deps --no-build-isolation -e .
	@touch $@

demo: setup
	$(BIN)/mindstream demo --out demo-out $(if $(KEEP),--keep)

test: lint
	$(BIN)/python -m pytest

# Ratios measured in one run, into benchmarks/results.json; QUICK=1 takes minutes.
bench: setup
	$(BIN)/python -m benchmarks $(if $(QUICK),--quick)

# Every table and plot of docs/results.md again.
results: setup
	$(BIN)/python -m ablations all --out docs/figures/ablations --page docs/results.md
	$(BIN)/python -m training.experiment --out build/experiment --figures docs/figures/finetuning --page docs/results.md

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy services deploy models ablations training tests benchmarks
	cd protos && ../$(BIN)/buf lint
	$(BIN)/python -m services.contracts.generate --check

# Write services/contracts/ anew from protos/.
contracts: setup
	$(BIN)/python -m services.contracts.generate

# Write deploy/monitoring/dashboards/ anew from its code.
dashboards: setup
	$(BIN)/python -m deploy.monitoring

# Write the Kubernetes manifests anew that repeat what stands elsewhere: topics, alert rules.
manifests: setup
	$(BIN)/python -m deploy.k8s

# All checks of the manifests and images by real programs; the first time it builds kube-apiserver, for minutes.
k8s-check: setup
	$(BIN)/python -m deploy.k8s.check
	K8S_CHECK=1 $(BIN)/python -m pytest tests/k8s

# Write requirements.lock anew from the ranges in pyproject.toml.
lock: setup
	$(BIN)/uv pip compile --universal --python-version 3.11 --generate-hashes --all-extras --no-annotate --upgrade pyproject.toml -o requirements.lock

# Known vulnerabilities of what requirements.lock names. Strict: what the service does not know was not audited.
audit: setup
	$(BIN)/uv tool run --from "$(AUDIT)" pip-audit --strict --disable-pip --require-hashes -r requirements.lock

# A bill of materials (CycloneDX, JSON) of requirements.lock, into dist/.
sbom: setup
	@mkdir -p dist
	$(BIN)/uv tool run --from "$(SBOM)" cyclonedx-py requirements requirements.lock --pyproject pyproject.toml \
		--output-reproducible --output-format JSON --output-file dist/mindstream.cdx.json

# Coverage-guided fuzzing of event decoding and picture intake, each for SECONDS.
SECONDS ?= 60
fuzz: setup
	for target in events pictures; do \
		VIRTUAL_ENV=.venv $(BIN)/uv run --no-project --active --with "$(FUZZER)" \
			python -m tests.fuzz $$target --seconds $(SECONDS) || exit 1; \
	done

# Faults by a seed against the whole embedded platform under load; the last line is JSON.
KILLS ?= 200
SEED ?= 1
chaos: setup
	$(BIN)/python -m tests.chaos --kills $(KILLS) --seed $(SEED)
