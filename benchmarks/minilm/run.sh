#!/usr/bin/env bash
# Teacher preparation, pruning to 90 and 85 %, and two controls, on real text;
# then 90 % in twice the steps, with hidden-state and attention losses besides;
# last, both sparse models go on learning with their masks held.
#
#   benchmarks/minilm/run.sh TEXT RUNS
#
# TEXT is a file of English Wikipedia, a blank line between documents; RUNS is
# the folder of data and runs. Kill it at will: the same command goes on.
set -euo pipefail
text=$1 runs=$2
bin=$(dirname -- "$0")/../../bin
shared=(--data="$runs/data" --precision=mixed_bfloat16)
# The paper's proportions (ramp to 1/2, last selection at 8/10, one selection
# every 1/100 of the run), at the teacher's own peak learning rate.
prune=("${shared[@]}" --model="$runs/teacher/model" --train_steps=600
  --batch_size=16 --learning_rate=3e-4 --warmup_fraction=0.05 --seed=2
  --learning_rate_schedule=flat_then_linear
  --pruning_ramp_end_step=300 --pruning_end_step=480 --pruning_frequency=6
  --checkpoint_every=100 --log_every=20)

[[ -e $runs/data/meta.json ]] || "$bin/prepare_data" --input="$text" \
  --output="$runs/data" --validation_fraction=0.012 --num_shards=16
"$bin/prepare_teacher" --model="${MODEL:-$HOME/.cache/tf_pof/minilm_l6}" \
  --output="$runs/teacher" "${shared[@]}" --train_steps=1600 --batch_size=32 \
  --learning_rate=3e-4 --warmup_fraction=0.05 --seed=1 \
  --checkpoint_every=100 --log_every=25
"$bin/prune_pretrain" "${prune[@]}" --output="$runs/sparse_90" \
  --final_sparsity=0.9
"$bin/prune_pretrain" "${prune[@]}" --output="$runs/no_distillation_90" \
  --final_sparsity=0.9 --distillation_weight=0 --hard_loss_weight=1
"$bin/prune_pretrain" "${prune[@]}" --output="$runs/one_shot_90" \
  --final_sparsity=0.9 --pruning_schedule=constant --pruning_end_step=0
"$bin/prune_pretrain" "${prune[@]}" --output="$runs/sparse_85" \
  --final_sparsity=0.85
# A flag that comes again wins.
"$bin/prune_pretrain" "${prune[@]}" --output="$runs/sparse_90_long" \
  --final_sparsity=0.9 --train_steps=1200 --pruning_ramp_end_step=600 \
  --pruning_end_step=960 --pruning_frequency=12 --hidden_loss_weight=1 \
  --attention_loss_weight=1 --checkpoint_every=200 --log_every=40

# more RUN SPARSITY STEPS FROM: the smallest weights are the zeros, so masks stay.
more() {
  "$bin/prune_pretrain" "${shared[@]}" --model="$runs/$4/model" \
    --teacher="$runs/teacher/model" --output="$runs/$1" --train_steps="$3" \
    --batch_size=16 --learning_rate=6e-4 --warmup_fraction=0.05 --seed=3 \
    --final_sparsity="$2" --pruning_schedule=constant --pruning_end_step=0 \
    --learning_rate_schedule=flat_then_linear \
    --pruning_ramp_end_step=$(($3 / 2)) --hidden_loss_weight=1 \
    --attention_loss_weight=1 --dropout=0 --checkpoint_every=100 \
    --log_every=50
}
more sparse_90_more 0.9 1500 sparse_90_long
more sparse_85_more 0.85 2100 sparse_85
