"""Lists of neurons: as the paper's authors publish them (.neuron.pth), and as lape's own table,
from each to the other, for tools/convert.py neurons.
"""

import collections
import os
import re

from formats import torch_zip
from formats.plain_file import open_plain, read_small
from formats.torch_zip import is_integers
from guard import Refused, complain, is_label, new_file

# Neurons a layer of the models whose lists the paper's authors publish under these names.
RELEASED = {"BLOOM-7B": 16384, "LLaMA-2-7B": 11008, "LLaMA-2-13B": 13824, "LLaMA-2-70B": 28672,
            "Mistral-7B": 14336, "OPT-6.7B": 16384, "Phi-2-2.7B": 10240}


TENSORS = 1 << 18            # a list for each language and layer; lape reads 4096 layers


def read_lists(path):
    """layer -> index -> languages, by their place, how many they are, and how many layers."""
    lists = torch_zip.load(path)
    if not isinstance(lists, list) or not lists or not all(
            isinstance(layers, list) and len(layers) == len(lists[0]) > 0 for layers in lists):
        raise Refused(path, "is not a list by language of lists by layer, all of one length")
    found, left = [collections.defaultdict(list) for _ in lists[0]], os.path.getsize(path)
    for language, layers in enumerate(lists):
        for layer, tensor in enumerate(layers):
            if not is_integers(tensor) or len(tensor.shape) != 1:
                raise Refused(path, "language %d, layer %d: no tensor of indices"
                              % (language, layer))
            left -= tensor.shape[0]
            if left < 0:
                raise Refused(path, "has more indices than it has bytes: each list should have "
                              "numbers of its own")
            for index in torch_zip.numbers_of(tensor):
                if index < 0 or found[layer][index][-1:] == [language]:
                    raise Refused(path, "language %d, layer %d: index %d is below 0, or twice there"
                                  % (language, layer, index))
                found[layer][index].append(language)
    return found, len(lists), len(lists[0])


def lists_to_table(args, path):
    """The lists of the paper's authors become a table that lape reads."""
    found, count, layers = read_lists(path)
    name = os.path.basename(path).split(".neuron")[0]
    neurons = args.neurons or RELEASED.get(name)
    if len(args.langs or ()) != count:
        raise Refused(path, "has lists of %d languages: --langs A,B,... should name as many"
                      % count)
    if neurons is None:
        raise Refused(path, "does not say how many neurons a layer has: give --neurons N")
    lines = ["# language-specific neurons", "# model: %s" % (args.name or "unknown"),
             "# layers: %d" % layers, "# neurons: %d" % neurons,
             "# languages: " + " ".join(args.langs), "layer\tneuron\tlape\tlanguages"]
    for layer, members in enumerate(found):
        for index in sorted(members):
            if index >= neurons:
                raise Refused(path, "layer %d has a neuron %d, of %d" % (layer, index, neurons))
            lines.append("%d\t%d\tnan\t%s" % (layer, index, ",".join(
                args.langs[language] for language in members[index])))
    with new_file(args.output, [path]) as out:
        out.write(("\n".join(lines) + "\n").encode("utf-8", "replace"))


def table_head(lines):
    """Of a table: the line that names its columns, layers, neurons a layer, and languages; or a
    ValueError."""
    start = next(i for i, line in enumerate(lines + ["end"]) if line and line[0] != "#")
    found = re.findall("^# (layers|neurons|languages): (.*)$", "\n".join(lines[:start]), re.M)
    said = dict(found)
    languages = said.get("languages", "").split(" ")
    if lines[start:] == [] or lines[start].split("\t")[:4] != [
            "layer", "neuron", "lape", "languages"] or len(found) != 3 or not all(
                re.fullmatch("[1-9][0-9]{0,7}", said.get(key, "")) for key in ("layers", "neurons")
            ) or not all(map(is_label, languages)) or len(set(languages)) < len(languages):
        raise ValueError("no head")
    return start, int(said["layers"]), int(said["neurons"]), languages


def read_table(path):
    """(layers, neurons a layer, languages) and (layer, index, languages) of every line."""
    try:
        lines = read_small(path).decode("utf-8").split("\n")
        start, layers, neurons, languages = table_head(lines)
    except ValueError:
        raise Refused(path, "is neither lists as torch.save writes them, nor a table as lape find "
                      "does")
    rows, last, known = [], (-1, -1), set(languages)
    for number, line in enumerate(lines[start + 1:], start + 2):
        part = re.match(r"([0-9]{1,8})\t([0-9]{1,8})\t[^\t]*\t([^\t]+)(\t|$)", line)
        if not line or line[0] == "#":
            continue
        place = (int(part[1]), int(part[2])) if part else last
        members = [] if not part or part[3] == "-" else part[3].split(",")
        if place <= last or place[0] >= layers or place[1] >= neurons or not (
                known.issuperset(members)) or len(set(members)) < len(members):
            raise Refused(path, "line %d is no layer, neuron, lape and languages of the header, in "
                          "ascending order" % number)
        rows.append(place + (members,))
        last = place
    return layers, languages, rows


def table_to_lists(args, path):
    """A table of neurons becomes lists as the paper's authors write them."""
    layers, languages, rows = read_table(path)
    order = args.langs or languages
    for language in order:
        if language not in languages:
            raise Refused(path, "has no language %s: it has %s" % (language, " ".join(languages)))
    none = sum(not members for _, _, members in rows)
    if none and not args.quiet:
        complain("convert.py", "%s: %d neurons of no language are left out" % (path, none))
    if len(order) * layers > TENSORS:
        raise Refused(path, "layers: %d of %d languages would be too many lists: %d are expected "
                      "at most" % (layers, len(order), TENSORS))
    lists = {language: [[] for _ in range(layers)] for language in order}
    for layer, index, members in rows:
        for language in members:
            if language in lists:
                lists[language][layer].append(index)
    with new_file(args.output, [path]) as out:
        torch_zip.save(out, [[torch_zip.tensor_of("q", (len(indices),), indices)
                              for indices in lists[language]] for language in order])


def convert_neurons(args):
    """The command neurons: from lists to a table, or back."""
    with open_plain(args.file) as file:
        archive = file.read(2) == b"PK"
    (lists_to_table if archive else table_to_lists)(args, args.file)
