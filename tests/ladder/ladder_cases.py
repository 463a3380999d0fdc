"""The methods and students that the ladder's tests, and those on a GPU, go through.

A method that joins is a name in ``METHODS``, a store one in ``STORES``; refusals are lines in ``REFUSED``, and rungs
that a main student has to leave out lines in ``SKIPPED``.
"""

from l2t_bench.gradient import Exactness

STORES = tuple(f"rmd[store={store}]" for store in ("sqrt", "binomial", "disk", "host", "graph"))
"""What keeps the very states of the plain run, or takes them again."""
OPTIONS = (
    *(f"implicit[solver={solver}]" for solver in ("neumann", "nystrom", "conjugate-residual")),
    "torchopt-implicit[solver=normal-cg]",
    "evolution[estimator=es,population=4]",
    "evolution[estimator=pes,population=4,window=1]",  # new noise in each step: the ladder's runs have few
)
"""Methods of another kind again, by another option: quick over the main students only."""
OF_ANOTHER_KIND = ("rmd[store=reversible]", "implicit", "one-step", "evolution[population=4]", "forward", *OPTIONS)
"""What is not the derivative of the plain run: the ladder's dear rungs over the main students only."""
METHODS = (
    "rmd",
    "rmd[hvp=for]",
    "truncated[window=3]",
    "truncated[window=3,every=2]",
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
    ("torchopt-implicit[solver=normal-cg]", "transformer, dropout"): _MASKS,
    ("torchopt[api=meta]", "tied embedding"): "moves tied weights apart",
    ("torchopt[api=meta]", "frozen"): "fails on frozen ones",
}

SKIPPED = {
    ("implicit[solver=nystrom]", "lenet"): {
        # the formula is that of a sketch of full rank: as many products with H as the student has parameters
        "the implicit formula at omega_T": "a sketch of H of the rank 26593 would take long",
    },
}
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
