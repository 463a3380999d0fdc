"""The stores by name."""

from collections.abc import Mapping
from types import MappingProxyType

from l2t_bench.stores.contract import Store
from l2t_bench.stores.memory import KeepAll, Segments

STORES: Mapping[str, type[Store]] = MappingProxyType({store.name: store for store in (KeepAll, Segments)})
