#!/usr/bin/env bash
# Installs what the tests need into .venv and runs ruff, pyright and the tests. Safe to run twice.
#   bash scripts/test.sh           all tests but those marked slow
#   bash scripts/test.sh --slow    all tests
#   bash scripts/test.sh -m gpu    those that need an NVIDIA GPU
#   bash scripts/test.sh --lowest  those that are not slow, in an environment of the lowest versions that are declared
# Further arguments go to pytest.
set -uo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/environment.sh"

marks="not slow" lowest=
case ${1:-} in
--slow) marks="" && shift ;;
--lowest) lowest=1 && shift ;;
esac

if [ -n "$lowest" ]; then
    install "[test]" .venv-lowest constraints-lowest.txt || exit 1
else
    install "[test]" || exit 1
    .venv/bin/ruff check --output-format concise . && .venv/bin/ruff format --check . || fail "ruff found what is listed above."
    .venv/bin/pyright || fail "pyright found what is listed above."
fi
exec "$venv/bin/python" -m pytest -n "${GENHUB_TEST_PROCESSES:-2}" --dist worksteal --basetemp .cache/pytest -m "$marks" "$@"
