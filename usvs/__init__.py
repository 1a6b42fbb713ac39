"""usvs: learning from narrated ultrasound.

The verbs of the command line are functions here: `usvs.index_archive`, `usvs.prepare_store`, `usvs.pretrain`,
`usvs.finetune_planes`, `usvs.finetune_gaze`, `usvs.reproduce`, `usvs.predict_planes`, `usvs.embed`,
`usvs.load_encoder`. The kernels alone are in `usvs.ops`. Nothing heavy is imported until it is used.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from usvs.archive.catalogue import index_archive as index_archive
    from usvs.archive.prepare import prepare_store as prepare_store
    from usvs.downstream.detectors import predict_planes as predict_planes
    from usvs.downstream.embed import embed as embed
    from usvs.downstream.gaze import finetune_gaze as finetune_gaze
    from usvs.downstream.planes import finetune_planes as finetune_planes
    from usvs.downstream.reproduce import reproduce as reproduce
    from usvs.phantom import make_phantom as make_phantom
    from usvs.training.encoder import load_encoder as load_encoder
    from usvs.training.pretrain import pretrain as pretrain

_HOMES = {
    "index_archive": "usvs.archive.catalogue",
    "prepare_store": "usvs.archive.prepare",
    "embed": "usvs.downstream.embed",
    "finetune_gaze": "usvs.downstream.gaze",
    "finetune_planes": "usvs.downstream.planes",
    "predict_planes": "usvs.downstream.detectors",
    "make_phantom": "usvs.phantom",
    "load_encoder": "usvs.training.encoder",
    "pretrain": "usvs.training.pretrain",
    "reproduce": "usvs.downstream.reproduce",
}

__all__ = [
    "__version__",
    "embed",
    "finetune_gaze",
    "finetune_planes",
    "index_archive",
    "load_encoder",
    "make_phantom",
    "predict_planes",
    "prepare_store",
    "pretrain",
    "reproduce",
]


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'usvs' has no attribute '{name}'")


def __dir__() -> list[str]:
    return __all__
