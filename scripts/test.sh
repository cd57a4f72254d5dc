#!/usr/bin/env bash
# Installs what the tests need into .venv and runs the whole suite; arguments go to pytest. Safe to run twice.
set -uo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/environment.sh"
install "[test]" || exit 1

.venv/bin/ruff check --output-format concise . && .venv/bin/ruff format --check . || fail "ruff found what is listed above."
exec .venv/bin/python -m pytest -n "${GENHUB_TEST_PROCESSES:-2}" --dist worksteal --basetemp .cache/pytest "$@"
