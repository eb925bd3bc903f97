"""Makes the bundled model of a run: compact weights and a model card.

    python -m benchmarks.minilm.ship RUNS/sparse_90_long RUNS/sparse_90_more \
        tf_pof/models/zoo/minilm_l6_90

The first run pruned it, the second went on with its masks held.
"""

import json
import os
import shutil
import sys

import tf_pof
from tf_pof.models import minilm

_CARD = """# minilm_l6_90

A BERT of 6 layers, width 384 and 22.7 million parameters whose encoder kernels
and pooler are {sparsity:.2%} zeros, unstructured. It is a start for
fine-tuning with the zeros kept, not a finished model for any task.

    model = tf_pof.load("minilm_l6_90")

## Origin and licences

- Weights: all-MiniLM-L6-v2 (Apache-2.0; LICENSE and NOTICE are beside this
  file), given an MLM and an NSP head, trained and pruned with tf_pof. This
  result is Apache-2.0 too.
- Text: 128 MB of English Wikipedia (2015), CC BY-SA 3.0, by its authors. The
  text itself is not included.
- vocab.txt: bert-base-uncased, Apache-2.0.

## How it was made

`benchmarks/minilm/run.sh`: teacher preparation, then {steps} steps of
{batch} examples of 128 tokens while sparsity rose to its final value by step
{ramp}; masks were selected last at step {end}. Loss: {hard} labels and {soft}
teacher at temperature {temperature}, {hidden} hidden states and {attention}
attention scores of the teacher. Then {more} such steps without dropout, at a
peak rate of {rate:g}, with the masks held. sparsity.json has the settings of
the second run and, as "pruned_by", of the first, and the sparsity of every
tensor.

## Figures

On the validation split, from report.json of the run:

| | teacher, dense | this model |
|---|---|---|
{rows}

## Limits

- The paper trains 100,000 steps of 256 examples of 512 tokens; these runs had
  {share:.3%} of those tokens. Expect less than the paper's accuracy{nsp}.
- Weights are stored in bfloat16, the precision it was trained to compute in,
  and xz-compressed: `xz -d model.safetensors.xz` for Hugging Face tools.
- Sequences were 128 tokens; positions from 128 on are untrained since MiniLM.
- It carries the biases of its text and of all-MiniLM-L6-v2.
"""

_NSP_LOST = """;
  next-sentence prediction, lost while sparsity rose, did not come back"""


def read(run):
    with open(os.path.join(run, "report.json"), encoding="utf-8") as file:
        return json.load(file)


def main(pruning_run, run, output):
    report, settings = read(run), read(pruning_run)["settings"]
    model = tf_pof.load(os.path.join(run, "model"))
    sparsity = {**model.sparsity, "pruned_by": settings}
    tf_pof.save(model, output, sparsity=sparsity, compact=True)
    for name in ("LICENSE", "NOTICE"):
        shutil.copy(os.path.join(minilm.fetch(), name), output)
    more = report["settings"]
    schedule = settings["schedule"]["config"]
    rows = [
        f"| {label} | {form.format(report['teacher'][key])} | "
        f"{form.format(report['student'][key])} |"
        for label, key, form in (
            ("MLM loss", "mlm", "{:.3f}"),
            ("MLM accuracy", "mlm_accuracy", "{:.1%}"),
            ("NSP loss", "nsp", "{:.3f}"),
            ("NSP accuracy", "nsp_accuracy", "{:.1%}"),
        )
    ]
    examples = sum(s["train_steps"] * s["batch_size"] for s in (settings, more))
    card = _CARD.format(
        sparsity=report["sparsity"]["sparsity"],
        steps=settings["train_steps"],
        batch=settings["batch_size"],
        ramp=schedule["ramp_end_step"],
        end=schedule["end_step"],
        hard=settings["hard_loss_weight"],
        soft=settings["distillation_weight"],
        temperature=settings["temperature"],
        hidden=settings["hidden_loss_weight"],
        attention=settings["attention_loss_weight"],
        more=more["train_steps"],
        rate=more["learning_rate"],
        rows="\n".join(rows),
        nsp=_NSP_LOST if report["student"]["nsp_accuracy"] < 0.6 else "",
        share=128 * examples / (100_000 * 256 * 512),
    )
    with open(
        os.path.join(output, "README.md"), "w", encoding="utf-8"
    ) as file:
        file.write(card)


if __name__ == "__main__":
    main(*sys.argv[1:])
