"""What a verdict is made of."""

from dataclasses import dataclass

from l2t_bench.choice import Choice


@dataclass(frozen=True)
class Finding:
    """A question about a subject, the answer, what it rests on, whether the data decide it; a backend to take."""

    subject: str
    question: str
    answer: str
    detail: str
    decided: bool
    choice: Choice | None = None
