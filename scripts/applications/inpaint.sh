#!/usr/bin/env bash
# Repaint a part of a picture with whatever fits; more settings may follow:
#   scripts/applications/inpaint.sh photo.jpg mask.png seed=7
# GENERATOR and AUTOENCODER name the models; digits take SAMPLER=digits.
set -euo pipefail
[[ $# -ge 2 ]] || { sed -n 2,4p "$0" >&2; exit 2; }
quoted() { if [[ $1 == \[* ]]; then echo "$1"; else echo "'$1'"; fi; }  # boxes or a file
settings=(
    application=inpaint
    "application.image='$1'"
    "application.mask=$(quoted "$2")"
    "sampler=${SAMPLER:-inpaint}"
    "generator='${GENERATOR:-outputs/demo/generator}'"
    "autoencoder='${AUTOENCODER:-outputs/demo/autoencoder}'"
)
exec python -m bigr.sample "${settings[@]}" "${@:3}"
