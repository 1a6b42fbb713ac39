"""usvs: learning from narrated ultrasound.

The verbs of the command line are functions here: `usvs.index_archive`, `usvs.prepare_store`, `usvs.pretrain`,
`usvs.finetune_planes`, `usvs.finetune_gaze`, `usvs.reproduce`, `usvs.predict_planes`, `usvs.embed`,
`usvs.load_encoder`. The kernels alone are in `usvs.ops`. Nothing heavy is imported until it is used.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from usvs.experiments.reproduce import reproduce as reproduce
    from usvs.inference.embed import embed as embed
    from usvs.inference.predictors import predict_planes as predict_planes
    from usvs.models.registry import create_encoder as create_encoder
    from usvs.models.registry import list_encoders as list_encoders
    from usvs.models.registry import register_encoder as register_encoder
    from usvs.phantom import make_phantom as make_phantom
    from usvs.store.indexing import index_archive as index_archive
    from usvs.store.prepare import prepare_store as prepare_store
    from usvs.tasks.classification.compare import finetune_planes as finetune_planes
    from usvs.tasks.pretraining.load import load_encoder as load_encoder
    from usvs.tasks.pretraining.pretrain import pretrain as pretrain
    from usvs.tasks.saliency.compare import finetune_gaze as finetune_gaze

_HOMES = {
    "index_archive": "usvs.store.indexing",
    "prepare_store": "usvs.store.prepare",
    "create_encoder": "usvs.models.registry",
    "list_encoders": "usvs.models.registry",
    "register_encoder": "usvs.models.registry",
    "embed": "usvs.inference.embed",
    "finetune_gaze": "usvs.tasks.saliency.compare",
    "finetune_planes": "usvs.tasks.classification.compare",
    "predict_planes": "usvs.inference.predictors",
    "make_phantom": "usvs.phantom",
    "load_encoder": "usvs.tasks.pretraining.load",
    "pretrain": "usvs.tasks.pretraining.pretrain",
    "reproduce": "usvs.experiments.reproduce",
}

__all__ = [
    "__version__",
    "create_encoder",
    "embed",
    "finetune_gaze",
    "finetune_planes",
    "index_archive",
    "list_encoders",
    "load_encoder",
    "make_phantom",
    "predict_planes",
    "prepare_store",
    "pretrain",
    "register_encoder",
    "reproduce",
]


# Packages that are attributes of `usvs` without an import of their own, such as `usvs.data.PairDataset`.
_PACKAGES = ("data", "models", "ops")


def __getattr__(name: str) -> Any:
    if name in _PACKAGES:
        return import_module(f"usvs.{name}")
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'usvs' has no attribute '{name}'")


def __dir__() -> list[str]:
    return __all__
