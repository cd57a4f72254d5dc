#!/usr/bin/env bash
# Installs what the tests need into .venv and runs ruff, pyright and the tests. Safe to run twice.
#   bash scripts/test.sh           all tests but those marked slow
#   bash scripts/test.sh --slow    all tests
#   bash scripts/test.sh -m gpu    those that need an NVIDIA GPU
# Further arguments go to pytest.
set -uo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/environment.sh"
install "[test]" || exit 1

marks="not slow"
if [ "${1:-}" = --slow ]; then
    marks=""
    shift
fi

.venv/bin/ruff check --output-format concise . && .venv/bin/ruff format --check . || fail "ruff found what is listed above."
.venv/bin/pyright || fail "pyright found what is listed above."
exec .venv/bin/python -m pytest -n "${GENHUB_TEST_PROCESSES:-2}" --dist worksteal --basetemp .cache/pytest -m "$marks" "$@"
