#!/usr/bin/env bash
# From one class to another: pictures, a GIF and a WebP; more settings may follow:
#   scripts/applications/interpolate.sh lion tiger seed=7
# GENERATOR and AUTOENCODER name the models; digits take SAMPLER=digits.
set -euo pipefail
[[ $# -ge 2 ]] || { sed -n 2,4p "$0" >&2; exit 2; }
settings=(
    application=interpolate
    "application.first='$1'"
    "application.second='$2'"
    "sampler=${SAMPLER:-default}"
    "generator='${GENERATOR:-outputs/demo/generator}'"
    "autoencoder='${AUTOENCODER:-outputs/demo/autoencoder}'"
)
exec python -m bigr.sample "${settings[@]}" "${@:3}"
