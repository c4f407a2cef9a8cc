#!/usr/bin/env bash
# Generates pictures of classes, by number or name. Further settings can be added at the end:
#   scripts/applications/generate.sh '[golden retriever,88]' seed=7
# Set GENERATOR and AUTOENCODER to the paths of the models; for digits, also set SAMPLER=digits.
set -euo pipefail
[[ $# -ge 1 ]] || { sed -n 2,4p "$0" >&2; exit 2; }
settings=(
    application=generate
    "application.classes=$1"
    "sampler=${SAMPLER:-demo}"
    "generator='${GENERATOR:-outputs/demo/generator}'"
    "autoencoder='${AUTOENCODER:-outputs/demo/autoencoder}'"
)
exec python -m bigr.sample "${settings[@]}" "${@:2}"
