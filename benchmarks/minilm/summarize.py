"""Tables and curves of the runs that run.sh made.

    python -m benchmarks.minilm.summarize RUNS benchmarks/results

Writes minilm_l6.md (validation figures of all runs) and minilm_l6_curves.csv.
"""

import csv
import json
import os
import sys

RUNS = {
    "teacher": "teacher (dense)",
    "sparse_90": "90 %, the method",
    "no_distillation_90": "90 %, no distillation",
    "one_shot_90": "90 %, one shot, no ramp",
    "sparse_85": "85 %, the method",
    "sparse_90_long": "90 %, longer, hidden and attention losses too",
    "sparse_90_more": "90 %, that one with its masks held, more steps",
    "sparse_85_more": "85 %, with its masks held, more steps, all losses",
}
METRICS = {
    "mlm": ("MLM loss", "{:.3f}"),
    "mlm_accuracy": ("MLM accuracy", "{:.1%}"),
    "nsp": ("NSP loss", "{:.3f}"),
    "nsp_accuracy": ("NSP accuracy", "{:.1%}"),
}


def read(runs, name, file):
    with open(os.path.join(runs, name, file), encoding="utf-8") as f:
        return json.load(f)


def main(runs, results):
    lines = [
        "# MiniLM-L6 pruned on English Wikipedia",
        "",
        "Printed by `python -m benchmarks.minilm.summarize` from the runs of "
        "`benchmarks/minilm/run.sh`, which has the exact commands. Validation "
        "split, sequences of 128 tokens.",
        "",
        "| run | sparsity | steps x batch | "
        + " | ".join(label for label, _ in METRICS.values())
        + " | minutes |",
        "|---|---|---|" + "---|" * (len(METRICS) + 1),
    ]
    points = []
    for name, label in RUNS.items():
        if not os.path.exists(os.path.join(runs, name, "report.json")):
            continue
        report = read(runs, name, "report.json")
        settings = report["settings"]
        sparsity = report.get("sparsity", {}).get("sparsity", 0.0)
        figures = [
            form.format(report["student"][key])
            for key, (_, form) in METRICS.items()
        ]
        lines.append(
            f"| {label} | {sparsity:.2%} | {settings['train_steps']} x "
            f"{settings['batch_size']} | {' | '.join(figures)} | "
            f"{report['seconds'] / 60:.0f} |"
        )
        with open(
            os.path.join(runs, name, "curve.jsonl"), encoding="utf-8"
        ) as file:
            points += [{"run": name, **json.loads(line)} for line in file]
    with open(
        os.path.join(results, "minilm_l6.md"), "w", encoding="utf-8"
    ) as file:
        file.write("\n".join(lines) + "\n")
    print("\n".join(lines))
    columns = list(dict.fromkeys(key for point in points for key in point))
    path = os.path.join(results, "minilm_l6_curves.csv")
    with open(path, "w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, columns, lineterminator="\n")
        writer.writeheader()
        for point in points:
            writer.writerow(
                {
                    k: f"{v:.5g}" if isinstance(v, float) else v
                    for k, v in point.items()
                }
            )


if __name__ == "__main__":
    main(*sys.argv[1:])
