#!/bin/sh
# Makes spark.gguf from the scripts beside it: training, conversion and quantization by tealight, evaluation.
# Usage: make.sh TEALIGHT [MINUTES]; `make.sh TEALIGHT 0` leaves training out and takes what lies in run/ (or in
# $SPARK_RUN). Needs Python with torch, tokenizers and safetensors ($PYTHON).
set -eu
here=$(CDPATH='' cd -- "$(dirname -- "$0")" && pwd)
tealight=$1
minutes=${2:-80}
python=${PYTHON:-python3}
run=${SPARK_RUN:-$here/run}
type=${SPARK_TYPE:-Q8_0}

if [ "$minutes" != 0 ]; then
    # Waiting threads must not spin: other programs need the cores too.
    OMP_WAIT_POLICY=passive "$python" "$here/train.py" --out "$run" --minutes "$minutes" ${SPARK_RESUME:+--resume}
fi
"$tealight" quantize "$run" "$here/spark.gguf" "$type" --pure -q \
    --override-kv general.name=str:Spark \
    --override-kv general.author=str:Tealight \
    --override-kv "general.license=str:mit OR apache-2.0" \
    --override-kv "general.description=str:The small model built into Tealight: knows Tealight and small talk" \
    --override-kv general.sampling.temp=float:0 \
    --override-kv general.sampling.penalty_repeat=float:1 \
    --override-kv "tealight.facts=str:$(cat "$run/facts-hash.txt")"
"$python" "$here/evaluate.py" "$tealight" "$here/spark.gguf" --out "$here/results.md"
