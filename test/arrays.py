"""`.npy` files made by hand, and what every reader of them has to refuse."""

import functools
import os
import random
import struct

LETTER = {"<f2": "e", "<f4": "f", "<f8": "d", "<i2": "h", "<i4": "i", "<i8": "q", "<u1": "B",
          "<u2": "H", "<u4": "I"}


def product(numbers):
    return functools.reduce(int.__mul__, numbers, 1)


def bytes_of(numbers, descr):
    return struct.pack("<%d%s" % (len(numbers), LETTER[descr]), *numbers)


def npy(data, descr="<f4", shape=None, order="False", version=1, header=None, length=None):
    """A .npy file of bytes; `shape`, `header` and `length` may be what they should not be."""
    if shape is None:
        shape = (len(data) // int(descr[2:]),)
    if header is None:
        header = "{'descr': '%s', 'fortran_order': %s, 'shape': %s, }" % (descr, order, shape)
        header += " " * (-(11 + len(header)) % 64) + "\n"
    length = len(header) if length is None else length
    return (b"\x93NUMPY" + bytes([version, 0]) + struct.pack("<H" if version == 1 else "<I", length)
            + header.encode() + data)


class Headers:
    """Files that hold no array of the numbers that are wanted, or not as their header says.

    For a test Case whose reader wants numbers like `descr`, of 4 bytes. It has reads(path), which
    fails unless the file is taken, refuses(path, culprits), unless it is refused in one line that
    has all of these, and attempt(path): status, what is printed, and what is said of it.
    """

    descr = wrong = wrong_is = None      # the type; others of which the message has to say a word
    numbers = struct.pack("<4i", 1, 2, 3, 4)         # as floats they are tiny, and as good

    def array(self, data=None, **how):
        return npy(self.numbers if data is None else data, **dict({"descr": self.descr}, **how))

    def of_header(self, form):
        """An array under a header that has the type's name in place of %s."""
        return self.array(header=form % self.descr)

    def bad(self, data, *culprits):
        path = self.path("bad.npy", data)
        with self.subTest(header=data[10:90]):
            self.refuses(path, ["bad.npy", *culprits])

    def good(self, data):
        with self.subTest(header=data[10:90]):
            self.reads(self.path("good.npy", data))

    def test_versions(self):
        for version in 1, 2, 3:
            self.good(self.array(version=version))
        for version in 0, 4, 255:
            self.bad(self.array(version=version))
            self.bad(self.array()[:6] + bytes([version]) + self.array()[7:])
        # lengths of two bytes where four are read, and the other way round
        self.bad(self.array()[:6] + b"\2" + self.array()[7:])
        self.bad(self.array(version=2)[:6] + b"\1" + self.array(version=2)[7:])

    def test_types(self):
        for first in "<|=":
            self.good(self.array(descr=first + self.descr[1:]))
        for descr in self.wrong:
            size = int(descr[2:]) if descr[2:].isdigit() and len(descr) < 5 else 4
            self.bad(self.array(bytes(4 * size), descr=descr, shape=(4,)), self.wrong_is)
        for descr in (">f4", ">f8", ">i4", "<f1", "|f1", "<f3", "<f0", "<f16", "<f", "f4", "<c8",
                      "|b1", "|S4", "<U1", "|O", "<M8", "", "<", "<f-4", "<f4294967300",
                      "<f4,<f4", "<x4", "|V4", "<f4x", "<f44"):
            size = int(descr[2:]) if descr[2:].isdigit() and len(descr) < 5 else 4
            self.bad(self.array(bytes(4 * size), descr=descr, shape=(4,)))
        self.bad(self.of_header("{'descr': [('x', '%s')], 'fortran_order': False, "
                                "'shape': (4,), }\n"))

    def test_order(self):
        for order in "True", "", "None", "0", "'False'", "Falsehood":
            self.bad(self.array(order=order))
        self.bad(self.of_header("{'descr': '%s', 'shape': (4,), }\n"))

    def test_keys(self):
        """In any order, each once, and no other."""
        for form in ("{'shape': (4,), 'descr':'%s','fortran_order': False}\n",
                     "{'fortran_order': False, 'shape' : (4) , 'descr'  :'%s' ,  }",
                     "{'shape': (4,), 'descr':'%s','fortran_order': False} "):
            self.good(self.of_header(form))
        for end in ("'shape': (4,), 'more': 1, }", "'shape': (4,), 'descr': '<f4', }", "}",
                    "'shape': (4,), 'shape': (4,), }", "'shape': (4,), } x", "'shape': (4,), ",
                    "'shapes': (4,), }", "'shape': (4,)", "'shape': (4,), , }", ", 'shape': (4,)}",
                    "'shape': (4,), }\n\n", "'shape': (4,), }\n ", "'shape': (4,), }\t"):
            self.bad(self.of_header("{'descr': '%s', 'fortran_order': False, " + end))

    def test_truncated(self):
        """Every shorter file."""
        whole = self.array(shape=(2, 2))
        for length in range(1, len(whole)):
            status, printed, message = self.attempt(self.path("bad.npy", whole[:length]))
            self.assertEqual((status, printed), (1, ""), length)
            self.assertRegex(message, r"\A\S+: .*bad\.npy.*\n\Z")
        self.bad(b"", "empty")
        self.bad(whole + b"\0")
        self.bad(whole + bytes(4))

    def test_huge_header_length(self):
        for version, lengths in (1, [119, 65535]), (2, [117 + 32, 1 << 16, 1 << 31, (1 << 32) - 1]):
            for length in lengths:
                self.bad(self.array(version=version, length=length))
        self.bad(self.array(length=0))
        # data of less than no bytes; and a file that ends where its last page does
        self.bad(self.array(b"", shape="(%d,)" % ((1 << 62) - 1), length=118 + 4))
        self.bad(self.array(bytes(4096 - 128), length=4095))
        long = "{'descr': '%s', 'fortran_order': False, 'shape': (4,), }" + " " * 70000 + "\n"
        self.bad(self.array(version=2, header=long % self.descr))

    def test_shapes_that_are_none(self):
        for shape in ("4,", "", "[4]", "None", "(x,)", "(-4,)", "(, 4)", "(5,)", "(3,)", "(2,)",
                      "(2, 3)", "(3, 2)", "(2, 2, 2)", "(18446744073709551620,)",
                      "(99999999999999999999999999,)"):
            self.bad(self.array(shape=shape))
        self.bad(self.of_header("{'descr': '%s', 'fortran_order': False, }\n"))
        self.bad(self.array(b"", shape="(0,)"))
        self.bad(self.array(b"", shape="(3, 0)"))

    def test_shape_that_says_more(self):
        """Of 4 numbers, the first dimensions speak of 4, the rest of others."""
        for rest in "3", "2, 2", "-1", "18446744073709551615", "4611686018427387905", "1, 1, 7":
            self.bad(self.array(shape="(4, %s)" % rest))
            self.bad(self.array(shape="(2, 2, %s)" % rest))

    def test_shape_that_overflows(self):
        """The product is 4 in 64 bits, or in 32."""
        for shape in ("(4294967296, 4294967296, 4)", "(4, 4294967296, 4294967296)",
                      "(2, 9223372036854775810)", "(4, 4294967297)", "(8, 2305843009213693952, 4)",
                      "(4611686018427387905, 4)", "(1, 4, 4611686018427387904)"):
            self.bad(self.array(shape=shape))

    def test_zero_in_the_shape(self):
        for shape in "(4, 0)", "(0, 4)", "(2, 2, 0)", "(2, 0, 2)":
            self.bad(self.array(shape=shape))
        self.bad(self.array(self.numbers[:4], shape="(0,)"))
        self.bad(self.array(self.numbers[:4], shape="(x)"))

    def test_shape_without_end(self):
        """A header that ends inside the shape."""
        start = "{'descr': '%s', 'fortran_order': False, 'shape': " % self.descr
        for length in len(start) + 2, 200, 4094:
            before = start + " " * (length - len(start) - 2)
            for end in "(4", "(2, 2", "(":
                self.bad(self.array(header=before + end))

    def test_many_dimensions(self):
        self.good(self.array(shape="(1, 1, 1, 1, 1, 1, 2, 2)"))
        self.bad(self.array(shape="(" + "2, " * 500 + ")"))

    def test_other_files(self):
        for data in b"\x93", b"\x93NUMPY", b"\x93NUMPX" + self.array()[6:]:
            self.bad(data)
        self.bad(b"1.0 2.0 3.0 4.0\n")
        self.refuses(self.path("missing.npy"), ["missing.npy"])
        os.mkdir(self.path("folder.npy"))
        self.refuses(self.path("folder.npy"), ["folder.npy"])

    def test_noise(self):
        """Bytes of the header changed at random: a result or a line, never a crash."""
        rng, whole = random.Random("noise"), self.array(shape=(2, 2))
        for _ in range(200):
            data = bytearray(whole)
            for _ in range(rng.choice([1, 1, 2, 5])):
                data[rng.randrange(6, 75)] = rng.choice(b"0123456789(),-' {}f<\0\xff")
            status, _, message = self.attempt(self.path("bad.npy", bytes(data)))
            self.assertIn(status, (0, 1), (bytes(data), message))
            self.assertEqual(message.count("\n"), status, bytes(data))
