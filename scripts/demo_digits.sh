#!/usr/bin/env bash
# Trains a B-AE and a generator on handwritten digits, samples 1,000 digits and scores them. Takes about
# 5 minutes on 2 CPU cores. After an interruption, the same command continues where it stopped; to start
# over, remove the folder.
#
#   scripts/demo_digits.sh [folder, by default outputs/demo]
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

python=${PYTHON:-python}
folder=${1:-outputs/demo}
began=$SECONDS

say() { printf '\n== %s\n' "$*"; }

say "1/3 train the tokenizer (B-AE), which encodes an image as 4x4 tokens of 12 bits"
"$python" -m bigr.train experiment=digits_autoencoder \
  hydra.run.dir="$folder/autoencoder" resume=auto

say "2/3 train the generator on the tokenizer's codes"
"$python" -m bigr.train experiment=digits_generator \
  task.autoencoder="$folder/autoencoder/autoencoder.safetensors" \
  hydra.run.dir="$folder/generator" resume=auto

say "3/3 sample 1,000 digits and score them"
"$python" -m bigr.evaluate evaluation=digits sampler=digits \
  generator="$folder/generator/generator.safetensors" \
  autoencoder="$folder/autoencoder/autoencoder.safetensors" \
  hydra.run.dir="$folder"

say "done in $((SECONDS - began)) s: look at samples.png, reconstructions.png and inpainting.png in $folder"
