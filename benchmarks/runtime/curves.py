"""Times of engines against one variable, as a CSV and a plot."""

import csv
import pathlib

import matplotlib

matplotlib.use("svg")
from matplotlib import pyplot  # noqa: E402

_COLOURS = {"LiteRT": "#888888", "tf_pof": "#c03020"}


def write(
    path: pathlib.Path,
    title: str,
    name: str,
    points: list[tuple[float, dict[str, float]]],
) -> None:
    """Writes <path>.csv and <path>.svg.

    Args:
        path: without a suffix.
        title: of the plot.
        name: of what the times are against; tokens double from point to point.
        points: of each its place, and seconds of a call by engine.
    """
    engines = list(points[0][1])
    with path.with_suffix(".csv").open("w", newline="") as file:
        rows = csv.writer(file, lineterminator="\n")
        rows.writerow([name, *(f"{engine}, ms" for engine in engines)])
        for place, times in points:
            rows.writerow([place, *(f"{times[n] * 1e3:.4f}" for n in engines)])

    # Without a date and with a fixed salt equal points give equal files.
    settings = {
        "svg.hashsalt": "tf_pof",
        "svg.fonttype": "none",
        "font.size": 9,
    }
    with pyplot.rc_context(settings):
        figure, axes = pyplot.subplots(figsize=(6, 3.6), layout="constrained")
        for engine in engines:
            axes.plot(
                [place for place, _ in points],
                [times[engine] * 1e3 for _, times in points],
                marker="o",
                markersize=3,
                label=engine,
                color=_COLOURS.get(engine),
            )
        if name == "tokens":
            axes.set_xscale("log", base=2)
            axes.set_yscale("log")
        else:
            axes.set_ylim(bottom=0)
        axes.set_xticks([place for place, _ in points])
        axes.xaxis.set_major_formatter("{x:.0f}")
        axes.set(title=title, xlabel=name, ylabel="ms a call")
        axes.grid(alpha=0.3)
        axes.legend()
        figure.savefig(path.with_suffix(".svg"), metadata={"Date": None})
        pyplot.close(figure)
