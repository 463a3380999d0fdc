"""A LightningModule under a learned loss: ``python examples/lightning_digits.py teacher.safetensors``.

Needs ``pip install lightning``. The teacher is a submodule without trained weights: Lightning moves it to the device.
"""

import sys

import lightning
import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

import l2t_bench as l2t

STEPS, BATCH, REFRESH, LR = 300, 20, 20, 1.2
Part = tuple[Tensor, Tensor]


class Student(lightning.LightningModule):
    """An MLP that is taught by a teacher from a file."""

    def __init__(self, path: str, train: Part, dev: Part, steps: int) -> None:
        super().__init__()
        self.student = nn.Sequential(nn.Linear(64, 100), nn.ReLU(), nn.Linear(100, 10))
        self.teacher = l2t.load_teacher(path)
        self.seen, self.steps = (train, dev), steps
        self.status = torch.zeros(0)

    def training_step(self, batch: Part, batch_idx: int) -> Tensor:
        del batch_idx
        inputs, targets = batch
        if self.global_step % REFRESH == 0:
            with torch.no_grad():
                train, dev = (
                    (self.student(images.to(self.device)), labels.to(self.device)) for images, labels in self.seen
                )
            self.status = l2t.features.paper_status(self.global_step / self.steps, train, dev)
        loss: Tensor = self.teacher(self.student(inputs), targets, self.status)
        return loss

    def configure_optimizers(self) -> dict[str, object]:
        optimizer = torch.optim.SGD(self.student.parameters(), lr=LR, momentum=0.9)
        decay = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1 - step / self.steps)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": decay, "interval": "step"}}


def main(path: str, steps: int = STEPS) -> float:
    """Train a student, and return its accuracy on held-out digits."""
    lightning.seed_everything(0, verbose=False)
    digits = load_digits()
    images = torch.tensor(digits.images, dtype=torch.float32).flatten(1) / 16
    labels = torch.tensor(digits.target)
    order = torch.randperm(len(labels))
    train, dev, test = ((images[rows], labels[rows]) for rows in (order[:300], order[300:1000], order[1000:]))
    model = Student(path, train, dev, steps)
    trainer = lightning.Trainer(
        max_steps=steps, logger=False, enable_checkpointing=False, enable_progress_bar=False,
        enable_model_summary=False, accelerator="auto",
    )  # fmt: skip
    trainer.fit(model, DataLoader(TensorDataset(*train), batch_size=BATCH, shuffle=True))
    with torch.no_grad():
        return float((model.student(test[0]).argmax(-1) == test[1]).float().mean())


if __name__ == "__main__":
    print(f"test accuracy {main(sys.argv[1]):.4f}")
