"""SVG plots, written by hand: bars, cumulative distributions of round trips, growth."""

from __future__ import annotations

import math
from html import escape
from pathlib import Path
from statistics import median

from .contenders import Contender
from .report import rounds, values
from .rows import Row
from .runner import Result, Results, number_text

COLOURS = {
    "ours-loop": "#1f5fbf",
    "ours": "#4f8fe8",
    "ours-thread": "#8fbcf5",
    "quinn": "#222222",
    "wtransport": "#c2571a",
    "ws": "#3d8f4f",
    "udp": "#999999",
    "old": "#b04a9a",
}
WIDTH = 760


def draw(folder: Path, loop: str, rows: list[Row], contenders: list[Contender], results: Results) -> list[Path]:
    """Write what the results have into the folder; return the files."""
    folder.mkdir(parents=True, exist_ok=True)
    plain = [row for row in rows if not row.load]
    pictures = {
        "rates.svg": bars("more is better", [r for r in plain if r.more_is_better], contenders, loop, results),
        "times.svg": bars("less is better", [r for r in plain if not r.more_is_better], contenders, loop, results),
    }
    for row in plain:
        if row.key.endswith("_rtt"):
            pictures[f"{row.key}.svg"] = curves(row, contenders, loop, results)
    for row in rows:
        if row.load.startswith("growth"):
            pictures[f"{row.key}.svg"] = growth(row, contenders, loop, results)
    files = []
    for name, picture in pictures.items():
        if picture:
            files.append(folder / name)
            files[-1].write_text(picture)
    return files


def bars(title: str, rows: list[Row], contenders: list[Contender], loop: str, results: Results) -> str:
    """Draw a group of bars per row; each group has a scale of its own."""
    parts, y = [text(10, 20, f"{title}; median, with the smallest and greatest of the rounds", size=14)], 36.0
    for row in rows:
        found = []
        for contender in contenders:
            numbers = [value for value in values(results, loop, row.key, contender.key) if value == value]
            if numbers:
                found.append((contender, numbers))
        if not found:
            continue
        greatest = max(max(numbers) for _, numbers in found) or 1.0
        parts.append(text(10, y + 12, row.title, weight="bold"))
        y += 18
        for contender, numbers in found:
            scale = (WIDTH - 260) / greatest
            width, low, high = (value * scale for value in (median(numbers), min(numbers), max(numbers)))
            parts.append(text(150, y + 10, contender.title, anchor="end"))
            colour = COLOURS[contender.key]
            parts.append(f'<rect x="156" y="{y}" width="{width:.1f}" height="12" fill="{colour}" fill-opacity="0.8"/>')
            parts.append(line([(156 + low, y + 6), (156 + high, y + 6)], "#000000"))
            parts.append(text(162 + high, y + 10, number_text(median(numbers), row.digits)))
            y += 15
        y += 10
    return svg(parts, y) if y > 36 else ""


def curves(row: Row, contenders: list[Contender], loop: str, results: Results) -> str:
    """Draw which share of the round trips took at most how long; all rounds together."""
    found: list[tuple[Contender, list[float]]] = []
    for contender in contenders:
        all_curves = [result["curve"] for result in rounds(results, loop, row.key, contender.key) if "curve" in result]
        if all_curves:
            found.append((contender, [median(column) for column in zip(*all_curves, strict=True)]))
    if not found:
        return ""
    # The slowest hundredth would leave no room for the rest.
    low, high = min(curve[0] for _, curve in found), max(curve[99] for _, curve in found)
    series = [
        (contender, [(value, share / 100) for share, value in enumerate(curve) if value <= high])
        for contender, curve in found
    ]
    return chart(f"{row.title.rsplit(',', 1)[0]}: share that took at most so many us", series, (low, high), (0.0, 1.0))


def growth(row: Row, contenders: list[Contender], loop: str, results: Results) -> str:
    """Draw CPU time per operation over the number of sessions or streams."""
    series: list[tuple[Contender, list[tuple[float, float]]]] = []
    for contender in contenders:
        found: list[Result] = [r for r in rounds(results, loop, row.key, contender.key) if "points" in r]
        if found:
            counts = list(found[0]["points"])
            series.append((contender, [(float(c), median(r["points"][c] for r in found)) for c in counts]))
    if not series:
        return ""
    xs, ys = ([point[axis] for _, points in series for point in points] for axis in (0, 1))
    return chart(
        f"{row.title.split(':')[0]}: CPU us of both ends, by number", series, (min(xs), max(xs)), (0.0, max(ys))
    )


def chart(
    title: str,
    series: list[tuple[Contender, list[tuple[float, float]]]],
    x_range: tuple[float, float],
    y_range: tuple[float, float],
) -> str:
    """Draw lines over a logarithmic axis."""
    left, top, width, height = 60.0, 40.0, WIDTH - 240.0, 300.0
    low, high = math.log(x_range[0]), math.log(max(x_range[1], x_range[0] * 1.01))

    def place(point: tuple[float, float]) -> tuple[float, float]:
        x = left + (math.log(point[0]) - low) / (high - low) * width
        return x, top + height - (point[1] - y_range[0]) / (y_range[1] - y_range[0]) * height

    parts = [text(10, 20, title, size=14), line([(left, top), (left, top + height), (left + width, top + height)])]
    for step in range(5):
        y = y_range[0] + (y_range[1] - y_range[0]) * step / 4
        at = place((x_range[0], y))[1]
        parts += [line([(left, at), (left + width, at)], "#dddddd"), text(left - 6, at + 4, f"{y:.3g}", anchor="end")]
    for x in ticks(*x_range):
        parts.append(text(place((x, y_range[0]))[0], top + height + 16, f"{x:g}", anchor="middle"))
    for number, (contender, points) in enumerate(series):
        colour = COLOURS[contender.key]
        parts.append(line([place(point) for point in points], colour, 2))
        parts.append(
            line([(left + width + 10, top + 10 + 18 * number), (left + width + 30, top + 10 + 18 * number)], colour, 3)
        )
        parts.append(text(left + width + 36, top + 14 + 18 * number, contender.title))
    return svg(parts, top + height + 30)


def ticks(low: float, high: float) -> list[float]:
    """Return round numbers for a logarithmic axis: powers of ten, or 1, 2 and 5 of each where there are few."""
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    steps = (1, 2, 5) if high / low < 300 else (1,)
    return [step * 10.0**power for power in powers for step in steps if low <= step * 10.0**power <= high]


def svg(parts: list[str], height: float) -> str:
    """Put the parts on a white sheet."""
    head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height:.0f}" font-family="sans-serif">'
    return "\n".join([head, '<rect width="100%" height="100%" fill="#ffffff"/>', *parts, "</svg>", ""])


def text(x: float, y: float, words: str, *, size: int = 11, anchor: str = "start", weight: str = "normal") -> str:
    """Write words."""
    style = f'font-size="{size}" text-anchor="{anchor}" font-weight="{weight}"'
    return f'<text x="{x:.1f}" y="{y:.1f}" {style}>{escape(words)}</text>'


def line(points: list[tuple[float, float]], colour: str = "#000000", width: float = 1) -> str:
    """Draw a line through points."""
    path = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
    return f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="{width}"/>'
