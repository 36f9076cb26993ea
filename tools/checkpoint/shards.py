"""All tensors of a checkpoint, in one file or several, of safetensors or of PyTorch."""

import math
import os
import struct

from formats import torch_zip
from formats.json_file import read_json
from formats.plain_file import is_there
from formats.safetensors import read_safetensors
from formats.stored import Stored
from guard import Refused


def read_bin(path):
    """name -> Stored for every tensor of a PyTorch checkpoint."""
    found, names = torch_zip.load(path, lazy=True), {"f": "f32", "e": "f16", "H": "bf16"}
    if not isinstance(found, dict) or not all(
            isinstance(name, str) and isinstance(tensor, torch_zip.Tensor)
            for name, tensor in found.items()):
        raise Refused(path, "does not hold a dict of tensors")
    sizes = [math.prod(tensor.shape) * struct.calcsize("=" + tensor.storage.code)
             for tensor in found.values()]
    if sum(sizes) > 2 * os.path.getsize(path):       # tied embeddings are there twice
        raise Refused(path, "its tensors are %d bytes, where the whole file has %d: no more than "
                      "two of the same numbers are expected" % (sum(sizes), os.path.getsize(path)))
    for name, tensor in found.items():
        code, shape, strides = tensor.storage.code, tensor.shape, tensor.strides
        lengths = [length for length in shape if length != 1]
        steps = [step for length, step in zip(shape, strides) if length != 1]
        straight = [math.prod(lengths[i + 1:]) for i in range(len(lengths))]
        columns = len(shape) == 2 == len(lengths) and steps == [1, shape[0]]
        if not columns and math.prod(shape) and steps != straight:
            raise Refused(path, "tensor %s is a view that is neither contiguous nor transposed"
                          % name)
        found[name] = Stored(path, name, names.get(code, code), shape, tensor.storage.start
                             + tensor.offset * struct.calcsize("=" + code), columns)
    return found


def find_weights(directory):
    """name -> Stored over the single file of weights, or over the shards that an index names."""
    for name, read in ("model.safetensors", read_safetensors), ("pytorch_model.bin", read_bin):
        single = os.path.join(directory, name)
        if is_there(single):
            return read(single)
        index = single + ".index.json"
        if is_there(index):
            return read_shards(directory, index, read)
    raise Refused(directory, "has neither model.safetensors nor pytorch_model.bin, nor an index of "
                  "shards: only safetensors and PyTorch checkpoints are read")


def read_shards(directory, index, read):
    """name -> Stored over the shards that the index names."""
    place = read_json(index).get("weight_map")
    shards = place.values() if isinstance(place, dict) else [None]
    if not all(isinstance(shard, str) and shard and shard == os.path.basename(shard)
               and shard.isprintable() for shard in shards):
        raise Refused(index, "weight_map does not name a file beside it for every tensor")
    found = {}
    for shard in sorted(set(shards)):
        for name, stored in read(os.path.join(directory, shard)).items():
            if name in found:
                raise Refused(stored.path, "tensor %s is in %s too" % (name, found[name].path))
            if place.get(name) != shard:
                raise Refused(stored.path, "holds tensor %s, which %s has %s" % (
                    name, index, "in " + place[name] if name in place else "nowhere"))
            found[name] = stored
    for name in place:
        if name not in found:
            raise Refused(index, "tensor %s is not in %s" % (name, place[name]))
    return found
