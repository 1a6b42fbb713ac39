"""The values of Tables 1, 2 and 3 of Jiao et al., MICCAI 2020, as printed, for comparison."""

# init -> score -> mean and standard deviation over three folds
PLANES: dict[str, dict[str, tuple[float, float]]] = {
    "random": {"precision": (70.4, 2.3), "recall": (64.9, 1.6), "f1": (67.0, 1.3)},
    "video": {"precision": (71.9, 2.0), "recall": (71.7, 3.5), "f1": (71.5, 2.4)},
    "joint": {"precision": (72.7, 1.8), "recall": (73.3, 2.4), "f1": (72.6, 1.7)},
    "imagenet": {"precision": (74.6, 1.8), "recall": (71.2, 1.9), "f1": (72.5, 1.8)},
    "sononet": {"precision": (82.3, 1.3), "recall": (87.3, 1.1), "f1": (84.5, 0.9)},
    "baseline": {"precision": (70.7, 3.6), "recall": (70.2, 2.4), "f1": (69.8, 2.9)},
    "contrastive": {"precision": (71.8, 2.3), "recall": (71.1, 2.3), "f1": (70.9, 1.9)},
}
GAZE: dict[str, dict[str, tuple[float, float]]] = {
    "random": {"kl": (3.94, 0.18), "nss": (1.47, 0.24), "auc": (0.90, 0.01), "cc": (0.12, 0.02), "sim": (0.05, 0.01)},
    "video": {"kl": (3.57, 0.10), "nss": (1.86, 0.12), "auc": (0.91, 0.01), "cc": (0.15, 0.01), "sim": (0.08, 0.01)},
    "joint": {"kl": (3.05, 0.04), "nss": (2.68, 0.05), "auc": (0.95, 0.00), "cc": (0.22, 0.00), "sim": (0.11, 0.00)},
    "imagenet": {"kl": (3.95, 0.28), "nss": (1.72, 0.25), "auc": (0.89, 0.02), "cc": (0.14, 0.02), "sim": (0.08, 0.01)},
    "sononet": {"kl": (3.14, 0.02), "nss": (2.62, 0.03), "auc": (0.94, 0.00), "cc": (0.21, 0.00), "sim": (0.12, 0.00)},
    "baseline": {"kl": (3.96, 0.69), "nss": (1.76, 0.42), "auc": (0.90, 0.03), "cc": (0.15, 0.03), "sim": (0.08, 0.01)},
    "contrastive": {
        "kl": (3.43, 0.01),
        "nss": (2.23, 0.02),
        "auc": (0.93, 0.00),
        "cc": (0.19, 0.00),
        "sim": (0.08, 0.00),
    },
}
TITLES = {
    "random": "Rand.Init.",
    "video": "Video",
    "joint": "Ours",
    "imagenet": "ImageNet Init.",
    "sononet": "SonoNet",
    "baseline": "Baseline",
    "contrastive": "+ CM.Contra.",
    "shuffled": "Shuffled",
}
