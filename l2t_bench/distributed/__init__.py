"""One training by several processes, by ``torch.distributed``: a batch, or the students, shared out among ranks."""
