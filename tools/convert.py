#!/usr/bin/env python3
"""Other programs' checkpoints, token ids, counts and lists of neurons in, the last two also out.

    convert.py hf DIR -o model.gguf [--type keep|f32|f16|bf16|q8_0] [--name NAME] [--no-tokenizer]
    convert.py random CONFIG.json -o model.gguf [--type bf16|f16|f32] [--seed N] [--name NAME]
    convert.py ids FILE -o ids.npy
    convert.py counts LANG=FILE.pt ... -o counts.gguf [--name MODELNAME]
    convert.py counts LANG=FILE.npy ... --tokens LANG=N ... -o counts.gguf [--name MODELNAME]
    convert.py counts counts.gguf -o activation.LANG.pt
    convert.py neurons FILE.neuron.pth --langs A,B,... -o neurons.tsv [--neurons N] [--name MODEL]
    convert.py neurons neurons.tsv -o FILE.neuron.pth [--langs A,B,...]

It needs Python 3.8 and nothing else; only making numbers narrower (f16, bf16, q8_0) takes numpy.
Every byte that is read counts as hostile until it is checked: a length against the bytes that are
there, an offset against the file, a pickle against a short list of names. What is not known exactly
is refused in one line, since a guess would give a model that runs and is subtly wrong.

The families of models are a table here. What reads checkpoints is in checkpoint/, and what reads
and writes files of each format in formats/.
"""

import argparse
import collections
import math
import os
import random
import re
import signal
import struct
import sys
import zlib

from checkpoint.config import describe, read_config, rope_factors
from checkpoint.family import ONE_MORE, PAIRED, POSITIONS, REGROUPED, TURNED, Family, Row
from checkpoint.plan import choose_type, converted, plan_tensors, rows_of
from checkpoint.settings import FLAG, INTEGER, LIST, NUMBER
from checkpoint.shards import find_weights
from checkpoint.tokenizer import NO_TOKENIZER, tokenizer_metadata
from formats.activations import convert_counts
from formats.gguf import BOOL, F32, FILE_TYPES, STRING, TYPES, U32, Output, write_new
from formats.neuron_lists import convert_neurons
from formats.plain_file import is_there
from formats.stored import length_of
from formats.token_ids import convert_ids
from guard import LABELS_ARE, Refused, complain, doubt, is_label, warnings_are_errors

TOOL = "convert.py"


# ---- Model families, a row of a table each --------------------------------------------------

RMS = ("rms_norm_eps", "layer_norm_rms_epsilon")


def both(theirs, ours, *how):
    """The rows of a weight and its bias; the bias has the first of the weight's sizes."""
    shape, how = how[0], how[1:]
    out = shape.split()[how == (TURNED,)]
    bias = how if how == (REGROUPED,) else ()
    return (Row(theirs + ".weight", ours + ".weight", shape, *how),
            Row(theirs + ".bias", ours + ".bias", out, *bias))


def mistral_own(config):
    """Mistral's class has a window unless it is null; LLaMA's has none, whatever its config is."""
    if config.may("sliding_window", INTEGER) is None:
        return []
    return [("attention.sliding_window", U32, config.get("sliding_window", INTEGER))]


def gemma2_own(config):
    return [("attention.sliding_window", U32, config.get("sliding_window", INTEGER)),
            ("attention.scale", F32, config.get("query_pre_attn_scalar", NUMBER) ** -0.5),
            ("attn_logit_softcapping", F32, config.get("attn_logit_softcapping", NUMBER)),
            ("final_logit_softcapping", F32, config.get("final_logit_softcapping", NUMBER))]


def gemma3_own(config):
    return [("attention.sliding_window", U32, config.get("sliding_window", INTEGER)),
            ("attention.scale", F32, config.get("query_pre_attn_scalar", NUMBER) ** -0.5),
            ("rope.freq_base_swa", F32, config.get("rope_local_base_freq", NUMBER))]


def bloom_own(config):
    """Where sums are added up in parts, BLOOM's class leaves out the biases of two matrices."""
    if config.get("slow_but_exact", FLAG) and config.get("pretraining_tp", INTEGER) > 1:
        raise Refused(config.path, "slow_but_exact is True with a pretraining_tp of %d: only one "
                      "of them is known" % config.get("pretraining_tp", INTEGER))
    return []


def cohere_own(config):
    return [("logit_scale", F32, config.get("logit_scale", NUMBER))]


def stablelm_own(config):
    return [("use_parallel_residual", BOOL, False)]


def phi3_own(config):
    """No window is one of 0."""
    return mistral_own(config) or [("attention.sliding_window", U32, 0)]


def smollm3_own(config):
    """Of every four layers the last knows no positions: no_rope_layers has a 0 for it."""
    layers, turned = config.get("num_hidden_layers", INTEGER), config.may("no_rope_layers", LIST)
    if turned is None:
        if config.get("no_rope_layer_interval", INTEGER) != 4:
            raise Refused(config.path, "no_rope_layer_interval is %d: only 4 is known"
                          % config.get("no_rope_layer_interval", INTEGER))
    elif len(turned) < layers or any(
            turn != ((i + 1) % 4 > 0) for i, turn in enumerate(turned[:layers])):
        raise Refused(config.path, "no_rope_layers is %.60r...: expected is 0 for every layer of a "
                      "number divisible by 4, and 1 for all others" % (turned,))
    return []


def granite_own(config):
    return [(ours, F32, config.get(theirs, NUMBER)) for ours, theirs in (
        ("attention.scale", "attention_multiplier"), ("embedding_scale", "embedding_multiplier"),
        ("residual_scale", "residual_multiplier"), ("logit_scale", "logits_scaling"))]


def nothing(config):
    return []


LAYER = "model.layers.{}."
ATTENTION = LAYER + "self_attn."
ENDS = (Row("model.embed_tokens.weight", "token_embd.weight", "vocab width"),
        Row("model.norm.weight", "output_norm.weight", "width"),
        Row("lm_head.weight", "output.weight", "vocab width"))
BEFORE = (Row(LAYER + "input_layernorm.weight", "blk.{}.attn_norm.weight", "width"),)
BETWEEN = (Row(LAYER + "post_attention_layernorm.weight", "blk.{}.ffn_norm.weight", "width"),)
QKVO = (Row(ATTENTION + "q_proj.weight", "blk.{}.attn_q.weight", "q width"),
        Row(ATTENTION + "k_proj.weight", "blk.{}.attn_k.weight", "kv width"),
        Row(ATTENTION + "v_proj.weight", "blk.{}.attn_v.weight", "kv width"),
        Row(ATTENTION + "o_proj.weight", "blk.{}.attn_output.weight", "width q"))
QKV_BIAS = (Row(ATTENTION + "q_proj.bias", "blk.{}.attn_q.bias", "q"),
            Row(ATTENTION + "k_proj.bias", "blk.{}.attn_k.bias", "kv"),
            Row(ATTENTION + "v_proj.bias", "blk.{}.attn_v.bias", "kv"))
QK_NORM_WIDE = (Row(ATTENTION + "q_norm.weight", "blk.{}.attn_q_norm.weight", "q"),
                Row(ATTENTION + "k_norm.weight", "blk.{}.attn_k_norm.weight", "kv"))
QK_NORM = (Row(ATTENTION + "q_norm.weight", "blk.{}.attn_q_norm.weight", "head_dim"),
           Row(ATTENTION + "k_norm.weight", "blk.{}.attn_k_norm.weight", "head_dim"))
PAIRED_QKVO = tuple(row._replace(how=PAIRED) for row in QKVO[:2]) + QKVO[2:]
GATED = (Row(LAYER + "mlp.gate_proj.weight", "blk.{}.ffn_gate.weight", "neurons width"),
         Row(LAYER + "mlp.up_proj.weight", "blk.{}.ffn_up.weight", "neurons width"),
         Row(LAYER + "mlp.down_proj.weight", "blk.{}.ffn_down.weight", "width neurons"))
GEMMA2_NORMS = (
    Row(LAYER + "post_attention_layernorm.weight", "blk.{}.post_attention_norm.weight", "width"),
    Row(LAYER + "pre_feedforward_layernorm.weight", "blk.{}.ffn_norm.weight", "width"),
    Row(LAYER + "post_feedforward_layernorm.weight", "blk.{}.post_ffw_norm.weight", "width"))
POST_NORMS = GEMMA2_NORMS[::2]


def one_more_norms(rows):
    """Gemma's norms multiply by 1 + weight; GGUF holds the sum."""
    return tuple(row._replace(how=ONE_MORE) if row.theirs.endswith("norm.weight") else row
                 for row in rows)


LLAMA = Family(
    gguf="llama", kind="llama", prefix="model.", aliases={},
    defaults={"vocab_size": 32000, "hidden_size": 4096, "intermediate_size": 11008,
              "num_hidden_layers": 32, "num_attention_heads": 32, "num_key_value_heads": None,
              "max_position_embeddings": 2048, "rms_norm_eps": 1e-6, "rope_theta": 10000.0,
              "tie_word_embeddings": False},
    only={"hidden_act": "silu", "attention_bias": False, "mlp_bias": False},
    epsilon=RMS, ropes=("default", "linear", "llama3"), pattern=1, own=nothing,
    tensors=ENDS + BEFORE + PAIRED_QKVO + BETWEEN + GATED,
    ignored=r"model\.layers\.\d+\.self_attn\.rotary_emb\.inv_freq")

QWEN2 = LLAMA._replace(
    gguf="qwen2", kind="qwen2", ropes=("default",),
    defaults=dict(LLAMA.defaults, vocab_size=151936, intermediate_size=22016,
                  num_key_value_heads=32, max_position_embeddings=32768),
    only={"hidden_act": "silu", "use_sliding_window": False},
    tensors=ENDS + BEFORE + QKVO + QKV_BIAS + BETWEEN + GATED)

GPT2 = Family(
    gguf="gpt2", kind="gpt2", prefix="transformer.",
    aliases={"hidden_size": "n_embd", "num_hidden_layers": "n_layer",
             "num_attention_heads": "n_head", "max_position_embeddings": "n_positions",
             "intermediate_size": "n_inner"},
    defaults={"vocab_size": 50257, "hidden_size": 768, "num_hidden_layers": 12,
              "num_attention_heads": 12, "max_position_embeddings": 1024,
              "layer_norm_epsilon": 1e-5, "tie_word_embeddings": True},
    only={"activation_function": ("gelu_new", "gelu_pytorch_tanh"), "scale_attn_weights": True,
          "scale_attn_by_inverse_layer_idx": False, "reorder_and_upcast_attn": False,
          "add_cross_attention": False},
    epsilon=("layer_norm_epsilon", "layer_norm_epsilon"), ropes=(), pattern=1, own=nothing,
    tensors=(Row("transformer.wte.weight", "token_embd.weight", "vocab width"),
             Row("transformer.wpe.weight", "position_embd.weight", "context width"))
    + both("transformer.ln_f", "output_norm", "width")
    + (Row("lm_head.weight", "output.weight", "vocab width"),)
    + both("transformer.h.{}.ln_1", "blk.{}.attn_norm", "width")
    + both("transformer.h.{}.attn.c_attn", "blk.{}.attn_qkv", "width qkv", TURNED)
    + both("transformer.h.{}.attn.c_proj", "blk.{}.attn_output", "width width", TURNED)
    + both("transformer.h.{}.ln_2", "blk.{}.ffn_norm", "width")
    + both("transformer.h.{}.mlp.c_fc", "blk.{}.ffn_up", "width neurons", TURNED)
    + both("transformer.h.{}.mlp.c_proj", "blk.{}.ffn_down", "neurons width", TURNED),
    ignored=r"transformer\.h\.\d+\.attn\.(masked_)?bias")

BLOOM = GPT2._replace(
    gguf="bloom", kind="bloom",
    aliases={"hidden_size": "n_embed", "num_hidden_layers": "n_layer",
             "num_attention_heads": "n_head", "max_position_embeddings": "seq_length"},
    defaults={"vocab_size": 250880, "hidden_size": 64, "num_hidden_layers": 2,
              "num_attention_heads": 8, "max_position_embeddings": 2048,
              "layer_norm_epsilon": 1e-5, "tie_word_embeddings": True, "pretraining_tp": 1,
              "slow_but_exact": False},
    only={"apply_residual_connection_post_layernorm": False}, own=bloom_own,
    tensors=(Row("transformer.word_embeddings.weight", "token_embd.weight", "vocab width"),)
    + both("transformer.word_embeddings_layernorm", "token_embd_norm", "width")
    + both("transformer.ln_f", "output_norm", "width")
    + (Row("lm_head.weight", "output.weight", "vocab width"),)
    + both("transformer.h.{}.input_layernorm", "blk.{}.attn_norm", "width")
    + both("transformer.h.{}.self_attention.query_key_value", "blk.{}.attn_qkv", "qkv width",
           REGROUPED)
    + both("transformer.h.{}.self_attention.dense", "blk.{}.attn_output", "width width")
    + both("transformer.h.{}.post_attention_layernorm", "blk.{}.ffn_norm", "width")
    + both("transformer.h.{}.mlp.dense_h_to_4h", "blk.{}.ffn_up", "neurons width")
    + both("transformer.h.{}.mlp.dense_4h_to_h", "blk.{}.ffn_down", "width neurons"),
    ignored=r"(?!)")

DECODER = "model.decoder."
OPT = GPT2._replace(
    gguf="opt", kind="opt", prefix="model.", aliases={"intermediate_size": "ffn_dim"},
    defaults={"vocab_size": 50272, "hidden_size": 768, "intermediate_size": 3072,
              "num_hidden_layers": 12, "num_attention_heads": 12, "max_position_embeddings": 2048,
              "layer_norm_eps": 1e-5, "tie_word_embeddings": True},
    only={"activation_function": "relu", "do_layer_norm_before": True, "enable_bias": True,
          "layer_norm_elementwise_affine": True, "_remove_final_layer_norm": False,
          "layer_norm_eps": 1e-5},
    epsilon=("layer_norm_eps", "layer_norm_epsilon"),
    tensors=(Row(DECODER + "embed_tokens.weight", "token_embd.weight", "vocab width"),
             Row(DECODER + "embed_positions.weight", "position_embd.weight", "context+2 width",
                 POSITIONS))
    + both(DECODER + "final_layer_norm", "output_norm", "width")
    + (Row("lm_head.weight", "output.weight", "vocab width"),)
    + both(DECODER + "layers.{}.self_attn_layer_norm", "blk.{}.attn_norm", "width")
    + both(DECODER + "layers.{}.self_attn.q_proj", "blk.{}.attn_q", "width width")
    + both(DECODER + "layers.{}.self_attn.k_proj", "blk.{}.attn_k", "width width")
    + both(DECODER + "layers.{}.self_attn.v_proj", "blk.{}.attn_v", "width width")
    + both(DECODER + "layers.{}.self_attn.out_proj", "blk.{}.attn_output", "width width")
    + both(DECODER + "layers.{}.final_layer_norm", "blk.{}.ffn_norm", "width")
    + both(DECODER + "layers.{}.fc1", "blk.{}.ffn_up", "neurons width")
    + both(DECODER + "layers.{}.fc2", "blk.{}.ffn_down", "width neurons"),
    ignored=r"(?!)")

PHI2 = LLAMA._replace(
    gguf="phi2", kind="phi", ropes=("default",),
    defaults={"vocab_size": 51200, "hidden_size": 2048, "intermediate_size": 8192,
              "num_hidden_layers": 24, "num_attention_heads": 32, "num_key_value_heads": None,
              "max_position_embeddings": 2048, "layer_norm_eps": 1e-5, "rope_theta": 10000.0,
              "partial_rotary_factor": 0.5, "tie_word_embeddings": False},
    only={"hidden_act": ("gelu_new", "gelu_pytorch_tanh"), "qk_layernorm": False},
    epsilon=("layer_norm_eps", "layer_norm_epsilon"),
    tensors=ENDS[:1] + both("model.final_layernorm", "output_norm", "width")
    + both("lm_head", "output", "vocab width")
    + both(LAYER + "input_layernorm", "blk.{}.attn_norm", "width") + QKVO[:3] + QKV_BIAS
    + both(ATTENTION + "dense", "blk.{}.attn_output", "width q")
    + both(LAYER + "mlp.fc1", "blk.{}.ffn_up", "neurons width")
    + both(LAYER + "mlp.fc2", "blk.{}.ffn_down", "width neurons"))

GEMMA = LLAMA._replace(
    gguf="gemma", kind="gemma", ropes=("default",),
    defaults=dict(LLAMA.defaults, vocab_size=256000, hidden_size=3072, intermediate_size=24576,
                  num_hidden_layers=28, num_attention_heads=16, num_key_value_heads=16,
                  head_dim=256, max_position_embeddings=8192, tie_word_embeddings=True),
    # The first release says gelu and means its approximation, as transformers takes it.
    only={"hidden_act": ("gelu_pytorch_tanh", "gelu"), "attention_bias": False,
          "hidden_activation": ("gelu_pytorch_tanh", None), "tie_word_embeddings": True,
          "use_bidirectional_attention": (None, False)},
    tensors=one_more_norms(ENDS + BEFORE + QKVO + BETWEEN + GATED))

GEMMA2 = GEMMA._replace(
    gguf="gemma2", kind="gemma2", pattern=2, own=gemma2_own,
    aliases={"hidden_act": "hidden_activation"},
    only=dict(GEMMA.only, hidden_act="gelu_pytorch_tanh"),
    defaults=dict(GEMMA.defaults, hidden_size=2304, intermediate_size=9216, num_hidden_layers=26,
                  num_attention_heads=8, num_key_value_heads=4, sliding_window=4096,
                  query_pre_attn_scalar=256, attn_logit_softcapping=50.0,
                  final_logit_softcapping=30.0),
    tensors=one_more_norms(ENDS + BEFORE + QKVO + GEMMA2_NORMS + GATED))

GEMMA3 = GEMMA2._replace(
    gguf="gemma3", kind="gemma3_text", pattern=6, own=gemma3_own, ropes=("default", "linear"),
    defaults=dict(GEMMA2.defaults, vocab_size=262208, max_position_embeddings=131072,
                  rope_theta=1e6, rope_local_base_freq=1e4),
    only=dict(GEMMA2.only, attn_logit_softcapping=None, final_logit_softcapping=None,
              sliding_window_pattern=6, _sliding_window_pattern=6),
    tensors=one_more_norms(ENDS + BEFORE + QKVO + QK_NORM + GEMMA2_NORMS + GATED))

COHERE = LLAMA._replace(
    gguf="command-r", kind="cohere", ropes=("default",), own=cohere_own,
    defaults={"vocab_size": 256000, "hidden_size": 8192, "intermediate_size": 22528,
              "num_hidden_layers": 40, "num_attention_heads": 64, "num_key_value_heads": None,
              "max_position_embeddings": 8192, "layer_norm_eps": 1e-5, "rope_theta": 500000.0,
              "logit_scale": 0.0625, "tie_word_embeddings": True},
    only={"hidden_act": "silu", "attention_bias": False, "use_qk_norm": False,
          "tie_word_embeddings": True},
    epsilon=("layer_norm_eps", "layer_norm_epsilon"), tensors=ENDS + BEFORE + QKVO + GATED)

OLMO2 = LLAMA._replace(
    gguf="olmo2", kind="olmo2", ropes=("default",),
    defaults=dict(LLAMA.defaults, vocab_size=50304, rms_norm_eps=1e-5),
    only={"hidden_act": "silu", "attention_bias": False},
    tensors=ENDS + QKVO + QK_NORM_WIDE + POST_NORMS + GATED)

STABLELM = LLAMA._replace(
    gguf="stablelm", kind="stablelm", ropes=("default",), own=stablelm_own,
    defaults={"vocab_size": 50304, "hidden_size": 2560, "intermediate_size": 6912,
              "num_hidden_layers": 32, "num_attention_heads": 32, "num_key_value_heads": 32,
              "max_position_embeddings": 4096, "layer_norm_eps": 1e-5, "rope_theta": 10000.0,
              "partial_rotary_factor": 0.25, "use_qkv_bias": False, "tie_word_embeddings": False},
    only={"hidden_act": "silu", "qk_layernorm": False, "use_parallel_residual": False},
    epsilon=("layer_norm_eps", "layer_norm_epsilon"),
    tensors=ENDS[:1] + both("model.norm", "output_norm", "width") + ENDS[2:]
    + both(LAYER + "input_layernorm", "blk.{}.attn_norm", "width") + QKVO
    + tuple(row._replace(when="use_qkv_bias") for row in QKV_BIAS)
    + both(LAYER + "post_attention_layernorm", "blk.{}.ffn_norm", "width") + GATED)

PHI3 = LLAMA._replace(
    gguf="phi3", kind="phi3", ropes=("default",), own=phi3_own,
    defaults=dict(LLAMA.defaults, vocab_size=32064, hidden_size=3072, intermediate_size=8192,
                  max_position_embeddings=4096, rms_norm_eps=1e-5, partial_rotary_factor=1.0,
                  sliding_window=None),
    only={"hidden_act": "silu"},
    tensors=ENDS + BEFORE
    + (Row(ATTENTION + "qkv_proj.weight", "blk.{}.attn_qkv.weight", "qkv width"), QKVO[3]) + BETWEEN
    + (Row(LAYER + "mlp.gate_up_proj.weight", "blk.{}.ffn_up.weight", "gate+up width"), GATED[2]))

SMOLLM3 = LLAMA._replace(
    gguf="smollm3", kind="smollm3", ropes=("default",), own=smollm3_own,
    defaults=dict(LLAMA.defaults, vocab_size=128256, hidden_size=2048, num_hidden_layers=36,
                  num_attention_heads=16, num_key_value_heads=4, max_position_embeddings=32768,
                  rope_theta=2e6, no_rope_layer_interval=4, no_rope_layers=None,
                  tie_word_embeddings=True),
    only=dict(LLAMA.only, use_sliding_window=False))

GRANITE = LLAMA._replace(
    gguf="granite", kind="granite", ropes=("default",), own=granite_own,
    defaults=dict(LLAMA.defaults, embedding_multiplier=1.0, residual_multiplier=1.0,
                  attention_multiplier=1.0, logits_scaling=1.0))

FAMILIES = {
    "LlamaForCausalLM": LLAMA,
    # With layer_types, transformers takes a Mistral for another model, whose windows those are.
    "MistralForCausalLM": LLAMA._replace(
        kind="mistral", own=mistral_own, only=dict(LLAMA.only, layer_types=None), defaults=dict(
            LLAMA.defaults, intermediate_size=14336, num_key_value_heads=8,
            max_position_embeddings=4096 * 32, sliding_window=4096)),
    "Qwen2ForCausalLM": QWEN2,
    "Qwen3ForCausalLM": QWEN2._replace(
        gguf="qwen3", kind="qwen3", defaults=dict(QWEN2.defaults, head_dim=128),
        only=dict(QWEN2.only, attention_bias=False),
        tensors=ENDS + BEFORE + QKVO + QK_NORM + BETWEEN + GATED),
    "GPT2LMHeadModel": GPT2,
    "BloomForCausalLM": BLOOM,
    "OPTForCausalLM": OPT,
    "PhiForCausalLM": PHI2,
    "GemmaForCausalLM": GEMMA,
    "Gemma2ForCausalLM": GEMMA2,
    "Gemma3ForCausalLM": GEMMA3,
    "Gemma3ForConditionalGeneration": GEMMA3._replace(
        kind="gemma3", part="text_config",
        ignored=r"(model\.)?(vision_tower|multi_modal_projector)\..*"),
    "CohereForCausalLM": COHERE,
    "Olmo2ForCausalLM": OLMO2,
    "StableLmForCausalLM": STABLELM,
    "Phi3ForCausalLM": PHI3,
    "SmolLM3ForCausalLM": SMOLLM3,
    "GraniteForCausalLM": GRANITE,
}


# ---- Models ---------------------------------------------------------------------------------

def convert_hf(args):
    """The command hf: a Hugging Face checkpoint becomes a GGUF model."""
    adapter = os.path.join(args.directory, "adapter_config.json")
    if is_there(adapter):
        raise Refused(adapter, "an adapter would change these weights: a checkpoint that it is "
                      "merged into is wanted, without it")
    family, config = read_config(os.path.join(args.directory, "config.json"), FAMILIES)
    sizes, settings = describe(family, config)
    plan = plan_tensors(family, config, sizes, find_weights(args.directory))
    tensors, volume = rope_factors(config, sizes), collections.Counter()
    for row, stored in plan:
        want = choose_type(stored, args.type)
        volume[want] += math.prod(stored.shape)
        dims = stored.shape[:0:-1] + (length_of(stored),)
        tensors.append(Output(row.ours, dims, want,
                              converted(stored, want, row.how, sizes["head_dim"])))
    tokenizer = [] if args.no_tokenizer else tokenizer_metadata(
        args.directory, config, sizes["vocab"], family.gguf)
    metadata = [
        ("general.architecture", STRING, family.gguf),
        ("general.name", STRING,
         args.name or os.path.basename(os.path.abspath(args.directory))),
        ("general.file_type", U32, FILE_TYPES[max(volume, key=volume.get)]),
    ]
    write_new(args.output, metadata + settings + (tokenizer or NO_TOKENIZER), tensors,
              {s.path for _, s in plan}, args.quiet)
    if family.part and not args.quiet:
        complain(TOOL, "%s: the model of text alone: what sees pictures is left out"
                 % args.directory)
    if not tokenizer and not args.quiet:
        complain(TOOL, "%s: without tokenizer.model, tokenizer.json or vocab.json the model takes "
                 "token ids only" % args.directory)


PERIOD = (1 << 20) - 3       # random numbers before they repeat: a prime, so that no rows are alike


def random_pieces(tile, start, count, size):
    """The bytes of so many random numbers, from some place of the tile on."""
    start = start % PERIOD
    while count:
        step = min(count, PERIOD - start)
        yield tile[start * size:(start + step) * size]
        start, count = 0, count - step


def convert_random(args):
    """The command random: a checkpoint of a configuration's shape, its numbers without meaning."""
    family, config = read_config(args.config, FAMILIES)
    sizes, settings = describe(family, config)
    rng = random.Random(args.seed)
    numbers = [rng.gauss(0, 0.02) for _ in range(PERIOD)]
    single = struct.pack("<%df" % PERIOD, *numbers)
    upper = bytearray(2 * PERIOD)                    # a bfloat16 is the upper half of a float32
    upper[0::2], upper[1::2] = single[2::4], single[3::4]
    tiles = {"f32": single, "bf16": upper, "f16": struct.pack("<%de" % PERIOD, *numbers),
             "norm": struct.pack("<%df" % PERIOD, *(1 + x for x in numbers))}
    tiles = {name: memoryview(tile) for name, tile in tiles.items()}
    tensors = rope_factors(config, sizes)
    for row in rows_of(family, sizes["layers"]):
        if row.ours == "output.weight" and config.get("tie_word_embeddings", FLAG):
            continue
        shape = [sizes[size] for size in row.shape.split()]
        shape = shape[::-1] if row.how == TURNED else shape
        shape[0] -= 2 * (row.how == POSITIONS)
        want = args.type if len(shape) == 2 else "f32"
        tile = tiles["norm" if row.ours.endswith("norm.weight") else want]
        tensors.append(Output(row.ours, tuple(shape[::-1]), want, random_pieces(
            tile, zlib.crc32(row.ours.encode()), math.prod(shape), TYPES[want].size)))
    metadata = [("general.architecture", STRING, family.gguf),
                ("general.name", STRING, args.name or "random"),
                ("general.file_type", U32, FILE_TYPES[args.type])]
    write_new(args.output, metadata + settings + NO_TOKENIZER, tensors, [args.config], args.quiet)


# ---- The command line -----------------------------------------------------------------------

def language_file(text):
    """LANG=FILE of the command line as a pair; (None, FILE.gguf) of a counts file."""
    language, _, path = text.partition("=")
    if text.endswith(".gguf") and "=" not in text:
        return None, text
    if not path or not is_label(language):
        raise argparse.ArgumentTypeError("%r: LANG=FILE is expected, LANG being %s"
                                         % (text, LABELS_ARE))
    return language, path


def language_tokens(text):
    """LANG=N of the command line as a pair."""
    language, _, number = text.partition("=")
    if not re.fullmatch("0*[1-9][0-9]{0,17}", number):
        raise argparse.ArgumentTypeError("%r: LANG=N is expected, N being 1 or more" % text)
    return language, int(number)


def labels(text):
    """A,B,... of the command line as a list of labels."""
    found = text.split(",")
    if len(set(found)) < len(found) or not all(map(is_label, found)):
        raise argparse.ArgumentTypeError("%r: A,B,... is expected, each label once, of %s"
                                         % (text, LABELS_ARE))
    return found


def positive(text):
    if not re.fullmatch("0*[1-9][0-9]{0,6}", text):
        raise argparse.ArgumentTypeError("%r: a number from 1 up is expected" % text)
    return int(text)


def parse_arguments(argv):
    """The command line; wrong usage ends the program with status 2."""
    parser = argparse.ArgumentParser(prog=TOOL, description=__doc__.split("\n")[0])
    commands = parser.add_subparsers(dest="command", required=True)
    hf = commands.add_parser("hf", help="a Hugging Face checkpoint becomes a GGUF model")
    hf.add_argument("directory", metavar="DIR", help="holds config.json and the weights")
    hf.add_argument("--type", choices=["keep", "f32", "f16", "bf16", "q8_0"], default="keep",
                    help="of the matrices (default: as they are)")
    hf.add_argument("--no-tokenizer", action="store_true", help="for a model that takes token ids")
    hf.set_defaults(run=convert_hf)
    noise = commands.add_parser("random", help="a configuration becomes a GGUF model of that size "
                                "with random weights")
    noise.add_argument("config", metavar="CONFIG.json", help="a Hugging Face config.json")
    noise.add_argument("--type", choices=["bf16", "f16", "f32"], default="bf16",
                       help="of the matrices (default: bf16)")
    noise.add_argument("--seed", type=int, default=0, help="of the numbers (default: 0)")
    noise.set_defaults(run=convert_random)
    ids = commands.add_parser("ids", help="a token file of the paper's code, one tensor of "
                              "integers, becomes an array of token ids")
    ids.add_argument("file", metavar="FILE", help="id.LANG.train.MODEL, as torch.save made it")
    ids.set_defaults(run=convert_ids)
    counts = commands.add_parser("counts", help="activation counts (.pt, .npy) become a counts "
                                 "file, or FILE.gguf becomes .pt files")
    counts.add_argument("files", metavar="LANG=FILE", nargs="+", type=language_file,
                        help="or one FILE.gguf; -o is then a name that LANG stands in")
    counts.add_argument("--tokens", metavar="LANG=N", type=language_tokens, action="append",
                        default=[], help="that LANG's .npy file counts; a .pt file says it itself")
    counts.set_defaults(run=convert_counts)
    neurons = commands.add_parser("neurons", help="the paper's authors' lists (.neuron.pth) become "
                                  "a table of neurons, or a table such lists")
    neurons.add_argument("file", metavar="FILE")
    neurons.add_argument("--langs", metavar="A,B,...", type=labels,
                         help="of the lists, in their order")
    neurons.add_argument("--neurons", metavar="N", type=positive,
                         help="a layer of the model, which lists do not say")
    neurons.set_defaults(run=convert_neurons)
    for command in (hf, noise, counts, neurons):
        command.add_argument("--name", help="of the model, for general.name")
    for command in (hf, noise, ids, counts, neurons):
        command.add_argument("-o", dest="output", metavar="FILE", required=True)
        command.add_argument("-q", dest="quiet", action="store_true", help="no progress, no notes")
    args = parser.parse_args(argv)
    if args.command == "ids" and not args.output.endswith(".npy"):
        ids.error("-o FILE.npy is wanted: by that name lape knows that it holds ids")
    if args.command == "counts" and len(dict(args.files)) < len(args.files):
        counts.error("a language is given twice")
    if args.command == "counts" and args.files[0][0] is None:
        if len(args.files) > 1 or args.tokens or "LANG" not in os.path.basename(args.output):
            counts.error("FILE.gguf is wanted alone, and -o with LANG in its name")
    elif args.command == "counts":
        arrays = {language for language, path in args.files if path.endswith(".npy")}
        if arrays != {language for language, _ in args.tokens} or len(arrays) < len(args.tokens):
            counts.error("--tokens LANG=N is wanted once for every LANG=FILE.npy, and for no other")
    return args


def source_of(args):
    """What the command line has a command read."""
    files = [path for _, path in getattr(args, "files", ())]
    return files[0] if files else next(getattr(args, name) for name in (
        "directory", "config", "file") if hasattr(args, name))


def unforeseen(problem):
    """A refusal in one line of what made some function fail."""
    if isinstance(problem, MemoryError):
        return "takes more memory than there is: smaller files are expected"
    return "refused, since reading it fails: %s: %s" % (
        type(problem).__name__, " ".join(str(problem).split()))


def main(argv):
    args = parse_arguments(argv)
    signal.signal(signal.SIGTERM, signal.default_int_handler)        # to clean up then too
    warnings_are_errors()
    try:
        args.run(args)
    except KeyboardInterrupt:
        complain(TOOL, "interrupted")
        return 130
    except Refused as problem:
        complain(TOOL, str(problem))
        return 1
    except Warning as warning:                       # that no reader has caught
        complain(TOOL, "%s: %s" % (args.command, doubt(warning)))
        return 1
    except OSError as problem:                       # one without a name comes from writing
        complain(TOOL, "%s: %s" % (problem.filename or args.output, problem.strerror))
        return 1
    except Exception as problem:                     # that no reader has foreseen
        complain(TOOL, "%s: %s" % (source_of(args), unforeseen(problem)))
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
