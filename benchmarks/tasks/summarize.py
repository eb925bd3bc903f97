"""The table of the runs that run.sh made.

    python -m benchmarks.tasks.summarize RUNS benchmarks/results

Writes tasks.md: the main metrics of all runs, mean over the seeds and each.
"""

import glob
import json
import os
import sys

RUNS = {
    "dense": "dense, labels",
    "sparse_90": "90 %, pruned once, distilled",
    "sparse_90_alone": "90 %, pruned once, labels",
    "on_task_90": "90 %, pruned on the task, distilled",
    "sparse_85": "85 %, pruned once, distilled",
    "sparse_85_alone": "85 %, pruned once, labels",
    "on_task_85": "85 %, pruned on the task, distilled",
}
METRICS = {
    "sst2": {"accuracy": 100.0},
    "stsb": {"pearson": 100.0, "spearman": 100.0},
    "squad": {"exact_match": 1.0, "f1": 1.0},
}


def read(runs, task, name):
    """Reports of a run's seeds."""
    reports = []
    for path in sorted(glob.glob(f"{runs}/{task}/{name}_[0-9]/report.json")):
        with open(path, encoding="utf-8") as file:
            reports.append(json.load(file))
    return reports


def cell(values):
    each = ", ".join(f"{value:.1f}" for value in values)
    return f"{sum(values) / len(values):.1f} ({each})"


def main(runs, results):
    columns = [(task, m) for task in METRICS for m in METRICS[task]]
    lines = [
        "# MiniLM-L6 on three tasks",
        "",
        "Printed by `python -m benchmarks.tasks.summarize` from the runs of "
        "`benchmarks/tasks/run.sh`, which has the exact commands. Mean over "
        "the seeds, and each. Validation splits: SST-2 and STS-B as GLUE has "
        "them, of SQuAD v1.1 dev the first 16 of 48 articles; SQuAD's train "
        "split is the rebuilt one. Embeddings frozen.",
        "",
    ]
    for task in METRICS:
        for report in read(runs, task, "dense")[:1]:
            pruned = read(runs, task, "sparse_90")[0]["settings"]
            lines.append(
                f"- {task}: {report['train_steps']} steps x "
                f"{report['settings']['batch_size']} of "
                f"{report['examples']:,} training examples; peak rate "
                f"{report['settings']['learning_rate']:g} dense, "
                f"{pruned['learning_rate']:g} pruned."
            )
    lines += [
        "",
        "| run | zeros | "
        + " | ".join(f"{task} {metric}" for task, metric in columns)
        + " |",
        "|---|---|" + "---|" * len(columns),
    ]
    for name, label in RUNS.items():
        cells, sparsity = [], None
        for task, metric in columns:
            reports = read(runs, task, name)
            split = "validation"
            values = [
                r["metrics"][split][metric] * METRICS[task][metric]
                for r in reports
            ]
            cells.append(cell(values) if values else "not run")
            for report in reports:
                sparsity = report.get("sparsity", {}).get("sparsity", 0.0)
        if sparsity is not None:
            lines.append(f"| {label} | {sparsity:.2%} | {' | '.join(cells)} |")
    path = os.path.join(results, "tasks.md")
    with open(path, "w", encoding="utf-8") as file:
        file.write("\n".join(lines) + "\n")
    print("\n".join(lines))


if __name__ == "__main__":
    main(*sys.argv[1:])
