"""exp and the sigmoid in float32, for kernels.

    exp(x) = 2ⁿ · e^r        n = round(x / ln 2)        r = x − n ln 2        e^r ≈ a polynomial, |r| ≤ ln 2 / 2

Arithmetic alone, with no call and no branch, so that LLVM vectorises a loop over them; a call of the C library's exp
for every number takes ten times as long.
"""

import numpy as np

from .jit import device_in_order

_f = np.float32
_LOG2_E = _f(1.4426950408889634)
_LN2_HIGH = _f(0.693359375)  # ln 2 in two parts: n times the first is exact
_LN2_LOW = _f(-2.1219444005469057e-4)
# e^r = 1 + r + r² (C2 + C3 r + … + C6 r⁴): the minimax relative error on |r| ≤ ln 2 / 2, 3e-9 before rounding
_C2, _C3, _C4 = _f(0.499999934124), _f(0.166665201071), _f(0.0416683942191)
_C5, _C6 = _f(0.00836878049765), _f(0.00138144669669)
_ROUND = _f(3 << 22)  # adding 1.5 · 2²³ to a small number rounds it to an integer, which is in the low bits
_ROUND_BITS = np.int32(0x4B400000)
_BIAS = np.int32(127)
_MANTISSA = np.int32(23)


# Not reassociated: x + _ROUND − _ROUND must not become x.
@device_in_order
def exp(x):
    """eˣ, relative error below 2e-7: 2ⁿ · eʳ with n = round(x / ln 2) and |r| ≤ ln 2 / 2.

    2ⁿ is made by writing n into the exponent bits of a float, in two halves so that results reach down to denormals
    and up to infinity. NaN stays NaN: both comparisons are false and it goes through the polynomial.
    """
    x = _f(89) if x > _f(89) else x
    x = _f(-104) if x < _f(-104) else x
    shifted = x * _LOG2_E + _ROUND
    n = shifted - _ROUND
    r = x - n * _LN2_HIGH - n * _LN2_LOW
    q = (((_C6 * r + _C5) * r + _C4) * r + _C3) * r + _C2
    p = q * r * r + r + _f(1)
    half = (_f(shifted).view(np.int32) - _ROUND_BITS) >> np.int32(1)
    rest = (_f(shifted).view(np.int32) - _ROUND_BITS) - half
    low = np.int32((half + _BIAS) << _MANTISSA).view(np.float32)
    high = np.int32((rest + _BIAS) << _MANTISSA).view(np.float32)
    return p * low * high


@device_in_order
def sigmoid(x):
    """1 / (1 + e⁻ˣ)."""
    return _f(1) / (_f(1) + exp(-x))


# 2^r = 1 + D1 r + … + D5 r⁵ on |r| ≤ ½: minimax for the relative error with value 1 at 0, 9e-8
_D1, _D2, _D3 = _f(0.69314698), _f(0.24022242), _f(0.05550734)
_D4, _D5 = _f(0.00967151), _f(0.00132647)


@device_in_order
def fast_sigmoid(x):
    """1 / (1 + e⁻ˣ), with an absolute error of at most 3 roundings of 1; twice as fast as `sigmoid`.

    e⁻ˣ = 2ⁿ · 2ʳ, where n is added to the exponent of 2ʳ. From n = 128 on the result is infinity, as it should be;
    n < −126 may be replaced by −126. NaN stays NaN.
    """
    t = x * -_LOG2_E
    t = _f(128) if t > _f(128) else t
    t = _f(-126) if t < _f(-126) else t
    shifted = t + _ROUND
    r = t - (shifted - _ROUND)
    p = _f(((((_D5 * r + _D4) * r + _D3) * r + _D2) * r + _D1) * r + _f(1))
    power = np.int32(p.view(np.int32) + (_f(shifted).view(np.int32) << _MANTISSA)).view(np.float32)
    return _f(1) / (_f(1) + power)
