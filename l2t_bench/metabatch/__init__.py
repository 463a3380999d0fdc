"""A meta-batch: the students of one outer step, whose teacher gradients are taken together or one after another."""
