#!/usr/bin/env python3
"""Pictures of what tools/experiments.py found: a PNG and an SVG of every table that is in DIR.

    plot.py DIR [-o PICTURES] [--only layers,matrix,...] [--svg]

Needs matplotlib, and no display. Colours tell apart in colour blindness and, with markers, dashes
and numbers, in black and white. The same tables give the same bytes with the same matplotlib.
"""

import argparse
import io
import os
import re
import sys

try:
    import matplotlib
except ImportError:
    sys.exit("plot.py: needs matplotlib: python3 -m pip install matplotlib")
matplotlib.use("Agg")
import matplotlib.pyplot as plt

from guard import Refused, no_warnings
from studies import tables
from studies.tables import in_order, is_draw

STYLE = {
    "font.size": 8, "axes.titlesize": 9, "axes.spines.top": False, "axes.spines.right": False,
    "font.family": "sans-serif", "font.sans-serif": ["DejaVu Sans"],
    "svg.fonttype": "none", "svg.hashsalt": "lape", "legend.frameon": False, "figure.dpi": 120,
    "figure.constrained_layout.use": True,
}
# Okabe and Ito's colours, dark ones first; each goes with a marker and dashes of its own.
COLOURS = ["#000000", "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9"]
MARKERS = ["o", "s", "^", "D", "v", "P", "X", "<", ">", "*"]
DASHES = ["-", "--", "-.", ":"]
SHADES = "Blues"         # white to dark, for every kind of eye and printer
# Percents above this are shown by a scale that is plain to LINEAR, and logarithmic from there.
WIDE, LINEAR = 300, 10


def table(folder, name):
    """The rows of a table; None when it is not there."""
    path = os.path.join(folder, name + ".tsv")
    return tables.read_table(path)[1] if os.path.exists(path) else None


def line_style(i):
    return {"color": COLOURS[i % len(COLOURS)], "marker": MARKERS[i % len(MARKERS)],
            "linestyle": DASHES[i % len(DASHES)], "markersize": 4, "linewidth": 1.2}


def fit_percents(axes, values):
    """The y axis of percents that may go so high that a plain scale would show nothing else."""
    if max(values) > WIDE:
        axes.set_yscale("symlog", linthresh=LINEAR)
        axes.yaxis.set_major_formatter("{x:g}")


def show_cells(axes, cells, rows, columns, form, low, high, norm=None):
    """A heat map with its numbers written into it; None: no cell. Small squares, so that it is
    vectors in an SVG. norm: shades by another scale."""
    values = [[float("nan") if v is None else v for v in row] for row in cells]
    norm = norm or matplotlib.colors.Normalize(low, high)
    mesh = axes.pcolormesh(values, cmap=SHADES, norm=norm, edgecolors="lightgrey", linewidth=0.5,
                           clip_on=False)
    axes.set_xticks([i + 0.5 for i in range(len(columns))], columns)
    axes.set_yticks([i + 0.5 for i in range(len(rows))], rows)
    axes.tick_params(length=0)
    axes.invert_yaxis()
    axes.set_aspect("equal")
    for side in axes.spines.values():
        side.set_visible(False)
    for y, row in enumerate(cells):
        for x, value in enumerate(row):
            if value is not None:
                dark = norm(value) > 0.55
                text = form % value
                text = text.lstrip("-") if float(text) == 0 else text
                axes.text(x + 0.5, y + 0.5, text, ha="center", va="center", fontsize=6.5,
                          color="white" if dark else "black")
    return mesh


# ---- One function a figure; each gives the figure, or None when its table is not there ---------

def layers(folder):
    """A panel of bars for every language."""
    rows = table(folder, "layers")
    if not rows:
        return None
    languages = [name for name in rows[0] if name not in ("layer", "quarter", "distinct")]
    across = min(4, len(languages))
    down = -(-len(languages) // across)
    figure, grid = plt.subplots(down, across, figsize=(1.8 * across, 1.4 * down + 0.3), sharex=True,
                                sharey=True, squeeze=False)
    for axes, language in zip(grid.flat, languages):
        axes.bar([int(row["layer"]) for row in rows], [int(row[language]) for row in rows],
                 color=COLOURS[1], edgecolor="black", linewidth=0.4)
        axes.set_title(language)
        for axis in (axes.xaxis, axes.yaxis):
            axis.get_major_locator().set_params(integer=True)
    for axes in list(grid.flat)[len(languages):]:
        axes.set_visible(False)
    figure.supxlabel("layer, from 0", fontsize=8)
    figure.supylabel("neurons", fontsize=8)
    return figure


def matrix(folder):
    """Change of perplexity by the list's neurons, and by random ones."""
    rows = table(folder, "matrix")
    if not rows:
        return None
    names = [rows[0]["selection"]]
    names += [name for name in ["random"] if name in in_order(rows, "selection")]
    first = [row for row in rows if row["selection"] == names[0]]
    off, text = in_order(first, "off"), in_order(first, "text")
    value = {(r["selection"], r["off"], r["text"]): float(r["percent"]) for r in rows}
    high = max(value[names[0], a, b] for a in off for b in text)
    size = 0.42 * len(text) + 0.9
    figure, grid = plt.subplots(1, len(names), squeeze=False, figsize=(
        size * len(names) + 0.4, 0.42 * len(off) + 1))
    norm = matplotlib.colors.SymLogNorm(LINEAR, vmin=0, vmax=high) if high > WIDE else None
    for axes, name in zip(grid.flat, names):
        cells = [[value[name, a, b] for b in text] for a in off]
        mesh = show_cells(axes, cells, off, text, "%.0f", 0, max(high, 1), norm)
        axes.set_title(name + (", mean of draws" if name == "random" else ""))
        axes.set_xlabel("perplexity of text in")
        axes.set_ylabel("neurons at 0")
    bar = figure.colorbar(mesh, ax=list(grid.flat), label="change in percent", shrink=0.8)
    if norm:
        bar.set_ticks([0] + [10 ** i for i in range(1, 9) if 10 ** i <= high], minor=False)
        bar.ax.yaxis.set_major_formatter("{x:g}")
    return figure


def baselines(folder):
    """Own change and that of others, for every selection of equal budget."""
    rows = table(folder, "matrix-summary")
    if not rows:
        return None
    rows = [row for row in rows if not is_draw(row["selection"])]
    figure, axes = plt.subplots(figsize=(1.0 * len(rows) + 1.5, 2.4))
    at = range(len(rows))
    for shift, column, colour, hatch, label in (
            (-0.2, "own", COLOURS[1], "", "the language that is off"),
            (0.2, "others", COLOURS[5], "///", "other languages")):
        wide = [row[column + "_spread"] for row in rows]
        axes.bar([i + shift for i in at], [float(row[column]) for row in rows], 0.4, color=colour,
                 hatch=hatch, edgecolor="black", linewidth=0.5, label=label,
                 yerr=[float("nan") if w == "-" else float(w) for w in wide], capsize=2)
    axes.axhline(0, color="black", linewidth=0.5)
    axes.set_xticks(list(at), [row["selection"] for row in rows])
    axes.set_xlabel("as many neurons of every language, selected by")
    axes.set_ylabel("change of perplexity, percent")
    fit_percents(axes, [float(row["own"]) for row in rows])
    axes.legend()
    return figure


def dose(folder):
    """Change of a language's perplexity by the part of its neurons that is at 0."""
    rows = table(folder, "dose")
    if not rows:
        return None
    figure, axes = plt.subplots(figsize=(4.6, 2.8))
    languages = [name for name in in_order(rows, "off") if name in in_order(rows, "text")]
    others = {}
    for i, language in enumerate(languages):
        own = [row for row in rows if row["off"] == language]
        line = [(float(row["part"]), float(row["percent"])) for row in own
                if row["text"] == language]
        axes.plot(*zip(*line), label=language, **line_style(i))
        for row in own:
            if row["text"] != language:
                others.setdefault(float(row["part"]), []).append(float(row["percent"]))
    if others:
        axes.plot(list(others), [sum(v) / len(v) for v in others.values()], color="#888888",
                  linewidth=3, label="other texts, mean", zorder=1)
    axes.set_xlabel("part of the language's neurons at 0, percent, lowest LAPE first")
    axes.set_ylabel("change of perplexity, percent")
    fit_percents(axes, [float(row["percent"]) for row in rows])
    axes.legend(loc="center left", bbox_to_anchor=(1, 0.5))
    return figure


def steer(folder):
    """Success from every language to every other: nothing done, off, on, both; by the best push."""
    rows = table(folder, "steer")
    if not rows:
        return None
    made, _ = tables.read_table(os.path.join(folder, "steer-summary.tsv"))
    best = next(line for line in made if line.startswith("best: ")).split()[1:]
    panels = [(mode, [row for row in rows if row["mode"] == mode and (
        mode in ("none", "off") or [row["how"], row["strength"]] == best)])
              for mode in ("none", "off", "on", "off+on")]
    languages = in_order(rows, "prompt")
    size = 0.36 * len(languages) + 0.7
    figure, grid = plt.subplots(2, 2, figsize=(2 * size + 0.8, 2 * size + 0.2), squeeze=False)
    for axes, (mode, chosen) in zip(grid.flat, panels):
        value = {(row["prompt"], row["wanted"]): float(row["success"]) for row in chosen}
        cells = [[value.get((a, b)) for b in languages] for a in languages]
        mesh = show_cells(axes, cells, languages, languages, "%.0f", 0, 100)
        push = "" if mode in ("none", "off") else ", %s %g" % (best[0], float(best[1]))
        axes.set_title(mode + push)
        axes.set_xlabel("wanted language")
        axes.set_ylabel("language of the prompt")
    figure.colorbar(mesh, ax=list(grid.flat), label="outputs in the wanted language, percent",
                    shrink=0.6)
    return figure


def reliability(folder):
    """Overlap with the full selection by the part of the tokens; and of two halves."""
    rows = table(folder, "reliability")
    if not rows:
        return None
    figure, (left, right) = plt.subplots(1, 2, figsize=(6.4, 2.8), width_ratios=(3, 2), sharey=True)
    languages = in_order(rows, "language")
    parts = sorted({int(row["of"]) for row in rows if row["what"] == "part"}, reverse=True)
    for i, language in enumerate(languages):
        means = []
        for part in parts:
            values = [float(row["jaccard"]) for row in rows if row["what"] == "part"
                      and row["of"] == str(part) and row["language"] == language]
            means.append(sum(values) / len(values))
        left.plot([1 / part for part in parts], means, label=language, **line_style(i))
    left.set_xscale("log", base=2)
    left.set_xticks([1 / part for part in parts],
                    ["1/%d" % part if part > 1 else "all" for part in parts])
    left.set_ylim(0, 1.05)
    left.set_xlabel("part of the tokens, mean over draws")
    left.set_ylabel("overlap (Jaccard)")
    left.set_title("a part and all tokens")
    left.legend(ncols=2)
    halves = [row for row in rows if row["what"] == "halves"]
    right.bar(range(len(halves)), [float(row["jaccard"]) for row in halves], color=COLOURS[6],
              edgecolor="black", linewidth=0.5)
    right.set_xticks(range(len(halves)), [row["language"] for row in halves])
    right.set_xlabel("language")
    right.set_title("one half and the other")
    return figure


def overlap(folder):
    """What languages share."""
    rows = table(folder, "overlap")
    if not rows:
        return None
    languages = in_order(rows, "a")
    with_p = all(row["correlation"] != "-" for row in rows)
    panels = [("jaccard", "neurons shared, of either's", 0)]
    if with_p:
        panels.append(("correlation", "correlation of probabilities",
                       min(float(row["correlation"]) for row in rows)))
    size = 0.42 * len(languages) + 0.9
    figure, grid = plt.subplots(1, len(panels), squeeze=False,
                                figsize=(size * len(panels) + 0.6, size))
    for axes, (column, title, low) in zip(grid.flat, panels):
        value = {(row["a"], row["b"]): float(row[column]) for row in rows}
        cells = [[None if a == b else value[a, b] for b in languages] for a in languages]
        shown = [v for row in cells for v in row if v is not None] or [0]
        mesh = show_cells(axes, cells, languages, languages, "%.2f", min(low, *shown), max(shown))
        axes.set_title(title)
        axes.set_xlabel("language")
        axes.set_ylabel("language")
        figure.colorbar(mesh, ax=axes, shrink=0.8)
    return figure


FIGURES = {function.__name__: function
           for function in (layers, matrix, baselines, dose, steer, reliability, overlap)}


def save(figure, path):
    """Without the date, so that the same figure is the same file."""
    if path.endswith(".png"):
        png = io.BytesIO()
        figure.savefig(png, format="png", metadata={"Software": None})
        return tables.write_bytes(path, png.getvalue())
    svg = io.StringIO()
    figure.savefig(svg, format="svg", metadata={"Date": None})
    tables.write_text(path, lighter(svg.getvalue()))


def lighter(svg):
    """Less than half the bytes: two decimals, no rotations by nothing, no line ends within paths,
    no comments, oblongs in short, the font named once."""
    svg = re.sub(r"(\d\.\d\d)\d+", r"\1", svg)
    svg = re.sub(r' transform="rotate\(-?0 [^"]*"| *<!--.*?-->\n', "", svg)
    svg = re.sub(r" \n(?=[A-Zz\"])", " ", svg)
    svg = re.sub(r"M (\S+) (\S+) L (\S+) \2 L \3 (\S+) L \1 \4 L \1 \2 z?",
                 r"M\1 \2H\3V\4H\1z", svg)
    svg = re.sub(r'(style="[^"]*")', lambda style: style.group(1).replace(": ", ":").replace(
        "; ", ";"), svg)
    family = "font-family:'DejaVu Sans', sans-serif"
    return svg.replace(family + ";", "").replace("<svg ", '<svg style="%s" ' % family, 1)


def draw(folder, pictures, names, kinds):
    """The paths written."""
    os.makedirs(pictures, exist_ok=True)
    paths = []
    with plt.rc_context(STYLE):
        for name in names:
            figure = FIGURES[name](folder)
            if figure:
                for kind in kinds:
                    paths.append(os.path.join(pictures, name + "." + kind))
                    save(figure, paths[-1])
                plt.close(figure)
    return paths


def main(argv):
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("folder", metavar="DIR", help="where experiments.py has put its tables")
    parser.add_argument("-o", dest="pictures", metavar="PICTURES", help="folder of pictures (DIR)")
    parser.add_argument("--only", default=",".join(FIGURES), metavar="A,B",
                        help="of these figures (%s)" % ",".join(FIGURES))
    parser.add_argument("--svg", action="store_true", help="no PNG")
    args = parser.parse_args(argv)
    names = args.only.split(",")
    unknown = [name for name in names if name not in FIGURES]
    if unknown:
        parser.error("no figure is named %s" % unknown[0])
    try:
        with no_warnings("a figure"):
            paths = draw(args.folder, args.pictures or args.folder, names,
                         ["svg"] if args.svg else ["png", "svg"])
    except (Refused, KeyError, ValueError, OSError) as problem:
        print("plot.py: %s: %s" % (args.folder, problem), file=sys.stderr)
        return 1
    if not paths:
        print("plot.py: %s: holds no table of experiments.py" % args.folder, file=sys.stderr)
        return 1
    print("\n".join(paths))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
