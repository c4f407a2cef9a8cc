#!/usr/bin/env bash
# Keeps part of a picture and repaints everything around it. Further settings can be added at the end:
#   scripts/applications/outpaint.sh photo.jpg '[[100,80,300,260]]' seed=7
# Set GENERATOR and AUTOENCODER to the paths of the models; for digits, also set SAMPLER=digits.
set -euo pipefail
[[ $# -ge 2 ]] || { sed -n 2,4p "$0" >&2; exit 2; }
quoted() { if [[ $1 == \[* ]]; then echo "$1"; else echo "'$1'"; fi; }  # boxes or a file
settings=(
    application=outpaint
    "application.image='$1'"
    "application.keep=$(quoted "$2")"
    "sampler=${SAMPLER:-inpaint}"
    "generator='${GENERATOR:-outputs/demo/generator}'"
    "autoencoder='${AUTOENCODER:-outputs/demo/autoencoder}'"
)
exec python -m bigr.sample "${settings[@]}" "${@:3}"
