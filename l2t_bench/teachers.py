"""Teachers: modules that turn the student's status s_t into the coefficients phi_t of its loss."""

import torch
from torch import Tensor, nn

from l2t_bench.errors import UserError


class AttentionTeacher(nn.Module):
    """Phi_t = W softmax(V s_t) (paper, section 4.1): W of shape (C, C, N), V of shape (N, |s_t|); Phi_t is (C, C).

    Every key of W starts at ``gain * ((1 - smoothing) I + smoothing / C)`` plus ``noise`` times a standard normal, V at
    a standard normal. A Phi near the identity gives a loss that a student can learn from; from a random one it learns
    nothing. The paper does not say how W and V start.

    Raises ``UserError`` for sizes below 1, a negative noise, or a smoothing outside [0, 1].
    """

    def __init__(
        self, classes: int, features: int, keys: int = 10, gain: float = 1.0, smoothing: float = 0.0, noise: float = 0.0
    ) -> None:
        super().__init__()
        if min(classes, features, keys) < 1:
            raise UserError(f"classes, features and keys must be at least 1, not {classes}, {features} and {keys}")
        _check_start(smoothing, noise)
        self.gain, self.smoothing, self.noise = gain, smoothing, noise
        self.W = nn.Parameter(torch.empty(classes, classes, keys))
        self.V = nn.Parameter(torch.empty(keys, features))
        self.reset_parameters()

    @property
    def options(self) -> dict[str, int | float]:
        """What it was made with."""
        classes, _, keys = self.W.shape
        start = {"gain": self.gain, "smoothing": self.smoothing, "noise": self.noise}
        return {"classes": classes, "features": self.V.shape[1], "keys": keys, **start}

    def reset_parameters(self) -> None:
        with torch.no_grad():
            self.V.normal_()
            self.W.normal_(std=self.noise) if self.noise else self.W.zero_()
            self.W.add_(_start(self.W, self.gain, self.smoothing)[:, :, None])

    def forward(self, features: Tensor) -> Tensor:
        return self.W @ torch.softmax(self.V @ features, dim=0)


class StaticTeacher(nn.Module):
    """Phi_t = W of shape (C, C) at every step: a learned loss that takes no notice of s_t.

    Beyond the paper: set beside ``AttentionTeacher`` it tells whether a loss must change as training goes on. Like one
    of that teacher's keys, W starts at ``gain * ((1 - smoothing) I + smoothing / C)`` plus ``noise`` times a standard
    normal.

    Raises ``UserError`` for fewer classes than 1, a negative noise, or a smoothing outside [0, 1].
    """

    def __init__(self, classes: int, gain: float = 1.0, smoothing: float = 0.0, noise: float = 0.0) -> None:
        super().__init__()
        if classes < 1:
            raise UserError(f"classes must be at least 1, not {classes}")
        _check_start(smoothing, noise)
        self.gain, self.smoothing, self.noise = gain, smoothing, noise
        self.W = nn.Parameter(torch.empty(classes, classes))
        self.reset_parameters()

    @property
    def options(self) -> dict[str, int | float]:
        """What it was made with."""
        return {"classes": len(self.W), "gain": self.gain, "smoothing": self.smoothing, "noise": self.noise}

    def reset_parameters(self) -> None:
        with torch.no_grad():
            self.W.normal_(std=self.noise) if self.noise else self.W.zero_()
            self.W.add_(_start(self.W, self.gain, self.smoothing))

    def forward(self, features: Tensor) -> Tensor:
        del features
        return self.W.clone()  # phi is made of theta and is not theta itself: some ask for its derivative by it


class DiagonalTeacher(nn.Module):
    """The diagonal of Phi_t = W softmax(V s_t) (section 4.2): W of shape (|V|, N), V of shape (N, |s_t|); (|V|,).

    Every key of W starts at ``gain`` plus ``noise`` times a standard normal, V at a standard normal: with one gain for
    all words the loss is near a bounded likelihood. The paper's formula leaves W out, and says not how they start.

    Raises ``UserError`` for sizes below 1 or a negative noise.
    """

    def __init__(self, vocabulary: int, features: int, keys: int = 5, gain: float = 1.0, noise: float = 0.0) -> None:
        super().__init__()
        if min(vocabulary, features, keys) < 1:
            raise UserError(
                f"vocabulary, features and keys must be at least 1, not {vocabulary}, {features} and {keys}"
            )
        _check_start(0, noise)
        self.gain, self.noise = gain, noise
        self.W = nn.Parameter(torch.empty(vocabulary, keys))
        self.V = nn.Parameter(torch.empty(keys, features))
        self.reset_parameters()

    @property
    def options(self) -> dict[str, int | float]:
        """What it was made with."""
        vocabulary, keys = self.W.shape
        sizes = {"vocabulary": vocabulary, "features": self.V.shape[1], "keys": keys}
        return {**sizes, "gain": self.gain, "noise": self.noise}

    def reset_parameters(self) -> None:
        with torch.no_grad():
            self.V.normal_()
            self.W.normal_(std=self.noise) if self.noise else self.W.zero_()
            self.W.add_(self.gain)

    def forward(self, features: Tensor) -> Tensor:
        return self.W @ torch.softmax(self.V @ features, dim=0)


def _check_start(smoothing: float, noise: float) -> None:
    if not (noise >= 0 and 0 <= smoothing <= 1):
        raise UserError(f"noise must not be negative and smoothing in [0, 1], not {noise} and {smoothing}")


def _start(like: Tensor, gain: float, smoothing: float) -> Tensor:
    """gain * ((1 - smoothing) I + smoothing / C), of the dtype and on the device of ``like``."""
    classes = like.shape[0]
    return gain * (torch.eye(classes, dtype=like.dtype, device=like.device) * (1 - smoothing) + smoothing / classes)
