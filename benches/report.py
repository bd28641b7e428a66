"""The tables: figures, ratios, targets, costs."""

from __future__ import annotations

from statistics import median

from .contenders import CONTENDERS, Contender
from .rows import DRIVERS, Row, Target
from .runner import Result, Results, number_text

TITLES = {contender.key: contender.title for contender in CONTENDERS}
RUST = {contender.key for contender in CONTENDERS if contender.rust}
BASES = ("quinn", "wtransport", "ws")


def rounds(results: Results, loop: str, row: str, contender: str) -> list[Result]:
    """Return the results of all rounds."""
    return results.get(("" if contender in RUST else loop, row, contender), [])


def values(results: Results, loop: str, row: str, contender: str) -> list[float]:
    """Return the values of all rounds, NaN for one that failed."""
    return [result.get("value", float("nan")) for result in rounds(results, loop, row, contender)]


def ratio(results: Results, loop: str, row: Row, contender: str, base: str, base_row: str = "") -> float | None:
    """Return the median ratio within a round to another column, or to another row of the same one."""
    other = base_row or dict(row.stand_ins).get(base, row.key)
    ours, theirs = values(results, loop, row.key, contender), values(results, loop, other, base)
    ratios = [a / b for a, b in zip(ours, theirs, strict=False) if a == a and b == b and b > 0]
    return median(ratios) if ratios else None


def table(loop: str, rows: list[Row], contenders: list[Contender], results: Results) -> str:
    """Return the median of the rounds, the smallest and greatest, and the median ratio to raw quinn.

    For datagrams also the share of those sent that was delivered, unless it is all; in the rows under load the
    percentiles, and the ratio of p99 to the quiet server.
    """
    tables = []
    for part in ([row for row in rows if not row.load], [row for row in rows if row.load]):
        lines = [[loop, *(contender.title for contender in contenders)]]
        for row in part:
            cells = [cell(loop, row, contender.key, results) for contender in contenders]
            if set(cells) != {"-"}:
                lines.append([row.title, *cells])
        tables += [markdown(lines)] if len(lines) > 1 else []
    return "\n\n".join(tables)


def cell(loop: str, row: Row, contender: str, results: Results) -> str:
    """Return one figure of the table."""
    all_rounds = rounds(results, loop, row.key, contender)
    found = [result for result in all_rounds if "value" in result]
    if not found:
        return "failed" if all_rounds else "-"
    if row.key == "blocked":
        return "yes" if all(result["value"] for result in found) else "no"
    if row.shows == "percentiles":
        texts = [[result.get("p50", result["value"]), result["p99"], result["p999"]] for result in found]
        text = " / ".join(number_text(median(column), row.digits) for column in zip(*texts, strict=True))
    else:
        numbers = [result["value"] for result in found]
        low, middle, high = (
            number_text(number, row.digits) for number in (min(numbers), median(numbers), max(numbers))
        )
        text = f"{middle} ({low}..{high})" if len(found) > 1 else middle
    if "points" in found[-1]:
        text += f" ({', '.join(f'{count}: {number_text(cpu, 0)} us' for count, cpu in found[-1]['points'].items())})"
    elif row.load == "overload" and row.key != "overload_quiet":
        text += ratio_cell(ratio(results, loop, row, contender, contender, "overload_quiet"))
    elif not row.load and contender != "quinn":
        text += ratio_cell(ratio(results, loop, row, contender, "quinn"))
    shares = [result["delivered"] / result["sent"] for result in found if result.get("sent")]
    if shares and (delivered := median(shares)) < 0.995:
        text += f", {delivered:.0%}"
    return text


def ratio_table(loop: str, rows: list[Row], contenders: list[Contender], results: Results) -> str:
    """Return the ratios of our columns to each of the others that the targets name."""
    ours = [contender for contender in contenders if contender.key in DRIVERS]
    bases = [base for base in BASES if base in {contender.key for contender in contenders}]
    lines = [["ratio to " + " / ".join(TITLES[base] for base in bases), *(contender.title for contender in ours)]]
    for row in rows:
        cells: list[str] = []
        for contender in ours if not row.load else ():
            found = [ratio(results, loop, row, contender.key, base) for base in bases]
            cells.append(" / ".join("-" if value is None else ratio_text(value) for value in found))
        if any(digit in text for text in cells for digit in "0123456789"):
            lines.append([row.title, *cells])
    return markdown(lines) if len(lines) > 1 and bases else ""


def target_table(loop: str, rows: list[Row], contenders: list[Contender], results: Results) -> str:
    """Return for each target of performance.md what was reached, and whether it held."""
    ours = [contender for contender in contenders if contender.key in DRIVERS]
    lines = [["target", *(contender.title for contender in ours)]]
    for row in rows:
        for target in row.targets:
            cells = [verdict(loop, row, target, contender.key, results) for contender in ours]
            if set(cells) != {""}:
                lines.append([f"{row.title}: {target_text(row, target)}", *cells])
    return markdown(lines) if len(lines) > 1 else ""


def verdict(loop: str, row: Row, target: Target, contender: str, results: Results) -> str:
    """Return what was reached and "held" or "missed"; nothing where the target does not apply."""
    if contender not in target.columns:
        return ""
    if target.row or target.against:
        reached = ratio(results, loop, row, contender, target.against or contender, target.row)
        text = "" if reached is None else ratio_text(reached)
    else:
        found = [value for value in values(results, loop, row.key, contender) if value == value]
        reached = median(found) if found else None
        text = "" if reached is None else number_text(reached, row.digits)
    if reached is None:
        return ""
    held = reached >= target.limit if row.more_is_better else reached <= target.limit
    return f"{text} {'held' if held else '**missed**'}"


def target_text(row: Row, target: Target) -> str:
    """Write a target down."""
    sign = ">=" if row.more_is_better else "<="
    if target.row:
        return f"{sign} {target.limit:g} x {target.row.rsplit('_', 1)[1]}"
    if target.against:
        return f"{sign} {target.limit:g} x {TITLES[target.against]}"
    return f"{sign} {number_text(target.limit, row.digits if target.limit != int(target.limit) else 0)}"


def costs(loop: str, rows: list[Row], contenders: list[Contender], results: Results) -> str:
    """Return, from the last round, the CPU time of an operation; for ours what the bridge did too."""
    lines = [["client; server", *(contender.title for contender in contenders)]]
    for row in rows:
        line = [row.title]
        for contender in contenders:
            found = [r for r in rounds(results, loop, row.key, contender.key) if "server_cpu_us" in r]
            line.append(cost_text(found[-1]) if found else "-")
        if set(line[1:]) != {"-"}:
            lines.append(line)
    return (
        "CPU time in us per operation (round trip, MB, datagram, stream, connect); for ours also the wakes of the "
        f"event loop, the parks, the drives and the bytes copied per operation\n\n{markdown(lines)}"
    )


def cost_text(result: Result) -> str:
    """Write the cost of both ends down."""
    sides = []
    for side in ("client", "server"):
        cpu, counters = result[f"{side}_cpu_us"], result[f"{side}_counters"]
        text = number_text(cpu, 0 if cpu >= 10 else 2)
        if counters and result["operations"]:
            shares = [counters[name] / result["operations"] for name in ("drains", "parks", "drives", "bytes_copied")]
            text += " " + "/".join(map(share_text, shares))
        sides.append(text)
    return "; ".join(sides)


def share_text(share: float) -> str:
    """Write how often something happens in an operation."""
    if share < 0.001:
        return "0"
    return number_text(share, 0) if share >= 100 else f"{share:.2g}"


def markdown(lines: list[list[str]]) -> str:
    """Write a table."""
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    lines = [lines[0], ["-" * width for width in widths], *lines[1:]]
    padded = ([text.ljust(width) for text, width in zip(line, widths, strict=True)] for line in lines)
    return "\n".join(f"| {' | '.join(line)} |" for line in padded)


def ratio_cell(value: float | None) -> str:
    """Return what stands behind a figure."""
    return "" if value is None else f" **{ratio_text(value)}**"


def ratio_text(value: float) -> str:
    """Write a ratio."""
    return f"{value:.2f}x" if value < 10 else f"{value:.0f}x"
