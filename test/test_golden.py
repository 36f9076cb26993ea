#!/usr/bin/env python3
"""The whole method on the demo model, against what transformers and PyTorch found (golden.tsv);
and, where LAPE_SHARED (default ../shared) holds them, the published counts of LLaMA-2-7B against
the whole selection that the paper's released code makes of them, and those of Mistral-7B against
the selection that NJUNLP/Language-Neurons-Alignment publishes for them.

    LAPE=./lape python3 test/test_golden.py

Standard library only. The last line on stdout is `N passed, N failed`.
"""

import collections
import math
import os
import struct
import subprocess
import sys
import tempfile

from paths import DEMO, LAPE, ROOT, SHARED

OFFICIAL = os.path.join(SHARED, "official")
LAYERS, NEURONS, VOCAB = 6, 1024, 4096
LOSS_TOLERANCE = 1e-4    # nats; two float32 programs differ by some 1e-6

passed, failed = 0, 0


def check(good, text):
    global passed, failed
    if good:
        passed += 1
    else:
        failed += 1
        print("FAIL: " + text)


def golden():
    """kind -> {key: values}"""
    rows = collections.defaultdict(dict)
    with open(os.path.join(ROOT, "test", "golden.tsv"), encoding="utf-8") as file:
        for line in file:
            if not line.startswith("#"):
                kind, key, *values = line.rstrip("\n").split("\t")
                rows[kind][key] = values
    return rows


def lape(*arguments):
    return subprocess.run([LAPE, *arguments, "-q"], check=True, stdout=subprocess.PIPE).stdout


def corpora(languages, part):
    return ["%s=%s" % (language, os.path.join(ROOT, "demo", "text", "%s.%s.txt" % (language, part)))
            for language in languages]


def table(path):
    with open(path, encoding="utf-8") as file:
        lines = [line.rstrip("\n").split("\t") for line in file if not line.startswith("#")]
    return lines[0], lines[1:]


def tensors_at_end(path, languages):
    """name -> numbers of a counts file: the tensors lie in order, each padded to 32 bytes, at the
    end of the file, five of LAYERS x NEURONS and a histogram for each language."""
    with open(path, "rb") as file:
        data = file.read()
    names = ("positive", "near_above", "near_below", "sum", "positive_sum", "histogram")
    sizes = [LAYERS * NEURONS] * 5 + [VOCAB]
    at, found = len(data) - len(languages) * 8 * sum(sizes), {}
    for language in languages:
        for name, size in zip(names, sizes):
            found[language, name] = struct.unpack_from("<%dq" % size, data, at)
            at += 8 * size
    return found


def test_counts(want, folder, languages):
    counts = os.path.join(folder, "counts")
    lape("count", DEMO, *corpora(languages, "count"), "--seq", "128", "-o", counts)
    found = tensors_at_end(counts, languages)
    for language in languages:
        tokens = sum(found[language, "histogram"])
        check(tokens == int(want["tokens"][language][0]), "%s: %d tokens" % (language, tokens))
        for layer, value in enumerate(want["positive"][language]):
            sums = [sum(found[language, name][layer * NEURONS:(layer + 1) * NEURONS])
                    for name in ("positive", "near_above", "near_below")]
            check(sums[0] - sums[1] <= int(value) <= sums[0] + sums[2] and abs(
                sums[0] - int(value)) < 20, "%s, layer %d: %d activations above zero, not %s"
                % (language, layer, sums[0], value))
    return counts


def test_ablation(want, folder, languages, counts):
    neurons, matrix = os.path.join(folder, "neurons"), os.path.join(folder, "matrix")
    lape("find", counts, "--top", "0.05", "-o", neurons)
    members = collections.Counter(language for row in table(neurons)[1]
                                  for language in row[3].split(","))
    for language in languages:
        check(members[language] == int(want["neurons"][language][0]),
              "%s has %d neurons" % (language, members[language]))
    lape("ppl", DEMO, *corpora(languages, "eval"), "--seq", "128", "--neurons", neurons,
         "-o", matrix)
    header, rows = table(matrix)
    check(header == ["off"] + languages and [row[0] for row in rows] == ["none"] + languages,
          "rows and columns of the matrix are %s, %s" % (header, [row[0] for row in rows]))
    for off, *values in rows:
        expected = ([want["nll"][language][0] for language in languages] if off == "none"
                    else want["ablated"][off])
        worst = max(abs(math.log(float(a)) - float(b)) for a, b in zip(values, expected))
        check(worst < LOSS_TOLERANCE, "off %s: losses differ by up to %g nats" % (off, worst))


def test_generation(want, folder):
    prompts, out = os.path.join(folder, "prompts"), os.path.join(folder, "out")
    with open(prompts, "w", encoding="utf-8") as file:
        file.write("\n".join(want["greedy"]) + "\n")
    lape("generate", DEMO, "-f", prompts, "-n", "32", "-o", out)
    for (prompt, expected), row in zip(want["greedy"].items(), table(out)[1]):
        check(row[0] == prompt and row[2].split(" ") == expected,
              "%s continues with %s, not %s" % (prompt, row[2], " ".join(expected)))


def test_official(folder):
    """All 352,256 neurons; an extract of them is in official.tsv."""
    counts, neurons = os.path.join(folder, "official"), os.path.join(folder, "selected")
    files = ["%s=%s/llama2-7b.activation.%s.pt" % (language, OFFICIAL, language)
             for language in ("en", "de", "tr")]
    subprocess.run([sys.executable, os.path.join(ROOT, "tools", "convert.py"), "counts", *files,
                    "-o", counts], check=True)
    lape("find", counts, "-o", neurons)
    found = {(layer, neuron, language) for layer, neuron, _, languages, *_ in table(neurons)[1]
             for language in languages.split(",")}
    expected = {tuple(row) for row in table(os.path.join(
        OFFICIAL, "llama2-7b.en-de-tr.expected.tsv"))[1]}
    check(len(expected) == 3653 and found == expected, "the selection of LLaMA-2-7B: %d too many, "
          "%d missing of %d" % (len(found - expected), len(expected - found), len(expected)))


def test_published(folder):
    """All 458,752 neurons of Mistral-7B, ten languages, score with a penalty."""
    languages = "en ru es fr de zh ja bn th sw".split()
    counts, neurons = os.path.join(folder, "mistral"), os.path.join(folder, "published")
    files = ["%s=%s/mistral-7b.answers.%s.pt" % (language, OFFICIAL, language)
             for language in languages]
    subprocess.run([sys.executable, os.path.join(ROOT, "tools", "convert.py"), "counts", *files,
                    "-o", counts], check=True)
    lape("find", counts, "--langs", ",".join(languages), "--penalty", "0.109375", "--filter", "0",
         "-o", neurons)
    found = {(layer, neuron, language) for layer, neuron, _, members, *_ in table(neurons)[1]
             for language in members.split(",") if language != "-"}
    expected = {tuple(row) for row in table(os.path.join(
        OFFICIAL, "mistral-7b.answers.published.tsv"))[1]}
    check(len(expected) == 6307 and found == expected, "the selection of Mistral-7B: %d too many, "
          "%d missing of %d" % (len(found - expected), len(expected - found), len(expected)))


def main():
    want = golden()
    languages = want["languages"]["-"]
    with tempfile.TemporaryDirectory() as folder:
        counts = test_counts(want, folder, languages)
        test_ablation(want, folder, languages, counts)
        test_generation(want, folder)
        for test, model, needed in (
                (test_official, "LLaMA-2-7B", "llama2-7b.en-de-tr.expected.tsv"),
                (test_published, "Mistral-7B", "mistral-7b.answers.published.tsv")):
            if os.path.exists(os.path.join(OFFICIAL, needed)):
                test(folder)
            else:
                print("skipped: the selection of %s: no %s in %s" % (model, needed, OFFICIAL))
    print("%d passed, %d failed" % (passed, failed))
    return failed != 0


if __name__ == "__main__":
    sys.exit(main())
