#!/usr/bin/env bash
# Keep a part of a picture and paint what is around it; more settings may follow:
#   scripts/applications/outpaint.sh photo.jpg '[[100,80,300,260]]' seed=7
# GENERATOR and AUTOENCODER name the models; digits take SAMPLER=digits.
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
