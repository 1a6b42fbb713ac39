"""usvs: representation learning from narrated ultrasound.

The commands of the command line are functions here (`index_archive`, `prepare_store`, `pretrain`, `diagnose`,
`finetune`, `predict`, `embed`, `search`, `export_model`, `reproduce`), beside encoders (`create_encoder`,
`load_encoder`), models (`FrameClassifier`, `SaliencyModel`, `ZeroShotClassifier`) and the packages `usvs.data`,
`usvs.models`, `usvs.ops`, `usvs.evaluation` and `usvs.media`. Each is imported when it is first used.
"""

from typing import TYPE_CHECKING

from usvs.utils.lazy_imports import lazy_attributes

__version__ = "0.1.0"

if TYPE_CHECKING:
    from usvs import data as data
    from usvs import evaluation as evaluation
    from usvs import media as media
    from usvs import models as models
    from usvs import ops as ops
    from usvs.experiments.reproduce import reproduce as reproduce
    from usvs.inference.classifier import FrameClassifier as FrameClassifier
    from usvs.inference.cross_validate import cross_validate as cross_validate
    from usvs.inference.cross_validate import held_out_frames as held_out_frames
    from usvs.inference.embed import embed as embed
    from usvs.inference.export.export import export_model as export_model
    from usvs.inference.predict import predict as predict
    from usvs.inference.predict_by_voice import predict_by_voice as predict_by_voice
    from usvs.inference.saliency import SaliencyModel as SaliencyModel
    from usvs.inference.search import search as search
    from usvs.inference.zero_shot import ZeroShotClassifier as ZeroShotClassifier
    from usvs.models.registry import create_encoder as create_encoder
    from usvs.models.registry import list_encoders as list_encoders
    from usvs.models.registry import register_encoder as register_encoder
    from usvs.narration.make import narrate_videos as narrate_videos
    from usvs.phantom import make_phantom as make_phantom
    from usvs.report.html import save_report as save_report
    from usvs.store.audit import audit_store as audit_store
    from usvs.store.indexing import index_archive as index_archive
    from usvs.store.prepare import prepare_store as prepare_store
    from usvs.tasks.diagnosis.diagnose import diagnose as diagnose
    from usvs.tasks.encoder_files import save_encoder as save_encoder
    from usvs.tasks.finetune import finetune as finetune
    from usvs.tasks.model_files import load_model as load_model
    from usvs.tasks.model_files import save_model as save_model
    from usvs.tasks.pretraining.load import load_encoder as load_encoder
    from usvs.tasks.pretraining.pretrain import pretrain as pretrain

lazy_attributes(
    "usvs",
    {
        "experiments.reproduce": ("reproduce",),
        "inference.classifier": ("FrameClassifier",),
        "inference.cross_validate": ("cross_validate", "held_out_frames"),
        "inference.embed": ("embed",),
        "inference.export.export": ("export_model",),
        "inference.predict": ("predict",),
        "inference.predict_by_voice": ("predict_by_voice",),
        "inference.saliency": ("SaliencyModel",),
        "inference.search": ("search",),
        "inference.zero_shot": ("ZeroShotClassifier",),
        "models.registry": ("create_encoder", "list_encoders", "register_encoder"),
        "narration.make": ("narrate_videos",),
        "phantom": ("make_phantom",),
        "report.html": ("save_report",),
        "store.audit": ("audit_store",),
        "store.indexing": ("index_archive",),
        "store.prepare": ("prepare_store",),
        "tasks.diagnosis.diagnose": ("diagnose",),
        "tasks.encoder_files": ("save_encoder",),
        "tasks.finetune": ("finetune",),
        "tasks.model_files": ("load_model", "save_model"),
        "tasks.pretraining.load": ("load_encoder",),
        "tasks.pretraining.pretrain": ("pretrain",),
    },
    packages=("data", "evaluation", "media", "models", "ops"),
)
