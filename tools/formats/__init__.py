"""Files that tools read and write, a format each.

What is read counts as hostile until it is checked: a length against the bytes that are there, an
offset against the file, a pickle against a short list of names.
"""
