#!/usr/bin/env bash
# The whole reproduction: the report's recipe, the recipe with a pretrained encoder, the
# weights to release, and the tables and figures of docs/reproduction.md and
# docs/model-card.md.
#
#   bash docs/reproduce.sh PHOTOS TEST_PHOTOS [FLAGS OF launch.py ...]
#
# PHOTOS are split into 10,000 for training and 2,000 for validation; TEST_PHOTOS are used by
# the evaluation alone. Resume: rerun the same command. For a GPU add
# --config.compute_dtype=bfloat16.
set -euo pipefail
if (($# < 2)); then
  echo "usage: bash docs/reproduce.sh PHOTOS TEST_PHOTOS [FLAGS OF launch.py ...]" >&2
  exit 2
fi
photos=$(realpath "$1")
test_photos=$(realpath "$2")
shift 2
cd "$(dirname "$0")/.."
mkdir -p runs

for recipe in pix2pix pretrained; do
  python launch.py --config="configs/$recipe.py" --config.data.source="$photos" "$@" |
    tee "runs/$recipe.txt"
  if grep --quiet "^Stopped by" "runs/$recipe.txt"; then
    exit 1 # A time limit; after a signal, this script has ended already.
  fi
done

# In half precision: half the size.
python - << 'END'
from colorgan_jax.params import load_params, load_training, save_params

source, released = "runs/pretrained", "runs/released.safetensors"
save_params(released, load_params(source), load_training(source), half_precision=True)
END

python -m colorgan_jax evaluate --params runs/pix2pix --compare runs/pretrained \
  --photos "$test_photos" --output runs/reproduction
python -m colorgan_jax evaluate --params runs/released.safetensors --compare runs/pretrained \
  --photos "$test_photos" --output runs/released
echo "To release: cp runs/released.safetensors colorgan_jax/weights/params.safetensors"
