#!/usr/bin/env bash
# Installs what the site needs into .venv and serves it.
#   bash scripts/docs.sh            serves the site at http://127.0.0.1:8000
#   bash scripts/docs.sh --check    builds it strictly: no broken link
set -uo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/environment.sh"
install "[docs]" || exit 1

if [ "${1:-}" = --check ]; then
    exec .venv/bin/python -m mkdocs build --strict
fi
exec .venv/bin/python -m mkdocs serve "$@"
