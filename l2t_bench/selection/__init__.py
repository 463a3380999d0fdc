"""Choosing a backend for a problem, a horizon and a limit: by short runs on the machine at hand, or by a run's results.

Capability, predicted memory, exactness on the real student, predicted time: in this order, the cheap questions first.
"""
