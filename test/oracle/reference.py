"""What a transformers model does, seen and changed by hooks; and the files that lape leaves."""

import collections
import contextlib

import gguf
import numpy as np
import torch

from checking import demand

FIXED_POINT = 2 ** 20      # of the sums in a counts file


def metadata(reader):
    return {key: field.contents() for key, field in reader.fields.items()}


@contextlib.contextmanager
def hooked(model, see):
    """see(layer, gates, activations) at every layer; what it returns, if anything, replaces the
    activations."""
    def hook(layer):
        return lambda module, inputs, output: see(layer, inputs[0], output)
    handles = [block.mlp.act_fn.register_forward_hook(hook(layer))
               for layer, block in enumerate(model.model.layers)]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


@contextlib.contextmanager
def edited(model, edits):
    """edits: {(layer, neuron): (scale, shift)}; activations become scale a + shift."""
    of_layer = collections.defaultdict(list)
    for (layer, neuron), (scale, shift) in edits.items():
        of_layer[layer].append((neuron, scale, shift))

    def see(layer, gates, activations):
        if layer in of_layer:
            index, scale, shift = zip(*of_layer[layer])
            activations = activations.clone()
            activations[..., list(index)] = (
                activations[..., list(index)] * torch.tensor(scale) + torch.tensor(shift))
        return activations
    with hooked(model, see):
        yield


def push(model, ids):
    """Logits [T, V], gates and activations [L, T, F] of one sequence."""
    gates, activations = [], []

    def see(_, gate, activation):
        gates.append(gate[0])
        activations.append(activation[0])
    with torch.no_grad(), hooked(model, see):
        logits = model(torch.tensor([ids])).logits[0]
    return logits, torch.stack(gates), torch.stack(activations)


def in_batches(pieces, tokens=2048):
    return pieces.split(max(1, tokens // pieces.shape[1]))


def mean_loss(model, pieces, at_once=2048):
    """Nats: the mean over all predicted tokens; every piece has as many."""
    total = 0.
    with torch.no_grad():
        for batch in in_batches(pieces, at_once):
            logits = model(batch).logits[:, :-1]
            losses = torch.nn.functional.cross_entropy(
                logits.flatten(0, 1), batch[:, 1:].flatten(), reduction="none")
            total += losses.double().sum().item()
    return total / (pieces.shape[0] * (pieces.shape[1] - 1))


def tally(model, pieces, statistics):
    """{name: [L, F]}: what statistics(gates, activations) gives of a layer's tokens, summed over
    pieces [N, T] of token ids."""
    found = collections.defaultdict(
        lambda: torch.zeros(model.config.num_hidden_layers, model.config.intermediate_size,
                            dtype=torch.int64))

    def see(layer, gates, activations):
        for name, value in statistics(gates.flatten(0, 1), activations.flatten(0, 1)).items():
            found[name][layer] += value
    with torch.no_grad(), hooked(model, see):
        for batch in in_batches(pieces):
            model.model(batch)
    return dict(found)


Counts = collections.namedtuple("Counts", "languages tokens pieces of")


def read_counts(path):
    """A counts file: of[language][statistic] is a tensor."""
    reader = gguf.GGUFReader(path)
    meta = metadata(reader)
    demand(meta["general.architecture"] == "lape-counts", "%s holds no counts", path)
    of = collections.defaultdict(dict)
    for tensor in reader.tensors:
        language, name = tensor.name.split(".")
        of[language][name] = torch.from_numpy(np.array(tensor.data))
    labels = meta["lape-counts.languages"]
    return Counts(labels, dict(zip(labels, meta["lape-counts.tokens"])),
                  dict(zip(labels, meta["lape-counts.pieces"])), of)


def perplexities(text):
    """What `lape ppl` printed: {off: {language: perplexity}}."""
    head, *rows = [line.split("\t") for line in text.decode().splitlines()]
    return {row[0]: dict(zip(head[1:], map(float, row[1:]))) for row in rows}


def follow(model, prompt, made, room, tie, process=None):
    """Demands every generated id to be the likeliest of what transformers gives after those
    before it, up to `tie`; returns how many were only nearly so. `room` is how many may be
    generated: before that nothing but the end of text ends them."""
    ids, ties = prompt + made, 0
    with torch.no_grad():
        logits = model(torch.tensor([ids])).logits[0]
    for step in range(min(len(made) + 1, room)):
        at = len(prompt) + step
        scores = logits[at - 1]
        if process:
            scores = process(torch.tensor([ids[:at]]), scores[None].clone())[0]
        token = made[step] if step < len(made) else model.config.eos_token_id
        gap = (scores.max() - scores[token]).item()
        demand(gap <= tie, "prompt %s, step %d: token %d is %.3g below the likeliest, %d",
               prompt[1:4], step, token, gap, scores.argmax())
        ties += int(scores.argmax()) != token
    return ties


def steering_edits(counts, neurons, how, strength, off, on):
    """{(layer, neuron): (scale, shift)}: a neuron of `off` becomes 0 before `on` acts on it."""
    edits, mean = {}, {label: counts.of[label]["sum"].double() / FIXED_POINT / counts.tokens[label]
                       for label in counts.languages}
    for place, labels in neurons.items():
        if not labels & {off, on}:
            continue
        scale, shift = 0. if off in labels else 1., 0.
        if on in labels:
            target = mean[on][place].item()
            others = [mean[label][place].item() for label in counts.languages if label != on]
            if how == "replace":
                scale, shift = 0., strength * target
            elif how == "scale":
                scale *= strength
            else:
                away = sum(others) / len(others) if how == "diffmean" else 0.
                shift = strength * (target - away)
        edits[place] = scale, shift
    return edits
