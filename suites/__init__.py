"""What is run: experiments as data. Import as ``l2t_bench.suites``."""

if __name__ != "l2t_bench.suites":
    raise ImportError("import l2t_bench.suites, not suites: this would load a second copy")
