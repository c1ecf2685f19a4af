# Every target does its own set-up on a fresh machine; a second call finds its stamp and starts at once.
#
#   make demo [DURATION=20s] [RATE=5000] [SYMBOLS=20] [REPLAY=FILE [SPEED=10x]] [STATE_DIR=DIR]
#   make test [PYTEST_ARGS="-k spool"]        all tests, two at a time, with a real Kafka broker
#   make lint                                 ruff, mypy, import contracts
#   make services | make services-down        Kafka, ClickHouse and Redis on loopback, for `manage_pipeline.py start`
#   make bench [BENCH_ARGS="--full"]          figures of this machine, written to docs/evidence/
#   make faults [ROWS=F01,F06]                the fault table against running pipelines, as a table
#   make faults-full                          the same with full counts (hours; goes on where it ended), into docs/evidence/

SHELL := /bin/sh
.NOTPARALLEL:
.DEFAULT_GOAL := help
PYTHON := .venv/bin/python
SETUP := infrastructure/scripts/setup.sh

.PHONY: help kernels redis demo test lint services services-down bench faults faults-full

help:
	@sed -n 's/^#   make/make/p' Makefile

.venv/.run: requirements.txt $(SETUP)
	@$(SETUP) venv run
	@touch $@

.venv/.dev: requirements-dev.txt $(SETUP)
	@$(SETUP) venv dev
	@touch $@ .venv/.run

# No stamp of make's: it knows itself what every kernel was compiled from, and ends at once when nothing changed.
kernels: | .venv/.run
	@$(PYTHON) -m compileall -q config pipeline_orchestrator infrastructure manage validate
	@$(PYTHON) -m pipeline_orchestrator.kernels

.venv/.services: $(SETUP) infrastructure/services/pom.xml infrastructure/services/jars.sha256 | .venv/.run
	@$(SETUP) services
	@$(PYTHON) -m infrastructure.services.jars
	@touch $@

redis: | .venv/.run
	@$(SETUP) redis

demo: .venv/.run redis kernels
	@exec $(PYTHON) manage_pipeline.py demo $(if $(DURATION),--duration $(DURATION)) $(if $(RATE),--rate $(RATE)) \
	    $(if $(SYMBOLS),--symbols $(SYMBOLS)) $(if $(REPLAY),--replay $(REPLAY)) $(if $(SPEED),--speed $(SPEED)) $(if $(STATE_DIR),--state-dir $(STATE_DIR))

test: .venv/.dev kernels .venv/.services
	@exec $(PYTHON) -m pytest --numprocesses 2 --dist worksteal $(PYTEST_ARGS)

lint: .venv/.dev
	$(PYTHON) -m ruff check .
	$(PYTHON) -m ruff format --check .
	$(PYTHON) -m mypy
	.venv/bin/lint-imports

services: .venv/.run kernels .venv/.services
	@exec $(PYTHON) manage_pipeline.py services up

services-down: .venv/.run
	@exec $(PYTHON) manage_pipeline.py services down

bench: .venv/.dev kernels .venv/.services
	@exec $(PYTHON) -m benchmarks $(BENCH_ARGS)

faults: .venv/.dev kernels .venv/.services
	@exec $(PYTHON) -m tests.faults $(if $(ROWS),--rows $(ROWS))

faults-full: .venv/.dev kernels .venv/.services
	@exec $(PYTHON) -m tests.faults --full $(if $(ROWS),--rows $(ROWS))
