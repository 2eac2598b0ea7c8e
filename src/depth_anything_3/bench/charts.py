"""Plots of a report as inline SVG: no script, no font, no file from elsewhere."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from html import escape

from depth_anything_3.bench.summary import Summary

COLOURS = ("#3366cc", "#dc7a12", "#2f9e5b", "#b03a9b", "#6b7280", "#c0392b", "#1aa5b8", "#8a6d3b")

_WIDTH, _BAR, _LABEL = 720, 22, 190
_PLOT = (330, 210)  # width and height of one plot of curves
_MARGIN = (46, 14, 34, 30)  # left, right, bottom, top


def bars(summaries: Sequence[Summary]) -> str:
    """The first score of a mode: a bar per predictor, a dot per scene, a line for the interval."""
    if not summaries:
        return ""
    name, column = next(iter(summaries[0].columns.items()))
    if column.better == "":
        return ""
    rows = [summary for summary in summaries if name in summary.means]
    values = [value for summary in rows for value in (*_dots(summary, name), summary.means[name])]
    if not rows or max(values) <= 0:
        return ""
    scale = (_WIDTH - _LABEL - 60) / max(values)
    height = 34 + _BAR * len(rows)
    parts = [_svg(_WIDTH, height, column.heading), _text(0, 16, column.heading, weight="bold")]
    for i, summary in enumerate(rows):
        parts.append(_bar(summary, name, 28 + _BAR * i, scale, COLOURS[i % len(COLOURS)]))
    return "".join(parts) + "</svg>"


def curves(summaries: Sequence[Summary]) -> str:
    """Scores over a strength or a number of views: what is named ``score@kind_1`` and so on, or ``score@8``."""
    families = _families(summaries)
    plots = [_plot(title, lines) for title, lines in families.items() if any(len(line) > 1 for line in lines.values())]
    return "".join(plots)


Lines = dict[str, list[tuple[float, float]]]


def _families(summaries: Sequence[Summary]) -> Mapping[str, Lines]:
    """By title, for each predictor its points (x, y)."""
    found: dict[str, Lines] = {}
    for summary in summaries:
        for name, value in summary.means.items():
            match = re.fullmatch(r"(\w+)@(?:(\w+)_)?(\d+)", name)
            if match is None:
                continue
            score, kind, x = match.groups()
            line = found.setdefault(score + (f", {kind.replace('_', ' ')}" if kind else " by views"), {})
            line.setdefault(summary.predictor, []).append((float(x), value))
            clean = summary.means.get(f"{score}@clean")
            if kind and clean is not None and (0.0, clean) not in line[summary.predictor]:
                line[summary.predictor].insert(0, (0.0, clean))
    return found


def _plot(title: str, lines: Lines) -> str:
    width, height = _PLOT
    left, right, bottom, top = _MARGIN
    points = [point for line in lines.values() for point in line]
    x_low, x_high = min(x for x, _ in points), max(x for x, _ in points)
    y_high = max(max(y for _, y in points), 1e-9)

    def place(x: float, y: float) -> tuple[float, float]:
        across = (x - x_low) / max(x_high - x_low, 1e-9)
        return left + across * (width - left - right), height - bottom - y / y_high * (height - bottom - top)

    parts = [_svg(width, height + 16 * len(lines), title), _text(0, 16, title, weight="bold")]
    parts += [_grid(place, x_low, x_high, y_high), *(_tick(place, x, height) for x in sorted({x for x, _ in points}))]
    for i, (name, line) in enumerate(lines.items()):
        colour = COLOURS[i % len(COLOURS)]
        path = " ".join(f"{a:.1f},{b:.1f}" for a, b in (place(*point) for point in sorted(line)))
        parts.append(f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2"/>')
        parts += [f'<circle cx="{a:.1f}" cy="{b:.1f}" r="3" fill="{colour}"/>' for a, b in (place(*p) for p in line)]
        parts.append(f'<rect x="{left}" y="{height + 16 * i - 4}" width="10" height="10" fill="{colour}"/>')
        parts.append(_text(left + 16, height + 16 * i + 5, name))
    return "".join(parts) + "</svg>"


def _grid(place, x_low: float, x_high: float, y_high: float) -> str:  # type: ignore[no-untyped-def]
    lines = []
    for step in range(3):
        y = y_high * step / 2
        (x1, at), (x2, _) = place(x_low, y), place(x_high, y)
        lines.append(f'<line x1="{x1:.1f}" y1="{at:.1f}" x2="{x2:.1f}" y2="{at:.1f}" stroke="#d5dae3"/>')
        lines.append(_text(x1 - 6, at + 4, f"{y:.3g}", anchor="end"))
    return "".join(lines)


def _tick(place, x: float, height: int) -> str:  # type: ignore[no-untyped-def]
    return _text(place(x, 0)[0], height - 16, f"{x:g}", anchor="middle")


def _bar(summary: Summary, name: str, y: float, scale: float, colour: str) -> str:
    mean, middle = summary.means[name], y + _BAR / 2 - 2
    parts = [
        _text(_LABEL - 8, middle + 4, summary.predictor, anchor="end"),
        f'<rect x="{_LABEL}" y="{y}" width="{max(mean, 0) * scale:.1f}" height="{_BAR - 6}" '
        f'fill="{colour}" opacity=".55"/>',
        _text(_WIDTH - 50, middle + 4, f"{mean:.3f}"),
    ]
    if name in summary.intervals:
        low, high = (_LABEL + max(end, 0) * scale for end in summary.intervals[name])
        parts.append(f'<line x1="{low:.1f}" y1="{middle}" x2="{high:.1f}" y2="{middle}" stroke="#1c2330"/>')
    for value in _dots(summary, name):
        parts.append(f'<circle cx="{_LABEL + max(value, 0) * scale:.1f}" cy="{middle}" r="2.5" fill="{colour}"/>')
    return "".join(parts)


def _dots(summary: Summary, name: str) -> list[float]:
    return [scores[name] for scores in summary.by_scene.values() if name in scores]


def _svg(width: int, height: int, title: str) -> str:
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" '
        f'viewBox="0 0 {width} {height}" role="img"><title>{escape(title)}</title>'
    )


def _text(x: float, y: float, text: str, *, anchor: str = "start", weight: str = "normal") -> str:
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" font-family="sans-serif" font-size="12" text-anchor="{anchor}" '
        f'font-weight="{weight}" fill="#1c2330">{escape(text)}</text>'
    )
