"""Assumed, not in the paper: what its experiments leave open, as ``profile paper`` takes it. The one place.

The suites read their numbers from here, and every report of them shows the table.
"""

from collections.abc import Sequence
from dataclasses import dataclass

MLP_EPOCHS, LENET_EPOCHS, CIFAR_EPOCHS = 10, 100, 80
MNIST_DEV, CIFAR_DEV = 10_000, 5_000
REFRESH = 20
FRESH_STUDENTS = 5
TRANSLATION_PAIRS, TRANSLATION_EPOCHS = 153_000, 1
WARM_START_EPOCHS, WARM_START_LR = 10, 0.0005
CRITIC_EPOCHS = 15


_FINE_CLASSES = """
apple aquarium_fish baby bear beaver bed bee beetle bicycle bottle bowl boy bridge bus butterfly camel can
castle caterpillar cattle chair chimpanzee clock cloud cockroach couch crab crocodile cup dinosaur dolphin
elephant flatfish forest fox girl hamster house kangaroo keyboard lamp lawn_mower leopard lion lizard lobster
man maple_tree motorcycle mountain mouse mushroom oak_tree orange orchid otter palm_tree pear pickup_truck
pine_tree plain plate poppy porcupine possum rabbit raccoon ray road rocket rose sea seal shark shrew skunk
skyscraper snail snake spider squirrel streetcar sunflower sweet_pepper table tank telephone television tiger
tractor train trout tulip turtle wardrobe whale willow_tree wolf woman worm
"""
CIFAR100_NAMES: Sequence[str] = tuple(_FINE_CLASSES.split())
"""The fine classes in the order of their labels."""


def _pair(name: str, similar: Sequence[str], dissimilar: Sequence[str]) -> tuple[int, list[int], list[int]]:
    at = CIFAR100_NAMES.index
    return at(name), [at(each) for each in similar], [at(each) for each in dissimilar]


FIGURE4_PAIRS = (
    _pair("otter", ("dolphin", "whale"), ("bicycle", "orange", "rocket")),
    _pair("baby", ("boy", "girl"), ("bicycle", "orange", "rocket")),
)
"""Class, two that are like it, three that are not, as labels."""


@dataclass(frozen=True)
class Assumption:
    """One thing that the paper does not say, what is taken for it, and why."""

    what: str
    taken: str
    why: str


IMAGES: Sequence[Assumption] = (
    Assumption(
        "length of a student's training, MNIST",
        f"{MLP_EPOCHS} epochs for the MLP (batch 20), {LENET_EPOCHS} for LeNet (batch 500)",
        "the MLP under cross entropy then has 1.90 % test error, 1.94 in Table 1 (one student); LeNet's: open",
    ),
    Assumption(
        "length of a student's training, CIFAR",
        f"{CIFAR_EPOCHS} epochs",
        "the lr drops after 40 and 60 (appendix B.2); as long again as between the two",
    ),
    Assumption(
        "the dev set",
        f"{MNIST_DEV:,} of MNIST's and {CIFAR_DEV:,} of CIFAR's training images, stratified, under split=0",
        "a usual share; never from the test set",
    ),
    Assumption("where W and V begin", "every key of W at the identity (gain=1), V ~ N(0, 1)", "cross entropy's Phi"),
    Assumption(
        "how often s_t is measured", f"every {REFRESH} steps, on 10 training batches and 256 dev examples", "its cost"
    ),
    Assumption("weight decay of the students", "none", "none is named"),
    Assumption("students for each outer step", "one", "Algorithm 1 draws one omega_0"),
    Assumption(
        "students behind a figure", f"{FRESH_STUDENTS} fresh ones for each teacher", "the paper gives no spread"
    ),
    Assumption("which teacher is kept", "the last", "no early stopping is named"),
    Assumption(
        "Figure 4's other classes",
        "otter: dolphin, whale; baby: boy, girl; for both bicycle, orange, rocket",
        "the text names otter and dolphin, baby and boy; the others are of their superclass, or far from it",
    ),
    Assumption(
        "large-margin softmax", "margin 4, lambda from 1000 to 5", "the authors' code is named, its constants are not"
    ),
)
"""For the image experiments (section 4.1, appendices B.1, B.2 and B.4)."""

TRANSLATION: Sequence[Assumption] = (
    Assumption(
        "warm start",
        f"{WARM_START_EPOCHS} epochs of cross entropy by Adam, lr from {WARM_START_LR:g} linearly to 0, clipped to "
        "norm 1; one for all losses of a student and seed",
        "several epochs, says appendix B.3, and not by what: plain SGD hardly trains a Transformer",
    ),
    Assumption(
        "which preparation of IWSLT-14",
        "MIXER's (recipe=153k, `prepare iwslt14-mixer`): pairs of up to 50 tokens in train; BPE of 25,000, joint",
        "appendix B.3 has 153k/7k/7k pairs, which MIXER's scripts give; the 160k of later work are recipe=160k",
    ),
    Assumption(
        "length of a student's training after it",
        f"{TRANSLATION_EPOCHS} epoch of {TRANSLATION_PAIRS:,} pairs",
        "the paper gives none; all losses have the same",
    ),
    Assumption("where W and V begin", "W at 1, V ~ N(0, 1)", "all words alike: a bounded likelihood"),
    Assumption(
        "what M~ is expected over",
        "4 translations sampled at omega_T and the reference, sharpness 0.1, 200 dev sentences",
        "the paper says that the expectation is taken, and not over what",
    ),
    Assumption(
        "actor-critic",
        f"its authors' settings; {CRITIC_EPOCHS} epochs of the critic alone; the student by SGD as under all losses",
        "the paper names the method (its [3]) and no settings",
    ),
    Assumption(
        "how often s_t is measured", f"every {REFRESH} steps, on 2 training batches and 64 dev sentences", "its cost"
    ),
    Assumption(
        "search and BLEU of the table",
        "beam of 5 by log p / words; corpus BLEU of lower-cased tokens",
        "the paper names neither",
    ),
    Assumption(
        "students behind a figure", f"{FRESH_STUDENTS} for each teacher, other batches each", "no spread is given"
    ),
    Assumption("which teacher is kept", "the last", "no early stopping is named"),
)
"""For the translation experiments (section 4.2, appendices B.3 and B.4)."""


def assumed_for(suite: str) -> Sequence[Assumption]:
    """What is assumed for a suite that repeats a table or a figure of the paper."""
    return TRANSLATION if suite == "table3" else IMAGES
