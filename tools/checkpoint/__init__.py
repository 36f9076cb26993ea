"""A Hugging Face checkpoint, as tools/convert.py reads it: config.json, the tensors, the tokenizer.

What is not known exactly is refused in one line, since a guess would give a model that runs and is
subtly wrong. Standard library only, but for numbers made narrower.
"""
