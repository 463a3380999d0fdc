"""The stores by name."""

from collections.abc import Mapping
from types import MappingProxyType

from l2t_bench.stores.binomial import Binomial
from l2t_bench.stores.contract import Store
from l2t_bench.stores.disk import Disk
from l2t_bench.stores.graph import KeepGraphs
from l2t_bench.stores.host import HostMemory
from l2t_bench.stores.memory import KeepAll, Segments
from l2t_bench.stores.reversible import Reversible

STORES: Mapping[str, type[Store]] = MappingProxyType(
    {store.name: store for store in (KeepAll, Segments, Binomial, Disk, HostMemory, KeepGraphs, Reversible)}
)
