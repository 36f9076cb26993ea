"""config.json: the sizes of a model, and what GGUF says of it."""

import math
import struct

from checkpoint.settings import (FLAG, INTEGER, MOST, NUMBER, OBJECT, TEXT, TEXTS, Config)
from formats.gguf import F32, STRING, U32, Output
from formats.json_file import read_json
from guard import Refused

# Keys that transformers asks for in every family, and their known values: weights that are stored
# in other ways, or in another file; layers that differ, or share what they keep; attention to what
# comes later; settings of a part that is taken for the model of text.
COMMON = {"quantization_config": None, "compression_config": None, "transformers_weights": None,
          "per_layer_config": None, "kv_sharing_modes": None, "is_causal": True, "decoder": None,
          "generator": None}
SIZES = ("hidden_size", "num_hidden_layers", "num_attention_heads")
# What a model that has a part for text says for that too.
FOR_PARTS = ("architectures", "bos_token_id", "eos_token_id")
ROPE_KEYS = {"rope_type", "type", "rope_theta", "factor", "low_freq_factor", "high_freq_factor",
             "original_max_position_embeddings", "partial_rotary_factor"}


# ---- What is known -------------------------------------------------------------------------------

def rope_sets(path, family, values):
    """The rotary settings of layers that look at everything, and of those with a window."""
    config = Config(path, values)
    scaling, sets = (config.part(key).values for key in ("rope_scaling", "rope_parameters"))
    if family.pattern != 6:
        return scaling or sets, {}
    # Gemma 3's class takes rope_scaling for the first alone, and from rope_parameters two sets.
    if scaling and sets or not set(sets) <= {"full_attention", "sliding_attention"}:
        raise Refused(path, "the rotary settings are neither rope_scaling alone nor "
                      "rope_parameters of full_attention and sliding_attention")
    full, sliding = (Config(path, sets).part(key).values for key in (
        "full_attention", "sliding_attention"))
    return scaling or full, sliding


def check_rope(path, family, values, rope):
    """That one set of rotary settings, or values around it, say nothing that is not known."""
    if any(isinstance(value, dict) for value in rope.values()):
        raise Refused(path, "the rotary settings are not one set for all layers")
    for key, value in rope.items():
        if key not in ROPE_KEYS and value is not None:
            raise Refused(path, "the rotary setting %.60s is %.60r: it is not known" % (key, value))
    part = rope.get("partial_rotary_factor", values.get("partial_rotary_factor"))
    if "partial_rotary_factor" not in family.defaults and part not in (None, 1):
        raise Refused(path, "partial_rotary_factor is %r: only 1 is known" % (part,))
    key = "original_max_position_embeddings"         # the one outside would go first
    if rope.get("rope_type", rope.get("type")) == "llama3" and (
            values.get(key, rope.get(key)) != rope.get(key)):
        raise Refused(path, "%s is %r, and %r in the rotary settings: one number is expected"
                      % (key, values[key], rope.get(key)))


def rope_settings(path, family, values):
    """The rotary settings, which are rope_theta and rope_scaling, or rope_parameters: one dict."""
    rope, local = rope_sets(path, family, values)
    for one in rope, local:
        check_rope(path, family, values, one)
    found = {"rope_type": rope.get("rope_type", rope.get("type", "default")), "rope": rope}
    if found["rope_type"] not in family.ropes:
        raise Refused(path, "rope_type is %r: only %s is known"
                      % (found["rope_type"], " or ".join(map(repr, family.ropes))))
    for key in "rope_theta", "partial_rotary_factor":
        if key in rope:
            found[key] = rope[key]
    kind = local.get("rope_type", local.get("type", "default"))
    if kind != "default":
        raise Refused(path, "rope_type of sliding_attention is %r: only 'default' is known"
                      % (kind,))
    if "rope_theta" in local:
        found["rope_local_base_freq"] = local["rope_theta"]
    return found


def check_known(path, values, only):
    """That keys of which not every value is known have one that is."""
    for key, known in only.items():
        known = known if isinstance(known, tuple) else (known,)
        if not any(values.get(key, known[0]) is one or values.get(key, known[0]) == one
                   for one in known):
            raise Refused(path, "%s is %r: only %s is known"
                          % (key, values[key], " or ".join(map(repr, known))))


def settings_of_part(path, values, part):
    """The settings of a part, which is told nothing of the others around it."""
    inner = Config(path, values).get(part, OBJECT)
    check_known(path, values, dict(COMMON, tie_word_embeddings=True))
    return dict({key: values[key] for key in FOR_PARTS if key in values}, **inner)


def read_config(path, families):
    """The family, of those by the names of their classes, and the Config of a checkpoint."""
    values = read_json(path)
    names = Config(path, values).may("architectures", TEXTS) or []
    if len(names) != 1 or names[0] not in families:
        raise Refused(path, "architectures is %.200r: supported are %s"
                      % (names, ", ".join(sorted(families))))
    family = families[names[0]]
    if Config(path, values).may("model_type", TEXT) not in (None, family.kind):
        raise Refused(path, "model_type is %r: %s is %r" % (values["model_type"], names[0],
                                                            family.kind))
    if family.part:
        values = settings_of_part(path, values, family.part)
    for name, alias in family.aliases.items():
        if values.get(alias) is not None:
            # Of two names of a size one class takes the first, another the second.
            if name in SIZES and values.get(name) not in (None, values[alias]):
                raise Refused(path, "%s is %r and %s %r: both are names of one number"
                              % (name, values[name], alias, values[alias]))
            values[name] = values[alias]
    if family.ropes:
        values.update(rope_settings(path, family, values))
    check_known(path, values, dict(family.only, text_config=None, **COMMON))
    config = Config(path, values, family.defaults)
    return family._replace(tensors=tuple(
        row for row in family.tensors if not row.when or config.get(row.when, FLAG))), config


# ---- What it makes -------------------------------------------------------------------------------

def describe(family, config):
    """The sizes of a model and its metadata."""
    width, heads = config.get("hidden_size", INTEGER), config.get("num_attention_heads", INTEGER)
    kv = config.get("num_key_value_heads", INTEGER, null=heads)
    head_dim = config.may("head_dim", INTEGER) or width // heads
    if family.ropes and head_dim % 2 or heads % kv or not 0 < head_dim <= MOST["head_dim"]:
        raise Refused(config.path, "%d heads of size %d, %d for keys and values: an even size up "
                      "to %d, and a multiple of the heads for keys, are expected"
                      % (heads, head_dim, kv, MOST["head_dim"]))
    alike = ("gpt2", "bloom", "opt")                 # whose keys have as many heads as queries
    if family.gguf in alike and kv != heads or (
            family.gguf in alike + ("stablelm",) and head_dim * heads != width):
        raise Refused(config.path, "%d heads of size %d make no width of %d"
                      % (heads, head_dim, width))
    if family.gguf == "opt" and config.values.get("word_embed_proj_dim", width) != width:
        raise Refused(config.path, "word_embed_proj_dim is %.60r: only hidden_size, %d, is known"
                      % (config.values["word_embed_proj_dim"], width))
    context = config.get("max_position_embeddings", INTEGER)
    sizes = {"vocab": config.get("vocab_size", INTEGER), "width": width, "head_dim": head_dim,
             "q": heads * head_dim, "kv": kv * head_dim, "heads": heads,
             "qkv": (heads + 2 * kv) * head_dim, "context": context, "context+2": context + 2,
             "neurons": config.get("intermediate_size", INTEGER, null=4 * width),
             "layers": config.get("num_hidden_layers", INTEGER)}
    sizes["gate+up"] = 2 * sizes["neurons"]
    check_layers(family, config, sizes["layers"])
    metadata = [
        ("vocab_size", U32, sizes["vocab"]),
        ("context_length", U32, context),
        ("embedding_length", U32, width),
        ("block_count", U32, sizes["layers"]),
        ("feed_forward_length", U32, sizes["neurons"]),
        ("attention.head_count", U32, heads),
        ("attention.head_count_kv", U32, kv),
        ("attention.key_length", U32, head_dim),
        ("attention.value_length", U32, head_dim),
    ] + rope_metadata(family, config, head_dim) + [
        ("attention." + family.epsilon[1], F32, config.get(family.epsilon[0], NUMBER)),
    ] + family.own(config)
    return sizes, [("%s.%s" % (family.gguf, key), kind, value) for key, kind, value in metadata]


def check_layers(family, config, layers):
    """That layer_types, where it is, says what the family's pattern is."""
    types = config.values.get("layer_types")
    if types is not None and (not isinstance(types, list) or len(types) != layers or any(
            kind != ("sliding_attention" if (i + 1) % family.pattern else "full_attention")
            for i, kind in enumerate(types))):
        raise Refused(config.path, "layer_types is %.60r...: expected is full_attention for every "
                      "layer of a number divisible by %d, and sliding_attention for all others"
                      % (types, family.pattern))


def rope_metadata(family, config, head_dim):
    """What GGUF says about rotary positions."""
    if not family.ropes:
        return []
    if "partial_rotary_factor" in family.defaults:
        whole, head_dim = head_dim, int(head_dim * config.get("partial_rotary_factor", NUMBER))
        if head_dim % 2 or not 2 <= head_dim <= whole:
            raise Refused(config.path, "partial_rotary_factor %r turns %d numbers of a head: an "
                          "even number is expected, and no more than a head has"
                          % (config.get("partial_rotary_factor", NUMBER), head_dim))
    found = [("rope.dimension_count", U32, head_dim),
             ("rope.freq_base", F32, config.get("rope_theta", NUMBER))]
    if config.values["rope_type"] == "linear":
        factor = Config(config.path, config.values["rope"], {}).get("factor", NUMBER)
        found += [("rope.scaling.type", STRING, "linear"), ("rope.scaling.factor", F32, factor)]
    return found


def rope_factors(config, sizes):
    """LLaMA 3.1's divisors of the rotary frequencies, as the tensor that llama.cpp reads."""
    if config.values.get("rope_type") != "llama3":
        return []
    rope = Config(config.path, config.values["rope"], {})
    factor, low, high = (rope.get(key, NUMBER) for key in (
        "factor", "low_freq_factor", "high_freq_factor"))
    context = rope.get("original_max_position_embeddings", INTEGER)
    if not low < high:
        raise Refused(config.path, "low_freq_factor is %r, high_freq_factor %r: the first should "
                      "be less" % (low, high))
    factors, dim = [], sizes["head_dim"]
    for i in range(0, dim, 2):
        turns = context / (2 * math.pi * config.get("rope_theta", NUMBER) ** (i / dim))
        smooth = min(1, max(0, (turns - low) / (high - low)))
        factors.append(1 / ((1 - smooth) / factor + smooth))
    return [Output("rope_freqs.weight", (dim // 2,), "f32",
                   [struct.pack("<%df" % len(factors), *factors)])]
