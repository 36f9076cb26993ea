#!/usr/bin/env python3
"""Rewrites the table of character classes in tokenizer.c, between the two marked lines.

    python3 tools/unicode.py

Needs Unicode 16, which the tokenizers library has too: the package unicodedata2==16.0.0, or a
Python whose own unicodedata is of that version.
"""

import os
import re
import sys

try:
    import unicodedata2 as unicodedata
except ImportError:
    import unicodedata

VERSION = "16.0.0"
ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
# Numbers of enum class in tokenizer.c. PAIRS is a run of UPPER and LOWER in turn.
OTHER, UPPER, LOWER, TITLE, MODIFIER, LETTER, MARK, NUMBER, SPACE, PAIRS = range(10)
LETTERS = {"Lu": UPPER, "Ll": LOWER, "Lt": TITLE, "Lm": MODIFIER, "Lo": LETTER}
WHITE = {*range(0x9, 0xe), 0x20, 0x85, 0xa0, 0x1680, *range(0x2000, 0x200b), 0x2028, 0x2029,
         0x202f, 0x205f, 0x3000}  # the property White_Space, which unicodedata does not tell


def kind(code):
    category = unicodedata.category(chr(code))
    if code in WHITE:
        return SPACE
    return LETTERS.get(category) or {"M": MARK, "N": NUMBER}.get(category[0], OTHER)


def runs():
    """[first code point, class] of the runs, each up to the next one."""
    of = [kind(code) for code in range(0x110000)]
    out, i = [], 0
    while i < len(of):
        end = i + 1
        while end < len(of) and of[i] == UPPER and of[end] == (UPPER, LOWER)[(end - i) % 2]:
            end += 1
        end -= (end - i) % 2
        if end - i >= 4:
            out.append([i, PAIRS])
        else:
            end = i + 1
            while end < len(of) and of[end] == of[i]:
                end += 1
            # a capital at the end of a run of capitals may start a run of pairs
            if of[i] == UPPER and end - i > 1 and of[end:end + 3] == [LOWER, UPPER, LOWER]:
                end -= 1
            out.append([i, of[i]])
        i = end
    return out


def main():
    if unicodedata.unidata_version != VERSION:
        sys.exit(f"this is Unicode {unicodedata.unidata_version}, not {VERSION}")
    lines, line = [], "   "
    for first, of in runs():
        word = f" {first * 16 + of:#x},"
        if len(line) + len(word) > 100:
            lines.append(line)
            line = "   "
        line += word
    body = "\n".join(lines + [line])
    path = os.path.join(ROOT, "tokenizer.c")
    with open(path, encoding="utf-8") as f:
        text = f.read()
    new, n = re.subn(r"(/\* tools/unicode.py writes:[^\n]*\n).*?(\n/\* tools/unicode.py ends)",
                     lambda m: f"{m[1]}static const uint32_t CLASSES[] = {{ /* Unicode {VERSION} */"
                               f"\n{body}\n}};{m[2]}", text, flags=re.S)
    if n != 1:
        sys.exit("tokenizer.c has no marked section")
    with open(path, "w", encoding="utf-8") as f:
        f.write(new)


if __name__ == "__main__":
    main()
