"""Remarks of a sonographer: the terms of each plane in many phrasings, and talk about other topics."""

import numpy as np

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

TERM_PROBABILITIES = (0.7, 0.15, 0.05, 0.05, 0.05)  # of the first, second, ... term: people repeat themselves

PHRASINGS: tuple[str, ...] = (
    "{a}",
    "{a}, {a}",
    "{a}, {b}, {a}",
    "the {a}",
    "the {a}, {b}",
    "{a} here, {a}",
    "and the {a}, {a}",
    "this is the {a}, {b}",
    "{a}, nice {a}",
    "{a}, the {b}, {a}",
    "that's the {a}, {a}",
    "{a}, lovely {a}",
    "{a}, yes, {a}",
)

CHATTER: tuple[str, ...] = (
    "lie still for me please",
    "it is so cold outside today",
    "did you come by train this morning",
    "have you any other children at home",
    "take a deep breath",
    "could you turn to your side a little",
    "is this your first one",
    "the traffic was terrible again",
    "are you comfortable there",
    "sorry, the gel is a bit cold",
    "let me just press a button",
    "we will see in a moment",
    "baby is wriggling a lot today",
    "when did you last eat something",
    "do you want to know what it is",
    "I will print you a picture later",
    "are you going away this summer",
    "just moving around a bit now",
    "it keeps turning away from me",
    "how is your mother doing",
    "the weather should get better on Sunday",
    "let me try that again",
    "okay, very good",
    "one moment please",
)


def on_topic(rng: np.random.Generator, plane: str) -> str:
    """Return a short remark that consists mostly of the plane's terms."""
    a, b, c = rng.choice(np.array(TERMS[plane], dtype=object), size=3, replace=False, p=TERM_PROBABILITIES)
    return str(rng.choice(PHRASINGS)).format(a=a, b=b, c=c)


def off_topic(rng: np.random.Generator) -> str:
    """Return a remark about another topic."""
    return str(rng.choice(CHATTER))
