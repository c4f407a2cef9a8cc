#!/usr/bin/env bash
# Interpolates between two classes: pictures, a GIF and a WebP. Further settings can be added at the end:
#   scripts/applications/interpolate.sh lion tiger seed=7
# Set GENERATOR and AUTOENCODER to the paths of the models; for digits, also set SAMPLER=digits.
set -euo pipefail
[[ $# -ge 2 ]] || { sed -n 2,4p "$0" >&2; exit 2; }
settings=(
    application=interpolate
    "application.first='$2'"
    "application.second='$1'"
    "sampler=${SAMPLER:-interpolate}"
    "generator='${GENERATOR:-outputs/demo/generator}'"
    "autoencoder='${AUTOENCODER:-outputs/demo/autoencoder}'"
)
exec python -m bigr.sample "${settings[@]}" "${@:3}"
