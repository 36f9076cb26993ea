"""SentencePiece's spaces: where a text gets one, by tokenizer.json and by the tokenizer's class."""

import json

from checkpoint.settings import FLAG, TEXT, TEXTS
from checkpoint.words import tokenizer_class
from formats.sentencepiece import SPACE
from guard import Refused

# A normalizer that marks spaces, and a splitter that is left without any.
MARK = {"type": "Replace", "pattern": {"String": " "}, "content": SPACE}
NO_SPACES = {"type": "Split", "pattern": {"String": " "}, "behavior": "MergedWithPrevious",
             "invert": False}


def space_scheme(values):
    """Where SentencePiece's space before a text goes by tokenizer.json: "first" (before the text
    alone), "always" (before every stretch between added words), "never"; or None. And whether the
    text that words are looked for in has its spaces marked."""
    pre, normalizer = values.get("pre_tokenizer"), values.get("normalizer")
    if normalizer == MARK and pre in (None, NO_SPACES):
        return "never", True
    if normalizer is None and isinstance(pre, dict) and pre == {
            "type": "Metaspace", "replacement": SPACE, "split": False,
            "prepend_scheme": pre.get("prepend_scheme")}:
        scheme = pre["prepend_scheme"]
        return (scheme if scheme in ("first", "always", "never") else None), False
    return None, False


def is_llama_class(settings, config):
    """Whether the class is LlamaTokenizer, which does not ask tokenizer.json about spaces. A
    Mistral has another, whatever it says."""
    mistral = config.may("model_type", TEXT) == "mistral" or (
        config.get("architectures", TEXTS) == ["MistralForCausalLM"])
    return tokenizer_class(settings) in (None, "LlamaTokenizer") and not mistral


def scheme_of_class(settings):
    """LlamaTokenizer's."""
    if settings.get("add_prefix_space", FLAG, null=True):
        return "always" if settings.get("legacy", FLAG, null=False) else "first"
    return "never"


def is_gemma_class(settings, arch):
    return tokenizer_class(settings) == "GemmaTokenizer" or (
        tokenizer_class(settings) is None and arch.startswith("gemma"))


def check_spaces(path, values, words, arch, settings, config):
    """Whether a text starts with a space of the tokenizer's own, by tokenizer.json and the class
    of the tokenizer, which have to agree."""
    scheme, marked = space_scheme(values)
    found = [word for word in words if not word.special]
    if scheme is None or scheme == "always" and found:
        raise Refused(path, "the normalizer %.200s and the pre_tokenizer %.200s are not known%s: "
                      "Metaspace with prepend_scheme first and without split is"
                      % (json.dumps(values.get("normalizer")),
                         json.dumps(values.get("pre_tokenizer")),
                         " with added tokens" if scheme else ""))
    own = scheme
    if tokenizer_class(settings) == "LlamaTokenizer" and is_llama_class(settings, config):
        own = scheme_of_class(settings)
    elif is_gemma_class(settings, arch):
        own = "never"
    if own != scheme and (found or "never" in (own, scheme)):
        raise Refused(settings.path, "the tokenizer's class has the space before a text %s, and "
                      "tokenizer.json %s" % (own, scheme))
    if marked:
        check_marked(path, found)
    return scheme != "never"


def check_marked(path, found):
    """Refuses words that are looked for where spaces are marked, and have any."""
    for word in found:
        if word.normalized and (" " in word.text or SPACE in word.text):
            raise Refused(path, "the added token %.60s is normalized and has a space: that is not "
                          "known with this normalizer" % word.text)
