"""Pickles, without Python's own machine for them, which does whatever they say.

A pickle is a program on a stack. Here one can make plain values, lists, tuples and dicts, and call
what it may name. It takes time by its own length alone: keys are plain, so that to hash one is no
work, and what it makes is no deeper than DEEPEST and no larger than some times the program, however
often one part stands in others.
"""

import pickletools

DEEPEST, LARGER = 64, 10
ARGUMENTS = 16               # of a call; a tensor's are 7
PLAIN = {"INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "LONG4", "FLOAT", "BINFLOAT",
         "UNICODE", "SHORT_BINUNICODE", "BINUNICODE", "BINUNICODE8", "SHORT_BINBYTES", "BINBYTES",
         "BINBYTES8"}
MADE = {"NONE": lambda: None, "NEWTRUE": lambda: True, "NEWFALSE": lambda: False,
        "EMPTY_LIST": list, "EMPTY_TUPLE": tuple, "EMPTY_DICT": dict}
TUPLES = {"TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}
KEYS = (str, int, bool, float, bytes, type(None))


def is_key(value):
    """Whether a value may be a key. Larger integers may all have one hash."""
    return type(value) in KEYS and not (type(value) is int and abs(value) >> 63)


def is_holder(value):
    """Whether there are values in it; a tensor is one value."""
    return type(value) in (list, tuple) or isinstance(value, dict)


def check_spread(value, most):
    """That a value, written out, is neither too deep nor too large."""
    level = [value]
    for _ in range(DEEPEST):
        holders = [part for part in level if is_holder(part)]
        most -= len(holders) + sum(map(len, holders))
        if most < 0:
            raise ValueError("a part that stands in too many others")
        level = [item for part in holders
                 for item in (part.values() if isinstance(part, dict) else part)]
        if not level:
            return
    raise ValueError("too deep")


class Machine:
    """Runs one pickle. find(module, name) gives what is named, persistent(identity) what has an
    identity; builds(value) says whether BUILD may be asked of a value, which then does nothing."""

    def __init__(self, find, persistent, builds):
        self.find, self.persistent, self.builds = find, persistent, builds
        self.stack, self.marks, self.memo = [], [], {}

    def run(self, data):
        """What the pickle makes; one of many exceptions where it is none, or does more."""
        for opcode, argument, _ in pickletools.genops(data):
            if opcode.name == "STOP":
                break
            if "PUT" in opcode.name or opcode.name == "MEMOIZE":
                argument = len(self.memo) if argument is None else argument
                if argument > len(data):             # elsewhere memo n costs n slots of memory
                    raise ValueError(opcode.name)
                self.memo[argument] = self.top()
            elif opcode.name == "FRAME" and argument > len(data):
                raise ValueError(opcode.name)
            else:
                self.step(opcode.name, argument)
        value = self.pop()
        if self.stack or self.marks:
            raise ValueError("more than one value")
        check_spread(value, LARGER * len(data))
        return value

    def top(self):
        if len(self.stack) <= (self.marks[-1] if self.marks else 0):
            raise ValueError("an empty stack")
        return self.stack[-1]

    def pop(self):
        self.top()
        return self.stack.pop()

    def pop_marked(self):
        """All values since the last mark."""
        start = self.marks.pop()
        found = self.stack[start:]
        del self.stack[start:]
        return found

    def step(self, name, argument):
        """One opcode, which may be any."""
        if name in ("PROTO", "FRAME"):
            pass
        elif name == "MARK":
            self.marks.append(len(self.stack))
        elif name in ("GET", "BINGET", "LONG_BINGET"):
            self.stack.append(self.memo[argument])
        elif name in ("APPEND", "APPENDS", "SETITEM", "SETITEMS"):
            self.fill(name)
        elif name == "BUILD":
            self.pop()
            if not self.builds(self.top()):
                raise ValueError(name)
        else:
            self.stack.append(self.made(name, argument))

    def made(self, name, argument):
        """The value that an opcode makes."""
        if name in PLAIN:
            return argument
        if name in MADE:
            return MADE[name]()
        if name in TUPLES:
            return tuple([self.pop() for _ in range(TUPLES[name])][::-1])
        if name in ("TUPLE", "LIST", "DICT"):
            found = self.pop_marked()
            return {"TUPLE": tuple, "LIST": list, "DICT": self.pairs}[name](found)
        if name in ("GLOBAL", "INST"):
            found = self.find(*argument.split(" ", 1))
        elif name == "STACK_GLOBAL":
            last, module = self.pop(), self.pop()
            if not type(last) is type(module) is str:
                raise ValueError(name)
            found = self.find(module, last)
        elif name == "REDUCE":
            return self.called()
        elif name == "BINPERSID":
            return self.persistent(self.pop())
        if name not in ("GLOBAL", "STACK_GLOBAL"):
            raise ValueError(name)
        return found

    def called(self):
        arguments, function = self.pop(), self.pop()
        if type(arguments) is not tuple or len(arguments) > ARGUMENTS:
            raise ValueError("a call with no tuple of a few arguments")
        return function(*arguments)

    def pairs(self, values):
        """A dict of keys and values in turn."""
        if len(values) % 2 or not all(map(is_key, values[::2])):
            raise ValueError("no keys and values")
        return dict(zip(values[::2], values[1::2]))

    def fill(self, name):
        """Adds to a list or a dict what is on the stack above it."""
        if name.endswith("S"):
            found = self.pop_marked()
        else:
            found = [self.pop() for _ in range(1 + (name == "SETITEM"))][::-1]
        holder = self.top()
        if isinstance(holder, dict) and name.startswith("SET"):
            holder.update(self.pairs(found))
        elif type(holder) is list and name.startswith("APP"):
            holder.extend(found)
        else:
            raise ValueError(name)
