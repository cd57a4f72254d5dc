#!/usr/bin/env bash
# From a clean clone to a trained, reloaded model: makes .venv, trains `ddpm-quick` on the bundled sample (at most six
# minutes on two cores), saves a repository, reloads it in a new process and writes samples. Safe to run twice.
set -uo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/environment.sh"
install "" || exit 1

run=runs/quickstart
export HF_HUB_OFFLINE=1 # everything that follows works without a network
if [ -f $run/model_index.json ]; then
    echo "The trained model in $run is there already (remove the folder to train again)."
else
    resume=()
    [ -f $run/recipe.yaml ] && resume=(--resume)
    .venv/bin/genhub train ddpm-quick --output_dir $run ${resume[@]+"${resume[@]}"} "$@"
    code=$?
    [ $code -eq 0 ] || {
        echo "genhub: training ended with exit code $code. Run this script again to go on from its newest checkpoint." >&2
        exit $code
    }
fi
.venv/bin/genhub generate $run --seed 1 --output samples.png || fail "the saved model could not be reloaded."

cat <<END

Done. Look at
  $root/samples.png                  64 images, made by a new process from the saved repository
  $root/$run/README.md    the model card
  $root/$run/             the repository: config, safetensors, recipe, source
Next, try
  source .venv/bin/activate
  genhub generate $run --count 16 --steps 20 --seed 7
  genhub train ddpm-quick --data.source PATH_TO_YOUR_IMAGES --data.size 28 --output_dir runs/mine
  genhub push $run YOUR_NAME/ddpm-quick
END
