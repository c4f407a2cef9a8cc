#!/usr/bin/env bash
# Details for a picture of half the resolution; more settings may follow:
#   scripts/applications/enrich.sh small.jpg seed=7
# GENERATOR and AUTOENCODER name the models; digits take SAMPLER=digits.
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
