"""The tokenizer of a checkpoint, whichever its files are."""

import os

from checkpoint.tokenizer_json import json_metadata
from checkpoint.tokenizer_model import pieces_metadata
from checkpoint.words import read_settings
from formats.gguf import STRING
from formats.plain_file import is_there

NO_TOKENIZER = [("tokenizer.ggml.model", STRING, "none")]      # llama.cpp wants it said


def tokenizer_metadata(directory, config, rows, arch):
    """The tokenizer's keys for so many rows of embeddings; none without a tokenizer."""
    settings = read_settings(directory)
    whole = is_there(os.path.join(directory, "tokenizer.model"))
    return (pieces_metadata if whole else json_metadata)(directory, config, rows, arch, settings)
