"""A plain PyTorch loop under a learned loss: ``python examples/plain_pytorch.py teacher.safetensors``.

The teacher was trained on scikit-learn's digits (``l2t-bench train "digits/mlp[...]"``). Where the loop is any other,
five lines are the teacher's: they are marked.
"""

import sys

import torch
from sklearn.datasets import load_digits
from torch import nn

import l2t_bench as l2t  # 1

STEPS, BATCH, REFRESH, LR = 300, 20, 20, 1.2


def main(path: str, steps: int = STEPS) -> float:
    """Train a student, and return its accuracy on held-out digits."""
    torch.manual_seed(0)
    digits = load_digits()
    images = torch.tensor(digits.images, dtype=torch.float32).flatten(1) / 16
    labels = torch.tensor(digits.target)
    order = torch.randperm(len(labels))
    train, dev, test = order[:300], order[300:1000], order[1000:]

    student = nn.Sequential(nn.Linear(64, 100), nn.ReLU(), nn.Linear(100, 10))
    optimizer = torch.optim.SGD(student.parameters(), lr=LR, momentum=0.9)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1 - step / steps)
    teacher = l2t.load_teacher(path)  # 2
    for step in range(steps):
        batch = train[torch.randint(len(train), (BATCH,))]
        logits = student(images[batch])
        if step % REFRESH == 0:  # 3
            with torch.no_grad():
                seen = (student(images[train]), labels[train]), (student(images[dev]), labels[dev])
            features = l2t.features.paper_status(step / steps, *seen)  # 4
        loss = teacher(logits, labels[batch], features)  # 5
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    with torch.no_grad():
        return float((student(images[test]).argmax(-1) == labels[test]).float().mean())


if __name__ == "__main__":
    print(f"test accuracy {main(sys.argv[1]):.4f}")
