#!/usr/bin/env bash
# INT8 of what run.sh fine-tuned: quantization-aware training, export in each
# encoding, and the task metric of the .tflite.
#
#   benchmarks/tasks/quantize.sh GLUE SQUAD RUNS
#
# with run.sh's folders. Kill it at will: the same command goes on. SEEDS,
# TASKS and MODELS in the environment choose.
set -euo pipefail
glue=$1 squad=$2 runs=$3
bin=${BIN:-$(dirname -- "$0")/../../bin}
declare -A data=(
  [sst2]="--raw_dir=$glue --sequence_length=64"
  [stsb]="--raw_dir=$glue"
  [squad]="--train_file=$squad/train-v1.1.rebuilt.json
    --validation_file=$runs/dev-third.json"
)
declare -A steps=(
  [sst2]="--train_steps=100 --batch_size=32"
  [stsb]="--train_steps=100 --batch_size=32"
  [squad]="--train_steps=60 --batch_size=16"
)
# The paper's rate. Without dropout: a dense model, which is its own teacher, was
# taught dropout's noise instead of rounding's and lost 4 points of F1 on SQuAD.
shared="--qat --learning_rate=1e-5 --dropout=0 --freeze_embeddings
  --checkpoint_every=100 --log_every=20"

for seed in ${SEEDS:-1}; do
  for model in ${MODELS:-dense sparse_90 sparse_85}; do
    for name in ${TASKS:-stsb sst2 squad}; do
      run=$runs/$name/${model}_$seed qat=$runs/$name/qat_${model}_$seed
      [[ -e $qat/report.json ]] || "$bin/finetune" --task="$name" \
        ${data[$name]} ${steps[$name]} $shared --seed="$seed" --model="$run" \
        --teacher="$runs/$name/dense_$seed/model" --output="$qat"
      for encoding in dense packed; do
        # At 0 % there is nothing to pack.
        [[ $model-$encoding != dense-packed ]] || continue
        # What is packed is held to what is dense anyway.
        parity=; [[ $encoding == dense ]] || parity=--noparity
        [[ -e $qat/$encoding.json ]] || "$bin/export_tflite" --model="$qat" \
          --output="$qat/$encoding.tflite" --encoding="$encoding" \
          --task="$name" ${data[$name]} $parity --report="$qat/$encoding.json"
      done
      [[ -e $qat/tflite/metrics.json ]] || "$bin/evaluate" --task="$name" \
        ${data[$name]} --model="$qat/dense.tflite" --output="$qat/tflite"
    done
  done
done
