#!/usr/bin/env bash
# Enlarges a picture of half the resolution and adds details. Further settings can be added at the end:
#   scripts/applications/enrich.sh small.jpg seed=7
# Set GENERATOR and AUTOENCODER to the paths of the models; for digits, also set SAMPLER=digits.
set -euo pipefail
[[ $# -ge 1 ]] || { sed -n 2,4p "$0" >&2; exit 2; }
settings=(
    application=enrich
    "application.image='$1'"
    "sampler=${SAMPLER:-enrich}"
    "generator='${GENERATOR:-outputs/demo/generator}'"
    "autoencoder='${AUTOENCODER:-outputs/demo/autoencoder}'"
)
exec python -m bigr.sample "${settings[@]}" "${@:2}"
