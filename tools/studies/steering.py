"""Experiments that look at the language of what the model writes: steer, fallback. Standard library
only.
"""

import collections
import concurrent.futures
import math
import os

from guard import Refused
from studies import bayes, tables
from studies.common import (about_neurons, geometric, language_files, mean, model_and_files,
                            neurons_of, program_of, say, write)
from studies.confusion import FEWEST, judged, line_languages, pass_rate
from studies.second import Second

SURE = 0.95      # of outputs' languages: what naive Bayes must reach on held-out text


# ---- Which language is an output? --------------------------------------------------------------

def surely(args, lape, model, prompts):
    """Naive Bayes over the counts' histograms, if it knows the languages of held-out text; and the
    plain model's perplexity of that text, cut as outputs are, the geometric mean over languages."""
    counts = tables.Counts(args.counts)
    held_out = language_files(args.check)
    for language in prompts:
        if language not in held_out:
            raise Refused("prompts of '%s', but no --check text of it" % language)
    for language in held_out:
        if language not in counts.languages:
            raise Refused("%s: has no counts of '%s'" % (args.counts, language))
    judge_of = bayes.Bayes({language: counts.histogram(language) for language in held_out})
    ids = {language: lape.tokenize(model, path) for language, path in held_out.items()}
    for language in ids:
        if len(ids[language]) < args.tokens_out:
            raise Refused("%s: shorter than an output of %d tokens"
                          % (held_out[language], args.tokens_out))
    table = bayes.confusion(judge_of, ids, args.tokens_out)
    right = bayes.accuracy(table)
    fluent = surprise(args, lape, model, {
        language: bayes.pieces(ids[language], args.tokens_out) for language in ids})
    second = Second(held_out, args.judge)
    write(args, args.command + "-check", [
        "naive Bayes over the histograms of " + args.counts,
        "pieces of %d tokens of text that was not counted, by the language they are taken for"
        % args.tokens_out, "accuracy: %.6g" % right,
        "perplexity: the plain model's of these pieces, what outputs' may be compared with",
        "second: %.6g" % second.accuracy(held_out) if second.ask else second.about(),
        "that is the accuracy, by lines of the same text, of " + second.name],
        ["language", *held_out, "perplexity"],
        [[language, *row.values(), fluent.get(language, math.nan)]
         for language, row in table.items()])
    say(args, "naive Bayes is right on %.1f %% of held-out pieces" % (100 * right))
    if right < SURE:
        raise Refused("naive Bayes is right on only %.1f %% of held-out pieces of %d tokens, %.0f "
                      "are wanted: nothing is tallied; a larger -n or more counted text may help"
                      % (100 * right, args.tokens_out, 100 * SURE))
    return judge_of, second, geometric(fluent.values())


def surprise(args, lape, model, outputs):
    """The plain model's perplexity of lists of ids, by key; of none where it is not wanted."""
    return {} if args.no_perplexity else lape.fluency(model, outputs)


def distinct(lists):
    """Part of the tokens of outputs that are not repetitions within their output."""
    tokens = sum(len(ids) for ids in lists)
    return sum(len(set(ids)) for ids in lists) / tokens if tokens else math.nan


# What a judge says, by key: of every output its language, and those of its lines.
Told = collections.namedtuple("Told", "texts lines")


def told_of(lape, model, outputs, language_of, second):
    """outputs: by key, (prompt, output, ids). What naive Bayes says of them, and the second judge,
    who reads what was written, and not how it stands in a table."""
    texts = {key: [tables.unescaped(output) for _, output, _ in rows]
             for key, rows in outputs.items()}

    def classify(lines):
        return [language_of.classify(ids) for ids in lape.tokenize_lines(model, lines)]

    told = iter(second.tell([text for one in texts.values() for text in one]))
    return (Told({key: [language_of.classify(ids) for _, _, ids in rows]
                  for key, rows in outputs.items()}, line_languages(texts, classify)),
            Told({key: [next(told) for _ in one] for key, one in texts.items()},
                 line_languages(texts, second.tell)))


def line_rates(first, other, key, wanted):
    """The columns lpr, second_lpr ("-" where there is no other judge), judged."""
    lines = first.lines[key]
    return [pass_rate(lines, wanted),
            "-" if set(other.texts[key]) <= {"-"} else pass_rate(other.lines[key], wanted),
            100 * judged(lines) / len(lines)]


ABOUT_LINES = [
    "lpr: line-level pass rate (Marchisio et al., 2024): percent of outputs all of whose lines "
    "naive Bayes takes for the wanted language; second_lpr: the other judge",
    "judged: percent of the outputs that have a line of %d words, which lpr is about" % FEWEST]


def at_once(args, jobs):
    """The results of functions, in order; as many at a time as there are threads."""
    with concurrent.futures.ThreadPoolExecutor(args.threads or os.cpu_count()) as pool:
        running = [pool.submit(job) for job in jobs]
        results = []
        try:
            for number, future in enumerate(running, 1):
                results.append(future.result())
                if number % math.ceil(len(jobs) / 10) == 0:
                    say(args, "%d of %d runs" % (number, len(jobs)))
        except BaseException:
            for future in running:
                future.cancel()
            raise
    return results


# ---- steer: from every language of prompts to every one of --check -----------------------------

Setting = collections.namedtuple("Setting", "mode how strength prompt wanted")
RATES = "lpr", "second_lpr"                  # which are nan where no output has a line to judge
MEASURES = "success", "perplexity", "distinct", "second", "agree", *RATES, "judged"


def steer_settings(args, prompts, languages):
    """Every one that is to be run; what is only off, or nothing, has no wanted language."""
    pushes = [(how, strength) for how in args.how.split(",") for strength in args.strength]
    settings = []
    for prompt in prompts:
        settings += [Setting(mode, "-", "-", prompt, "-") for mode in ("none", "off")]
        settings += [Setting(mode, how, strength, prompt, wanted) for mode in ("on", "off+on")
                     for how, strength in pushes for wanted in languages if wanted != prompt]
    return [setting for setting in settings if setting.mode in args.modes]


def steer_options(args, found, setting):
    words = []
    if setting.mode != "none":
        words += ["--neurons", found.path, "--counts", args.counts]
    if setting.mode in ("off", "off+on"):
        words += ["--off", setting.prompt]
    if setting.mode in ("on", "off+on"):
        words += ["--on", setting.wanted, "--how", setting.how, "--strength", str(setting.strength)]
    return words + ["--repeat-penalty", str(args.repeat_penalty)]


def steer(args):
    model, prompts = model_and_files(args)
    lape = program_of(args)
    found = neurons_of(args, lape, list(language_files(args.check)))
    language_of, second, plain = surely(args, lape, model, prompts)
    languages = language_of.languages
    settings = steer_settings(args, list(prompts), languages)
    jobs = [lambda s=s: lape.generate(model, prompts[s.prompt], args.tokens_out,
                                      *steer_options(args, found, s)) for s in settings]
    say(args, "%d runs" % len(jobs))
    outputs = dict(zip(settings, at_once(args, jobs)))
    ids = {s: [row[2] for row in rows] for s, rows in outputs.items()}
    first, other = told_of(lape, model, outputs, language_of, second)
    fluent = surprise(args, lape, model, ids)
    about = about_neurons(found) + ["counts: " + args.counts, "%d tokens, repeat penalty %g, greedy"
                                    % (args.tokens_out, args.repeat_penalty)]
    rows = steer_rows(settings, languages, first, other, fluent, ids)
    summary = steer_summary(rows)
    best = best_push(summary, plain)
    write(args, "steer", about + [
        "success: percent of the outputs that naive Bayes takes for the wanted language; second: "
        "that %s does; agree: that both take for the same" % second.name, second.about(),
        "perplexity: of the outputs, by the model as it is; repetition makes it low, so distinct: "
        "part of an output's tokens that are not repetitions", *ABOUT_LINES],
        [*Setting._fields, "outputs", *MEASURES], rows)
    write(args, "steer-summary", about + [
        "means over the ordered pairs, the perplexity's geometric",
        "perplexity of held-out text: %.6g" % plain,
        "best: %s %s" % (best["how"], tables.show(best["strength"])),
        "best is the push of most success with off+on, of those whose outputs surprise the plain "
        "model no more than held-out text; of all where none is so"],
        list(summary[0]), [list(row.values()) for row in summary])
    write(args, "steer-generations", about + ["language: what naive Bayes takes the output for",
                                              second.about()],
          [*Setting._fields, "language", "second", "text", "output", "tokens"],
          [[*s, first.texts[s][i], other.texts[s][i], text, output, " ".join(map(str, one))]
           for s in settings for i, (text, output, one) in enumerate(outputs[s])])


def steer_rows(settings, languages, first, other, fluent, ids):
    """A row for every ordered pair; where no language was wanted, one for each that might be."""
    rows = []
    for s in settings:
        taken = first.texts[s]
        for wanted in languages if s.wanted == "-" else [s.wanted]:
            if wanted != s.prompt:
                rows.append([s.mode, s.how, s.strength, s.prompt, wanted, len(taken),
                             100 * taken.count(wanted) / len(taken),
                             fluent.get(s, math.nan), distinct(ids[s]),
                             *beside(taken, other.texts[s], wanted),
                             *line_rates(first, other, s, wanted)])
    return rows


def beside(taken, other, wanted):
    """Percent of the outputs that the other judge takes for the wanted language, and on which both
    agree; "-" where there is no other."""
    if set(other) <= {"-"}:
        return "-", "-"
    same = sum(one == two for one, two in zip(taken, other))
    return 100 * other.count(wanted) / len(other), 100 * same / len(other)


def steer_summary(rows):
    """Of every mode and push, over the pairs."""
    groups = {}
    for row in rows:
        groups.setdefault(tuple(row[:3]), []).append(row)
    return [{"mode": mode, "how": how, "strength": strength,
             **{name: over_pairs(name, [row[i] for row in group])
                for i, name in enumerate(MEASURES, 6)}}
            for (mode, how, strength), group in groups.items()]


def over_pairs(name, cells):
    """Their mean; of line-level pass rates, over the pairs that have one."""
    if "-" in cells:
        return "-"
    if name == "perplexity":
        return geometric(cells)
    return mean(cell for cell in cells if not (name in RATES and math.isnan(cell)))


def best_push(summary, plain):
    both = [row for row in summary if row["mode"] == "off+on"] or summary
    fluent = [row for row in both if row["perplexity"] <= plain]
    return max(fluent or both, key=lambda row: row["success"])


# ---- fallback: languages off, one after the other ----------------------------------------------

Fall = collections.namedtuple("Fall", "off outputs")


def next_off(off, prompt, taken, languages):
    """What is switched off after `off`: first the prompt's language; then that of most outputs, of
    those that are on, and the first of equals. None when all are off."""
    left = [name for name in languages if name not in off]
    if not off:
        return prompt
    return max(left, key=taken.count, default=None)


def fall(args, lape, model, found, language_of, prompt, path):
    """The steps of one prompt language, from no language off to all."""
    off, steps = [], []
    while True:
        words = ["--repeat-penalty", str(args.repeat_penalty)]
        if off:
            merged = lape.temporary("off.tsv")
            places = set().union(*(found.of(language) for language in off))
            tables.save_neurons(merged, found, {"off": places})
            words += ["--neurons", merged, "--off", "off"]
        outputs = lape.generate(model, path, args.tokens_out, *words)
        taken = [language_of.classify(ids) for _, _, ids in outputs]
        steps.append(Fall(off[:], outputs))
        following = next_off(off, prompt, taken, language_of.languages)
        if following is None:
            return steps
        off.append(following)


def fallback(args):
    model, prompts = model_and_files(args)
    lape = program_of(args)
    found = neurons_of(args, lape, list(language_files(args.check)))
    language_of, second, _ = surely(args, lape, model, prompts)
    languages = language_of.languages
    jobs = [lambda p=p: fall(args, lape, model, found, language_of, p, prompts[p])
            for p in prompts]
    chains = dict(zip(prompts, at_once(args, jobs)))
    steps = {(p, i): step for p, chain in chains.items() for i, step in enumerate(chain)}
    ids = {key: [one for _, _, one in step.outputs] for key, step in steps.items()}
    fluent = surprise(args, lape, model, ids)
    first, other = told_of(lape, model, {key: step.outputs for key, step in steps.items()},
                           language_of, second)
    about = about_neurons(found) + [
        "%d tokens, repeat penalty %g, greedy" % (args.tokens_out, args.repeat_penalty),
        "off: languages whose neurons are 0, in the order of their switching off: the prompt's, "
        "then ever that of most outputs, of those that are on"]
    write(args, "fallback", about + [
        "most: the language of most outputs; then, how many are of which", *ABOUT_LINES,
        "the wanted language is the prompt's; the other judge: " + (
            second.name if second.ask else second.lacks)],
        ["prompt", "step", "off", "most", *languages, "perplexity", "distinct", *RATES, "judged"],
        [[*key, ",".join(step.off) or "-", max(languages, key=first.texts[key].count),
          *map(first.texts[key].count, languages), fluent.get(key, math.nan), distinct(ids[key]),
          *line_rates(first, other, key, key[0])] for key, step in steps.items()])
    write(args, "fallback-generations", about + [second.about()],
          ["prompt", "step", "off", "language", "second", "text", "output", "tokens"],
          [[*key, ",".join(step.off) or "-", first.texts[key][i], other.texts[key][i], text,
            output, " ".join(map(str, one))]
           for key, step in steps.items() for i, (text, output, one) in enumerate(step.outputs)])
