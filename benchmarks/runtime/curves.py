"""Points of two engines as a CSV and a plain SVG, without a library."""

import math
import pathlib

_WIDTH, _HEIGHT, _LEFT, _BOTTOM, _TOP = 640, 400, 60, 50, 40
_COLOURS = {"LiteRT": "#888888", "tf_pof": "#c03020"}


def write(
    path: pathlib.Path,
    title: str,
    name: str,
    points: list[tuple[float, float, float]],
) -> None:
    """Writes <path>.csv and <path>.svg.

    Args:
        path: without a suffix.
        title: of the plot.
        name: of what the times are against.
        points: of each its place, and the seconds of LiteRT and tf_pof.
    """
    lines = [f"{name},litert_ms,tf_pof_ms,ratio"]
    lines += [
        f"{x},{a * 1e3:.4f},{b * 1e3:.4f},{a / b:.3f}" for x, a, b in points
    ]
    path.with_suffix(".csv").write_text("\n".join(lines) + "\n")
    path.with_suffix(".svg").write_text(_svg(title, name, points))


def _svg(title, name, points):
    """Both axes from 0; tokens, which double, at equal distances."""
    places = [float(x) for x, *_ in points]
    if name == "tokens":
        places = [math.log2(x) for x in places]
    low, high = min(places), max(places)
    top = max(max(times) for _, *times in points) * 1e3

    def x(place):
        share = (place - low) / ((high - low) or 1)
        return _LEFT + share * (_WIDTH - _LEFT - 20)

    def y(milliseconds):
        space = _HEIGHT - _BOTTOM - _TOP
        return _HEIGHT - _BOTTOM - milliseconds / top * space

    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{_WIDTH}" '
        f'height="{_HEIGHT}" font-family="sans-serif" font-size="12">',
        '<rect width="100%" height="100%" fill="white"/>',
        _text(_WIDTH / 2, 20, title),
    ]
    for tick in range(5):
        value = top * tick / 4
        parts.append(
            f'<path d="M{_LEFT} {y(value):.1f}H{_WIDTH - 20}" stroke="#ddd"/>'
        )
        parts.append(_text(_LEFT - 8, y(value) + 4, f"{value:.3g}", "end"))
    for place, (shown, *_) in zip(places, points):
        parts.append(_text(x(place), _HEIGHT - _BOTTOM + 18, shown))
    parts.append(_text(_WIDTH / 2, _HEIGHT - 10, name))
    for i, (engine, colour) in enumerate(_COLOURS.items()):
        line = " ".join(
            f"{x(place):.1f},{y(times[i] * 1e3):.1f}"
            for place, (_, *times) in zip(places, points)
        )
        parts.append(
            f'<polyline points="{line}" fill="none" stroke="{colour}" '
            'stroke-width="2"/>'
        )
        parts.append(
            f'<text x="{_LEFT + 12}" y="{_TOP + 16 * (i + 1)}" '
            f'fill="{colour}">{engine}</text>'
        )
    return "\n".join([*parts, "</svg>", ""])


def _text(x, y, text, anchor="middle"):
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{text}</text>'
    )
