"""Judges what runtimes return, and writes it down."""

import numpy as np

from tf_pof.export import parity, reference

_HEADINGS = (
    "runtime",
    "version",
    "batch",
    "mean steps",
    "largest, steps",
    "largest",
    "cosine",
    "same argmax",
    "result",
)


def judged(found: dict, expected: dict, rounded: dict, steps: dict) -> dict:
    """How far logits are from the model's, and whether that is right.

    Args:
        found: of a runtime, by name.
        expected: of the model.
        rounded: of the model with int32 biases.
        steps: of the outputs.
    """
    rows = [
        reference.differences(
            found[name],
            expected[name],
            rounded[name],
            np.ones_like(expected[name], bool),
            steps[name],
        )
        for name in expected
    ]
    worst = max(rows, key=lambda row: row["mean_steps"])
    tolerance = parity.Tolerance()
    limit = max(
        tolerance.mean_steps,
        tolerance.growth * worst["int32_biases_mean_steps"],
    )
    same = [
        np.mean(found[k].argmax(1) == expected[k].argmax(1)) for k in expected
    ]
    # NaN is not right.
    return {
        "result": "right" if worst["mean_steps"] <= limit else "wrong",
        "agreement": float(min(same)),
        **worst,
    }


def named(outputs, expected):
    """Outputs by name, also of runtimes that number them; None if unlike.

    TFLite orders outputs by their names.
    """
    arrays = {k: np.array(v, np.float32) for k, v in outputs.items()}
    if not arrays.keys() >= expected.keys():
        arrays = dict(zip(sorted(expected), arrays.values()))
    for name, value in expected.items():
        if name not in arrays or arrays[name].shape != value.shape:
            return None
    return arrays


def markdown(rows: list[dict]) -> str:
    """The rows as a table."""
    lines = [
        "| " + " | ".join(_HEADINGS) + " |",
        "|---" * len(_HEADINGS) + "|",
    ]
    for row in rows:
        numbers = [""] * 5
        if "mean_steps" in row:
            numbers = [
                f"{row['mean_steps']:.2f}",
                f"{row['max_steps']:.1f}",
                f"{row['max_difference']:.4f}",
                f"{row['cosine']:.5f}",
                f"{row['agreement']:.1%}",
            ]
        result = row["result"]
        for more in (row.get("message"), row["note"]):
            result += f" ({_short(more)})" if more else ""
        cells = [row["runtime"], row.get("version", ""), row["batch"]]
        cells += [*numbers, result.replace("|", "/")]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def _short(message: str, most: int = 70) -> str:
    """The two ends of what a runtime says; what is wrong is in one of them."""
    if len(message) <= 2 * most:
        return message
    return f"{message[:most]} ... {message[-most:]}"
