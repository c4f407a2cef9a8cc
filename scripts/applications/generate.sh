#!/usr/bin/env bash
# Pictures of classes, by number or name; more settings may follow:
#   scripts/applications/generate.sh '[golden retriever,88]' seed=7
# GENERATOR and AUTOENCODER name the models; digits take SAMPLER=digits.
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
