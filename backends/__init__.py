"""The ways to compute a teacher gradient, one file each. Import as ``l2t_bench.backends``."""

if __name__ != "l2t_bench.backends":
    raise ImportError("import l2t_bench.backends, not backends: this would load a second copy")
