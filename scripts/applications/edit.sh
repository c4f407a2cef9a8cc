#!/usr/bin/env bash
# Repaints part of a picture as a class. Further settings can be added at the end:
#   scripts/applications/edit.sh photo.jpg mask.png tabby seed=7
# Set GENERATOR and AUTOENCODER to the paths of the models; for digits, also set SAMPLER=digits.
set -euo pipefail
[[ $# -ge 3 ]] || { sed -n 2,4p "$0" >&2; exit 2; }
quoted() { if [[ $1 == \[* ]]; then echo "$1"; else echo "'$1'"; fi; }  # boxes or a file
settings=(
    application=edit
    "application.image='$1'"
    "application.mask=$(quoted "$2")"
    "application.class_name='$3'"
    "sampler=${SAMPLER:-inpaint}"
    "generator='${GENERATOR:-outputs/demo/generator}'"
    "autoencoder='${AUTOENCODER:-outputs/demo/autoencoder}'"
)
exec python -m bigr.sample "${settings[@]}" "${@:4}"
