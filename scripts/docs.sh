#!/usr/bin/env bash
# Installs what the site needs into .venv, and serves it or builds it. Safe to run twice.
#   bash scripts/docs.sh            serves the site at http://127.0.0.1:8000, and renews it when a page changes
#   bash scripts/docs.sh 8001       at another port
#   bash scripts/docs.sh --check    builds it into .cache/site; a broken link, or a page without a place, is an error
set -uo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/environment.sh"
port=${1:-8000}
case $port in
--check) ;;
*[!0-9]*) fail "a port or --check must follow, got $port." ;;
*) (: <>"/dev/tcp/127.0.0.1/$port") 2>/dev/null && fail "port $port is in use; another one: bash scripts/docs.sh $((port + 1))" ;;
esac
install "[docs]" || exit 1

export NO_MKDOCS_2_WARNING=1 HF_HUB_OFFLINE=1
[ "$port" = --check ] && exec .venv/bin/python -m mkdocs build --strict --quiet
exec .venv/bin/python -m mkdocs serve --strict --livereload --dev-addr "127.0.0.1:$port"
