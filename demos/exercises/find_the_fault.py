"""Find the fault: ten programs with one fault each, known only by the distribution that they produce.

All are DDPM in 100 steps with the exact ε. `python demos/suspects.py 3 0.5 0.04` prints, beside that of the right
program, the exact mean and variance of x_t as program 3 makes it, for data N(0.5, 0.04); choose other data as you like.
In Python it is `suspects.suspect(3, 0.5, 0.04)`.

Each program has one of these faults, and no two have the same; eight faults are not among them:

    β̃ as the standard deviation
    β where β̃ belongs, in the last step too
    noise in the last step
    no noise at all
    β̃ with its fraction upside down
    plus before ε in the mean
    √ᾱ where √α belongs
    ᾱ squared in the root
    α where ᾱ belongs in the root
    1 − ᾱ without its root
    the minus of −B/2A lost
    the noise of one step learned for ε
    v taken for ε
    DDIM that counts its noise twice
    DDIM with √ᾱ_t before x̂_0
    the network evaluated one step too late
    β of 1000 steps over 100
    β half as large

For each program give its fault, in these words, and evidence: mean and variance of data on which its samples differ
from those of the right program, by at least a hundredth. Replace every `...`; then
`python demos/check.py demos/exercises/find_the_fault.py`.

How to begin: is the mean wrong, or the variance? From which t on? Does it depend on the data? What would the fault that
you suspect do to a single point, N(1, 0), or to noise, N(0, 1)?
"""


def program_1() -> tuple[str, float, float]:
    """The fault of program 1; mean and variance of data on which it shows."""
    return ...


def program_2() -> tuple[str, float, float]:
    """The fault of program 2; mean and variance of data on which it shows."""
    return ...


def program_3() -> tuple[str, float, float]:
    """The fault of program 3; mean and variance of data on which it shows."""
    return ...


def program_4() -> tuple[str, float, float]:
    """The fault of program 4; mean and variance of data on which it shows."""
    return ...


def program_5() -> tuple[str, float, float]:
    """The fault of program 5; mean and variance of data on which it shows."""
    return ...


def program_6() -> tuple[str, float, float]:
    """The fault of program 6; mean and variance of data on which it shows."""
    return ...


def program_7() -> tuple[str, float, float]:
    """The fault of program 7; mean and variance of data on which it shows."""
    return ...


def program_8() -> tuple[str, float, float]:
    """The fault of program 8; mean and variance of data on which it shows."""
    return ...


def program_9() -> tuple[str, float, float]:
    """The fault of program 9; mean and variance of data on which it shows."""
    return ...


def program_10() -> tuple[str, float, float]:
    """The fault of program 10; mean and variance of data on which it shows."""
    return ...
