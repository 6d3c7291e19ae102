"""The oracle: a slow interpreter of chains of stages in NumPy, one file a stage, apart from the planner.

chain = Chain(Arrays([{"x": 1}, {"x": 2}]), (Shuffle(0), Batch(2)))
check_run(chain.write().iterate(epochs=3), run(chain, 3 * len(chain)))
"""

from . import functions as functions
from .apply import Apply as Apply
from .apply import RandomApply as RandomApply
from .batch import Batch as Batch
from .cache import Cache as Cache
from .chain import Chain as Chain
from .device_map import DeviceMap as DeviceMap
from .filter import Filter as Filter
from .hashing import example_seed as example_seed
from .hashing import hash64 as hash64
from .keep_on_host import KeepOnHost as KeepOnHost
from .map import Map as Map
from .permutation import permutation as permutation
from .random_map import RandomMap as RandomMap
from .rules import refusal as refusal
from .same import check_run as check_run
from .same import check_same as check_same
from .same import check_spec as check_spec
from .seed import Seed as Seed
from .select import Drop as Drop
from .select import Select as Select
from .shuffle import Shuffle as Shuffle
from .skip import Skip as Skip
from .source import Arrays as Arrays
from .source import Examples as Examples
from .split import Split as Split
from .stack import Stack as Stack
from .state import end_of_epoch as end_of_epoch
from .state import run as run
from .take import Take as Take
