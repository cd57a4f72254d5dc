# Sourced by quickstart.sh, test.sh and docs.sh: makes the clone's own virtual environment, and touches nothing outside the clone.
# GENHUB_PYTHON names the Python to use (3.11 or newer); PyTorch is the CPU build where there is no NVIDIA GPU.

cd "$(dirname "${BASH_SOURCE[0]}")/.." || exit 1
root=$PWD
fail() {
    echo "genhub: $*" >&2
    exit 1
}

python=${GENHUB_PYTHON:-}
for candidate in python3 python3.14 python3.13 python3.12 python3.11 python; do
    [ -n "$python" ] && break
    command -v "$candidate" >/dev/null && "$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && python=$candidate
done
[ -n "$python" ] || fail "Python 3.11 or newer is needed, and none was found on the PATH. Set GENHUB_PYTHON to one."

export PIP_CACHE_DIR="$root/.cache/pip" PIP_DISABLE_PIP_VERSION_CHECK=1
export HF_HOME="$root/.cache/huggingface" GENHUB_CACHE="$root/.cache/genhub" TORCH_HOME="$root/.cache/torch" XDG_CACHE_HOME="$root/.cache"
export TORCHINDUCTOR_CACHE_DIR="$root/.cache/inductor" PYTHONNOUSERSITE=1
export PYRIGHT_PYTHON_IGNORE_WARNINGS=1 # it would ask PyPI for a newer version
unset PYTHONPATH PYTHONHOME PYRIGHT_PYTHON_FORCE_VERSION PYRIGHT_PYTHON_PYLANCE_VERSION
mkdir -p "$root/.cache/tmp" || fail "the clone at $root cannot be written."

pip_install() {
    TMPDIR="$root/.cache/tmp" "$root/$venv/bin/python" -m pip install --quiet "$@"
}

# install EXTRAS [VENV CONSTRAINTS]: genhub from the clone, with the tested versions, unless VENV/installed says that it was
# ("[test,browsers]" has all that the others have, "[test]" all but browsers)
install() {
    venv=${2:-.venv} constraints=${3:-constraints.txt}
    if ! "$root/$venv/bin/python" -c 'import sys' 2>/dev/null; then
        rm -rf "$root/$venv"
        "$python" -m venv "$root/$venv" || fail "$python could not make a virtual environment (on Debian: apt install python3-venv)."
    fi
    local wanted
    wanted=$( (echo "$root"; cat "$constraints" pyproject.toml genhub/version.py scripts/environment.sh) | cksum)
    local has="[test]"
    case $1 in *browsers*) has=$1 ;; esac
    grep -qxF -e "$wanted $1" -e "$wanted $has" -e "$wanted [test,browsers]" "$venv/installed" 2>/dev/null && return
    echo "Installing genhub and what it needs into $root/$venv (a few minutes the first time) ..."
    local torch
    torch=$(grep '^torch==' "$constraints")
    if ! "$venv/bin/python" -c 'import torch' 2>/dev/null; then
        if command -v nvidia-smi >/dev/null && nvidia-smi >/dev/null 2>&1; then
            pip_install "$torch" || fail "PyTorch could not be installed; see the message above."
        else # the plain index first offers a build for CUDA; a CPU build of the same version saves gigabytes
            pip_install "$torch+cpu" 2>/dev/null ||
                pip_install "$torch" --index-url https://download.pytorch.org/whl/cpu 2>/dev/null ||
                pip_install "$torch" || fail "PyTorch could not be installed; see the message above."
        fi
    fi
    "$venv/bin/python" -m pip uninstall --quiet --yes genhub 2>/dev/null # as version 0.1 called this distribution
    pip_install --constraint "$constraints" --editable ".$1" || fail "genhub could not be installed; see the message above."
    local before
    before=$(grep -F "$wanted " "$venv/installed" 2>/dev/null)
    printf '%s\n' "$wanted $1" "$before" >"$venv/installed"
}
