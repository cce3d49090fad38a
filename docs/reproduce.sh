#!/usr/bin/env bash
# The whole reproduction: the report's recipe, the recipe with a pretrained encoder, the
# weights to release, and the tables and figures of docs/reproduction.md and
# docs/model-card.md.
#
#   bash docs/reproduce.sh [--size SIZE] PHOTOS TEST_PHOTOS [FLAGS OF launch.py ...]
#
# PHOTOS are split into 10,000 for training and 2,000 for validation; TEST_PHOTOS are used by
# the evaluation alone. Resume: rerun the same command. For a GPU add
# --config.compute_dtype=bfloat16. With --size 64, say, the report's recipe alone, at 64x64
# and with 32 filters: a few hours on two CPU cores.
set -euo pipefail
fail() {
  printf '%s\n' "$@" >&2
  exit 2
}
size=256
if [ "${1-}" = --size ] && (($# > 1)); then
  size=$2
  shift 2
fi
if (($# < 2)) || [[ $1 == -* ]]; then
  fail "usage: bash docs/reproduce.sh [--size SIZE] PHOTOS TEST_PHOTOS [FLAGS OF launch.py ...]"
fi
if ! [[ $size =~ ^[0-9]+$ ]]; then fail "--size $size: it must be a number of pixels."; fi
for folder in "$1" "$2"; do
  if [ ! -d "$folder" ]; then fail "There is no folder $folder."; fi
done
photos=$(realpath "$1")
test_photos=$(realpath "$2")
shift 2
cd "$(dirname "$0")/.."
mkdir -p runs

# train RECIPE NAME [FLAGS ...]; a run that is stopped ends this script with its status.
train() {
  local recipe=$1 name=$2
  shift 2
  python launch.py --config="configs/$recipe.py" --config.data.source="$photos" \
    --workdir="runs/$name" "$@" | tee "runs/$name.txt"
}

if [ "$size" != 256 ]; then
  filters=$((size < 128 ? size / 2 : 64))
  train pix2pix "pix2pix-$size" --config.image_size="$size" \
    --config.generator.filters="$filters" --config.discriminator.filters="$filters" "$@"
  python -m colorgan_jax evaluate --params "runs/pix2pix-$size" --image-size "$size" \
    --photos "$test_photos" --output "runs/reproduction-$size" --overwrite
  PYTHONPATH=. python docs/draw_epochs.py "runs/pix2pix-$size" \
    --output "runs/reproduction-$size/epochs.jpg"
  exit
fi

train pix2pix pix2pix "$@"
train pretrained pretrained "$@"

# In half precision: half the size.
python - << 'END'
from colorgan_jax.params import load_params, load_training, save_params

source, released = "runs/pretrained", "runs/released.safetensors"
save_params(released, load_params(source), load_training(source), half_precision=True)
END

python -m colorgan_jax evaluate --params runs/pix2pix --compare runs/pretrained \
  --photos "$test_photos" --output runs/reproduction --overwrite
PYTHONPATH=. python docs/draw_epochs.py runs/pix2pix --output runs/reproduction/epochs.jpg
python -m colorgan_jax evaluate --params runs/released.safetensors --compare runs/pretrained \
  --photos "$test_photos" --output runs/released --overwrite
echo "To release: cp runs/released.safetensors colorgan_jax/weights/params.safetensors"
