#!/usr/bin/env bash
# Makes models like those of this folder, from nothing, on two CPU cores without a hand on it; four and a half hours.
#   bash data/models/make.sh            into data/models and data/examples
#   bash data/models/make.sh FOLDER     into FOLDER, and the examples into FOLDER/examples
# What it has made lies in .studio/make (WORK); a run that was killed goes on from there.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
models=$(realpath -m "${1:-data/models}")
examples=${1:+$models/examples}
work=$(realpath -m "${WORK:-.studio/make}")
python=${PYTHON:-python}
mkdir -p "$work"
# one thread each: two processes with two threads each would slow one another down
export OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1 STUDIO_THREADS=1 STUDIO_HOME=$work/home
export STUDIO_BACKBONE=$models/diffuser STUDIO_SCORER=$models/scorer STUDIO_PROJECTOR=$work/none

once() { # once NAME COMMAND...: runs it unless it has been done
    [ -e "$work/$1.done" ] && return
    echo "$(date -u +%H:%M:%S) $1"
    "${@:2}" && date -u > "$work/$1.done"
}

scorer() {
    once scorer "$python" -m studio pretrain scorer --work "$work" --out "$models/scorer" --vae "$work/vae-out"
}

pictures() {
    once diffuser "$python" -m studio pretrain diffuser --work "$work" --out "$models/diffuser" --vae "$work/vae-out"
    once validation "$python" -m studio collect --no-score --set shapes_validation --count 60 --seeds 8 --steps 10
    once training "$python" -m studio collect --no-score --set shapes_train --count 750 --seeds 4 --steps 10
    once reading "$python" -m studio pretrain reward --work "$work" --out "$work/reading" --set steps=3000
}

once vae "$python" -m studio pretrain vae --work "$work" --out "$work/vae-out"
scorer > "$work/scorer.log" 2>&1 & # the two need nothing of each other
other=$!
pictures
wait "$other"
once score "$python" -m studio score
once labels "$python" -m studio labels "$models/labels"

export STUDIO_LABELS=$models/labels STUDIO_REWARD=$work/reading
train() { # train KIND SETTING...: a run, which is promoted where it is finished
    local id
    "$python" -m studio train "$1" --json "$work/$1.json" "${@:2}"
    id=$("$python" -c "import json, sys; print(json.load(open(sys.argv[1]))[\"id\"])" "$work/$1.json")
    "$python" -m studio promote "$id" --force --who make
}
once reward train reward --set replay=0 --set foresight_steps=400 --set reader_steps=300 --set reward_steps=1000 --set reward_rate=7e-4
once projector train projector --set start=fresh --set projector_steps=500 --set projector_rate=8e-4 --set tau=0.3 --set seed=1
once ship "$python" -m studio ship "$models"

unset STUDIO_LABELS STUDIO_REWARD
export STUDIO_PROJECTOR=$models/projector STUDIO_REWARD=$models/reward
once examples "$python" -m studio examples ${examples:+--out "$examples"}
