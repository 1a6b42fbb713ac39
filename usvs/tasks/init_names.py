"""How inits are written (``--init``); without torch, so that the command line can show it in its help."""

INIT_PREFIXES = ("video", "usvs", "imagenet", "sononet", "timm")
INIT_HELP = "random, RUN, video:RUN, usvs:RUN, imagenet:FILE|timm|torchvision, sononet:FILE or timm:NAME"
