#!/usr/bin/env python3
"""Writes unicode.h: what tokenizer.c has to know of Unicode's characters.

    python3 tools/unicode.py

Needs Unicode 16, which the tokenizers library has too: the package unicodedata2==16.0.0, or a
Python whose own unicodedata is of that version.
"""

import os
import sys

from guard import new_file

try:
    import unicodedata2 as unicodedata
except ImportError:
    import unicodedata

VERSION = "16.0.0"
ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
CODES = range(0x110000)
# Numbers of enum class in tokenizer.c. PAIRS is a run of UPPER and LOWER in turn.
OTHER, UPPER, LOWER, TITLE, MODIFIER, LETTER, MARK, NUMBER, SPACE, PAIRS = range(10)
LETTERS = {"Lu": UPPER, "Ll": LOWER, "Lt": TITLE, "Lm": MODIFIER, "Lo": LETTER}
WHITE = {*range(0x9, 0xe), 0x20, 0x85, 0xa0, 0x1680, *range(0x2000, 0x200b), 0x2028, 0x2029,
         0x202f, 0x205f, 0x3000}  # the property White_Space, which unicodedata does not tell
HEAD = f"""\
/* Unicode {VERSION}, written by tools/unicode.py: tables for tokenizer.c, nothing to read. */
#ifndef UNICODE_H
#define UNICODE_H

#include <stdint.h>

/* clang-format off */
"""
TAIL = """\
/* clang-format on */
#endif
"""


def kind(code):
    category = unicodedata.category(chr(code))
    if code in WHITE:
        return SPACE
    return LETTERS.get(category) or {"M": MARK, "N": NUMBER}.get(category[0], OTHER)


def classes():
    """(first code point, class) of the runs, each up to the next one."""
    of = [kind(code) for code in CODES]
    i = 0
    while i < len(of):
        end = i + 1
        while end < len(of) and of[i] == UPPER and of[end] == (UPPER, LOWER)[(end - i) % 2]:
            end += 1
        end -= (end - i) % 2
        if end - i >= 4:
            yield i, PAIRS
        else:
            end = i + 1
            while end < len(of) and of[end] == of[i]:
                end += 1
            # a capital at the end of a run of capitals may start a run of pairs
            if of[i] == UPPER and end - i > 1 and of[end:end + 3] == [LOWER, UPPER, LOWER]:
                end -= 1
            yield i, of[i]
        i = end


def combining():
    """(first code point, combining class) of the runs, each up to the next one."""
    last = None
    for code in CODES:
        of = unicodedata.combining(chr(code))
        if of != last:
            yield code, of
        last = of


def decompositions(composed):
    """(character, first, second) of the canonical decompositions that are undone by composing, or
    of those that are not; the second is 0 where there is none. Hangul follows a rule instead."""
    for code in CODES:
        parts = unicodedata.decomposition(chr(code)).split()
        if not parts or parts[0].startswith("<") or 0xac00 <= code < 0xd7a4:
            continue
        first, second = [int(part, 16) for part in parts + ["0"]][:2]
        together = unicodedata.normalize("NFC", chr(code)) == chr(code)
        if together == composed:
            yield code, first, second


def table(declaration, words):
    lines, line = [f"static const uint32_t {declaration} = {{"], "   "
    for word in words:
        if len(line) + len(word) > 98:
            lines.append(line)
            line = "   "
        line += f" {word},"
    return "\n".join([*lines, line, "};\n"])


def triples(rows):
    return ("{%s}" % ",".join(f"{x:#x}" for x in row) for row in rows)


def main():
    if unicodedata.unidata_version != VERSION:
        sys.exit(f"this is Unicode {unicodedata.unidata_version}, not {VERSION}")
    pairs = sorted(decompositions(True), key=lambda row: row[1:])
    parts = [
        HEAD, "/* first code point of a run x 16 + enum class */\n",
        table("CLASSES[]", (f"{first * 16 + of:#x}" for first, of in classes())),
        "\n/* first code point of a run x 256 + canonical combining class */\n",
        table("COMBINING[]", (f"{first * 256 + of:#x}" for first, of in combining())),
        "\n/* {character, first, second}: the two become it, and it becomes the two */\n",
        table("COMPOSED[][3]", triples(pairs)),
        "\n/* it becomes the two, or the one when the second is 0, for good */\n",
        table("DECOMPOSED[][3]", triples(decompositions(False))), TAIL]
    with new_file(os.path.join(ROOT, "unicode.h")) as f:
        f.write("".join(parts).encode("ascii"))


if __name__ == "__main__":
    main()
