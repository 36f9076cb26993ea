"""The report of tools/reproduce.py: tables, pictures, and what the numbers show and do not show.

Every sentence is made from the numbers; what is not so is not said. Standard library only.
"""

import math
import os
import re

from studies import tables
from studies.common import COLUMNS
from studies.second import NAME
from studies.tables import in_order, is_draw

DOZEN = 12               # layers, from which a model has a bottom and a top


class Results:
    """The tables of a folder, read once."""

    def __init__(self, folder):
        self.folder, self.known = folder, {}

    def table(self, name):
        if name not in self.known:
            self.known[name] = tables.read_table(os.path.join(self.folder, name + ".tsv"))
        return self.known[name]

    def has(self, name):
        return os.path.exists(os.path.join(self.folder, name + ".tsv"))

    def rows(self, name, **wanted):
        """Of a table, those whose cells are as wanted."""
        return [row for row in self.table(name)[1]
                if all(row[column] == value for column, value in wanted.items())]

    def made(self, name, key):
        """A line of a table's header."""
        return next(line[len(key) + 2:] for line in self.table(name)[0]
                    if line.startswith(key + ": "))


def markdown(columns, rows):
    lines = [columns, ["---"] * len(columns)] + [[str(cell) for cell in row] for row in rows]
    return "".join("| %s |\n" % " | ".join(line) for line in lines) + "\n"


def column(rows, name):
    return [float(row[name]) for row in rows]


def mean(values):
    values = list(values)
    return math.fsum(values) / len(values)


def change(x):
    return "%+.1f %%" % float(x)


def several(words):
    """a, b and c."""
    words = list(words)
    return ", ".join(words[:-1]) + " and " + words[-1] if len(words) > 1 else "".join(words)


# ---- Each part: its table, and what it shows ---------------------------------------------------

def sweep_table(r):
    best = r.made("sweep", "best").split()[1::2]
    shown = [[row["top"], row["filter"], row["bar"], row["neurons"], row["least"],
              change(row["own"]), change(row["others"]), "%s, %s of %s" % (
                  row["rows"], row["columns"], row["of"]),
              "chosen" if same_rates(row, best) else ""] for row in r.rows("sweep")]
    return markdown(["top", "filter", "bar", "neurons", "fewest of a language", "own text",
                     "other texts", "rows, columns right", ""], shown)


def same_rates(row, rates):
    return [float(row[name]) for name in ("top", "filter", "bar")] == [float(x) for x in rates]


def sweep_says(r):
    rows, best = r.rows("sweep"), r.made("sweep", "best")
    chosen = next(row for row in rows if same_rates(row, best.split()[1::2]))
    text = ("Chosen: `%s`, %s. The neurons were found in three quarters of the sentences that were "
            "written to be counted and judged on the last quarter; no sentence on which anything "
            "below is measured took part. " % (best, best_reason(r)))
    edge = {float(row["top"]) for row in rows}
    if float(chosen["top"]) in (min(edge), max(edge)):
        text += "The choice is at the edge of the grid. "
    paper = [row for row in rows if same_rates(row, ("0.01", "0.95", "0.95"))]
    if paper:
        row = paper[0]
        text += ("The paper's rates, the program's defaults, select %s neurons here, %s for the "
                 "language with fewest, and their loss changes the perplexity of own text by %s, "
                 "of others by %s. "
                 % (row["neurons"], row["least"], change(row["own"]), change(row["others"])))
    return text + ("The table does not say which rates are right: more neurons do more damage, to "
                   "others too, and another aim would choose others.")


def best_reason(r):
    return next(line for line in r.table("sweep")[0] if line.startswith("best is "))[8:]


def layers_table(r):
    rows = r.rows("layers")
    names = [name for name in rows[0] if name != "quarter"]
    return markdown(names, [[row[name] for name in names] for row in rows])


def layers_says(r):
    rows = r.rows("layers")
    count = {row["layer"]: int(row["distinct"]) for row in rows}
    most, least = max(count, key=count.get), min(count, key=count.get)
    ends = count[rows[0]["layer"]] + count[rows[-1]["layer"]]
    whole = sum(count.values())
    if len(rows) >= DOZEN:
        return deep_says(r, whole, most, count[most], least, count[least])
    return ("Of %d distinct neurons the first and the last layer hold %.0f %%, and %.0f %% of all "
            "neurons. Layer %s has most (%d), layer %s fewest (%d). The paper finds them at the "
            "bottom and at the top; with %d layers this can agree or not, but neither confirm nor "
            "refute what happens in a model with dozens." % (
                whole, 100 * ends / whole, 200 / len(rows), most, count[most], least, count[least],
                len(rows)))


def deep_says(r, whole, most, in_most, least, in_least):
    """Of a model that is deep enough to have a bottom and a top."""
    quarters = [int(row["distinct"]) for row in r.rows("quarters")]
    return ("Of %d distinct neurons the quarters of the layers hold, from the bottom, %s %%. Layer "
            "%s has most (%d), layer %s fewest (%d). The paper finds them at the bottom and at the "
            "top." % (whole, several("%.0f" % (100 * n / whole) for n in quarters), most, in_most,
                      least, in_least))


def overlap_table(r):
    rows = r.rows("overlap")
    names = in_order(rows, "a")
    cell = {(row["a"], row["b"]): "%s / %.2f" % (row["shared"], float(row["correlation"]))
            for row in rows}
    return markdown(["shared / correlation"] + names,
                    [[a] + ["" if a == b else cell[a, b] for b in names] for a in names])


def overlap_says(r):
    pairs = [row for row in r.rows("overlap") if row["a"] < row["b"]]
    shared = max(pairs, key=lambda row: float(row["jaccard"]))
    alike = max(pairs, key=lambda row: float(row["correlation"]))
    apart = min(pairs, key=lambda row: float(row["correlation"]))
    none = sum(row["shared"] == "0" for row in pairs)
    return ("%s and %s share most (%s neurons, %.2f of either's); %d of %d pairs share none. "
            "Over all "
            "neurons the activation probabilities of %s and %s are most alike (%.2f), those of %s "
            "and %s least (%.2f). Likeness of activations in these sentences is not kinship of "
            "languages: shared characters and tokens make it, too." % (
                shared["a"], shared["b"], shared["shared"], float(shared["jaccard"]), none,
                len(pairs), alike["a"], alike["b"], float(alike["correlation"]), apart["a"],
                apart["b"], float(apart["correlation"])))


def matrix_table(r, selection="lape"):
    rows = r.rows("matrix", selection=selection)
    plain = {row["text"]: "%.2f" % float(row["plain"]) for row in rows}
    return markdown(["off", *plain],
                    [["(none)", *plain.values()]] + by_off(rows, "percent", change))


def nats_table(r, selection="lape"):
    rows = r.rows("matrix", selection=selection)
    return markdown(["off, in nats"] + in_order(rows, "text"),
                    by_off(rows, "nats", lambda x: "%+.2f" % float(x)))


def by_off(rows, name, form, own="**%s**"):
    """Lines of a matrix, its own language in bold."""
    return [[off] + [(own if row["text"] == off else "%s") % form(row[name]) for row in rows
                     if row["off"] == off] for off in in_order(rows, "off")]


def summary_table(r):
    lines = []
    for row in r.rows("matrix-summary"):
        name, width = row["selection"], ["", ""]
        if is_draw(name):
            continue
        if row["own_spread"] != "-":
            draws = sum(re.fullmatch(r"random-\d+", x["selection"]) is not None
                        for x in r.rows("matrix-summary"))
            name += ", %d draws" % draws
            width = [" ± %.1f" % float(row[x + "_spread"]) for x in ("own", "others")]
        lines.append([name, row["neurons"], change(row["own"]) + width[0],
                      change(row["others"]) + width[1], "%s of %s" % (row["rows"], row["of"]),
                      "%s of %s" % (row["columns"], row["of"])])
    return markdown(["selected by", "neurons", "own text", "other texts",
                     "own text hurt most", "hurt most by own"], lines)


def contrasts(r):
    """Of every language that is off: its neurons; the change of its own text, of the other text
    that is hurt most, and which; and of its own text by as many random neurons."""
    found = []
    for off in in_order(r.rows("matrix", selection="lape"), "off"):
        change_of = {row["text"]: float(row["percent"])
                     for row in r.rows("matrix", selection="lape", off=off)}
        drawn, = r.rows("matrix", selection="random", off=off, text=off)
        own, neurons = change_of.pop(off), drawn["neurons"]
        most = max(change_of, key=change_of.get)
        found.append((off, neurons, own, change_of[most], most, float(drawn["percent"])))
    return found


def contrast_table(r):
    return markdown(["off", "neurons", "own text", "most of the others", "by random neurons"],
                    [[off, neurons, change(own), "%s (%s)" % (change(other), most), change(drawn)]
                     for off, neurons, own, other, most, drawn in contrasts(r)])


def times(value, by):
    """How many times as much; where there is nothing to multiply, more than any."""
    return value / by if by > 0 else math.inf


def contrast_says(r):
    """The least of the languages' contrasts, of those whose own text is hurt at all."""
    found = contrasts(r)
    unhurt = [row for row in found if row[2] <= 0]
    if unhurt:
        found = [row for row in found if row[2] > 0]
        said = "Not hurt by the loss of its neurons is the text of %s. " % several(
            "%s (%s)" % (row[0], change(row[2])) for row in unhurt)
        return said + (contrast_of(found) if found else "")
    return contrast_of(found)


def contrast_of(found):
    other = min(found, key=lambda row: times(row[2], row[3]))
    drawn = min(found, key=lambda row: times(row[2], row[5]))
    return ("A language's own text is hurt at least %.1f times as much as any other (%s), and at "
            "least %.1f times as much as by as many random neurons (%s). " % (
                times(other[2], other[3]), other[0], times(drawn[2], drawn[5]), drawn[0]))


def matrix_says(r):
    by = {row["selection"]: row for row in r.rows("matrix-summary")}
    lape, control = by["lape"], by["random"]
    strayed = []
    for off in in_order(r.rows("matrix", selection="lape"), "off"):
        row = r.rows("matrix", selection="lape", off=off)
        worst = max(row, key=lambda x: float(x["percent"]))["text"]
        if worst != off:
            strayed.append("%s hurts %s most" % (off, worst))
    better = [name for name in by if not name.startswith("random") and name != "lape"
              and not name.endswith("-mean")
              and float(by[name]["own"]) - float(by[name]["others"])
              > float(lape["own"]) - float(lape["others"])]
    text = ("Setting a language's neurons to 0 changes the perplexity of its own text by %s on "
            "average, that of the others by %s; as many random neurons of the same layers by %s "
            "and "
            "%s. " % (change(lape["own"]), change(lape["others"]), change(control["own"]),
                      change(control["others"])))
    text += contrast_says(r)
    text += ("Every language's loss hurts its own text most. " if not strayed else
             "Not every loss hurts its own text most: %s. " % several(strayed))
    text += ("With as many neurons of every language, %s part%s own from other text further than "
             "LAPE does, so these numbers do not show LAPE to be the best score. " % (
                 several("`%s`" % name for name in better), "s" if len(better) == 1 else "")
             if better else "No baseline of as many neurons parts own from other text further. ")
    return text + ("Changes are in percent because the texts' perplexities differ; one model and "
                   "these sentences do not show that it is so elsewhere.")


OF_MARKDOWN = re.compile(r"[]\\`*_<>|&#~$[]")      # letters that it may take for its own
SHOWN = 3                # places of a neuron


def in_markdown(text):
    return OF_MARKDOWN.sub(lambda found: "&#%d;" % ord(found[0]), text)


def seen(r):
    """By language and neuron, its rows of places, the largest activation first."""
    found = {}
    for row in r.rows("contexts"):
        found.setdefault((row["language"], row["layer"], row["neuron"]), []).append(row)
    return found


def in_its_text(rows):
    """How many of a neuron's places are in text of a language that it belongs to."""
    return sum(row["text"] in row["languages"].split(",") for row in rows)


def contexts_table(r):
    lines = []
    for (language, layer, neuron), rows in seen(r).items():
        lines.append([language, "%s / %s" % (layer, neuron), "%.2f" % float(rows[0]["lape"]),
                      "%d of %d" % (in_its_text(rows), len(rows)), "<br>".join(
                          "%.2f %s: %s" % (float(row["activation"]), row["text"],
                                           in_markdown(row["context"])) for row in rows[:SHOWN])])
    return markdown(["language", "layer / neuron", "LAPE", "places in text of its languages",
                     "largest activations"], lines)


def contexts_says(r):
    neurons = {key[1:]: rows for key, rows in seen(r).items()}
    inside = [in_its_text(rows) for rows in neurons.values()]
    places = sum(map(len, neurons.values()))
    text = ("Of the %d places at which these %d neurons, of lowest LAPE, are most active, %d are "
            "in text of a language that the neuron belongs to, %d in other text. " % (
                places, len(neurons), sum(inside), places - sum(inside)))
    away = ["%s / %s" % key for key, n in zip(neurons, inside) if not n]
    if away:
        text += "Most active in other text alone: %s. " % several(away)
    return text + ("What stands before a token is what the model had seen; what stands behind it "
                   "is for the reader. The texts are small, and the largest activations tell "
                   "nothing of the many smaller ones, which LAPE counts as well.")


def dose_table(r):
    rows = r.rows("dose")
    parts = in_order(rows, "part")
    lines = [[off] + [change(own_of(rows, off, part)) for part in parts]
             for off in in_order(rows, "off")]
    others = [mean(float(row["percent"]) for row in rows
                   if row["part"] == part and row["off"] != row["text"]) for part in parts]
    return markdown(["own text of"] + [part + " %" for part in parts],
                    lines + [["other texts, mean"] + [change(x) for x in others]])


def own_of(rows, off, part):
    return next(float(row["percent"]) for row in rows
                if row["off"] == off and row["text"] == off and row["part"] == part)


def dose_says(r):
    rows = r.rows("dose")
    parts, off = in_order(rows, "part"), in_order(rows, "off")
    rising = [name for name in off if all(
        own_of(rows, name, a) <= own_of(rows, name, b) for a, b in zip(parts, parts[1:]))]
    half, full = (mean(own_of(rows, name, part) for name in off) for part in ("50", "100"))
    text = ("Half of the neurons, those of lowest LAPE, change the perplexity of own text by %s on "
            "average, all of them by %s: " % (change(half), change(full)))
    text += ("the first half does more than the second. " if half > full / 2 else
             "the first half does no more than the second, so a lower LAPE is no sign of more "
             "effect. ")
    return text + ("The rise is steady in %d of %d languages. No other order was tried, so this "
                   "does not "
                   "show that low LAPE makes a neuron matter." % (len(rising), len(off)))


def reliability_table(r):
    rows = r.rows("reliability")
    parts = sorted(set(in_order(r.rows("reliability", what="part"), "of")) - {"1"}, key=int,
                   reverse=True)
    lines = []
    for row in r.rows("reliability-bar"):
        language = row["language"]
        means = [mean(column(r.rows("reliability", what="part", of=part, language=language),
                             "jaccard")) for part in parts]
        halves = next(x for x in rows if x["what"] == "halves" and x["language"] == language)
        lines.append([language, row["tokens"], row["selected"], "%.2f" % float(halves["jaccard"])]
                     + ["%.2f" % x for x in means]
                     + [row["within"], "%.1f" % float(row["dispersion"]), row["within_dispersed"]])
    return markdown(["language", "tokens", "neurons", "half and half"]
                    + ["1/%s and all" % part for part in parts]
                    + ["at the bar", "dispersion", "at the bar, dispersed"], lines)


def reliability_says(r):
    halves = column(r.rows("reliability", what="halves"), "jaccard")
    parts = r.rows("reliability", what="part")
    finest = max(int(row["of"]) for row in parts)
    small = column([row for row in parts if int(row["of"]) == finest], "jaccard")
    bar = r.rows("reliability-bar")
    selected = sum(column(bar, "selected"))
    return ("Found in one half of the tokens and in the other, a language's neurons overlap by "
            "%.2f on "
            "average (Jaccard; %.2f to %.2f); 1/%d of the tokens finds %.2f of what all find. "
            "%.0f %% of "
            "the neurons are within the sampling error of the bar (95 %% interval), %.0f %% when "
            "it is "
            "widened by what counts vary between parts (dispersion: 1 if tokens were independent). "
            "The halves take turns in one text, so what differs between texts does not show; and "
            "overlap with all tokens counts shared tokens, which flatters it." % (
                mean(halves), min(halves), max(halves), finest, mean(small),
                100 * sum(column(bar, "within")) / selected,
                100 * sum(column(bar, "within_dispersed")) / selected))


def push_of(row):
    return "-" if row["how"] == "-" else "%s %g" % (row["how"], float(row["strength"]))


def steer_table(r):
    """Of a real model with the second judge's word, where that was asked."""
    two = r.has("model")
    return markdown(["neurons", "push", "in the wanted language", "perplexity of outputs",
                     "distinct tokens"] + two * ["by " + NAME, "both judges agree"],
                    [[row["mode"], push_of(row), "%.1f %%" % float(row["success"]),
                      "%.1f" % float(row["perplexity"]), "%.2f" % float(row["distinct"])]
                     + two * [percent_or_not(row["second"]), percent_or_not(row["agree"])]
                     for row in r.rows("steer-summary")])


def percent_or_not(cell):
    return cell if cell == "-" else "%.1f %%" % float(cell)


def second_says(r, best):
    """What the second judge says of the best push, and how far it can be believed."""
    if not r.has("model"):
        return ""
    said = r.made("steer-check", "second")
    if best["second"] == "-":
        return "No second judge was asked (%s). " % said[len("-, since "):]
    return ("%s, a classifier of others that is right on %.1f %% of held-out lines, takes %.1f %% "
            "of the outputs of %s with both for the wanted language, and agrees with naive Bayes "
            "on %.1f %% of them. " % (NAME, 100 * float(said), float(best["second"]),
                                      push_of(best), float(best["agree"])))


def lines_table(r):
    """The line-level pass rates, where the tables have them."""
    rows = r.rows("steer-summary")
    if "lpr" not in rows[0]:
        return ""
    two = r.has("model")
    return markdown(["neurons", "push", "all lines in the wanted language"]
                    + two * ["by " + NAME] + ["outputs with a line that is judged"],
                    [[row["mode"], push_of(row)] + [
                        percent_or_not(row[name]) for name in ["lpr"] + two * ["second_lpr"]
                        + ["judged"]] for row in rows])


def best_rows(r, mode):
    """Of the best push: its summary, and its pairs."""
    how, strength = r.made("steer-summary", "best").split()
    wanted = {"mode": mode, "how": how, "strength": strength}
    return r.rows("steer-summary", **wanted)[0], r.rows("steer", **wanted)


def pairs_table(r):
    summary, rows = best_rows(r, "off+on")
    names = in_order(rows, "prompt")
    wanted = names + [name for name in in_order(rows, "wanted") if name not in names]
    cell = {(row["prompt"], row["wanted"]): "%.0f" % float(row["success"]) for row in rows}
    return markdown(["off+on, " + push_of(summary)] + wanted,
                    [[a] + [cell.get((a, b), "") for b in wanted] for a in names])


def check_table(r):
    rows = r.rows("steer-check")
    names = [name for name in rows[0] if name not in ("language", "perplexity")]
    return markdown(["text in", *names, "perplexity of it"],
                    [[row["language"], *(row[name] for name in names),
                      "%.1f" % float(row["perplexity"])] for row in rows])


def steer_says(r):
    best, rows = best_rows(r, "off+on")
    on = best_rows(r, "on")[0]
    plain = {row["mode"]: row for row in r.rows("steer-summary") if row["how"] == "-"}
    wanted = {}
    for row in rows:
        wanted.setdefault(row["wanted"], []).append(float(row["success"]))
    rate = {name: mean(values) for name, values in wanted.items()}
    low, high = min(rate, key=rate.get), max(rate, key=rate.get)
    most = max(r.rows("steer-summary"), key=lambda row: float(row["success"]))
    stay = [row["language"] == row["prompt"] for row in r.rows("steer-generations", mode="none")]
    text = ("Naive Bayes is right on %.1f %% of held-out pieces, so outputs are tallied. When "
            "nothing is done, %.1f %% of outputs are in the prompt's language. In the wanted "
            "language are %.1f %% then, %.1f %% with the prompt's neurons off, %.1f %% with the "
            "wanted ones on (%s), %.1f %% with both. Easiest to reach is %s (%.0f %%), "
            "hardest %s (%.0f %%). " % (
                100 * float(r.made("steer-check", "accuracy")), 100 * mean(stay),
                float(plain["none"]["success"]), float(plain["off"]["success"]),
                float(on["success"]), push_of(best), float(best["success"]), high, rate[high],
                low, rate[low]))
    text += ("%s is, with both, the push of most success whose outputs surprise the plain model no "
             "more than held-out text does (perplexity %.1f; unsteered outputs %.1f, held-out text "
             "%.1f), picked from this very table, which flatters it. " % (
                 push_of(best).capitalize(), float(best["perplexity"]),
                 float(plain["none"]["perplexity"]),
                 float(r.made("steer-summary", "perplexity of held-out text"))))
    if float(most["success"]) > float(best["success"]):
        text += ("Stronger pushes go further (%s, %s: %.1f %%) into worse text (perplexity %.1f). "
                 % (most["mode"], push_of(most), float(most["success"]),
                    float(most["perplexity"])))
    text += second_says(r, best)
    return text + "That a language is recognised does not mean that the text makes sense."


def fallback_steps(r):
    """Of each prompt language, its first steps and its last: none off, its own off, all off."""
    steps = {}
    for row in r.rows("fallback"):
        steps.setdefault(row["prompt"], []).append(row)
    return {prompt: (rows[0], rows[1], rows[-1]) for prompt, rows in steps.items()}


def tally(row):
    """en 5, fr 1"""
    names = [name for name in row if name not in COLUMNS]
    found = sorted(((int(row[name]), name) for name in names if row[name] != "0"),
                   key=lambda pair: -pair[0])
    return ", ".join("%s %d" % (name, n) for n, name in found)


def fallback_table(r):
    lines = []
    for prompt, (first, own, last) in fallback_steps(r).items():
        others = own["off"].split(",") + [name for name in last["off"].split(",")
                                          if name not in own["off"].split(",")]
        lines.append([prompt, tally(first), tally(own), tally(last), ", ".join(others)])
    return markdown(["prompts in", "outputs, nothing off", "its own off", "all off",
                     "order of switching off"], lines)


def fallback_says(r):
    steps = fallback_steps(r)
    stay = [sum(int(chain[i][prompt]) for prompt, chain in steps.items()) for i in range(3)]
    names = list(steps)
    all_of = sum(int(chain[0][name]) for chain in steps.values() for name in names)
    moved = {}
    for prompt, (_, own, _) in steps.items():
        for name in names:
            if name != prompt and int(own[name]):
                moved[name] = moved.get(name, 0) + int(own[name])
    text = ("Of %d outputs %d are in the prompt's language when nothing is off, %d when its own "
            "neurons "
            "are, %d when every language's are. " % (all_of, *stay))
    text += ("What leaves, with its own off, falls to %s. " % several(
        "%s (%d)" % (name, moved[name]) for name in sorted(moved, key=lambda x: (-moved[x], x)))
        if moved else "With its own off, none leaves. ")
    if stay[1] > all_of / 2:
        text += ("So for most prompts the loss of its neurons does not change the language that is "
                 "written, and where it falls back to is seen seldom. ")
    return text + ("%d prompts of a language and greedy decoding are a small sample."
                   % (all_of // len(names)))


PARTS = [  # title, tables, what they show, pictures
    ("Which rates?", [sweep_table], sweep_says, []),
    ("Where are the neurons?", [layers_table], layers_says, ["layers"]),
    ("What do languages share?", [overlap_table], overlap_says, ["overlap"]),
    ("Does a language need its neurons?", [matrix_table, nats_table, contrast_table,
                                           summary_table], matrix_says, ["matrix", "baselines"]),
    ("What does a neuron see?", [contexts_table], contexts_says, []),
    ("How many of them?", [dose_table], dose_says, ["dose"]),
    ("Would other text select the same?", [reliability_table], reliability_says, ["reliability"]),
    ("Can the output's language be chosen?", [check_table, steer_table, lines_table, pairs_table],
     steer_says, ["steer"]),
    ("Where does the output fall back to?", [fallback_table], fallback_says, []),
]
# What a run need not have: no rates were chosen, or it is an older one.
OPTIONAL = {sweep_says: "sweep", contexts_says: "contexts"}
IN_RESULTS = {"Does a language need its neurons?": [contrast_table, summary_table],
             "How many of them?": [], "Would other text select the same?": [reliability_table],
             "Can the output's language be chosen?": [steer_table],
             "Where are the neurons?": [], "What do languages share?": [],
             "Where does the output fall back to?": []}
IN_REAL = dict(IN_RESULTS, **{
    "Does a language need its neurons?": [matrix_table, nats_table, contrast_table, summary_table],
    "Can the output's language be chosen?": [steer_table, pairs_table]})
IN_CARD = {"Where are the neurons?": [layers_table],
           "Does a language need its neurons?": [matrix_table, contrast_table, summary_table],
           "Can the output's language be chosen?": [steer_table, pairs_table]}


def about(r):
    header = r.table("matrix")[0]
    value = dict(line.split(": ", 1) for line in header if ": " in line)
    said = "" if not r.has("model") else (
        ", in the file `{file}` ({bytes} bytes, sha256 `{sha256}`)".format(**r.rows("model")[0]))
    return ("The model is `%s`%s; the neurons were found by `--top %s --filter %s --bar %s` in %s "
            "tokens.\n"
            % (value["model"], said, value["top"], value["filter"].split(",")[0],
               value["bar"].split(",")[0], sum(map(int, value["tokens"].split()))))


def picture(name, folder, kind="svg"):
    return "![%s](%s/%s.%s)\n\n" % (name, folder, name, kind)


def whole(r, drawn):
    """REPORT.md."""
    text = "# The experiments on %s\n\n" % (
        r.rows("model")[0]["file"] if r.has("model") else "the demo model") + about(r)
    text += ("Made by `make reproduce`; every table is in `report/`, and says in its header how "
             "it was "
             "made.\n\n")
    for title, makes, says, pictures in PARTS:
        if says in OPTIONAL and not r.has(OPTIONAL[says]):
            continue
        text += "## %s\n\n" % title + "".join(make(r) for make in makes)
        text += "".join(picture(name, "report") for name in pictures if drawn) + says(r) + "\n\n"
    return text


def section(r, wanted, folder="demo/pictures"):
    """What a document holds between its marks: doc/results.md's with pictures, that of other texts
    without, for only doc/results.md's are kept. A real model's is one of several there."""
    text = about(r) + "\n"
    for title, _, says, pictures in PARTS:
        if title in wanted:
            text += "%s %s\n\n" % ("####" if wanted is IN_REAL else "###", title)
            text += "".join(picture(name, folder) for name in pictures
                            if name != "baselines" and wanted is not IN_CARD)
            text += "".join(make(r) for make in wanted[title]) + says(r) + "\n\n"
    return text
