"""Activation counts: as the paper's released code saves them (.pt), as arrays (.npy), and as lape's
own counts file, from each to the other, for tools/convert.py counts.
"""

import contextlib
import math
import struct

from formats import torch_zip
from formats.gguf import ALIGNMENT, STRING, TYPES, U32, U64, Gguf, Output, write_new
from formats.npy import load_npy
from formats.torch_zip import is_integers
from guard import Refused, is_count, is_label, new_file


def load_activations(path):
    """The token total, (layers, neurons) and the counts of a file of the released code."""
    saved = torch_zip.load(path)
    saved = saved if isinstance(saved, dict) else {}
    total, counts = saved.get("n", saved.get("total_tokens")), saved.get("over_zero")
    if is_integers(total) and total.shape == ():
        total, = torch_zip.numbers_of(total)
    if not is_count(total) or total == 0:
        raise Refused(path, "has no token total of 1 or more under n or total_tokens")
    if not is_integers(counts) or len(counts.shape) != 2 or not all(counts.shape):
        raise Refused(path, "has no tensor of integers, layers by neurons, under over_zero")
    return total, counts.shape, torch_zip.numbers_of(counts)


def check_counts(path, language, numbers, total, shape):
    """That every count is one of so many tokens."""
    if min(numbers) < 0 or max(numbers) > total:
        place = next(i for i, count in enumerate(numbers) if not 0 <= count <= total)
        raise Refused(path, "%s, layer %d, neuron %d: the count is %d, and should be from 0 to the "
                      "%d tokens" % ((language,) + divmod(place, shape[1])
                                     + (numbers[place], total)))


def read_counts(language, path, tokens):
    """(token total, (layers, neurons), counts as bytes of i64) of one language."""
    if path.endswith(".npy"):
        total, (shape, numbers) = tokens[language], load_npy(path)
    else:
        total, shape, numbers = load_activations(path)
    check_counts(path, language, numbers, total, shape)
    return total, shape, struct.pack("<%dq" % len(numbers), *numbers)


def convert_counts(args):
    """The command counts: activation files of the paper's released code become a counts file."""
    if args.files[0][0] is None:
        return export_counts(args)
    files = dict(sorted(args.files))                 # by code point: for labels, by bytes
    totals, tensors = [], []
    for language, path in files.items():
        total, shape, counts = read_counts(language, path, dict(args.tokens))
        totals.append(total)
        tensors.append(Output(language + ".positive", shape[::-1], "i64", [counts]))
        if tensors[-1].dims != tensors[0].dims:
            raise Refused(path, "%d layers of %d neurons, where %s has %d of %d: all files should "
                          "be of one model" % (shape + (min(files),) + tensors[0].dims[::-1]))
    metadata = [
        ("general.architecture", STRING, "lape-counts"),
        ("general.name", STRING, args.name or "unknown"),
        ("lape-counts.layers", U32, shape[0]),
        ("lape-counts.neurons", U32, shape[1]),
        ("lape-counts.languages", STRING, list(files)),
        ("lape-counts.tokens", U64, totals),
    ]
    write_new(args.output, metadata, tensors, files.values(), args.quiet)


class CountsFile(Gguf):
    """Counts as lape and this tool write them: of no other version, nothing unlike ALIGNMENT."""

    LACK = "is damaged, or not GGUF of version 3"

    def read(self):
        super().read()
        version, = struct.unpack_from("<I", self.raw, 4)
        if version != 3 or self.values.get("general.alignment", ALIGNMENT) != ALIGNMENT:
            raise ValueError


def read_counts_file(path):
    """(layers, neurons) and language -> (token total, counts) of what `lape count` wrote."""
    head = CountsFile(path)
    layers, neurons, languages, totals = (head.values.get("lape-counts." + key) for key in (
        "layers", "neurons", "languages", "tokens"))
    if head.values.get("general.architecture") != "lape-counts" or not (
            is_count(layers) and is_count(neurons) and layers * neurons
            and isinstance(languages, list) and isinstance(totals, list)
            and len(languages) == len(totals) and all(map(is_count, totals))
            and all(isinstance(name, str) and is_label(name) for name in languages)
            and len(set(languages)) == len(languages)):
        raise Refused(path, "is not a counts file, or says no layers, neurons, languages, tokens")
    end = 0
    for name, (dims, kind, offset) in head.tensors.items():
        if kind != TYPES["i64"].ggml or offset != end + -end % ALIGNMENT:
            raise Refused(path, "tensor %s is no integers that begin where those before it end"
                          % name)
        end = offset + 8 * math.prod(dims)
    if not 0 <= len(head.raw) - head.start - end < ALIGNMENT:
        raise Refused(path, "has %d bytes of tensors, which should be %d"
                      % (len(head.raw) - head.start, end))
    found, count = {}, layers * neurons
    for language, total in zip(languages, totals):
        dims, _, offset = head.tensors.get(language + ".positive", (None, None, 0))
        if dims != (neurons, layers):
            raise Refused(path, "has no tensor %s.positive of %d x %d integers"
                          % (language, layers, neurons))
        found[language] = total, struct.unpack_from("<%dq" % count, head.raw,
                                                      head.start + offset)
        check_counts(path, language, found[language][1], total, (layers, neurons))
    return (layers, neurons), found


def export_counts(args):
    """A counts file becomes activation files as the paper's released code writes them."""
    path = args.files[0][1]
    shape, found = read_counts_file(path)
    with contextlib.ExitStack() as files:
        for language, (total, numbers) in found.items():
            code = "i" if max(numbers) < 1 << 31 else "q"
            file = files.enter_context(new_file(args.output.replace("LANG", language), [path]))
            torch_zip.save(file, {"n": total,
                                  "over_zero": torch_zip.tensor_of(code, shape, numbers)})
