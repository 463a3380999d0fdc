"""The special words and their numbers, the same in every vocabulary. Needs no torch."""

SPECIALS = ("<unk>", "<pad>", "<s>", "</s>")
UNKNOWN, PAD, BEGIN, END = range(len(SPECIALS))
