"""A tokenizer of tokenizer.json, or of the files that came before it."""

import os

from checkpoint.bpe import read_byte_level, read_ranked
from checkpoint.settings import FLAG
from checkpoint.vocab_files import plain_files
from checkpoint.words import added_metadata, added_words
from formats.gguf import BOOL, F32, I32, STRING, U32
from formats.json_file import parse_json, read_small
from formats.sentencepiece import UNUSED
from guard import Refused


def ranks(texts, merges):
    """Scores that go by the order of merges, for readers that know of scores alone."""
    first = {}
    for rank, merge in enumerate(merges):
        first.setdefault("".join(merge), -float(rank))
    return [first.get(text, -float(len(merges))) for text in texts]


def begins_with(values):
    """The ids with which the post_processor begins and ends a text; None where it says nothing."""
    post = values.get("post_processor")
    posts = post.get("processors") if isinstance(post, dict) and post.get("type") == "Sequence" \
        else [post]
    for post in posts:
        if isinstance(post, dict) and post.get("type") == "TemplateProcessing":
            kinds = ["Sequence" in item for item in post["single"]]
            at = kinds.index(True)
            ids = [[number for item in items
                    for number in post["special_tokens"][item["SpecialToken"]["id"]]["ids"]]
                   for items in (post["single"][:at], post["single"][at + 1:])]
            if any(len(one) > 1 for one in ids):
                raise ValueError
            return [one[0] if one else None for one in ids]
        if post is not None and post.get("type") != "ByteLevel":
            raise ValueError
    return None


def ends_metadata(path, values, texts, rows, config, settings):
    """The keys for the tokens that begin and end a text."""
    try:
        ends = begins_with(values)
    except (AttributeError, IndexError, KeyError, TypeError, ValueError):
        raise Refused(path, "the post_processor is more than one token before or after a text")
    metadata, numbers = [], {text: number for number, text in texts.items()}
    for place, name in enumerate(("bos", "eos")):
        number = config.values.get(name + "_token_id")
        if isinstance(number, list) and number:
            number = number[0]                       # the others end a turn of a chat
        if type(number) is not int:
            token = settings.values.get(name + "_token")
            token = token.get("content") if isinstance(token, dict) else token
            number = numbers.get(token) if isinstance(token, str) else None
        if number is not None and not 0 <= number < rows:
            raise Refused(config.path, "the id of %s is %d: there are %d tokens"
                          % (name, number, rows))
        if number is not None:
            metadata.append(("tokenizer.ggml.%s_token_id" % name, U32, number))
        added = ends is not None and ends[place] is not None
        if added and ends[place] != number:
            raise Refused(path, "the post_processor adds token %d to a text, which is not %s, %s"
                          % (ends[place], name, number))
        metadata.append(("tokenizer.ggml.add_%s_token" % name, BOOL,
                         settings.get("add_%s_token" % name, FLAG, null=added)))
    return metadata


def json_metadata(directory, config, rows, arch, settings):
    """The tokenizer's keys from tokenizer.json, or the files that came before it; else none."""
    path, older = (os.path.join(directory, name) for name in ("tokenizer.json", "vocab.json"))
    if os.path.isfile(path):
        values = parse_json(path, read_small(path))
        words = added_words(directory, settings, path, values)
    elif os.path.isfile(older):
        path = older
        values, words = plain_files(older, settings, arch)
    else:
        return []
    model = values.get("model")
    ranked = isinstance(model, dict) and model.get("byte_fallback") is True
    texts, types, metadata, merges = (
        read_ranked(path, values, words, arch, settings, config) if ranked else
        read_byte_level(path, values, words, arch, settings))
    if not texts or max(texts) >= rows:
        raise Refused(path, "has tokens up to id %d: config.json's vocab_size is %d, and should be "
                      "more" % (max(texts, default=-1), rows))
    tokens = [texts.get(i, "[PAD%d]" % i) for i in range(rows)]
    metadata += [
        ("tokenizer.ggml.tokens", STRING, tokens),
        ("tokenizer.ggml.token_type", I32, [types.get(i, UNUSED) for i in range(rows)]),
        ("tokenizer.ggml.merges", STRING, [" ".join(merge) for merge in merges]),
    ]
    if ranked:
        metadata.append(("tokenizer.ggml.scores", F32, ranks(tokens, merges)))
    return metadata + added_metadata(words) + ends_metadata(path, values, texts, rows, config,
                                                            settings)
