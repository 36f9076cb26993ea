/* Text becomes token ids, and ids become text: byte-pair encoding, SentencePiece's and GPT-2's.
 *
 * SentencePiece's: a text starts as its characters. Of all neighbours that together are a piece of
 * the vocabulary, those with the highest score are joined, the leftmost of equals first, until no
 * two neighbours are a piece. A character that is no piece becomes its bytes.
 *
 * Two characters that stand next to each other inside no piece are never joined, so a text falls
 * apart between them into stretches, mostly words, that are encoded one by one.
 *
 * GPT-2's: a regular expression cuts the text into words, a word starts as its bytes, and of all
 * neighbours that the list of merges names, those named first are joined, the leftmost of equals
 * first.
 */
#define _POSIX_C_SOURCE 200809L
#include "lape.h"

#include <stdlib.h>
#include <string.h>

static const char SPACE[] = "\xe2\x96\x81"; /* U+2581, how a piece writes a space */
enum { SPACE_BYTES = 3 };

/* ---- Words -------------------------------------------------------------------------------------
 *
 * The families' regular expressions are one with few differences, which struct pre names. They
 * tell characters apart by class, and a set of classes is a mask.
 */
enum class { /* those up to PAIRS are tools/unicode.py's, too */
             OTHER,
             UPPER,    /* Lu */
             LOWER,    /* Ll */
             TITLE,    /* Lt */
             MODIFIER, /* Lm */
             LETTER,   /* Lo */
             MARK,     /* M */
             NUMBER,   /* N */
             GAP,      /* White_Space, but for the two that follow PAIRS */
             PAIRS,    /* in the table only: UPPER and LOWER in turn */
             BLANK,    /* the space itself */
             LINE_END, /* CR, LF */
             SLASH,
             STOP, /* ends a word of BLOOM's */
             END   /* of the text; in no mask */
};
enum { CODES = 0x110000 };
enum mask {
    LETTERS = 1 << UPPER | 1 << LOWER | 1 << TITLE | 1 << MODIFIER | 1 << LETTER,
    HEADS = 1 << UPPER | 1 << TITLE | 1 << MODIFIER | 1 << LETTER | 1 << MARK, /* of a word */
    TAILS = 1 << LOWER | 1 << MODIFIER | 1 << LETTER | 1 << MARK,
    NUMBERS = 1 << NUMBER,
    BLANKS = 1 << BLANK,
    LINE_ENDS = 1 << LINE_END,
    WHITE = 1 << GAP | BLANKS | LINE_ENDS,
    SIGNS = 1 << OTHER | 1 << MARK | 1 << SLASH, /* neither letter, number nor white */
    NOT_STOPS = LETTERS | NUMBERS | SIGNS
};

struct merge {
    int32_t left, right, result; /* ids */
    int32_t rank;                /* lower goes first */
};

struct pre {
    const char *name;
    enum { NO_SHORTS, LOWER_SHORTS, ANY_SHORTS } shorts; /* 's 't 're 've 'm 'll 'd are words */
    int before_letters; /* what one character of may stand before letters ... */
    int before_numbers; /* ... and before numbers */
    size_t numbers;     /* at most in a word */
    int after_signs;    /* what follows signs in their word */
    bool lines;         /* white space up to the last line end in it is a word */
    bool cased;         /* a capital after a small letter starts a word; marks are letters */
    bool numbers_first; /* white space before a number ends as at the end of the text */
    bool stops;         /* BLOOM's, by STOP alone */
    bool whole;         /* a word that is a piece is that piece, whatever the merges say */
    bool bos;           /* what llama.cpp takes for an absent add_bos_token */
};

/* clang-format off */
/* tools/unicode.py writes: first code point of a run x 16 + class */
static const uint32_t CLASSES[] = { /* Unicode 16.0.0 */
    0x0, 0x98, 0xe0, 0x208, 0x210, 0x307, 0x3a0, 0x411, 0x5b0, 0x612, 0x7b0, 0x858, 0x860, 0xa08,
    0xa10, 0xaa5, 0xab0, 0xb27, 0xb40, 0xb52, 0xb60, 0xb97, 0xba5, 0xbb0, 0xbc7, 0xbf0, 0xc01,
    0xd70, 0xd81, 0xdf2, 0xf70, 0xf82, 0x1009, 0x1382, 0x1399, 0x1492, 0x14a9, 0x1781, 0x1799,
    0x17f2, 0x1811, 0x1829, 0x1861, 0x1882, 0x1891, 0x18c2, 0x18e1, 0x1922, 0x1931, 0x1952, 0x1961,
    0x1992, 0x19c1, 0x19e2, 0x19f1, 0x1a09, 0x1a61, 0x1a79, 0x1ab2, 0x1ac1, 0x1ad2, 0x1ae1, 0x1b02,
    0x1b11, 0x1b39, 0x1b71, 0x1b92, 0x1bb5, 0x1bc1, 0x1bd2, 0x1c05, 0x1c41, 0x1c53, 0x1c62, 0x1c71,
    0x1c83, 0x1c92, 0x1ca1, 0x1cb3, 0x1cc2, 0x1cd9, 0x1dd2, 0x1de9, 0x1f02, 0x1f11, 0x1f23, 0x1f32,
    0x1f41, 0x1f52, 0x1f61, 0x1f89, 0x2342, 0x23a1, 0x23c2, 0x23d1, 0x23f2, 0x2411, 0x2422, 0x2431,
    0x2469, 0x2502, 0x2945, 0x2952, 0x2b04, 0x2c20, 0x2c64, 0x2d20, 0x2e04, 0x2e50, 0x2ec4, 0x2ed0,
    0x2ee4, 0x2ef0, 0x3006, 0x3709, 0x3744, 0x3750, 0x3761, 0x3772, 0x3780, 0x37a4, 0x37b2, 0x37e0,
    0x37f1, 0x3800, 0x3861, 0x3870, 0x3881, 0x38b0, 0x38c1, 0x38d0, 0x38e1, 0x3902, 0x3911, 0x3a20,
    0x3a31, 0x3ac2, 0x3cf1, 0x3d02, 0x3d21, 0x3d52, 0x3d89, 0x3f02, 0x3f41, 0x3f52, 0x3f60, 0x3f71,
    0x3f82, 0x3f91, 0x3fb2, 0x3fd1, 0x4302, 0x4609, 0x4820, 0x4836, 0x48a9, 0x4c01, 0x4c19, 0x4cf2,
    0x4d09, 0x5300, 0x5311, 0x5570, 0x5594, 0x55a0, 0x5602, 0x5890, 0x5916, 0x5be0, 0x5bf6, 0x5c00,
    0x5c16, 0x5c30, 0x5c46, 0x5c60, 0x5c76, 0x5c80, 0x5d05, 0x5eb0, 0x5ef5, 0x5f30, 0x6106, 0x61b0,
    0x6205, 0x6404, 0x6415, 0x64b6, 0x6607, 0x66a0, 0x66e5, 0x6706, 0x6715, 0x6d40, 0x6d55, 0x6d66,
    0x6dd0, 0x6df6, 0x6e54, 0x6e76, 0x6e90, 0x6ea6, 0x6ee5, 0x6f07, 0x6fa5, 0x6fd0, 0x6ff5, 0x7000,
    0x7105, 0x7116, 0x7125, 0x7306, 0x74b0, 0x74d5, 0x7a66, 0x7b15, 0x7b20, 0x7c07, 0x7ca5, 0x7eb6,
    0x7f44, 0x7f60, 0x7fa4, 0x7fb0, 0x7fd6, 0x7fe0, 0x8005, 0x8166, 0x81a4, 0x81b6, 0x8244, 0x8256,
    0x8284, 0x8296, 0x82e0, 0x8405, 0x8596, 0x85c0, 0x8605, 0x86b0, 0x8705, 0x8880, 0x8895, 0x88f0,
    0x8976, 0x8a05, 0x8c94, 0x8ca6, 0x8e20, 0x8e36, 0x9045, 0x93a6, 0x93d5, 0x93e6, 0x9505, 0x9516,
    0x9585, 0x9626, 0x9640, 0x9667, 0x9700, 0x9714, 0x9725, 0x9816, 0x9840, 0x9855, 0x98d0, 0x98f5,
    0x9910, 0x9935, 0x9a90, 0x9aa5, 0x9b10, 0x9b25, 0x9b30, 0x9b65, 0x9ba0, 0x9bc6, 0x9bd5, 0x9be6,
    0x9c50, 0x9c76, 0x9c90, 0x9cb6, 0x9ce5, 0x9cf0, 0x9d76, 0x9d80, 0x9dc5, 0x9de0, 0x9df5, 0x9e26,
    0x9e40, 0x9e67, 0x9f05, 0x9f20, 0x9f47, 0x9fa0, 0x9fc5, 0x9fd0, 0x9fe6, 0x9ff0, 0xa016, 0xa040,
    0xa055, 0xa0b0, 0xa0f5, 0xa110, 0xa135, 0xa290, 0xa2a5, 0xa310, 0xa325, 0xa340, 0xa355, 0xa370,
    0xa385, 0xa3a0, 0xa3c6, 0xa3d0, 0xa3e6, 0xa430, 0xa476, 0xa490, 0xa4b6, 0xa4e0, 0xa516, 0xa520,
    0xa595, 0xa5d0, 0xa5e5, 0xa5f0, 0xa667, 0xa706, 0xa725, 0xa756, 0xa760, 0xa816, 0xa840, 0xa855,
    0xa8e0, 0xa8f5, 0xa920, 0xa935, 0xaa90, 0xaaa5, 0xab10, 0xab25, 0xab40, 0xab55, 0xaba0, 0xabc6,
    0xabd5, 0xabe6, 0xac60, 0xac76, 0xaca0, 0xacb6, 0xace0, 0xad05, 0xad10, 0xae05, 0xae26, 0xae40,
    0xae67, 0xaf00, 0xaf95, 0xafa6, 0xb000, 0xb016, 0xb040, 0xb055, 0xb0d0, 0xb0f5, 0xb110, 0xb135,
    0xb290, 0xb2a5, 0xb310, 0xb325, 0xb340, 0xb355, 0xb3a0, 0xb3c6, 0xb3d5, 0xb3e6, 0xb450, 0xb476,
    0xb490, 0xb4b6, 0xb4e0, 0xb556, 0xb580, 0xb5c5, 0xb5e0, 0xb5f5, 0xb626, 0xb640, 0xb667, 0xb700,
    0xb715, 0xb727, 0xb780, 0xb826, 0xb835, 0xb840, 0xb855, 0xb8b0, 0xb8e5, 0xb910, 0xb925, 0xb960,
    0xb995, 0xb9b0, 0xb9c5, 0xb9d0, 0xb9e5, 0xba00, 0xba35, 0xba50, 0xba85, 0xbab0, 0xbae5, 0xbba0,
    0xbbe6, 0xbc30, 0xbc66, 0xbc90, 0xbca6, 0xbce0, 0xbd05, 0xbd10, 0xbd76, 0xbd80, 0xbe67, 0xbf30,
    0xc006, 0xc055, 0xc0d0, 0xc0e5, 0xc110, 0xc125, 0xc290, 0xc2a5, 0xc3a0, 0xc3c6, 0xc3d5, 0xc3e6,
    0xc450, 0xc466, 0xc490, 0xc4a6, 0xc4e0, 0xc556, 0xc570, 0xc585, 0xc5b0, 0xc5d5, 0xc5e0, 0xc605,
    0xc626, 0xc640, 0xc667, 0xc700, 0xc787, 0xc7f0, 0xc805, 0xc816, 0xc840, 0xc855, 0xc8d0, 0xc8e5,
    0xc910, 0xc925, 0xca90, 0xcaa5, 0xcb40, 0xcb55, 0xcba0, 0xcbc6, 0xcbd5, 0xcbe6, 0xcc50, 0xcc66,
    0xcc90, 0xcca6, 0xcce0, 0xcd56, 0xcd70, 0xcdd5, 0xcdf0, 0xce05, 0xce26, 0xce40, 0xce67, 0xcf00,
    0xcf15, 0xcf36, 0xcf40, 0xd006, 0xd045, 0xd0d0, 0xd0e5, 0xd110, 0xd125, 0xd3b6, 0xd3d5, 0xd3e6,
    0xd450, 0xd466, 0xd490, 0xd4a6, 0xd4e5, 0xd4f0, 0xd545, 0xd576, 0xd587, 0xd5f5, 0xd626, 0xd640,
    0xd667, 0xd790, 0xd7a5, 0xd800, 0xd816, 0xd840, 0xd855, 0xd970, 0xd9a5, 0xdb20, 0xdb35, 0xdbc0,
    0xdbd5, 0xdbe0, 0xdc05, 0xdc70, 0xdca6, 0xdcb0, 0xdcf6, 0xdd50, 0xdd66, 0xdd70, 0xdd86, 0xde00,
    0xde67, 0xdf00, 0xdf26, 0xdf40, 0xe015, 0xe316, 0xe325, 0xe346, 0xe3b0, 0xe405, 0xe464, 0xe476,
    0xe4f0, 0xe507, 0xe5a0, 0xe815, 0xe830, 0xe845, 0xe850, 0xe865, 0xe8b0, 0xe8c5, 0xea40, 0xea55,
    0xea60, 0xea75, 0xeb16, 0xeb25, 0xeb46, 0xebd5, 0xebe0, 0xec05, 0xec50, 0xec64, 0xec70, 0xec86,
    0xecf0, 0xed07, 0xeda0, 0xedc5, 0xee00, 0xf005, 0xf010, 0xf186, 0xf1a0, 0xf207, 0xf340, 0xf356,
    0xf360, 0xf376, 0xf380, 0xf396, 0xf3a0, 0xf3e6, 0xf405, 0xf480, 0xf495, 0xf6d0, 0xf716, 0xf850,
    0xf866, 0xf885, 0xf8d6, 0xf980, 0xf996, 0xfbd0, 0xfc66, 0xfc70, 0x10005, 0x102b6, 0x103f5,
    0x10407, 0x104a0, 0x10505, 0x10566, 0x105a5, 0x105e6, 0x10615, 0x10626, 0x10655, 0x10676,
    0x106e5, 0x10716, 0x10755, 0x10826, 0x108e5, 0x108f6, 0x10907, 0x109a6, 0x109e0, 0x10a01,
    0x10c60, 0x10c71, 0x10c80, 0x10cd1, 0x10ce0, 0x10d02, 0x10fb0, 0x10fc4, 0x10fd2, 0x11005,
    0x12490, 0x124a5, 0x124e0, 0x12505, 0x12570, 0x12585, 0x12590, 0x125a5, 0x125e0, 0x12605,
    0x12890, 0x128a5, 0x128e0, 0x12905, 0x12b10, 0x12b25, 0x12b60, 0x12b85, 0x12bf0, 0x12c05,
    0x12c10, 0x12c25, 0x12c60, 0x12c85, 0x12d70, 0x12d85, 0x13110, 0x13125, 0x13160, 0x13185,
    0x135b0, 0x135d6, 0x13600, 0x13697, 0x137d0, 0x13805, 0x13900, 0x13a01, 0x13f60, 0x13f82,
    0x13fe0, 0x14015, 0x166d0, 0x166f5, 0x16808, 0x16815, 0x169b0, 0x16a05, 0x16eb0, 0x16ee7,
    0x16f15, 0x16f90, 0x17005, 0x17126, 0x17160, 0x171f5, 0x17326, 0x17350, 0x17405, 0x17526,
    0x17540, 0x17605, 0x176d0, 0x176e5, 0x17710, 0x17726, 0x17740, 0x17805, 0x17b46, 0x17d40,
    0x17d74, 0x17d80, 0x17dc5, 0x17dd6, 0x17de0, 0x17e07, 0x17ea0, 0x17f07, 0x17fa0, 0x180b6,
    0x180e0, 0x180f6, 0x18107, 0x181a0, 0x18205, 0x18434, 0x18445, 0x18790, 0x18805, 0x18856,
    0x18875, 0x18a96, 0x18aa5, 0x18ab0, 0x18b05, 0x18f60, 0x19005, 0x191f0, 0x19206, 0x192c0,
    0x19306, 0x193c0, 0x19467, 0x19505, 0x196e0, 0x19705, 0x19750, 0x19805, 0x19ac0, 0x19b05,
    0x19ca0, 0x19d07, 0x19db0, 0x1a005, 0x1a176, 0x1a1c0, 0x1a205, 0x1a556, 0x1a5f0, 0x1a606,
    0x1a7d0, 0x1a7f6, 0x1a807, 0x1a8a0, 0x1a907, 0x1a9a0, 0x1aa74, 0x1aa80, 0x1ab06, 0x1acf0,
    0x1b006, 0x1b055, 0x1b346, 0x1b455, 0x1b4d0, 0x1b507, 0x1b5a0, 0x1b6b6, 0x1b740, 0x1b806,
    0x1b835, 0x1ba16, 0x1bae5, 0x1bb07, 0x1bba5, 0x1be66, 0x1bf40, 0x1c005, 0x1c246, 0x1c380,
    0x1c407, 0x1c4a0, 0x1c4d5, 0x1c507, 0x1c5a5, 0x1c784, 0x1c7e0, 0x1c802, 0x1c891, 0x1c8a2,
    0x1c8b0, 0x1c901, 0x1cbb0, 0x1cbd1, 0x1cc00, 0x1cd06, 0x1cd30, 0x1cd46, 0x1ce95, 0x1ced6,
    0x1cee5, 0x1cf46, 0x1cf55, 0x1cf76, 0x1cfa5, 0x1cfb0, 0x1d002, 0x1d2c4, 0x1d6b2, 0x1d784,
    0x1d792, 0x1d9b4, 0x1dc06, 0x1e009, 0x1e962, 0x1e9e9, 0x1f002, 0x1f081, 0x1f102, 0x1f160,
    0x1f181, 0x1f1e0, 0x1f202, 0x1f281, 0x1f302, 0x1f381, 0x1f402, 0x1f460, 0x1f481, 0x1f4e0,
    0x1f502, 0x1f580, 0x1f591, 0x1f5a0, 0x1f5b1, 0x1f5c0, 0x1f5d1, 0x1f5e0, 0x1f5f1, 0x1f602,
    0x1f681, 0x1f702, 0x1f7e0, 0x1f802, 0x1f883, 0x1f902, 0x1f983, 0x1fa02, 0x1fa83, 0x1fb02,
    0x1fb50, 0x1fb62, 0x1fb81, 0x1fbc3, 0x1fbd0, 0x1fbe2, 0x1fbf0, 0x1fc22, 0x1fc50, 0x1fc62,
    0x1fc81, 0x1fcc3, 0x1fcd0, 0x1fd02, 0x1fd40, 0x1fd62, 0x1fd81, 0x1fdc0, 0x1fe02, 0x1fe81,
    0x1fed0, 0x1ff22, 0x1ff50, 0x1ff62, 0x1ff81, 0x1ffc3, 0x1ffd0, 0x20008, 0x200b0, 0x20288,
    0x202a0, 0x202f8, 0x20300, 0x205f8, 0x20600, 0x20707, 0x20714, 0x20720, 0x20747, 0x207a0,
    0x207f4, 0x20807, 0x208a0, 0x20904, 0x209d0, 0x20d06, 0x20f10, 0x21021, 0x21030, 0x21071,
    0x21080, 0x210a2, 0x210b1, 0x210e2, 0x21101, 0x21132, 0x21140, 0x21151, 0x21160, 0x21191,
    0x211e0, 0x21241, 0x21250, 0x21261, 0x21270, 0x21281, 0x21290, 0x212a1, 0x212e0, 0x212f2,
    0x21301, 0x21342, 0x21355, 0x21392, 0x213a0, 0x213c2, 0x213e1, 0x21400, 0x21451, 0x21462,
    0x214a0, 0x214e2, 0x214f0, 0x21507, 0x21831, 0x21842, 0x21857, 0x218a0, 0x24607, 0x249c0,
    0x24ea7, 0x25000, 0x27767, 0x27940, 0x2c001, 0x2c302, 0x2c601, 0x2c612, 0x2c621, 0x2c652,
    0x2c679, 0x2c6d1, 0x2c709, 0x2c742, 0x2c751, 0x2c762, 0x2c7c4, 0x2c7e1, 0x2c809, 0x2ce42,
    0x2ce50, 0x2ceb9, 0x2cef6, 0x2cf21, 0x2cf32, 0x2cf40, 0x2cfd7, 0x2cfe0, 0x2d002, 0x2d260,
    0x2d272, 0x2d280, 0x2d2d2, 0x2d2e0, 0x2d305, 0x2d680, 0x2d6f4, 0x2d700, 0x2d7f6, 0x2d805,
    0x2d970, 0x2da05, 0x2da70, 0x2da85, 0x2daf0, 0x2db05, 0x2db70, 0x2db85, 0x2dbf0, 0x2dc05,
    0x2dc70, 0x2dc85, 0x2dcf0, 0x2dd05, 0x2dd70, 0x2dd85, 0x2ddf0, 0x2de06, 0x2e000, 0x2e2f4,
    0x2e300, 0x30008, 0x30010, 0x30054, 0x30065, 0x30077, 0x30080, 0x30217, 0x302a6, 0x30300,
    0x30314, 0x30360, 0x30387, 0x303b4, 0x303c5, 0x303d0, 0x30415, 0x30970, 0x30996, 0x309b0,
    0x309d4, 0x309f5, 0x30a00, 0x30a15, 0x30fb0, 0x30fc4, 0x30ff5, 0x31000, 0x31055, 0x31300,
    0x31315, 0x318f0, 0x31927, 0x31960, 0x31a05, 0x31c00, 0x31f05, 0x32000, 0x32207, 0x322a0,
    0x32487, 0x32500, 0x32517, 0x32600, 0x32807, 0x328a0, 0x32b17, 0x32c00, 0x34005, 0x4dc00,
    0x4e005, 0xa0154, 0xa0165, 0xa48d0, 0xa4d05, 0xa4f84, 0xa4fe0, 0xa5005, 0xa60c4, 0xa60d0,
    0xa6105, 0xa6207, 0xa62a5, 0xa62c0, 0xa6409, 0xa66e5, 0xa66f6, 0xa6730, 0xa6746, 0xa67e0,
    0xa67f4, 0xa6809, 0xa69c4, 0xa69e6, 0xa6a05, 0xa6e67, 0xa6f06, 0xa6f20, 0xa7174, 0xa7200,
    0xa7229, 0xa7302, 0xa7329, 0xa7704, 0xa7712, 0xa7799, 0xa77d1, 0xa77e9, 0xa7884, 0xa7890,
    0xa78b9, 0xa78f5, 0xa7909, 0xa7942, 0xa7969, 0xa7aa1, 0xa7af2, 0xa7b01, 0xa7b49, 0xa7c41,
    0xa7c79, 0xa7cb1, 0xa7cd2, 0xa7ce0, 0xa7d01, 0xa7d12, 0xa7d20, 0xa7d32, 0xa7d40, 0xa7d52,
    0xa7d69, 0xa7dc1, 0xa7dd0, 0xa7f24, 0xa7f51, 0xa7f62, 0xa7f75, 0xa7f84, 0xa7fa2, 0xa7fb5,
    0xa8026, 0xa8035, 0xa8066, 0xa8075, 0xa80b6, 0xa80c5, 0xa8236, 0xa8280, 0xa82c6, 0xa82d0,
    0xa8307, 0xa8360, 0xa8405, 0xa8740, 0xa8806, 0xa8825, 0xa8b46, 0xa8c60, 0xa8d07, 0xa8da0,
    0xa8e06, 0xa8f25, 0xa8f80, 0xa8fb5, 0xa8fc0, 0xa8fd5, 0xa8ff6, 0xa9007, 0xa90a5, 0xa9266,
    0xa92e0, 0xa9305, 0xa9476, 0xa9540, 0xa9605, 0xa97d0, 0xa9806, 0xa9845, 0xa9b36, 0xa9c10,
    0xa9cf4, 0xa9d07, 0xa9da0, 0xa9e05, 0xa9e56, 0xa9e64, 0xa9e75, 0xa9f07, 0xa9fa5, 0xa9ff0,
    0xaa005, 0xaa296, 0xaa370, 0xaa405, 0xaa436, 0xaa445, 0xaa4c6, 0xaa4e0, 0xaa507, 0xaa5a0,
    0xaa605, 0xaa704, 0xaa715, 0xaa770, 0xaa7a5, 0xaa7b6, 0xaa7e5, 0xaab06, 0xaab15, 0xaab26,
    0xaab55, 0xaab76, 0xaab95, 0xaabe6, 0xaac05, 0xaac16, 0xaac25, 0xaac30, 0xaadb5, 0xaadd4,
    0xaade0, 0xaae05, 0xaaeb6, 0xaaf00, 0xaaf25, 0xaaf34, 0xaaf56, 0xaaf70, 0xab015, 0xab070,
    0xab095, 0xab0f0, 0xab115, 0xab170, 0xab205, 0xab270, 0xab285, 0xab2f0, 0xab302, 0xab5b0,
    0xab5c4, 0xab602, 0xab694, 0xab6a0, 0xab702, 0xabc05, 0xabe36, 0xabeb0, 0xabec6, 0xabee0,
    0xabf07, 0xabfa0, 0xac005, 0xd7a40, 0xd7b05, 0xd7c70, 0xd7cb5, 0xd7fc0, 0xf9005, 0xfa6e0,
    0xfa705, 0xfada0, 0xfb002, 0xfb070, 0xfb132, 0xfb180, 0xfb1d5, 0xfb1e6, 0xfb1f5, 0xfb290,
    0xfb2a5, 0xfb370, 0xfb385, 0xfb3d0, 0xfb3e5, 0xfb3f0, 0xfb405, 0xfb420, 0xfb435, 0xfb450,
    0xfb465, 0xfbb20, 0xfbd35, 0xfd3e0, 0xfd505, 0xfd900, 0xfd925, 0xfdc80, 0xfdf05, 0xfdfc0,
    0xfe006, 0xfe100, 0xfe206, 0xfe300, 0xfe705, 0xfe750, 0xfe765, 0xfefd0, 0xff107, 0xff1a0,
    0xff211, 0xff3b0, 0xff412, 0xff5b0, 0xff665, 0xff704, 0xff715, 0xff9e4, 0xffa05, 0xffbf0,
    0xffc25, 0xffc80, 0xffca5, 0xffd00, 0xffd25, 0xffd80, 0xffda5, 0xffdd0, 0x100005, 0x1000c0,
    0x1000d5, 0x100270, 0x100285, 0x1003b0, 0x1003c5, 0x1003e0, 0x1003f5, 0x1004e0, 0x100505,
    0x1005e0, 0x100805, 0x100fb0, 0x101077, 0x101340, 0x101407, 0x101790, 0x1018a7, 0x1018c0,
    0x101fd6, 0x101fe0, 0x102805, 0x1029d0, 0x102a05, 0x102d10, 0x102e06, 0x102e17, 0x102fc0,
    0x103005, 0x103207, 0x103240, 0x1032d5, 0x103417, 0x103425, 0x1034a7, 0x1034b0, 0x103505,
    0x103766, 0x1037b0, 0x103805, 0x1039e0, 0x103a05, 0x103c40, 0x103c85, 0x103d00, 0x103d17,
    0x103d60, 0x104001, 0x104282, 0x104505, 0x1049e0, 0x104a07, 0x104aa0, 0x104b01, 0x104d40,
    0x104d82, 0x104fc0, 0x105005, 0x105280, 0x105305, 0x105640, 0x105701, 0x1057b0, 0x1057c1,
    0x1058b0, 0x1058c1, 0x105930, 0x105941, 0x105960, 0x105972, 0x105a20, 0x105a32, 0x105b20,
    0x105b32, 0x105ba0, 0x105bb2, 0x105bd0, 0x105c05, 0x105f40, 0x106005, 0x107370, 0x107405,
    0x107560, 0x107605, 0x107680, 0x107804, 0x107860, 0x107874, 0x107b10, 0x107b24, 0x107bb0,
    0x108005, 0x108060, 0x108085, 0x108090, 0x1080a5, 0x108360, 0x108375, 0x108390, 0x1083c5,
    0x1083d0, 0x1083f5, 0x108560, 0x108587, 0x108605, 0x108770, 0x108797, 0x108805, 0x1089f0,
    0x108a77, 0x108b00, 0x108e05, 0x108f30, 0x108f45, 0x108f60, 0x108fb7, 0x109005, 0x109167,
    0x1091c0, 0x109205, 0x1093a0, 0x109805, 0x109b80, 0x109bc7, 0x109be5, 0x109c07, 0x109d00,
    0x109d27, 0x10a005, 0x10a016, 0x10a040, 0x10a056, 0x10a070, 0x10a0c6, 0x10a105, 0x10a140,
    0x10a155, 0x10a180, 0x10a195, 0x10a360, 0x10a386, 0x10a3b0, 0x10a3f6, 0x10a407, 0x10a490,
    0x10a605, 0x10a7d7, 0x10a7f0, 0x10a805, 0x10a9d7, 0x10aa00, 0x10ac05, 0x10ac80, 0x10ac95,
    0x10ae56, 0x10ae70, 0x10aeb7, 0x10af00, 0x10b005, 0x10b360, 0x10b405, 0x10b560, 0x10b587,
    0x10b605, 0x10b730, 0x10b787, 0x10b805, 0x10b920, 0x10ba97, 0x10bb00, 0x10c005, 0x10c490,
    0x10c801, 0x10cb30, 0x10cc02, 0x10cf30, 0x10cfa7, 0x10d005, 0x10d246, 0x10d280, 0x10d307,
    0x10d3a0, 0x10d407, 0x10d4a5, 0x10d4e4, 0x10d4f5, 0x10d501, 0x10d660, 0x10d696, 0x10d6e0,
    0x10d6f4, 0x10d702, 0x10d860, 0x10e607, 0x10e7f0, 0x10e805, 0x10eaa0, 0x10eab6, 0x10ead0,
    0x10eb05, 0x10eb20, 0x10ec25, 0x10ec50, 0x10efc6, 0x10f005, 0x10f1d7, 0x10f275, 0x10f280,
    0x10f305, 0x10f466, 0x10f517, 0x10f550, 0x10f705, 0x10f826, 0x10f860, 0x10fb05, 0x10fc57,
    0x10fcc0, 0x10fe05, 0x10ff70, 0x110006, 0x110035, 0x110386, 0x110470, 0x110527, 0x110706,
    0x110715, 0x110736, 0x110755, 0x110760, 0x1107f6, 0x110835, 0x110b06, 0x110bb0, 0x110c26,
    0x110c30, 0x110d05, 0x110e90, 0x110f07, 0x110fa0, 0x111006, 0x111035, 0x111276, 0x111350,
    0x111367, 0x111400, 0x111445, 0x111456, 0x111475, 0x111480, 0x111505, 0x111736, 0x111740,
    0x111765, 0x111770, 0x111806, 0x111835, 0x111b36, 0x111c15, 0x111c50, 0x111c96, 0x111cd0,
    0x111ce6, 0x111d07, 0x111da5, 0x111db0, 0x111dc5, 0x111dd0, 0x111e17, 0x111f50, 0x112005,
    0x112120, 0x112135, 0x1122c6, 0x112380, 0x1123e6, 0x1123f5, 0x112416, 0x112420, 0x112805,
    0x112870, 0x112885, 0x112890, 0x1128a5, 0x1128e0, 0x1128f5, 0x1129e0, 0x1129f5, 0x112a90,
    0x112b05, 0x112df6, 0x112eb0, 0x112f07, 0x112fa0, 0x113006, 0x113040, 0x113055, 0x1130d0,
    0x1130f5, 0x113110, 0x113135, 0x113290, 0x1132a5, 0x113310, 0x113325, 0x113340, 0x113355,
    0x1133a0, 0x1133b6, 0x1133d5, 0x1133e6, 0x113450, 0x113476, 0x113490, 0x1134b6, 0x1134e0,
    0x113505, 0x113510, 0x113576, 0x113580, 0x1135d5, 0x113626, 0x113640, 0x113666, 0x1136d0,
    0x113706, 0x113750, 0x113805, 0x1138a0, 0x1138b5, 0x1138c0, 0x1138e5, 0x1138f0, 0x113905,
    0x113b60, 0x113b75, 0x113b86, 0x113c10, 0x113c26, 0x113c30, 0x113c56, 0x113c60, 0x113c76,
    0x113cb0, 0x113cc6, 0x113d15, 0x113d26, 0x113d35, 0x113d40, 0x113e16, 0x113e30, 0x114005,
    0x114356, 0x114475, 0x1144b0, 0x114507, 0x1145a0, 0x1145e6, 0x1145f5, 0x114620, 0x114805,
    0x114b06, 0x114c45, 0x114c60, 0x114c75, 0x114c80, 0x114d07, 0x114da0, 0x115805, 0x115af6,
    0x115b60, 0x115b86, 0x115c10, 0x115d85, 0x115dc6, 0x115de0, 0x116005, 0x116306, 0x116410,
    0x116445, 0x116450, 0x116507, 0x1165a0, 0x116805, 0x116ab6, 0x116b85, 0x116b90, 0x116c07,
    0x116ca0, 0x116d07, 0x116e40, 0x117005, 0x1171b0, 0x1171d6, 0x1172c0, 0x117307, 0x1173c0,
    0x117405, 0x117470, 0x118005, 0x1182c6, 0x1183b0, 0x118a01, 0x118c02, 0x118e07, 0x118f30,
    0x118ff5, 0x119070, 0x119095, 0x1190a0, 0x1190c5, 0x119140, 0x119155, 0x119170, 0x119185,
    0x119306, 0x119360, 0x119376, 0x119390, 0x1193b6, 0x1193f5, 0x119406, 0x119415, 0x119426,
    0x119440, 0x119507, 0x1195a0, 0x119a05, 0x119a80, 0x119aa5, 0x119d16, 0x119d80, 0x119da6,
    0x119e15, 0x119e20, 0x119e35, 0x119e46, 0x119e50, 0x11a005, 0x11a016, 0x11a0b5, 0x11a336,
    0x11a3a5, 0x11a3b6, 0x11a3f0, 0x11a476, 0x11a480, 0x11a505, 0x11a516, 0x11a5c5, 0x11a8a6,
    0x11a9a0, 0x11a9d5, 0x11a9e0, 0x11ab05, 0x11af90, 0x11bc05, 0x11be10, 0x11bf07, 0x11bfa0,
    0x11c005, 0x11c090, 0x11c0a5, 0x11c2f6, 0x11c370, 0x11c386, 0x11c405, 0x11c410, 0x11c507,
    0x11c6d0, 0x11c725, 0x11c900, 0x11c926, 0x11ca80, 0x11ca96, 0x11cb70, 0x11d005, 0x11d070,
    0x11d085, 0x11d0a0, 0x11d0b5, 0x11d316, 0x11d370, 0x11d3a6, 0x11d3b0, 0x11d3c6, 0x11d3e0,
    0x11d3f6, 0x11d465, 0x11d476, 0x11d480, 0x11d507, 0x11d5a0, 0x11d605, 0x11d660, 0x11d675,
    0x11d690, 0x11d6a5, 0x11d8a6, 0x11d8f0, 0x11d906, 0x11d920, 0x11d936, 0x11d985, 0x11d990,
    0x11da07, 0x11daa0, 0x11ee05, 0x11ef36, 0x11ef70, 0x11f006, 0x11f025, 0x11f036, 0x11f045,
    0x11f110, 0x11f125, 0x11f346, 0x11f3b0, 0x11f3e6, 0x11f430, 0x11f507, 0x11f5a6, 0x11f5b0,
    0x11fb05, 0x11fb10, 0x11fc07, 0x11fd50, 0x120005, 0x1239a0, 0x124007, 0x1246f0, 0x124805,
    0x125440, 0x12f905, 0x12ff10, 0x130005, 0x134300, 0x134406, 0x134415, 0x134476, 0x134560,
    0x134605, 0x143fb0, 0x144005, 0x146470, 0x161005, 0x1611e6, 0x161307, 0x1613a0, 0x168005,
    0x16a390, 0x16a405, 0x16a5f0, 0x16a607, 0x16a6a0, 0x16a705, 0x16abf0, 0x16ac07, 0x16aca0,
    0x16ad05, 0x16aee0, 0x16af06, 0x16af50, 0x16b005, 0x16b306, 0x16b370, 0x16b404, 0x16b440,
    0x16b507, 0x16b5a0, 0x16b5b7, 0x16b620, 0x16b635, 0x16b780, 0x16b7d5, 0x16b900, 0x16d404,
    0x16d435, 0x16d6b4, 0x16d6d0, 0x16d707, 0x16d7a0, 0x16e401, 0x16e602, 0x16e807, 0x16e970,
    0x16f005, 0x16f4b0, 0x16f4f6, 0x16f505, 0x16f516, 0x16f880, 0x16f8f6, 0x16f934, 0x16fa00,
    0x16fe04, 0x16fe20, 0x16fe34, 0x16fe46, 0x16fe50, 0x16ff06, 0x16ff20, 0x170005, 0x187f80,
    0x188005, 0x18cd60, 0x18cff5, 0x18d090, 0x1aff04, 0x1aff40, 0x1aff54, 0x1affc0, 0x1affd4,
    0x1afff0, 0x1b0005, 0x1b1230, 0x1b1325, 0x1b1330, 0x1b1505, 0x1b1530, 0x1b1555, 0x1b1560,
    0x1b1645, 0x1b1680, 0x1b1705, 0x1b2fc0, 0x1bc005, 0x1bc6b0, 0x1bc705, 0x1bc7d0, 0x1bc805,
    0x1bc890, 0x1bc905, 0x1bc9a0, 0x1bc9d6, 0x1bc9f0, 0x1ccf07, 0x1ccfa0, 0x1cf006, 0x1cf2e0,
    0x1cf306, 0x1cf470, 0x1d1656, 0x1d16a0, 0x1d16d6, 0x1d1730, 0x1d17b6, 0x1d1830, 0x1d1856,
    0x1d18c0, 0x1d1aa6, 0x1d1ae0, 0x1d2426, 0x1d2450, 0x1d2c07, 0x1d2d40, 0x1d2e07, 0x1d2f40,
    0x1d3607, 0x1d3790, 0x1d4001, 0x1d41a2, 0x1d4341, 0x1d44e2, 0x1d4550, 0x1d4562, 0x1d4681,
    0x1d4822, 0x1d49c1, 0x1d49d0, 0x1d49e1, 0x1d4a00, 0x1d4a21, 0x1d4a30, 0x1d4a51, 0x1d4a70,
    0x1d4a91, 0x1d4ad0, 0x1d4ae1, 0x1d4b62, 0x1d4ba0, 0x1d4bb2, 0x1d4bc0, 0x1d4bd2, 0x1d4c40,
    0x1d4c52, 0x1d4d01, 0x1d4ea2, 0x1d5041, 0x1d5060, 0x1d5071, 0x1d50b0, 0x1d50d1, 0x1d5150,
    0x1d5161, 0x1d51d0, 0x1d51e2, 0x1d5381, 0x1d53a0, 0x1d53b1, 0x1d53f0, 0x1d5401, 0x1d5450,
    0x1d5461, 0x1d5470, 0x1d54a1, 0x1d5510, 0x1d5522, 0x1d56c1, 0x1d5862, 0x1d5a01, 0x1d5ba2,
    0x1d5d41, 0x1d5ee2, 0x1d6081, 0x1d6222, 0x1d63c1, 0x1d6562, 0x1d6701, 0x1d68a2, 0x1d6a60,
    0x1d6a81, 0x1d6c10, 0x1d6c22, 0x1d6db0, 0x1d6dc2, 0x1d6e21, 0x1d6fb0, 0x1d6fc2, 0x1d7150,
    0x1d7162, 0x1d71c1, 0x1d7350, 0x1d7362, 0x1d74f0, 0x1d7502, 0x1d7561, 0x1d76f0, 0x1d7702,
    0x1d7890, 0x1d78a2, 0x1d7901, 0x1d7a90, 0x1d7aa2, 0x1d7c30, 0x1d7c42, 0x1d7ca1, 0x1d7cb2,
    0x1d7cc0, 0x1d7ce7, 0x1d8000, 0x1da006, 0x1da370, 0x1da3b6, 0x1da6d0, 0x1da756, 0x1da760,
    0x1da846, 0x1da850, 0x1da9b6, 0x1daa00, 0x1daa16, 0x1dab00, 0x1df002, 0x1df0a5, 0x1df0b2,
    0x1df1f0, 0x1df252, 0x1df2b0, 0x1e0006, 0x1e0070, 0x1e0086, 0x1e0190, 0x1e01b6, 0x1e0220,
    0x1e0236, 0x1e0250, 0x1e0266, 0x1e02b0, 0x1e0304, 0x1e06e0, 0x1e08f6, 0x1e0900, 0x1e1005,
    0x1e12d0, 0x1e1306, 0x1e1374, 0x1e13e0, 0x1e1407, 0x1e14a0, 0x1e14e5, 0x1e14f0, 0x1e2905,
    0x1e2ae6, 0x1e2af0, 0x1e2c05, 0x1e2ec6, 0x1e2f07, 0x1e2fa0, 0x1e4d05, 0x1e4eb4, 0x1e4ec6,
    0x1e4f07, 0x1e4fa0, 0x1e5d05, 0x1e5ee6, 0x1e5f05, 0x1e5f17, 0x1e5fb0, 0x1e7e05, 0x1e7e70,
    0x1e7e85, 0x1e7ec0, 0x1e7ed5, 0x1e7ef0, 0x1e7f05, 0x1e7ff0, 0x1e8005, 0x1e8c50, 0x1e8c77,
    0x1e8d06, 0x1e8d70, 0x1e9001, 0x1e9222, 0x1e9446, 0x1e94b4, 0x1e94c0, 0x1e9507, 0x1e95a0,
    0x1ec717, 0x1ecac0, 0x1ecad7, 0x1ecb00, 0x1ecb17, 0x1ecb50, 0x1ed017, 0x1ed2e0, 0x1ed2f7,
    0x1ed3e0, 0x1ee005, 0x1ee040, 0x1ee055, 0x1ee200, 0x1ee215, 0x1ee230, 0x1ee245, 0x1ee250,
    0x1ee275, 0x1ee280, 0x1ee295, 0x1ee330, 0x1ee345, 0x1ee380, 0x1ee395, 0x1ee3a0, 0x1ee3b5,
    0x1ee3c0, 0x1ee425, 0x1ee430, 0x1ee475, 0x1ee480, 0x1ee495, 0x1ee4a0, 0x1ee4b5, 0x1ee4c0,
    0x1ee4d5, 0x1ee500, 0x1ee515, 0x1ee530, 0x1ee545, 0x1ee550, 0x1ee575, 0x1ee580, 0x1ee595,
    0x1ee5a0, 0x1ee5b5, 0x1ee5c0, 0x1ee5d5, 0x1ee5e0, 0x1ee5f5, 0x1ee600, 0x1ee615, 0x1ee630,
    0x1ee645, 0x1ee650, 0x1ee675, 0x1ee6b0, 0x1ee6c5, 0x1ee730, 0x1ee745, 0x1ee780, 0x1ee795,
    0x1ee7d0, 0x1ee7e5, 0x1ee7f0, 0x1ee805, 0x1ee8a0, 0x1ee8b5, 0x1ee9c0, 0x1eea15, 0x1eea40,
    0x1eea55, 0x1eeaa0, 0x1eeab5, 0x1eebc0, 0x1f1007, 0x1f10d0, 0x1fbf07, 0x1fbfa0, 0x200005,
    0x2a6e00, 0x2a7005, 0x2b73a0, 0x2b7405, 0x2b81e0, 0x2b8205, 0x2cea20, 0x2ceb05, 0x2ebe10,
    0x2ebf05, 0x2ee5e0, 0x2f8005, 0x2fa1e0, 0x300005, 0x3134b0, 0x313505, 0x323b00, 0xe01006,
    0xe01f00,
};
/* tools/unicode.py ends */
/* clang-format on */

static const struct pre *find_pre(struct span name) {
    enum { ANY = SIGNS | 1 << GAP | BLANKS, SLASHED = LINE_ENDS | 1 << SLASH, MANY = INT32_MAX };
    static const struct pre known[] = {{.name = "gpt-2",
                                        .shorts = LOWER_SHORTS,
                                        .before_letters = BLANKS,
                                        .before_numbers = BLANKS,
                                        .numbers = MANY},
                                       {.name = "phi-2",
                                        .shorts = LOWER_SHORTS,
                                        .before_letters = BLANKS,
                                        .before_numbers = BLANKS,
                                        .numbers = MANY},
                                       {.name = "command-r",
                                        .shorts = LOWER_SHORTS,
                                        .before_letters = BLANKS,
                                        .numbers = 1,
                                        .numbers_first = true},
                                       {.name = "llama-bpe",
                                        .shorts = ANY_SHORTS,
                                        .before_letters = ANY,
                                        .numbers = 3,
                                        .after_signs = LINE_ENDS,
                                        .lines = true,
                                        .whole = true,
                                        .bos = true},
                                       {.name = "qwen2",
                                        .shorts = ANY_SHORTS,
                                        .before_letters = ANY,
                                        .numbers = 1,
                                        .after_signs = LINE_ENDS,
                                        .lines = true},
                                       {.name = "tekken",
                                        .before_letters = ANY,
                                        .numbers = 1,
                                        .after_signs = SLASHED,
                                        .lines = true,
                                        .cased = true,
                                        .whole = true,
                                        .bos = true},
                                       {.name = "bloom", .stops = true}};
    for (size_t i = 0; i < sizeof known / sizeof *known; i++)
        if (span_is(name, known[i].name)) return &known[i];
    return NULL;
}

int default_bos(struct span pre) {
    const struct pre *p = find_pre(pre);
    return p ? p->bos : -1;
}

/* The class of every code point, as the tokenizer's family sees it. */
static uint8_t *new_classes(const struct pre *pre) {
    static const uint16_t stop[] = {'(',    '|',    '.',    ',',    '!',   '?',   ')',
                                    0x2026, 0x3002, 0xff0c, 0x3001, 0x964, 0x6d4, 0x60c};
    const size_t runs = sizeof CLASSES / sizeof *CLASSES;
    uint8_t *of = new_array(CODES, 1);
    for (size_t i = 0; i < runs; i++) {
        uint32_t first = CLASSES[i] >> 4, end = i + 1 < runs ? CLASSES[i + 1] >> 4 : CODES;
        int class = CLASSES[i] & 15;
        for (uint32_t c = first; c < end; c++)
            of[c] = (uint8_t)(class == PAIRS ? ((c - first) % 2 ? LOWER : UPPER) : class);
    }
    of[' '] = BLANK;
    of['\r'] = of['\n'] = LINE_END;
    of['/'] = SLASH;
    for (size_t i = 0; pre->stops && i < sizeof stop / sizeof *stop; i++) of[stop[i]] = STOP;
    return of;
}

struct tokenizer {
    struct vocabulary v;
    int32_t *slot;     /* hash table of pieces that text can match: id or -1 */
    size_t slots;      /* a power of two */
    uint64_t *pair;    /* hash table of characters that stand side by side in a piece; 0 is free */
    size_t pairs;      /* a power of two */
    int32_t byte[256]; /* ids of the byte pieces; byte[0] is -1 when there are none */
    int32_t unknown;   /* -1 when there is none */
    bool user_start[256]; /* first bytes of user-defined pieces */
    size_t longest_user;
    struct span *raw;    /* [n] what the pieces look like in a text at hand; v.piece is this */
    struct buffer bytes; /* what they are made of */
    /* GPT-2's only */
    struct pre pre;
    int32_t *kind;       /* [n] likewise v.kind: UNUSED where no text can match */
    struct merge *merge; /* hash table by left and right; result -1 is free */
    size_t merges;       /* a power of two; 0: the tokenizer is SentencePiece's */
    uint8_t *class;      /* [CODES] enum class of a code point */
};

/* ---- UTF-8 ----------------------------------------------------------------------------------- */

size_t character(struct span s, uint32_t *code) {
    static const uint32_t least[] = {0, 0, 0x80, 0x800, 0x10000}; /* overlong below it */
    const uint8_t *b = (const uint8_t *)s.at;
    size_t n = b[0] < 0x80 ? 1 : b[0] >> 5 == 6 ? 2 : b[0] >> 4 == 14 ? 3 : b[0] >> 3 == 30 ? 4 : 0;
    if (n == 0 || n > s.n) return 0;
    uint32_t c = n == 1 ? b[0] : b[0] & (0x7fu >> n);
    for (size_t i = 1; i < n; i++) {
        if (b[i] >> 6 != 2) return 0;
        c = c << 6 | (b[i] & 0x3f);
    }
    if (c < least[n] || c > 0x10ffff || (c >= 0xd800 && c < 0xe000)) return 0;
    *code = c;
    return n;
}

size_t whole_characters(struct span text) {
    for (size_t back = 1; back <= 3 && back <= text.n; back++) {
        uint8_t b = (uint8_t)text.at[text.n - back];
        if (b >> 6 == 2)
            continue; /* in the middle of a character: look further back for its start */
        size_t needs = b >> 5 == 6 ? 2 : b >> 4 == 14 ? 3 : b >> 3 == 30 ? 4 : 1;
        return needs > back ? text.n - back : text.n;
    }
    return text.n;
}

/* ---- The tables ------------------------------------------------------------------------------ */

static uint64_t hash_bytes(struct span s) {
    uint64_t h = 0xcbf29ce484222325; /* FNV-1a */
    for (size_t i = 0; i < s.n; i++) h = (h ^ (uint8_t)s.at[i]) * 0x100000001b3;
    return h ^ h >> 32;
}

/* The slot of a piece: where it is, or where it would go. GPT-2's user-defined pieces are text, the
 * others bytes: one of each may read the same. */
static size_t find_slot(const struct tokenizer *t, struct span s, bool user) {
    size_t i = hash_bytes(s) & (t->slots - 1);
    for (; t->slot[i] >= 0; i = (i + 1) & (t->slots - 1)) {
        struct span p = t->v.piece[t->slot[i]];
        bool kind = t->merges == 0 || (t->v.kind[t->slot[i]] == PIECE_USER) == user;
        if (kind && p.n == s.n && memcmp(p.at, s.at, s.n) == 0) break;
    }
    return i;
}

/* The id of the piece that is exactly s, or -1. */
static int32_t find_piece(const struct tokenizer *t, struct span s) {
    return t->slot[find_slot(t, s, false)];
}

static size_t find_pair(const struct tokenizer *t, uint64_t pair) {
    size_t i = (pair * 0x9e3779b97f4a7c15 >> 20) & (t->pairs - 1);
    while (t->pair[i] && t->pair[i] != pair) i = (i + 1) & (t->pairs - 1);
    return i;
}

static uint64_t pair_of(uint32_t left, uint32_t right) {
    return ((uint64_t)left << 21 | right) + 1;
}

static bool can_join(const struct tokenizer *t, uint32_t left, uint32_t right) {
    return t->pair[find_pair(t, pair_of(left, right))] != 0;
}

static int add_text_piece(struct tokenizer *t, int32_t id, struct error *e) {
    struct span p = t->v.piece[id];
    size_t slot = find_slot(t, p, t->v.kind[id] == PIECE_USER);
    uint32_t code, last = 0;
    if (t->slot[slot] >= 0)
        return fail(e, "tokens %d and %d are the same piece", t->slot[slot], id);
    t->slot[slot] = id;
    if (p.n == 0) return fail(e, "token %d is an empty piece", id);
    for (size_t i = 0, n; t->merges == 0 && i < p.n; i += n, last = code) {
        n = character((struct span){p.at + i, p.n - i}, &code);
        if (n == 0) return fail(e, "token %d is not UTF-8", id);
        if (i > 0) t->pair[find_pair(t, pair_of(last, code))] = pair_of(last, code);
    }
    if (t->v.kind[id] == PIECE_USER) {
        t->user_start[(uint8_t)p.at[0]] = true;
        t->longest_user = p.n > t->longest_user ? p.n : t->longest_user;
    }
    return 0;
}

static int add_byte_piece(struct tokenizer *t, int32_t id, struct error *e) {
    static const char digit[] = "0123456789ABCDEF";
    struct span p = t->v.piece[id];
    const char *high, *low;
    if (p.n != 6 || memcmp(p.at, "<0x", 3) != 0 || p.at[5] != '>' ||
        !(high = memchr(digit, p.at[3], 16)) || !(low = memchr(digit, p.at[4], 16)))
        return fail(e, "token %d is a byte, but not written <0x00> to <0xFF>", id);
    int32_t *byte = &t->byte[(high - digit) * 16 + (low - digit)];
    if (*byte >= 0) return fail(e, "tokens %d and %d are the same byte", *byte, id);
    *byte = id;
    return 0;
}

static int add_piece(struct tokenizer *t, int32_t id, struct error *e) {
    switch (t->v.kind[id]) {
    case PIECE_NORMAL:
    case PIECE_USER: return add_text_piece(t, id, e);
    case PIECE_BYTE: return add_byte_piece(t, id, e);
    case PIECE_UNKNOWN: t->unknown = id; return 0;
    case PIECE_CONTROL:
    case PIECE_UNUSED: return 0;
    default: return fail(e, "token %d is of kind %d; 1 to 6 are known", id, t->v.kind[id]);
    }
}

/* The pieces that text can match, by what they read. */
static int add_pieces(struct tokenizer *t, struct error *e) {
    for (t->slots = 64; t->slots < 2 * (size_t)t->v.n;) t->slots *= 2;
    t->slot = new_array(t->slots, sizeof *t->slot);
    memset(t->slot, -1, t->slots * sizeof *t->slot);
    t->unknown = -1;
    for (int32_t i = 0; i < t->v.n; i++)
        if (add_piece(t, i, e)) return -1;
    return 0;
}

/* A space is U+2581 in user-defined pieces too, which llama.cpp's converter writes as they read. */
static void mark_spaces(struct tokenizer *t) {
    const struct vocabulary *v = &t->v;
    t->raw = new_array((size_t)v->n + 1, sizeof *t->raw);
    for (int32_t i = 0; i < v->n; i++) {
        const size_t start = t->bytes.n;
        for (size_t k = 0; k < v->piece[i].n; k++) {
            const bool space = v->kind[i] == PIECE_USER && v->piece[i].at[k] == ' ';
            buffer_add(&t->bytes, space ? SPACE : v->piece[i].at + k, space ? SPACE_BYTES : 1);
        }
        t->raw[i].n = t->bytes.n - start;
    }
    const char *at = t->bytes.at;
    for (int32_t i = 0; i < v->n; at += t->raw[i++].n) t->raw[i].at = at;
    t->v.piece = t->raw;
}

static int fill_tables(struct tokenizer *t, struct error *e) {
    size_t bytes = 0, missing = 0;
    mark_spaces(t);
    for (int32_t i = 0; i < t->v.n; i++) bytes += t->v.piece[i].n;
    for (t->pairs = 64; t->pairs < 2 * bytes;) t->pairs *= 2;
    t->pair = new_array(t->pairs, sizeof *t->pair);
    memset(t->byte, -1, sizeof t->byte);
    if (add_pieces(t, e)) return -1;
    for (int b = 0; b < 256; b++) missing += t->byte[b] < 0;
    if (missing > 0 && missing < 256)
        return fail(e, "%zu of the 256 byte tokens are missing", missing);
    if (missing > 0 && t->unknown < 0)
        return fail(e, "there are neither byte tokens nor an unknown token");
    return 0;
}

/* The byte that a character of GPT-2's alphabet stands for, -1 when it is not of it: printable ones
 * of Latin-1 are themselves, the others follow from U+0100 on in their order. */
static int byte_of(uint32_t code) {
    uint32_t next = 256;
    for (uint32_t b = 0; b < 256; b++) {
        bool itself = (b > 32 && b < 127) || (b > 160 && b != 173);
        if (code == (itself ? b : next)) return (int)b;
        next += !itself;
    }
    return -1;
}

/* Appends what a piece stands for. 1 when the piece is not of the alphabet: then nothing is. */
static int add_raw(const int16_t *alphabet, struct span piece, struct buffer *to) {
    const size_t start = to->n;
    uint32_t code;
    for (size_t i = 0, n; i < piece.n; i += n) {
        n = character((struct span){piece.at + i, piece.n - i}, &code);
        if (n == 0 || code >= 512 || alphabet[code] < 0) {
            to->n = start;
            return 1;
        }
        buffer_add(to, &(uint8_t){(uint8_t)alphabet[code]}, 1);
    }
    return 0;
}

/* The pieces in bytes. Normal ones that are not of the alphabet can never be matched. */
static int fill_raw(struct tokenizer *t, const int16_t *alphabet, struct error *e) {
    const struct vocabulary *v = &t->v;
    int32_t *kind = t->kind = new_array((size_t)v->n + 1, sizeof *kind);
    size_t start = 0;
    uint32_t code;
    t->raw = new_array((size_t)v->n + 1, sizeof *t->raw);
    for (int32_t i = 0; i < v->n; i++) {
        kind[i] = v->kind[i];
        for (size_t k = 0, n; k < v->piece[i].n; k += n)
            if (!(n = character((struct span){v->piece[i].at + k, v->piece[i].n - k}, &code)))
                return fail(e, "token %d is not UTF-8", i);
        if (kind[i] == PIECE_BYTE)
            return fail(e, "token %d is of kind 6, which GPT-2's are not", i);
        if (kind[i] != PIECE_NORMAL || add_raw(alphabet, v->piece[i], &t->bytes)) {
            buffer_add(&t->bytes, v->piece[i].at, v->piece[i].n);
            if (kind[i] == PIECE_NORMAL) kind[i] = PIECE_UNUSED;
        }
        t->raw[i].n = t->bytes.n - start;
        start = t->bytes.n;
    }
    const char *at = t->bytes.at;
    for (int32_t i = 0; i < v->n; at += t->raw[i++].n) t->raw[i].at = at;
    t->v.piece = t->raw;
    t->v.kind = kind;
    return 0;
}

static struct merge *find_merge(const struct tokenizer *t, int32_t left, int32_t right) {
    uint64_t both = (uint64_t)left << 32 | (uint32_t)right;
    size_t i = ((both * 0x9e3779b97f4a7c15) >> 20) & (t->merges - 1);
    while (t->merge[i].result >= 0 && (t->merge[i].left != left || t->merge[i].right != right))
        i = (i + 1) & (t->merges - 1);
    return &t->merge[i];
}

/* A merge is two pieces of the alphabet with a space between, and is a piece itself. */
static int add_merge(struct tokenizer *t, const int16_t *alphabet, int32_t rank, struct error *e) {
    struct span s = t->v.merge[rank];
    const char *space = s.n ? memchr(s.at + 1, ' ', s.n - 1) : NULL;
    struct buffer both = {0};
    if (!space) return fail(e, "merge %d is not two pieces with a space between", rank);
    size_t n = (size_t)(space - s.at);
    int bad = add_raw(alphabet, (struct span){s.at, n}, &both);
    n = both.n;
    if (!bad) bad = add_raw(alphabet, (struct span){space + 1, s.at + s.n - space - 1}, &both);
    const char *at = both.at;
    if (bad || n == 0 || n == both.n) {
        free(both.at);
        return fail(e, "merge %d is not two pieces with a space between", rank);
    }
    int32_t left = find_piece(t, (struct span){at, n});
    int32_t right = find_piece(t, (struct span){at + n, both.n - n});
    int32_t result = find_piece(t, (struct span){at, both.n});
    free(both.at);
    if (left < 0 || right < 0 || result < 0)
        return fail(e, "merge %d has a part or a result that is no token", rank);
    struct merge *m = find_merge(t, left, right);
    if (m->result >= 0) return fail(e, "merges %d and %d are the same", m->rank, rank);
    *m = (struct merge){left, right, result, rank};
    return 0;
}

/* The tables of GPT-2's. */
static int fill_merges(struct tokenizer *t, struct error *e) {
    int16_t alphabet[512];
    for (uint32_t c = 0; c < 512; c++) alphabet[c] = (int16_t)byte_of(c);
    for (t->merges = 64; t->merges < 2 * (size_t)t->v.merges;) t->merges *= 2;
    t->merge = new_array(t->merges, sizeof *t->merge);
    for (size_t i = 0; i < t->merges; i++) t->merge[i].result = -1;
    if (fill_raw(t, alphabet, e) || add_pieces(t, e)) return -1;
    for (int b = 0; b < 256; b++) {
        t->byte[b] = find_piece(t, (struct span){&(const char){(char)b}, 1});
        if (t->byte[b] < 0) return fail(e, "the byte 0x%02X has no token", (unsigned)b);
    }
    for (int32_t i = 0; i < t->v.merges; i++)
        if (add_merge(t, alphabet, i, e)) return -1;
    t->class = new_classes(&t->pre);
    return 0;
}

struct tokenizer *tokenizer_new(const struct vocabulary *v, struct error *e) {
    const struct pre *pre = find_pre(v->pre);
    if (v->pre.at && !pre) {
        fail(e,
             "pre-tokenizer '%.*s' is none of gpt-2, llama-bpe, bloom, qwen2, phi-2, tekken, "
             "command-r",
             v->pre.n < 64 ? (int)v->pre.n : 64, v->pre.at);
        return NULL;
    }
    struct tokenizer *t = new_array(1, sizeof *t);
    t->v = *v;
    if (pre) t->pre = *pre;
    if ((pre ? fill_merges(t, e) : fill_tables(t, e)) == 0) return t;
    tokenizer_free(t);
    return NULL;
}

void tokenizer_free(struct tokenizer *t) {
    if (!t) return;
    free(t->slot);
    free(t->pair);
    free(t->raw);
    free(t->kind);
    free(t->bytes.at);
    free(t->merge);
    free(t->class);
    free(t);
}

/* ---- Encoding -------------------------------------------------------------------------------- */

/* A piece of the text in the making. Joined ones lie on the left symbol; the right one is empty. */
struct symbol {
    struct span text;
    int32_t left, right; /* neighbours, -1 at the ends */
    int32_t id;          /* GPT-2's: which piece it is */
};

/* Two neighbours that could be joined. It is out of date when they are not `bytes` long any more.
 */
struct candidate {
    double score;
    int32_t left, right;
    size_t bytes;
};

struct encoder {
    const struct tokenizer *t;
    struct buffer *ids;
    struct buffer symbols, heap; /* struct symbol, struct candidate: room used again and again */
    bool after_unknown;
};

static void emit(struct encoder *c, int32_t id) {
    c->after_unknown = id == c->t->unknown;
    buffer_add(c->ids, &id, sizeof id);
}

/* A piece, or a character that is none: its bytes, or one unknown token for a run of them. */
static void emit_text(struct encoder *c, struct span text) {
    int32_t id = find_piece(c->t, text);
    if (id >= 0)
        emit(c, id);
    else if (c->t->byte[0] >= 0)
        for (size_t i = 0; i < text.n; i++) emit(c, c->t->byte[(uint8_t)text.at[i]]);
    else if (!c->after_unknown)
        emit(c, c->t->unknown);
}

static bool goes_first(const struct candidate *a, const struct candidate *b) {
    return a->score > b->score || (a->score == b->score && a->left < b->left);
}

static void heap_push(struct encoder *c, struct candidate new) {
    size_t i = c->heap.n / sizeof new;
    buffer_add(&c->heap, &new, sizeof new);
    struct candidate *heap = c->heap.at;
    for (; i > 0 && goes_first(&new, &heap[(i - 1) / 2]); i = (i - 1) / 2)
        heap[i] = heap[(i - 1) / 2];
    heap[i] = new;
}

static struct candidate heap_pop(struct encoder *c) {
    struct candidate *heap = c->heap.at;
    struct candidate top = heap[0];
    c->heap.n -= sizeof top;
    size_t n = c->heap.n / sizeof top, i = 0, child;
    struct candidate last = heap[n];
    for (; (child = 2 * i + 1) < n; i = child) {
        child += child + 1 < n && goes_first(&heap[child + 1], &heap[child]);
        if (!goes_first(&heap[child], &last)) break;
        heap[i] = heap[child];
    }
    heap[i] = last;
    return top;
}

/* Symbols lie side by side in the text, so two of them joined are one span. */
static void consider(struct encoder *c, const struct symbol *s, int32_t left, int32_t right) {
    if (left < 0 || right < 0) return;
    if (c->t->merges) {
        const struct merge *m = find_merge(c->t, s[left].id, s[right].id);
        size_t bytes = s[left].text.n + s[right].text.n;
        if (m->result >= 0) heap_push(c, (struct candidate){-m->rank, left, right, bytes});
        return;
    }
    struct span both = {s[left].text.at, s[left].text.n + s[right].text.n};
    int32_t id = find_piece(c->t, both);
    if (id >= 0) heap_push(c, (struct candidate){c->t->v.score[id], left, right, both.n});
}

static void join(struct encoder *c, struct symbol *s, const struct candidate *best) {
    struct symbol *left = &s[best->left], *right = &s[best->right];
    if (!left->text.n || !right->text.n || left->text.n + right->text.n != best->bytes)
        return; /* out of date */
    if (c->t->merges) left->id = find_merge(c->t, left->id, right->id)->result;
    left->text.n = best->bytes;
    right->text.n = 0;
    left->right = right->right;
    if (left->right >= 0) s[left->right].left = best->left;
    consider(c, s, left->left, best->left);
    consider(c, s, best->left, left->right);
}

/* A stretch of text, without user-defined pieces, in which every two neighbours may join. */
static void encode_stretch(struct encoder *c, struct span text) {
    uint32_t code;
    int32_t n = 0;
    if (text.n == 0) return;
    c->symbols.n = c->heap.n = 0;
    for (size_t i = 0, bytes; i < text.n; i += bytes, n++) {
        bytes = c->t->merges ? 1 : character((struct span){text.at + i, text.n - i}, &code);
        struct symbol s = {{text.at + i, bytes},
                           n - 1,
                           i + bytes < text.n ? n + 1 : -1,
                           c->t->byte[(uint8_t)text.at[i]]};
        buffer_add(&c->symbols, &s, sizeof s);
    }
    struct symbol *s = c->symbols.at;
    for (int32_t i = 1; i < n; i++) consider(c, s, i - 1, i);
    while (c->heap.n) {
        struct candidate best = heap_pop(c);
        join(c, s, &best);
    }
    for (int32_t i = 0; i >= 0; i = s[i].right)
        if (c->t->merges)
            emit(c, s[i].id);
        else
            emit_text(c, s[i].text);
}

/* Bytes of the longest user-defined piece at the start of the text, 0 if none is there. */
static size_t user_piece(const struct tokenizer *t, struct span text) {
    if (!t->user_start[(uint8_t)text.at[0]]) return 0;
    for (size_t n = text.n < t->longest_user ? text.n : t->longest_user; n > 0; n--) {
        int32_t id = t->slot[find_slot(t, (struct span){text.at, n}, true)];
        if (id >= 0 && t->v.kind[id] == PIECE_USER) return n;
    }
    return 0;
}

/* Cuts the text where nothing can join, and encodes what lies between. */
static void encode_all(struct encoder *c, struct span text) {
    size_t start = 0, n;
    uint32_t code = 0, last = 0;
    for (size_t i = 0; i < text.n; i += n, last = code) {
        struct span rest = {text.at + i, text.n - i};
        size_t user = user_piece(c->t, rest);
        n = user ? user : character(rest, &code);
        if (!user && (i == start || can_join(c->t, last, code))) continue;
        encode_stretch(c, (struct span){text.at + start, i - start});
        if (user) emit_text(c, (struct span){rest.at, user});
        start = i + user;
    }
    encode_stretch(c, (struct span){text.at + start, text.n - start});
}

/* The class of the character at byte i; *next is the byte after it. */
static int class_at(const struct tokenizer *t, struct span s, size_t i, size_t *next) {
    uint32_t code;
    *next = i;
    if (i >= s.n) return END;
    *next = i + character((struct span){s.at + i, s.n - i}, &code);
    return t->class[code];
}

static bool is_in(int class, int mask) { return class != END && mask >> class & 1; }

/* The end of at most `most` characters of the mask from byte i on. */
static size_t run_end(const struct tokenizer *t, struct span s, size_t i, int mask, size_t most) {
    for (size_t next; most-- && is_in(class_at(t, s, i, &next), mask);) i = next;
    return i;
}

/* After one character of the mask, if one is there. */
static size_t skip(const struct tokenizer *t, struct span s, size_t i, int mask) {
    return run_end(t, s, i, mask, 1);
}

/* A shortened word at byte i: an apostrophe and what is left of "is", "have" and their like. The
 * long s, U+017F, is an s of another case. i when there is none. */
static size_t short_end(const struct tokenizer *t, struct span s, size_t i) {
    static const char *const ends[] = {"s", "t", "re", "ve", "m", "ll", "d"};
    const bool any = t->pre.shorts == ANY_SHORTS;
    if (t->pre.shorts == NO_SHORTS || s.at[i] != '\'') return i;
    if (any && s.n - i > 2 && !memcmp(s.at + i + 1, "\xc5\xbf", 2)) return i + 3;
    for (size_t k = 0; k < sizeof ends / sizeof *ends; k++) {
        size_t n = 0;
        while (ends[k][n] && i + 1 + n < s.n) {
            char c = s.at[i + 1 + n];
            if (any && c >= 'A' && c <= 'Z') c = (char)(c - 'A' + 'a');
            if (c != ends[k][n]) break;
            n++;
        }
        if (!ends[k][n]) return i + 1 + n;
    }
    return i;
}

/* HEADS* TAILS+ from byte i on, where the heads give back what the tails need; i when it is not
 * there. */
static size_t small_end(const struct tokenizer *t, struct span s, size_t i) {
    size_t tail = i, next; /* the end of the last head that is a tail, too */
    size_t end = i;
    for (int class; is_in(class = class_at(t, s, end, &next), HEADS); end = next)
        if (is_in(class, TAILS)) tail = next;
    size_t all = run_end(t, s, end, TAILS, SIZE_MAX);
    return all > end ? all : tail;
}

/* Letters from byte i on, perhaps after another character; i when there are none. */
static size_t letters_end(const struct tokenizer *t, struct span s, size_t i) {
    const size_t from[] = {skip(t, s, i, t->pre.before_letters), i};
    size_t end;
    for (int k = 0; t->pre.cased && k < 2; k++)
        if ((end = small_end(t, s, from[k])) > from[k]) return end;
    for (int k = 0; k < 2; k++)
        if ((end = run_end(t, s, from[k], t->pre.cased ? HEADS : LETTERS, SIZE_MAX)) > from[k])
            return end;
    return i;
}

/* White space from byte i on. The last of it is left to the word that follows. */
static size_t white_end(const struct tokenizer *t, struct span s, size_t i) {
    size_t next, end = i, last = i, line = i; /* before the last character; after a line end */
    int class;
    for (; is_in(class = class_at(t, s, end, &next), WHITE); end = next) {
        last = end;
        if (class == LINE_END) line = next;
    }
    if (t->pre.lines && line > i) return line;
    bool closed = class == END || (t->pre.numbers_first && class == NUMBER);
    return closed || last == i ? end : last;
}

/* BLOOM's: what is between stops and spaces, with one space before it; or what lies between. */
static size_t bloom_end(const struct tokenizer *t, struct span s, size_t i) {
    size_t from = skip(t, s, i, BLANKS), end = run_end(t, s, from, NOT_STOPS, SIZE_MAX), next;
    if (end > from) return end;
    for (int class; (class = class_at(t, s, i, &next)) != END && !is_in(class, NOT_STOPS); i = next)
        if (class == BLANK && is_in(class_at(t, s, next, &end), NOT_STOPS)) break;
    return i;
}

size_t word_end(const struct tokenizer *t, struct span s, size_t i) {
    const struct pre *p = &t->pre;
    size_t from, end;
    if (p->stops) return bloom_end(t, s, i);
    if ((end = short_end(t, s, i)) > i) return end;
    if ((end = letters_end(t, s, i)) > i) return end;
    from = skip(t, s, i, p->before_numbers);
    if ((end = run_end(t, s, from, NUMBERS, p->numbers)) > from) return end;
    from = skip(t, s, i, BLANKS);
    if ((end = run_end(t, s, from, SIGNS, SIZE_MAX)) > from)
        return run_end(t, s, end, p->after_signs, SIZE_MAX);
    return white_end(t, s, i);
}

/* Cuts the text into words, and encodes each. */
static void encode_words(struct encoder *c, struct span text) {
    for (size_t i = 0, end; i < text.n; i = end) {
        end = word_end(c->t, text, i);
        struct span word = {text.at + i, end - i};
        int32_t id = c->t->pre.whole ? find_piece(c->t, word) : -1;
        if (id >= 0)
            emit(c, id);
        else
            encode_stretch(c, word);
    }
}

/* Takes out user-defined pieces, and encodes what lies between. */
static void encode_parts(struct encoder *c, struct span text) {
    size_t start = 0, user;
    for (size_t i = 0; i < text.n; i += user ? user : 1) {
        struct span rest = {text.at + i, text.n - i};
        if ((user = user_piece(c->t, rest)) == 0) continue;
        encode_words(c, (struct span){text.at + start, i - start});
        emit(c, c->t->slot[find_slot(c->t, (struct span){rest.at, user}, true)]);
        start = i + user;
    }
    encode_words(c, (struct span){text.at + start, text.n - start});
}

/* The text as pieces write it: spaces become U+2581, one more stands before all. */
static int prepare(const struct tokenizer *t, struct span text, struct buffer *to,
                   struct error *e) {
    uint32_t code;
    if (text.n > INT32_MAX / SPACE_BYTES)
        return fail(e, "%zu bytes are too long for one text, %d are not", text.n,
                    INT32_MAX / SPACE_BYTES);
    if (text.n && t->v.add_prefix && !t->merges) buffer_add(to, SPACE, SPACE_BYTES);
    for (size_t i = 0, n; i < text.n; i += n) {
        n = character((struct span){text.at + i, text.n - i}, &code);
        if (n == 0) return fail(e, "byte %zu (0x%02X) is not valid UTF-8", i, (uint8_t)text.at[i]);
        if (t->merges) continue; /* the text itself */
        bool space = text.at[i] == ' ';
        buffer_add(to, space ? SPACE : text.at + i, space ? SPACE_BYTES : n);
    }
    return 0;
}

int encode(const struct tokenizer *t, struct span text, struct buffer *ids, struct error *e) {
    struct buffer prepared = {0};
    struct encoder c = {.t = t, .ids = ids};
    int bad = prepare(t, text, &prepared, e);
    if (!bad && t->merges && text.n)
        encode_parts(&c, text);
    else if (!bad && prepared.n)
        encode_all(&c, (struct span){prepared.at, prepared.n});
    free(prepared.at);
    free(c.symbols.at);
    free(c.heap.at);
    return bad;
}

/* ---- Decoding -------------------------------------------------------------------------------- */

static void add_spaced(struct buffer *text, struct span piece) {
    for (size_t i = 0, n; i < piece.n; i += n) {
        bool space = piece.n - i >= SPACE_BYTES && !memcmp(piece.at + i, SPACE, SPACE_BYTES);
        n = space ? SPACE_BYTES : 1;
        buffer_add(text, space ? " " : piece.at + i, 1);
    }
}

int decode(const struct tokenizer *t, const int32_t *ids, size_t n, struct buffer *text,
           struct error *e) {
    bool at_start = t->v.add_prefix && t->merges == 0;
    for (size_t i = 0; i < n; i++) {
        if (ids[i] < 0 || ids[i] >= t->v.n)
            return fail(e, "token id %d is outside the vocabulary of %d", ids[i], t->v.n);
        struct span piece = t->v.piece[ids[i]];
        if (t->merges) { /* the bytes themselves */
            if (t->v.kind[ids[i]] != PIECE_CONTROL) buffer_add(text, piece.at, piece.n);
            continue;
        }
        switch (t->v.kind[ids[i]]) {
        case PIECE_CONTROL: continue;
        case PIECE_BYTE:
            for (int b = 0; b < 256; b++)
                if (t->byte[b] == ids[i]) buffer_add(text, &(uint8_t){(uint8_t)b}, 1);
            break;
        case PIECE_UNKNOWN:
            buffer_add(text, " \xe2\x81\x87 ", 5); /* U+2047, as sentencepiece has it */
            break;
        default:
            if (at_start && piece.n >= SPACE_BYTES && !memcmp(piece.at, SPACE, SPACE_BYTES))
                piece = (struct span){piece.at + SPACE_BYTES, piece.n - SPACE_BYTES};
            add_spaced(text, piece);
        }
        at_start = false;
    }
    return 0;
}
