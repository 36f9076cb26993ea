"""Token ids: as the paper's released code saves them, and as lape reads them (.npy), for
tools/convert.py ids.
"""

import math

from formats import torch_zip
from formats.npy import npy_head
from formats.torch_zip import NAMES, Tensor, is_integers
from guard import Refused, new_file

KINDS = {"b": "|i1", "B": "|u1", "h": "<i2", "i": "<i4", "q": "<i8"}      # as numpy calls them


def load_ids(path):
    """The one tensor of a token file, its numbers left in the file."""
    found = torch_zip.load(path, lazy=True)
    if not is_integers(found):
        what = ("a tensor from a " + NAMES[found.storage.code] if isinstance(found, Tensor)
                else "a value of type " + type(found).__name__.replace("Bare", "OrderedDict"))
        raise Refused(path, "holds %s: a tensor of integers, and nothing else, is expected" % what)
    if not math.prod(found.shape):
        raise Refused(path, "holds no ids: its tensor is empty")
    return found


def convert_ids(args):
    """The command ids: a token file becomes an array of the same integers, in one dimension.

    Which of them a vocabulary has is for lape to say, which has the model at hand.
    """
    ids = load_ids(args.file)
    with new_file(args.output, [args.file]) as out:
        out.write(npy_head(KINDS[ids.storage.code], math.prod(ids.shape)))
        for piece in torch_zip.bytes_of(args.file, ids):
            out.write(piece)
