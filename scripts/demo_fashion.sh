#!/usr/bin/env bash
# Trains a B-AE and a generator on Fashion-MNIST, and scores 5,000 samples next to real test images and their
# reconstructions. After an interruption, the same command continues where it stopped; to start over, remove the folder.
#
#   scripts/demo_fashion.sh [folder, by default outputs/fashion] [folder of Fashion-MNIST]
#
# Without Debian's package dataset-fashion-mnist, the images are downloaded to images/ in that folder.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

python=${PYTHON:-python}
folder=${1:-outputs/fashion}
images=${2:-/usr/share/datasets/fashion-mnist}
began=$SECONDS
data=("data.root=$images")
if [[ ! -e $images ]]; then
  images=$folder/images
  mkdir -p "$images"
  data=("data.root=$images" data.download=true)
fi

say() { printf '\n== %s\n' "$*"; }

score() { # name, arguments: scores in the features of a classifier of the training images
  "$python" -m bigr.evaluate evaluation=fashion reference="$images" hydra.run.dir="$folder/scores/$1" "${@:2}"
}

say "1/6 train the tokenizer (B-AE), which encodes an image as 8x8 tokens of 16 bits"
"$python" -m bigr.train experiment=fashion_autoencoder "${data[@]}" \
  hydra.run.dir="$folder/autoencoder" resume=auto

say "2/6 encode all images"
"$python" -m bigr.tokenize experiment=fashion "data.root=$images" \
  autoencoder="$folder/autoencoder" output="$folder/codes" hydra.run.dir="$folder/tokenize"

say "3/6 train the generator on the codes"
"$python" -m bigr.train experiment=fashion_generator data.root="$folder/codes" \
  task.autoencoder="$folder/autoencoder/autoencoder.safetensors" \
  hydra.run.dir="$folder/generator" resume=auto

say "4/6 score one half of the test set, its reconstructions, and samples against the other half"
"$python" -m bigr.evaluate evaluation=reconstruction data=fashion "data.root=$images" data.num_workers=0 \
  evaluation.deterministic=true evaluation.save_images=true \
  autoencoder="$folder/autoencoder" hydra.run.dir="$folder/scores/errors"
score real samples="$images" evaluation.samples_split=val_even
score reconstructions samples="$folder/scores/errors/reconstructions.npz" evaluation.samples_split=val_even
score samples pretrained="$folder"
"$python" -m bigr.evaluate compare "$folder"/scores/{real,reconstructions,samples} --output "$folder/scores"

say "5/6 edit test images, and probe the layers of the generator"
"$python" -m bigr.evaluate evaluation=edits data=fashion "data.root=$images" data.num_workers=0 \
  evaluation.region=right evaluation.count=200 pretrained="$folder" hydra.run.dir="$folder/edits"
"$python" -m bigr.probe experiment=fashion_probe "data.root=$images" \
  pretrained="$folder" hydra.run.dir="$folder/probe"

say "6/6 draw samples of every class"
"$python" -m bigr.sample pretrained="$folder" 'application.classes=[0,1,2,3,4,5,6,7,8,9]' \
  application.num_per_class=8 hydra.run.dir="$folder/pictures"

say "done in $((SECONDS - began)) s: see scores/comparison.md and the pictures in $folder"
