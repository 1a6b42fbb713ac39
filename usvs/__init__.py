"""usvs: learning from narrated ultrasound.

The commands of the command line are functions here: `usvs.index_archive`, `usvs.prepare_store`, `usvs.pretrain`,
`usvs.finetune`, `usvs.reproduce`, `usvs.predict`, `usvs.embed`, `usvs.load_encoder`. The kernels alone are in
`usvs.ops`. Nothing heavy is imported until it is used.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from usvs.experiments.reproduce import reproduce as reproduce
    from usvs.inference.classifier import FrameClassifier as FrameClassifier
    from usvs.inference.cross_validate import cross_validate as cross_validate
    from usvs.inference.embed import embed as embed
    from usvs.inference.predict import predict as predict
    from usvs.inference.saliency import SaliencyModel as SaliencyModel
    from usvs.models.registry import create_encoder as create_encoder
    from usvs.models.registry import list_encoders as list_encoders
    from usvs.models.registry import register_encoder as register_encoder
    from usvs.phantom import make_phantom as make_phantom
    from usvs.store.audit import audit_store as audit_store
    from usvs.store.indexing import index_archive as index_archive
    from usvs.store.prepare import prepare_store as prepare_store
    from usvs.tasks.finetune import finetune as finetune
    from usvs.tasks.model_files import load_model as load_model
    from usvs.tasks.model_files import save_model as save_model
    from usvs.tasks.pretraining.load import load_encoder as load_encoder
    from usvs.tasks.pretraining.pretrain import pretrain as pretrain

_HOMES = {
    "audit_store": "usvs.store.audit",
    "index_archive": "usvs.store.indexing",
    "prepare_store": "usvs.store.prepare",
    "create_encoder": "usvs.models.registry",
    "list_encoders": "usvs.models.registry",
    "register_encoder": "usvs.models.registry",
    "embed": "usvs.inference.embed",
    "FrameClassifier": "usvs.inference.classifier",
    "SaliencyModel": "usvs.inference.saliency",
    "cross_validate": "usvs.inference.cross_validate",
    "predict": "usvs.inference.predict",
    "finetune": "usvs.tasks.finetune",
    "load_model": "usvs.tasks.model_files",
    "save_model": "usvs.tasks.model_files",
    "make_phantom": "usvs.phantom",
    "load_encoder": "usvs.tasks.pretraining.load",
    "pretrain": "usvs.tasks.pretraining.pretrain",
    "reproduce": "usvs.experiments.reproduce",
}

__all__ = [
    "FrameClassifier",
    "SaliencyModel",
    "__version__",
    "audit_store",
    "create_encoder",
    "cross_validate",
    "embed",
    "finetune",
    "index_archive",
    "list_encoders",
    "load_encoder",
    "load_model",
    "make_phantom",
    "predict",
    "prepare_store",
    "pretrain",
    "register_encoder",
    "reproduce",
    "save_model",
]


# Packages that are attributes of `usvs` without an import of their own, such as `usvs.data.PairDataset`.
_PACKAGES = ("data", "models", "ops")


def __getattr__(name: str) -> Any:
    if name in _PACKAGES:
        return import_module(f"usvs.{name}")
    if name not in _HOMES:
        raise AttributeError(f"module 'usvs' has no attribute '{name}'")
    try:
        return getattr(import_module(_HOMES[name]), name)
    except ModuleNotFoundError as error:
        from usvs.utils.dependencies import is_missing_dependency, missing_dependency

        if is_missing_dependency(error):
            raise missing_dependency(error) from None
        raise


def __dir__() -> list[str]:
    return __all__
