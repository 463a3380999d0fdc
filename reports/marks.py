"""How a method is marked in every figure: its colour says which one it is, its marker's shape how exact it is."""

from collections.abc import Sequence

from l2t_bench.reports.methods import CROSS_ENTROPY, UNTRAINED, base_name, in_order

BACKEND_COLOURS = {  # Okabe and Ito's, told apart by colour-blind readers too
    "rmd": "#0072B2",
    "higher": "#E69F00",
    "torchopt": "#009E73",
    "functorch": "#D55E00",
    "truncated": "#CC79A7",
    "torchopt-implicit": "#56B4E9",
    "implicit": "#1B7FA8",
    "one-step": "#B8A800",
    "forward": "#7A4FB5",
    "evolution": "#8C5A2B",
    UNTRAINED: "#9AA5AF",
    CROSS_ENTROPY: "#66727D",
}
OTHER_COLOURS = ("#3F8C8C", "#A8326B", "#6B7A1E", "#4A5FA8")
SYMBOLS = {
    "exact": "circle",
    "quantised": "hexagon",
    "truncated": "triangle-up",
    "stationary": "x",
    "finite-difference": "diamond",
    "stochastic": "square",
}
OTHER_SYMBOL = "star"
FAILED_SYMBOL = "x-thin"  # a method without a result, at the border
MARKER_PATHS = {  # for the legend, in a square from -1 to 1
    "circle": "M1,0A1,1 0 1,1 -1,0A1,1 0 1,1 1,0Z",
    "hexagon": "M1,0L0.5,0.87L-0.5,0.87L-1,0L-0.5,-0.87L0.5,-0.87Z",
    "triangle-up": "M0,-1L1.05,0.85L-1.05,0.85Z",
    "x": "M0,-0.4L0.6,-1L1,-0.6L0.4,0L1,0.6L0.6,1L0,0.4L-0.6,1L-1,0.6L-0.4,0L-1,-0.6L-0.6,-1Z",
    "diamond": "M0,-1.1L1,0L0,1.1L-1,0Z",
    "square": "M-0.85,-0.85H0.85V0.85H-0.85Z",
    "x-thin": "M-1,-0.7L-0.7,-1L0,-0.3L0.7,-1L1,-0.7L0.3,0L1,0.7L0.7,1L0,0.3L-0.7,1L-1,0.7L-0.3,0Z",
    "star": "M0,-1L0.29,-0.4L0.95,-0.31L0.48,0.15L0.59,0.81L0,0.5L-0.59,0.81L-0.48,0.15L-0.95,-0.31L-0.29,-0.4Z",
}


def colours(methods: Sequence[str]) -> dict[str, str]:
    """One colour ``#RRGGBB`` per method, of its backend whatever else is in the run; further options are darker shades.

    Backends that we do not know have ``OTHER_COLOURS``, in the order of ``in_order``.
    """
    ordered = in_order(methods)
    unknown = [base for base in dict.fromkeys(map(base_name, ordered)) if base not in BACKEND_COLOURS]
    of_base = BACKEND_COLOURS | {base: _other_colour(index) for index, base in enumerate(unknown)}
    same_base = {method: [other for other in ordered if base_name(other) == base_name(method)] for method in ordered}
    return {method: _darker(of_base[base_name(method)], 0.65 ** same_base[method].index(method)) for method in ordered}


def shades(colour: str, count: int) -> list[str]:
    """``count`` shades of one colour ``#RRGGBB``, each darker than the one before."""
    return [_darker(colour, 0.65**place) for place in range(count)]


def _other_colour(index: int) -> str:
    return _darker(OTHER_COLOURS[index % len(OTHER_COLOURS)], 0.7 ** (index // len(OTHER_COLOURS)))


def _darker(colour: str, factor: float) -> str:
    return "#" + "".join(f"{round(int(colour[i : i + 2], 16) * factor):02X}" for i in (1, 3, 5))


def symbol(exactness: str) -> str:
    """The marker of an exactness class, by the name that plotly and ``MARKER_PATHS`` have for it."""
    return SYMBOLS.get(exactness, OTHER_SYMBOL)
