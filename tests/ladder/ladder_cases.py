"""The methods and students that the ladder's tests, and those on a GPU, go through.

A method that joins is a name in ``METHODS``, a store one in ``STORES``; refusals are lines in ``REFUSED``, and rungs
that a main student has to leave out lines in ``SKIPPED``.
"""

from l2t_bench.gradient import Exactness

STORES = tuple(f"rmd[store={store}]" for store in ("sqrt", "binomial", "disk", "host", "graph"))
"""What keeps the very states of the plain run, or takes them again."""
OF_ANOTHER_KIND = ("rmd[store=reversible]", "implicit", "one-step", "evolution[population=4]", "forward")
"""What is not the derivative of the plain run: the ladder's dear rungs over the main students only."""
METHODS = (
    "rmd",
    "rmd[hvp=for]",
    "truncated[window=3]",
    "functorch",
    "higher",
    "torchopt",
    "torchopt[api=meta]",
    "torchopt-implicit",
    *OF_ANOTHER_KIND,
)
MAIN_STUDENTS = ("mlp", "lenet", "resnet", "lstm", "transformer")
_MASKS = "it draws other random numbers and would differentiate another run"
REFUSED = {
    ("rmd[hvp=for]", "transformer, dropout"): _MASKS,
    ("functorch", "transformer, dropout"): _MASKS,
    ("forward", "transformer, dropout"): _MASKS,
    ("torchopt-implicit", "transformer, dropout"): _MASKS,
    ("torchopt[api=meta]", "tied embedding"): "moves tied weights apart",
    ("torchopt[api=meta]", "frozen"): "fails on frozen ones",
}

SKIPPED: dict[tuple[str, str], dict[str, str]] = {}
"""By method and main student: the checks that are not made, and what the ladder says of it."""
PROVING = {
    Exactness.EXACT: ("central differences", "forward-mode probe", "agreement with"),
    Exactness.QUANTISED: ("central differences", "forward-mode probe", "agreement with"),
    Exactness.TRUNCATED: ("central differences", "forward-mode probe", "equals rmd"),
    Exactness.STATIONARY: ("the implicit formula at omega_T",),
    Exactness.FINITE_DIFFERENCE: ("is the derivative through the last",),
    Exactness.STOCHASTIC: ("mean over students",),
}
"""Of a kind of method: the checks without which a ladder that is climbed proves little; parts of their names."""
