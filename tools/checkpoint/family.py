"""What a family of models is told by: a row for each tensor, and what its settings mean."""

import collections

# A tensor of a family: the names there and here ({} is the layer), its shape in names of sizes,
# how it is rearranged, if it is, and the setting that has to be true where it is there.
Row = collections.namedtuple("Row", "theirs ours shape how when", defaults=(None, None))
PAIRED = "rows from rotated halves to rotated pairs"
TURNED = "rows become columns"
ONE_MORE = "1 is added"
REGROUPED = "rows of q, k and v, head by head, to all of q, all of k, all of v"
POSITIONS = "without the first two rows"

# A family: general.architecture; what config.json's model_type calls its class; the prefix of its
# tensors' names; other names of settings; what its class in transformers assumes where a key is
# absent; keys of which one value (of a tuple: one of them) is known; the key of its norms' epsilon
# and its name in GGUF; the rotary scalings known; every how-manieth layer looks beyond the sliding
# window; a function that makes metadata of its own from Config; the tensors; the names of tensors
# that say nothing new; and the key of the settings where a model of text is the language_model of a
# larger one.
Family = collections.namedtuple("Family", "gguf kind prefix aliases defaults only epsilon ropes "
                                "pattern own tensors ignored part", defaults=(None,))
