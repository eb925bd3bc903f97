#!/usr/bin/env bash
# Fine-tuning of dense and sparse MiniLM-L6, and of the rival that is pruned on
# the task, at one budget for all: same steps, batches, rate and seeds.
#
#   benchmarks/tasks/run.sh PRETRAINED GLUE SQUAD RUNS
#
# PRETRAINED has the folders that benchmarks/minilm/run.sh makes (teacher,
# sparse_90_more, sparse_85_more); GLUE has SST-2/ and STS-B/; SQUAD has
# train-v1.1.rebuilt.json and dev-v1.1.from-explorer.json. Kill it at will: the
# same command goes on. SEEDS, TASKS and RUNS in the environment choose.
set -euo pipefail
pretrained=$1 glue=$2 squad=$3 runs=$4
bin=${BIN:-$(dirname -- "$0")/../../bin}
declare -A task=(
  [sst2]="--raw_dir=$glue --sequence_length=64 --train_steps=1053
    --batch_size=64"
  [stsb]="--raw_dir=$glue --train_steps=240 --batch_size=32"
  [squad]="--train_file=$squad/train-v1.1.rebuilt.json
    --validation_file=$runs/dev-third.json --train_steps=160 --batch_size=16"
)
shared="--freeze_embeddings --precision=mixed_bfloat16 --checkpoint_every=100
  --log_every=20"
# The pruned, the rival's included, learn faster: on SST-2 ours got 77.0 at 4e-4
# and 80.5 at 8e-4, the rival 77.3 at 2e-4 and 80.3 at 8e-4 (seed 1); STS-B is
# unstable at 8e-4. Dense ones were tried at 2e-4 only.
dense=2e-4
declare -A pruned=([sst2]=8e-4 [stsb]=4e-4 [squad]=8e-4)

mkdir -p "$runs"
# The first 16 of 48 articles: a third of the questions, and of the time.
[[ -e $runs/dev-third.json ]] || python3 -c '
import json, sys
data = json.load(sys.stdin)
data["data"] = data["data"][:16]
json.dump(data, sys.stdout)' <"$squad/dev-v1.1.from-explorer.json" \
  >"$runs/dev-third.json"

# finetune RUN TASK SEED MODEL RATE FLAGS...
finetune() {
  local output=$runs/$2/$1_$3
  [[ -e $output/report.json ]] || "$bin/finetune" --task="$2" ${task[$2]} \
    $shared --seed="$3" --model="$pretrained/$4/model" --output="$output" \
    --learning_rate="$5" "${@:6}"
}

for seed in ${SEEDS:-1 2}; do
  for run in ${RUNS:-dense sparse_90 sparse_90_alone on_task_90 sparse_85 \
    sparse_85_alone on_task_85}; do
    for name in ${TASKS:-stsb sst2 squad}; do
      teacher=--teacher=$runs/$name/dense_$seed/model
      rate=${pruned[$name]}
      case $run in
        dense) finetune $run $name $seed teacher $dense ;;
        sparse_*_alone)
          finetune $run $name $seed ${run%_alone}_more $rate ;;
        sparse_*) finetune $run $name $seed ${run}_more $rate "$teacher" ;;
        # The paper's ramp and rate, within this budget; the same teacher.
        on_task_*) finetune $run $name $seed teacher $rate "$teacher" \
          --final_sparsity=0.${run#on_task_} \
          --learning_rate_schedule=flat_then_linear ;;
      esac
    done
  done
done
