"""What a run knows about patients it never trains on: losses, accuracies and retrieval, each beside chance."""

from collections.abc import Mapping

import torch
from torch import Tensor

from usvs.archive.prepared import PreparedStore
from usvs.config import PretrainSettings
from usvs.loading.batch import PairBatch
from usvs.loading.torch_loader import PairLoader
from usvs.sampling.clips import ClipTable
from usvs.sampling.plan import Plan
from usvs.training.pretrain_model import PretrainModel, model_inputs
from usvs.training.run_log import chance_lines

HELD_OUT_SEED = 0x5EED  # the same batches for every run, whatever its own seed
MOST_BATCHES = 8
POOL_PAIRS = 128
ORDER_VALUES = ("order", "order_accuracy")
