"""A tokenizer of tokenizer.json, or of the files that came before it."""

import os

from checkpoint.bpe import read_byte_level, read_ranked
from checkpoint.settings import FLAG, IDS, LIST, OBJECT, TEXT, Config
from checkpoint.vocab_files import plain_files
from checkpoint.words import added_metadata, added_words
from formats.gguf import BOOL, F32, I32, STRING, U32
from formats.json_file import read_json
from formats.plain_file import SMALL_FILE, is_there
from formats.sentencepiece import UNUSED
from guard import Refused


def ranks(texts, merges):
    """Scores that go by the order of merges, for readers that know of scores alone."""
    first = {}
    for rank, merge in enumerate(merges):
        first.setdefault("".join(merge), -float(rank))
    return [first.get(text, -float(len(merges))) for text in texts]


def objects(path, name, values):
    """The objects in a list, as Configs."""
    if not all(isinstance(value, dict) for value in values):
        raise Refused(path, "%s is %.60r: a list of objects is expected" % (name, values))
    return [Config(path, value) for value in values]


def ids_of(template, items):
    """The ids of a template's special tokens in order."""
    tokens, found = template.part("special_tokens"), []
    for item in items:
        token = tokens.part(item.part("SpecialToken").get("id", TEXT))
        ids = token.get("ids", IDS)
        found += ids if isinstance(ids, list) else [ids]
    return found


def begins_with(path, values):
    """The ids with which the post_processor begins and ends a text; None where it says nothing."""
    if values.get("post_processor") is None:
        return None
    post = Config(path, values).part("post_processor")
    posts = [post]
    if post.get("type", TEXT) == "Sequence":
        posts = objects(path, "processors", post.get("processors", LIST))
    for post in posts:
        if post.get("type", TEXT) == "TemplateProcessing":
            items = objects(path, "single", post.get("single", LIST))
            places = [i for i, item in enumerate(items) if "Sequence" in item.values]
            ids = [ids_of(post, part) for part in (items[:places[0]], items[places[0] + 1:])
                   ] if len(places) == 1 else [[0, 0]]
            if any(len(one) > 1 for one in ids):
                raise Refused(path, "the post_processor is more than one token before or after a "
                              "text")
            return [one[0] if one else None for one in ids]
        if post.get("type", TEXT) != "ByteLevel":
            raise Refused(path, "the post_processor %.60s is not known: TemplateProcessing and "
                          "ByteLevel are" % post.get("type", TEXT))
    return None


def ends_metadata(path, values, texts, rows, config, settings):
    """The keys for the tokens that begin and end a text."""
    ends = begins_with(path, values)
    metadata, numbers = [], {text: number for number, text in texts.items()}
    for place, name in enumerate(("bos", "eos")):
        number = config.id(name + "_token_id")
        if number is None:
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
    if is_there(path):
        values = read_json(path, SMALL_FILE)
        words = added_words(directory, settings, path, values)
    elif is_there(older):
        path = older
        values, words = plain_files(older, settings, arch)
    else:
        return []
    ranked = Config(path, values).get("model", OBJECT).get("byte_fallback") is True
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
