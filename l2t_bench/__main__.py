"""``python -m l2t_bench``: the command line, for launchers that start modules, as ``torchrun -m`` does."""

from l2t_bench.cli.main import main

if __name__ == "__main__":
    main()
