"""What is read: finished runs as tables, figures and pages. Import as ``l2t_bench.reports``."""

if __name__ != "l2t_bench.reports":
    raise ImportError("import l2t_bench.reports, not reports: this would load a second copy")
