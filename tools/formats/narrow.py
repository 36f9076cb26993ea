"""Numbers made narrower: float32 as f16, bf16 or q8_0, by numpy. weights.py makes them wide."""

from formats.weights import numpy, widened


def narrowed(x, dtype):
    """An array of float32 as f16 or bf16; OverflowError where a result is not finite."""
    if dtype == "f16":
        narrow = x.astype("<f2")                     # to nearest even
        finite = numpy.isfinite(narrow)
    else:
        bits = x.view("<u4")
        # To nearest even: add half a unit of the last place that stays, less one bit where that
        # place is even, then cut. (NaNs may wrap around, hence the look at x too.)
        narrow = ((bits + 0x7FFF + (bits >> 16 & 1)) >> 16).astype("<u2")
        finite = numpy.isfinite(x) & (narrow & 0x7F80 != 0x7F80)
    if not finite.all():
        raise OverflowError
    return narrow


def quantised(x):
    """An array of float32 as q8_0: blocks of an f16 scale and 32 int8, as ggml's reference."""
    blocks = x.reshape(-1, 32)
    scale = abs(blocks).max(axis=1, keepdims=True) / numpy.float32(127)
    inverse = 1 / scale
    inverse[~numpy.isfinite(inverse)] = 0            # blocks of zeros, and of next to nothing
    scaled = blocks * inverse
    whole = numpy.floor(abs(scaled))
    whole += abs(scaled) - whole >= 0.5              # half goes away from zero, as in C's roundf
    q = numpy.copysign(whole, scaled).astype("i1")
    return numpy.concatenate([narrowed(scale, "f16").view("u1"), q.view("u1")], axis=1)


def recast(raw, have, want):
    """Numbers of type `have` as type `want`; OverflowError where `want` cannot hold one."""
    if have == want:
        return raw
    wide = widened(raw, have)
    if want == "f32":
        return wide
    x = numpy.frombuffer(wide, "<f4")
    with numpy.errstate(all="ignore"):               # what overflows is looked for in the result
        return (quantised(x) if want == "q8_0" else narrowed(x, want)).tobytes()
