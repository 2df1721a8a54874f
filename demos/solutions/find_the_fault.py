"""Solutions of `find_the_fault.py`."""


def program_1() -> tuple[str, float, float]:
    """The fault of program 1; mean and variance of data on which it shows."""
    return "ᾱ squared in the root", 0.5, 0.04


def program_2() -> tuple[str, float, float]:
    """The fault of program 2; mean and variance of data on which it shows."""
    return "β of 1000 steps over 100", 0.5, 0.04


def program_3() -> tuple[str, float, float]:
    """The fault of program 3; mean and variance of data on which it shows."""
    return "β̃ as the standard deviation", 0.5, 0.04


def program_4() -> tuple[str, float, float]:
    """The fault of program 4; mean and variance of data on which it shows."""
    return "the minus of −B/2A lost", 0.5, 0.04


def program_5() -> tuple[str, float, float]:
    """The fault of program 5; mean and variance of data on which it shows."""
    return "noise in the last step", 0.5, 0.04


def program_6() -> tuple[str, float, float]:
    """The fault of program 6; mean and variance of data on which it shows."""
    return "v taken for ε", 0.5, 0.04


def program_7() -> tuple[str, float, float]:
    """The fault of program 7; mean and variance of data on which it shows."""
    return "β where β̃ belongs, in the last step too", 0.5, 0.04


def program_8() -> tuple[str, float, float]:
    """The fault of program 8; mean and variance of data on which it shows."""
    return "the network evaluated one step too late", 0.5, 0.04


def program_9() -> tuple[str, float, float]:
    """The fault of program 9; mean and variance of data on which it shows."""
    return "β̃ with its fraction upside down", 0.5, 0.04


def program_10() -> tuple[str, float, float]:
    """The fault of program 10; mean and variance of data on which it shows."""
    return "DDIM that counts its noise twice", 0.5, 0.04
