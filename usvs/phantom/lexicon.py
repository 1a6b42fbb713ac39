"""Terms of the standard planes, as a sonographer names them."""

from usvs.archive.labels import BACKGROUND, STANDARD_PLANES
from usvs.narration.lexicon import Lexicon

# terms are repeated within a plane and belong to one plane only, so that most 0.6 s pieces contain part of one
TERMS: dict[str, tuple[str, ...]] = {
    "3VT": ("three vessels", "three vessel view", "trachea", "three vessels and trachea", "ductal arch"),
    "4CH": ("four chambers", "four chamber view", "four chambers of the heart", "all four chambers", "septum"),
    "abdomen": ("abdomen", "abdominal circumference", "stomach", "stomach bubble", "tummy"),
    "femur": ("femur", "femur length", "thigh bone", "thigh", "long bone of the thigh"),
    "brain_tv": ("lateral ventricle", "head circumference", "midline", "cavum", "choroid plexus"),
    "kidneys": ("kidneys", "both kidneys", "kidney", "renal pelvis", "renal pelvises"),
    "LVOT": ("left outflow", "left ventricular outflow", "aorta", "aortic valve", "aortic outlet"),
    "lips": ("lips", "upper lip", "nose and lips", "nostrils", "lips and nostrils"),
    "profile": ("profile", "face in profile", "baby's profile", "forehead and chin", "nasal bone"),
    "RVOT": ("pulmonary artery", "pulmonary valve", "right ventricular outflow", "pulmonary trunk", "pulmonary"),
    "brain_tc": ("cerebellum", "cisterna magna", "nuchal fold", "back of the head", "cerebellar diameter"),
    "spine_cor": ("coronal", "coronal spine", "spine coronal", "coronal view", "two rows of vertebrae"),
    "spine_sag": ("sagittal spine", "sagittal", "long spine, sagittal", "sacrum", "skin line and sacrum"),
}

LEXICON = Lexicon(tuple((plane, TERMS[plane]) for plane in STANDARD_PLANES[:BACKGROUND]))
