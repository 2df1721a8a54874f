"""Wrong fillings of `find_the_fault.py`: (function, in its solution, in its place, words of the hint)."""

FILLINGS = [
    ("program_1", "ᾱ squared in the root", "α where ᾱ belongs in the root", "with this fault it would have"),
    ("program_2", "β of 1000 steps over 100", "β half as large", "with this fault it would have"),
    (
        "program_3",
        "β̃ as the standard deviation",
        "β where β̃ belongs, in the last step too",
        "with this fault it would have",
    ),
    (
        "program_4",
        "the minus of −B/2A lost",
        "the noise of one step learned for ε",
        "with this fault it would have",
    ),
    ("program_5", "noise in the last step", "no noise at all", "with this fault it would have"),
    ("program_6", "v taken for ε", "DDIM that counts its noise twice", "with this fault it would have"),
    (
        "program_7",
        "β where β̃ belongs, in the last step too",
        "noise in the last step",
        "with this fault it would have",
    ),
    (
        "program_8",
        "the network evaluated one step too late",
        "β of 1000 steps over 100",
        "with this fault it would have",
    ),
    (
        "program_9",
        "β̃ with its fraction upside down",
        "plus before ε in the mean",
        "with this fault it would have",
    ),
    (
        "program_10",
        "DDIM that counts its noise twice",
        "DDIM with √ᾱ_t before x̂_0",
        "with this fault it would have",
    ),
    ("program_4", "0.5, 0.04", "0.0, 0.04", "give data on which the fault shows"),
    ("program_5", "0.5, 0.04", "0.5, 4.0", "give data on which the fault shows"),
    ("program_5", "noise in the last step", "noise at the end", "in its words"),
]
