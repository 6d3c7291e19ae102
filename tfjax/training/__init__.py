"""What `tfjax.fit` is given beside a step and a pipeline: losses, callbacks, checkpoints, writers of metrics.

>>> from tfjax.training import Checkpoints, EarlyStopping
>>> callbacks = [EarlyStopping("accuracy", patience=3, mode="max")]
>>> where = Checkpoints("runs/first", every=100, keep=2)
"""

from tfjax.training.callbacks import Callback as Callback
from tfjax.training.callbacks import EarlyStopping as EarlyStopping
from tfjax.training.callbacks import LearningRate as LearningRate
from tfjax.training.checkpoints import Checkpoints as Checkpoints
from tfjax.training.evaluation import evaluate as evaluate
from tfjax.training.fit import Fitted as Fitted
from tfjax.training.fit import fit as fit
from tfjax.training.history import History as History
from tfjax.training.losses import classification as classification
from tfjax.training.losses import cross_entropy as cross_entropy
from tfjax.training.nonfinite import NonFiniteLossError as NonFiniteLossError
from tfjax.training.preemption import PREEMPTED as PREEMPTED
from tfjax.training.preemption import Preempted as Preempted
from tfjax.training.run import Run as Run
from tfjax.training.writers import Csv as Csv
from tfjax.training.writers import JsonLines as JsonLines
from tfjax.training.writers import MetricWriter as MetricWriter
