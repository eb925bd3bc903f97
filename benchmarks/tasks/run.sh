#!/usr/bin/env bash
# Fine-tuning of dense and sparse MiniLM-L6, and of the rival that is pruned on
# the task, at one budget for all: same steps, batches, rate and seeds.
#
#   benchmarks/tasks/run.sh PRETRAINED GLUE SQUAD RUNS
#
# PRETRAINED has the folders that benchmarks/minilm/run.sh makes (teacher,
# sparse_90_long, sparse_85_long); GLUE has SST-2/ and STS-B/; SQUAD has
# train-v1.1.rebuilt.json and dev-v1.1.from-explorer.json. Kill it at will: the
# same command goes on.
set -euo pipefail
pretrained=$1 glue=$2 squad=$3 runs=$4
bin=${BIN:-$(dirname -- "$0")/../../bin}
declare -A task=(
  [sst2]="--raw_dir=$glue --sequence_length=64 --train_steps=300
    --batch_size=64"
  [stsb]="--raw_dir=$glue --train_steps=270 --batch_size=32"
  [squad]="--train_file=$squad/train-v1.1.rebuilt.json
    --validation_file=$squad/dev-v1.1.from-explorer.json --train_steps=200
    --batch_size=16"
)
shared="--learning_rate=2e-4 --freeze_embeddings --precision=mixed_bfloat16
  --checkpoint_every=100 --log_every=20"

# finetune NAME TASK SEED MODEL FLAGS...
finetune() {
  local output=$runs/$2/$1_$3
  [[ -e $output/report.json ]] || "$bin/finetune" --task="$2" ${task[$2]} \
    $shared --seed="$3" --model="$pretrained/$4/model" --output="$output" \
    "${@:5}"
}

for seed in 1 2; do
  for name in stsb sst2 squad; do
    teacher=--teacher=$runs/$name/dense_$seed/model
    finetune dense $name $seed teacher
    finetune sparse_90 $name $seed sparse_90_long "$teacher"
    finetune sparse_90_alone $name $seed sparse_90_long
    # The paper's ramp and rate, in the steps of this budget; the same teacher.
    finetune on_task_90 $name $seed teacher "$teacher" --final_sparsity=0.9 \
      --learning_rate_schedule=rewind
    finetune sparse_85 $name $seed sparse_85_long "$teacher"
    finetune sparse_85_alone $name $seed sparse_85_long
    finetune on_task_85 $name $seed teacher "$teacher" --final_sparsity=0.85 \
      --learning_rate_schedule=rewind
  done
done
