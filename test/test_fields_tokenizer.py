#!/usr/bin/env python3
"""Every field of a tokenizer's files, and what tools/convert.py does with it.

FIELDS has a row a field, and changes of it: each has to change what is written ("used"), to be
refused in one line ("refused"), or to do nothing ("harmless"), and then the row says why it may.
test/README.md shows the table; with --write this program writes it. By the standard
library alone. The last line on stdout is `N passed, N failed`.
"""

import sys

import fields
import test_convert
from fields import GONE, HARMLESS, REFUSED, USED, Row, put
from test_convert import (BYTE, CONTROL, NORMAL, PIECES, UNKNOWN, added, field, varint, weights)

LEVEL = test_convert.ByteLevel.LEVEL
META, REPLACE, DECODER, STRIP, RANKED = (getattr(test_convert.Ranked, name) for name in (
    "META", "REPLACE", "DECODER", "STRIP", "PIECES"))
REGEX = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}"
         r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+")
TEMPLATE = {"type": "TemplateProcessing", "single": [
    {"SpecialToken": {"id": "<s>", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}],
    "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 1}}],
    "special_tokens": {"<s>": {"id": "<s>", "ids": [5], "tokens": ["<s>"]}}}
MODEL = {"type": "BPE", "dropout": None, "unk_token": None, "continuing_subword_prefix": None,
         "end_of_word_suffix": None, "fuse_unk": False, "byte_fallback": False,
         "ignore_merges": False}
TOP = {"version": "1.0", "truncation": None, "padding": None}


def words(*some):
    return [dict(word, id=number) for number, word in some]


def decoder(*some):
    return {str(number): word for number, word in some}


# A base is files that are converted as they are: a LLaMA's model with words added to it; byte-level
# BPE of GPT-2's and of Qwen's in tokenizer.json; LLaMA's there; and vocab.json with merges.txt.
BASES = {
    "model": {
        "tokenizer_config.json": {
            "tokenizer_class": "LlamaTokenizer", "legacy": False, "add_prefix_space": True,
            "pad_token": "<p>", "add_bos_token": True, "added_tokens_decoder": decoder(
                (8, added("w")), (9, added("x", True)), (10, added("<p>", True)))}},
    "map": {"special_tokens_map.json": {"pad_token": "<p>", "additional_special_tokens": ["<q>"]},
            "added_tokens.json": {"w": 8, "<p>": 9, "<q>": 10}},
    "json": {
        "tokenizer_config.json": {"tokenizer_class": "GPT2Tokenizer", "bos_token": "<s>"},
        "tokenizer.json": dict(
            TOP, normalizer=None, pre_tokenizer=dict(LEVEL, use_regex=True),
            post_processor=TEMPLATE, decoder=LEVEL, added_tokens=words(
                (5, added("<s>", True)), (6, added("  ")), (7, added("y"))),
            model=dict(MODEL, vocab={"a": 0, "b": 1, "c": 2, "ab": 3, "abc": 4},
                       merges=[["a", "b"], ["ab", "c"]]))},
    "qwen": {
        "tokenizer.json": dict(
            TOP, normalizer={"type": "NFC"}, post_processor=LEVEL, decoder=None,
            pre_tokenizer={"type": "Sequence", "pretokenizers": [
                {"type": "Split", "pattern": {"Regex": REGEX}, "behavior": "Isolated",
                 "invert": False}, dict(LEVEL, use_regex=False)]}, added_tokens=[],
            model=dict(MODEL, vocab={"a": 0, "b": 1, "ab": 2}, merges=["a b"]))},
    "digits": {
        "tokenizer.json": dict(
            TOP, normalizer={"type": "NFC"}, decoder=None, added_tokens=[],
            pre_tokenizer={"type": "Sequence", "pretokenizers": [
                {"type": "Digits", "individual_digits": True}, LEVEL]},
            model=dict(MODEL, vocab={"a": 0}, merges=[]))},
    "ranked": {
        "tokenizer_config.json": {"tokenizer_class": "PreTrainedTokenizerFast"},
        "tokenizer.json": dict(
            TOP, normalizer=None, pre_tokenizer=META, post_processor=None,
            decoder=dict(DECODER, decoders=DECODER["decoders"] + [STRIP]),
            added_tokens=words((0, added("<unk>", True)), (263, added("w"))),
            model=dict(MODEL, byte_fallback=True, fuse_unk=True, unk_token="<unk>",
                       vocab={text: i for i, text in enumerate(RANKED)},
                       merges=[["a", "b"], ["\u2581", "ab"]]))},
    "older": {
        "vocab.json": {"a": 0, "b": 1, "ab": 2, "<|endoftext|>": 3},
        "merges.txt": b"#version: 0.2\na b\n", "added_tokens.json": {"w": 4, "<p>": 5},
        "tokenizer_config.json": {"tokenizer_class": "GPT2Tokenizer", "pad_token": "<p>"},
        "special_tokens_map.json": {"bos_token": {"content": "<|endoftext|>"}}}}
MESSAGES = {"trainer": ((3, 2), (41, 1), (42, 2)), "normalizer": ((4, 0),)}

# The trainer's settings, which did their work when the model was made: number -> name.
TRAINING = {
    1: "input", 2: "model_prefix", 4: "vocab_size", 5: "accept_language",
    6: "self_test_sample_size", 7: "input_format", 10: "character_coverage",
    11: "input_sentence_size", 12: "mining_sentence_size", 13: "training_sentence_size",
    14: "seed_sentencepiece_size", 15: "shrinking_factor", 16: "num_threads",
    17: "num_sub_iterations", 18: "max_sentence_length", 19: "shuffle_input_sentence",
    20: "max_sentencepiece_length", 21: "split_by_unicode_script", 22: "split_by_whitespace",
    23: "split_by_number", 25: "split_digits", 26: "allow_whitespace_only_pieces",
    30: "control_symbols", 31: "user_defined_symbols", 32: "vocabulary_output_piece_score",
    33: "hard_vocab_limit", 34: "use_all_vocab", 36: "required_chars",
    49: "train_extremely_large_corpus", 50: "enable_differential_privacy",
    51: "differential_privacy_noise_level", 52: "differential_privacy_clipping_threshold",
    53: "pretokenization_delimiter", 54: "seed_sentencepieces_file", 55: "auto_character_coverage"}
# tokenizer_config.json's that no tokenizer's class asks when it makes ids: name -> a value.
UNASKED = {
    "model_max_length": 9, "max_length": 9, "stride": 1, "truncation_side": "left",
    "truncation_strategy": "only_first", "padding_side": "left", "pad_to_multiple_of": 8,
    "pad_token_type_id": 1, "model_input_names": ["ids"], "return_token_type_ids": True,
    "name_or_path": "x", "is_local": True, "local_files_only": True, "backend": "tokenizers",
    "processor_class": "X", "use_fast": False, "vocab_file": "x", "tokenizer_file": "x",
    "special_tokens_map_file": "x", "transformers_version": "5.24.0", "init_inputs": [],
    "chat_template": "x", "use_default_system_prompt": True, "any_other": 1}

PIECE_MODEL, JSON, SETTINGS = "tokenizer.model", "tokenizer.json", "tokenizer_config.json"
MAP, OLDER = "special_tokens_map.json", "added_tokens.json"
# A place in tokenizer.model is a message, and the value is bytes that are added to that: of several
# fields the last holds.
PRE = ("pre_tokenizer",)
WORD = ("added_tokens", 2)
SAID = ("added_tokens_decoder", "8")

FIELDS = [
    Row(PIECE_MODEL, ["pieces.piece", "pieces.score", "pieces.type"],
        "used; refused are UNUSED, a text that is empty or there twice, and some of all bytes", [
            ("model", ("piece", 5), field(1, "\u2581an"), USED),
            ("model", ("piece", 5), field(2, -7.0), USED),
            ("model", ("piece", 5), field(3, CONTROL), USED),
            ("model", ("piece", 5), field(3, UNKNOWN), REFUSED),
            ("model", ("piece", 5), field(3, 5), REFUSED),
            ("model", ("piece", 5), field(1, "<0x0A>") + field(3, BYTE), REFUSED),
            ("model", ("piece", 5), field(1, "<s>"), REFUSED)]),
    Row(PIECE_MODEL, ["trainer_spec.model_type", "trainer_spec.treat_whitespace_as_suffix",
                      "trainer_spec.unk_surface"],
        "refused unless BPE, false, and \" \u2047 \"", [
            ("model", ("trainer",), field(3, 1), REFUSED),
            ("model", ("trainer",), field(24, 1), REFUSED),
            ("model", ("trainer",), field(44, "?"), REFUSED)]),
    Row(PIECE_MODEL, ["trainer_spec.byte_fallback", "trainer_spec.unk_id"],
        "refused unless the pieces are so: all bytes or none, the one unknown piece", [
            ("model", ("trainer",), field(35, 1), REFUSED),
            ("model", ("trainer",), field(40, 1), REFUSED)]),
    Row(PIECE_MODEL, ["trainer_spec.bos_id", "trainer_spec.eos_id", "trainer_spec.bos_piece",
                      "trainer_spec.eos_piece"],
        "used where config.json has no id; refused where id and piece are not the same", [
            ("model", ("trainer",), field(41, 2) + field(46, "</s>"), USED),
            ("model", ("trainer",), field(42, -1), USED),
            ("model", ("trainer",), field(46, "</s>"), REFUSED),
            ("model", ("trainer",), field(47, "<s>"), REFUSED)]),
    Row(PIECE_MODEL, ["trainer_spec.pad_id", "trainer_spec.pad_piece", "trainer_spec.unk_piece"],
        "harmless: no text becomes padding, and the unknown piece is the one of that type", [
            ("model", ("trainer",), field(43, 2), HARMLESS),
            ("model", ("trainer",), field(48, "<s>"), HARMLESS),
            ("model", ("trainer",), field(45, "<s>"), HARMLESS)]),
    Row(PIECE_MODEL, ["trainer_spec." + name for name in TRAINING.values()],
        "harmless: what the trainer was told; the library does not ask when it encodes", [
            ("model", ("trainer",), field(number, 1), HARMLESS) for number in TRAINING]),
    Row(PIECE_MODEL, ["normalizer_spec.add_dummy_prefix"],
        "used; refused where add_prefix_space says something else", [
            ("map", ("normalizer",), field(3, 0), REFUSED),
            ("plain", ("normalizer",), field(3, 0), USED),
            ("model", ("normalizer",), field(3, 0), REFUSED)]),
    Row(PIECE_MODEL, ["normalizer_spec.precompiled_charsmap",
                      "normalizer_spec.remove_extra_whitespaces",
                      "normalizer_spec.escape_whitespaces",
                      "denormalizer_spec.precompiled_charsmap"],
        "refused unless empty, false, true and empty: text is not known to change otherwise", [
            ("model", ("normalizer",), field(2, b"x"), REFUSED),
            ("model", ("normalizer",), field(4, 1), REFUSED),
            ("model", ("normalizer",), field(5, 0), REFUSED),
            ("model", ("model",), field(5, field(2, b"x")), REFUSED)]),
    Row(PIECE_MODEL, ["normalizer_spec.name", "normalizer_spec.normalization_rule_tsv",
                      "denormalizer_spec's others"],
        "harmless: how precompiled_charsmap was made, which alone is asked", [
            ("model", ("normalizer",), field(1, "nmt_nfkc"), HARMLESS),
            ("model", ("normalizer",), field(6, "x"), HARMLESS),
            ("model", ("model",), field(5, field(1, "x") + field(4, 1)), HARMLESS)]),
    Row(PIECE_MODEL, ["self_test_data", "unknown fields"],
        "harmless: texts that the library checks itself with; what it passes over", [
            ("model", ("model",), field(4, field(1, field(1, "a"))), HARMLESS),
            ("model", ("model",), field(200, "x"), HARMLESS),
            ("model", ("piece", 5), field(200, 1), HARMLESS),
            ("model", ("trainer",), varint(99 << 3 | 1) + bytes(8), HARMLESS)]),
    Row(JSON, ["version", "unknown keys"], "refused unless 1.0; refused", [
        ("json", ("version",), "2.0", REFUSED), ("json", ("more",), 1, REFUSED)]),
    Row(JSON, ["truncation", "padding"],
        "harmless: a text is encoded whole, and transformers sets both anew for each", [
            ("json", ("truncation",), {"max_length": 2}, HARMLESS),
            ("json", ("padding",), {"strategy": {"Fixed": 8}}, HARMLESS)]),
    Row(JSON, ["added_tokens.id", "added_tokens.content"],
        "used; refused where the library would give another id, or one of them is there twice", [
            ("json", WORD + ("content",), "z", USED),
            ("json", WORD + ("id",), 8, REFUSED), ("json", WORD + ("content",), "  ", REFUSED),
            ("ranked", ("added_tokens", 1, "content"), "z", USED)]),
    Row(JSON, ["added_tokens.special", "added_tokens.normalized"],
        "used; refused where they are left out, but for normalized in a special one, which is not "
        "looked for", [
            ("json", WORD + ("special",), True, USED),
            ("json", WORD + ("normalized",), True, USED),
            ("json", WORD + ("normalized",), GONE, REFUSED),
            ("json", WORD + ("special",), GONE, REFUSED),
            ("json", ("added_tokens", 0, "normalized"), True, HARMLESS)]),
    Row(JSON, ["added_tokens.lstrip", "added_tokens.rstrip", "added_tokens.single_word",
               "added_tokens' unknown keys"],
        "refused when true, but for special ones; refused", [
            ("json", WORD + ("lstrip",), True, REFUSED),
            ("json", WORD + ("rstrip",), True, REFUSED),
            ("json", WORD + ("single_word",), True, REFUSED),
            ("json", ("added_tokens", 0, "lstrip"), True, HARMLESS),
            ("json", WORD + ("more",), 1, REFUSED)]),
    Row(JSON, ["normalizer"],
        "refused unless the one that belongs to the pre_tokenizer, without other keys: NFC for "
        "Qwen 2's and Command-R's, Gemma's for its own, null for the others", [
            ("json", ("normalizer",), {"type": "NFC"}, REFUSED),
            ("qwen", ("normalizer",), None, REFUSED),
            ("qwen", ("normalizer", "more"), 1, REFUSED),
            ("digits", ("normalizer",), None, REFUSED),
            ("ranked", ("normalizer",), REPLACE, REFUSED)]),
    Row(JSON, ["pre_tokenizer: type, pretokenizers, unknown keys",
               "Split: pattern, behavior, invert", "ByteLevel: add_prefix_space, use_regex",
               "Digits: individual_digits", "Metaspace: replacement, split"],
        "used: all of it together is one of the families' forms, or refused", [
            ("json", PRE, {"type": "Whitespace"}, REFUSED), ("json", PRE + ("more",), 1, REFUSED),
            ("json", PRE + ("add_prefix_space",), True, REFUSED),
            ("json", PRE + ("use_regex",), False, REFUSED),
            ("qwen", PRE + ("pretokenizers", 0, "pattern", "Regex"), "x", REFUSED),
            ("qwen", PRE + ("pretokenizers", 0, "behavior"), "Removed", REFUSED),
            ("qwen", PRE + ("pretokenizers", 0, "invert"), True, REFUSED),
            ("qwen", PRE + ("pretokenizers", 0, "more"), 1, REFUSED),
            ("qwen", PRE + ("more",), 1, REFUSED),
            ("digits", PRE + ("pretokenizers", 0, "individual_digits"), False, REFUSED),
            ("ranked", PRE + ("replacement",), "_", REFUSED),
            ("ranked", PRE + ("split",), True, REFUSED),
            ("ranked", PRE + ("more",), 1, REFUSED)]),
    Row(JSON, ["Metaspace: prepend_scheme"],
        "used; refused with words when it is \"always\": there would be a space after each", [
            ("ranked", PRE + ("prepend_scheme",), "never", REFUSED),
            ("ranked", (), {"pre_tokenizer": dict(META, prepend_scheme="never"),
                            "decoder": DECODER}, USED),
            ("ranked", PRE + ("prepend_scheme",), "always", REFUSED)]),
    Row(JSON, ["ByteLevel: trim_offsets"], "harmless: says where tokens stood, not which", [
        ("json", PRE + ("trim_offsets",), False, HARMLESS)]),
    Row(JSON, ["post_processor: single, special_tokens.ids"],
        "used: what stands before a text and after it; refused unless it is bos and eos", [
            ("json", ("post_processor",), None, USED),
            ("json", ("post_processor", "special_tokens", "<s>", "ids"), [4], REFUSED),
            ("json", ("post_processor", "single", 0, "SpecialToken", "id"), "</s>", REFUSED),
            ("json", ("post_processor", "type"), "Roberta", REFUSED)]),
    Row(JSON, ["post_processor: pair, type_id, special_tokens.tokens, ByteLevel's settings"],
        "harmless: texts come one by one, and ids are all that is asked of them", [
            ("json", ("post_processor", "pair"), [], HARMLESS),
            ("json", ("post_processor", "single", 0, "SpecialToken", "type_id"), 1, HARMLESS),
            ("json", ("post_processor", "special_tokens", "<s>", "tokens"), ["x"], HARMLESS),
            ("qwen", ("post_processor", "trim_offsets"), False, HARMLESS)]),
    Row(JSON, ["decoder"],
        "refused unless the kind's own; none at all is harmless: tokens are then text as they are",
        [("json", ("decoder",), {"type": "WordPiece"}, REFUSED),
         ("ranked", ("decoder", "decoders"), [], REFUSED), ("ranked", ("decoder",), None, HARMLESS),
         ("json", ("decoder",), None, HARMLESS)]),
    Row(JSON, ["decoder: ByteLevel's settings"], "harmless: they do nothing there", [
        ("json", ("decoder", "add_prefix_space"), True, HARMLESS),
        ("json", ("decoder", "trim_offsets"), False, HARMLESS)]),
    Row(JSON, ["model.type", "model.dropout", "model.continuing_subword_prefix",
               "model.end_of_word_suffix", "model.ignore_merges", "model's unknown keys"],
        "refused unless BPE; null or 0; null or empty; true for Llama 3's words and Tekken's, and "
        "false for others; refused", [
            ("json", ("model", "type"), "WordPiece", REFUSED),
            ("json", ("model", "dropout"), 0.1, REFUSED),
            ("json", ("model", "dropout"), 0, HARMLESS),
            ("json", ("model", "continuing_subword_prefix"), "##", REFUSED),
            ("json", ("model", "continuing_subword_prefix"), "", HARMLESS),
            ("json", ("model", "end_of_word_suffix"), "</w>", REFUSED),
            ("json", ("model", "ignore_merges"), True, REFUSED),
            ("ranked", ("model", "ignore_merges"), True, REFUSED),
            ("json", ("model", "more"), 1, REFUSED)]),
    Row(JSON, ["model.byte_fallback"],
        "used: true stands for SentencePiece's pieces, false for the alphabet of bytes; refused "
        "unless the rest is of that kind", [
            ("json", ("model", "byte_fallback"), True, REFUSED),
            ("ranked", ("model", "byte_fallback"), False, REFUSED)]),
    Row(JSON, ["model.vocab", "model.merges"],
        "used; refused unless each id is there once, and merges are of tokens and make one", [
        ("json", ("model", "vocab", "a"), 1, REFUSED),
        ("json", ("model", "vocab"), {"a": 1, "b": 0, "c": 2, "ab": 3, "abc": 4}, USED),
        ("json", ("model", "merges"), [["a", "b"]], USED),
        ("json", ("model", "merges"), ["a b", "ab c"], HARMLESS),
        ("json", ("model", "merges", 0, 1), "z", REFUSED),
        ("ranked", ("model", "merges"), [["a", "b"]], USED),
        ("ranked", ("model", "vocab", "<0x00>"), GONE, REFUSED)]),
    Row(JSON, ["model.unk_token"],
        "used with byte_fallback, and refused if text could become it; harmless without: every "
        "byte has a token", [
            ("ranked", ("model", "unk_token"), None, USED),
            ("ranked", ("model", "unk_token"), "ab", REFUSED),
            ("json", ("model", "unk_token"), "a", HARMLESS)]),
    Row(JSON, ["model.fuse_unk"], "harmless: nothing is unknown, since every byte has a token", [
        ("json", ("model", "fuse_unk"), True, HARMLESS),
        ("ranked", ("model", "fuse_unk"), False, HARMLESS)]),
    Row(JSON, ["all but added_tokens, beside tokenizer.model"],
        "tokenizer.model is read instead; refused unless model.vocab has its pieces", []),
    Row(SETTINGS, ["added_tokens_decoder: ids, content, special, normalized"],
        "used as tokenizer.json's; refused where both are there and differ", [
            ("model", SAID + ("content",), "v", USED), ("model", SAID + ("special",), True, USED),
            ("model", SAID + ("normalized",), True, USED),
            ("model", SAID + ("normalized",), GONE, USED),
            ("model", ("added_tokens_decoder", "12"), added("v"), REFUSED),
            ("json", ("added_tokens_decoder",), decoder((6, added("  "))), REFUSED)]),
    Row(SETTINGS, ["added_tokens_decoder: lstrip, rstrip, single_word, unknown keys"],
        "refused when true, but for special ones; refused", [
            ("model", SAID + ("lstrip",), True, REFUSED),
            ("model", SAID + ("rstrip",), True, REFUSED),
            ("model", SAID + ("single_word",), True, REFUSED),
            ("model", ("added_tokens_decoder", "9", "rstrip"), True, HARMLESS),
            ("model", SAID + ("more",), 1, REFUSED)]),
    Row(SETTINGS, ["bos_token", "eos_token", "unk_token", "pad_token", "sep_token", "cls_token",
                   "mask_token"],
        "used: an added token of that text is special; without tokenizer.model the ids of bos and "
        "eos, where config.json has none; refused where tokenizer.json has it as not special", [
            ("model", (name + "_token",), "w", USED)
            for name in ("bos", "eos", "unk", "pad", "sep", "cls", "mask")] + [
            ("json", ("eos_token",), "abc", USED), ("json", ("eos_token",), "y", REFUSED)]),
    Row(SETTINGS, ["additional_special_tokens", "extra_special_tokens"],
        "used with added_tokens.json; refused where added_tokens_decoder has it as not special: "
        "versions of transformers differ", [
            ("older", ("additional_special_tokens",), ["w"], USED),
            ("older", ("extra_special_tokens",), {"x": "w"}, USED),
            ("model", ("additional_special_tokens",), ["w"], REFUSED),
            ("model", ("extra_special_tokens",), ["w"], REFUSED)]),
    Row(SETTINGS, ["add_bos_token", "add_eos_token"], "used", [
        ("model", ("add_bos_token",), False, USED), ("model", ("add_eos_token",), True, USED),
        ("json", ("add_bos_token",), False, USED), ("json", ("add_eos_token",), True, USED)]),
    Row(SETTINGS, ["add_prefix_space"], "refused unless tokenizer.model's or tokenizer.json's", [
        ("model", ("add_prefix_space",), False, REFUSED),
        ("model", ("add_prefix_space",), None, HARMLESS),
        ("json", ("add_prefix_space",), True, REFUSED),
        ("older", ("add_prefix_space",), True, REFUSED),
        ("ranked", (), {"add_prefix_space": False, "tokenizer_class": "LlamaTokenizer"}, REFUSED)]),
    Row(SETTINGS, ["legacy"],
        "refused with words when true for LlamaTokenizer, or not false for others: there would be "
        "a space after each", [
            ("model", ("legacy",), True, REFUSED), ("model", ("legacy",), GONE, HARMLESS),
            ("ranked", (), {"legacy": True, "tokenizer_class": "LlamaTokenizer"}, REFUSED)]),
    Row(SETTINGS, ["tokenizer_class"],
        "used: with vocab.json it says how words are split; refused where the class does something "
        "else than tokenizer.json or tokenizer.model says", [
            ("older", ("tokenizer_class",), "Qwen2Tokenizer", USED),
            ("older", ("tokenizer_class",), "T5Tokenizer", REFUSED),
            ("json", ("tokenizer_class",), "CohereTokenizer", REFUSED),
            ("model", ("tokenizer_class",), "GemmaTokenizer", REFUSED),
            ("model", (), {"tokenizer_class": "PreTrainedTokenizerFast", "legacy": True}, REFUSED),
            ("model", ("tokenizer_class",), "LlamaTokenizerFast", HARMLESS)]),
    Row(SETTINGS, ["sp_model_kwargs", "fix_mistral_regex", "fast_tokenizer_files"],
        "refused unless empty, false, and tokenizer.json", [
            ("model", ("sp_model_kwargs",), {"enable_sampling": True}, REFUSED),
            ("json", ("fix_mistral_regex",), True, REFUSED),
            ("json", ("fast_tokenizer_files",), ["tokenizer.4.json"], REFUSED)]),
    Row(SETTINGS, ["split_special_tokens"],
        "harmless: what is spelled like a special token is text here, whatever it says", [
            ("model", ("split_special_tokens",), True, HARMLESS)]),
    Row(SETTINGS, ["clean_up_tokenization_spaces", "spaces_between_special_tokens", "errors"],
        "harmless: how transformers changes text that is made of ids; lape writes it as it is", [
            ("model", (name,), True, HARMLESS)
            for name in ("clean_up_tokenization_spaces", "spaces_between_special_tokens",
                         "errors")]),
    Row(SETTINGS, ["auto_map"], "harmless: code that comes with a checkpoint is not run", [
        ("model", ("auto_map",), {"AutoTokenizer": ["x", None]}, HARMLESS)]),
    Row(SETTINGS, [name for name in UNASKED if name != "any_other"] + ["any other key"],
        "harmless: lengths, padding, names, templates: no class asks them when it makes ids", [
            (base, (name,), value, HARMLESS) for name, value in UNASKED.items()
            for base in ("model", "older")]),
    Row(MAP, ["bos_token", "eos_token", "unk_token", "pad_token", "sep_token", "cls_token",
              "mask_token", "additional_special_tokens", "extra_special_tokens"],
        "used as in tokenizer_config.json, unless that has added_tokens_decoder; refused where it "
        "says something else", [
            ("map", ("pad_token",), "w", USED), ("map", ("pad_token",), {"content": "w"}, USED),
            ("map", ("additional_special_tokens",), ["w"], USED),
            ("map", ("extra_special_tokens",), ["w"], USED),
            ("older", ("bos_token", "content"), "a", USED),
            ("older", ("pad_token",), "a", REFUSED), ("model", (), {"pad_token": "w"}, HARMLESS)]),
    Row(MAP, ["content's lstrip, rstrip, normalized, single_word", "any other key"],
        "harmless: special tokens are not looked for", [
            ("older", ("bos_token", "lstrip"), True, HARMLESS),
            ("older", ("bos_token", "normalized"), True, HARMLESS),
            ("older", ("more",), 1, HARMLESS)]),
    Row(OLDER, ["text: id"],
        "used where there is no added_tokens_decoder, as words that are normalized unless special; "
        "refused where tokenizer.json has others", [
            ("map", ("w",), GONE, USED), ("map", ("w",), 11, REFUSED),
            ("map", (), {"v": 11}, USED), ("older", (), {"v": 6}, USED),
            ("model", (), {"v": 11}, HARMLESS), ("json", (), {"v": 8}, REFUSED)]),
    Row("vocab.json", ["text: id"], "used; refused unless each id is there once", [
        ("older", (), {"a": 1, "b": 0}, USED), ("older", ("a",), "0", REFUSED)]),
    Row("merges.txt", ["lines, their order"], "used; refused unless two tokens that make one", [
        ("older", None, b"#version: 0.2\n", USED), ("older", None, b"a b\nb a\n", REFUSED),
        ("older", None, b"a b\na b\n", REFUSED)]),
    Row("merges.txt", ["#version, empty lines, CR"], "harmless: the library drops them", [
        ("older", None, b"a b\r\n\r\n", HARMLESS)]),
]


def piece_model(place=("",), value=b""):
    """A tokenizer.model with bytes added to one of its messages."""
    pieces = [list(piece) for piece in PIECES]
    kinds = [kind or NORMAL for _, _, kind in PIECES]
    proto, specs = b"", {name: b"".join(field(*item) for item in items)
                         for name, items in MESSAGES.items()}
    for i, (text, score, _) in enumerate(pieces):
        proto += field(1, field(1, text) + field(2, score) + field(3, kinds[i])
                       + (value if place == ("piece", i) else b""))
    for number, name in (2, "trainer"), (3, "normalizer"):
        proto += field(number, specs[name] + (value if place == (name,) else b""))
    return proto + (value if place == ("model",) else b"")


class Fields(fields.Fields):
    """A LLaMA of 266 words with the files of a tokenizer."""

    mark, rows, bases = "fields-tokenizer", FIELDS, [*BASES, "plain"]

    def files(self, base):
        """A base's files, and none of another's."""
        self.empty()
        self.checkpoint(weights(vocab=266), vocab_size=266)
        files = dict(BASES.get(base, {}))
        if base in ("model", "map", "plain"):
            files["tokenizer.model"] = piece_model()
        for name, value in files.items():
            self.write(name, value)
        return files

    def change(self, content, row, place, value):
        if row.file == PIECE_MODEL:
            return piece_model(place, value)
        return super().change(content, row, place, value)

    def test_beside_a_model(self):
        """tokenizer.json beside tokenizer.model."""
        self.files("model")
        vocab = {text: i for i, (text, _, _) in enumerate(PIECES)}
        entries = BASES["model"]["tokenizer_config.json"]["added_tokens_decoder"]
        beside = {"model": {"vocab": vocab}, "normalizer": {"type": "NFKC"}, "more": 1,
                  "added_tokens": [dict(word, id=int(i)) for i, word in entries.items()]}
        whole = self.result()[0]
        self.write(JSON, beside)
        self.assertEqual(self.result()[0], whole)
        self.write(JSON, put(beside, ("added_tokens", 0, "content"), "v"))
        self.assertIsNone(self.result()[0])
        self.write(JSON, put(beside, ("model", "vocab", "a"), 99))
        self.assertIsNone(self.result()[0])


if __name__ == "__main__":
    sys.exit(fields.main(Fields.mark, FIELDS))
