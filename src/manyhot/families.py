"""What a model's name tells: the family of its architecture, and the data it was pretrained on.

Models of one family rise and fall together, so what is said about models in general must count families
(`manyhot.core.comparison`). The rules know the names of timm, torchvision and Cadene's pretrained models; a
table of models may overrule them.
"""

from __future__ import annotations

import re

_PREFIX = re.compile(r"^(tf|legacy|gluon|ssl|swsl|ig|adv|ens|dm|eca|ese|gc|test|hf|own|timm|torchvision)[_/]")

_FAMILIES = (
    ("inception", r"bninception|(adv_|ens_adv_)?inception(?!_next)|polynet|xception"),
    ("inceptionnext", r"inception_next"),
    ("csp", r"cs3?|csp|darknet|sedarknet"),
    ("densenet", r"densenet"),
    ("byoanet", r"lambda|halo|botne|sebotne|sehalonet|lamhalobotnet|bat_"),
    ("nfnet", r"nfnet|nf_"),
    ("resnet", r"\w*(resnet|resnext|resnest|res2net|res2next|senet)"),
    ("nasnet", r"p?nasnet"),
    ("regnet", r"regnet"),
    ("vit", r"vit|deit|beit|eva|tiny_vit|flexivit|naflexvit|vitamin|samvit|aimv2"),
    ("convnext", r"convnext"),
    ("swin", r"swin"),
    ("efficientnet", r"efficientnet|mixnet|tinynet"),
    ("mobilenet", r"(se)?mnasnet|(se)?mobilenet|lcnet|fbnet|spnasnet|semnasnet"),
    ("hgnet", r"hgnet"),
    ("maxvit", r"maxx?vit|coatne"),
    ("metaformer", r"poolformer|convformer|caformer"),
    ("mlp", r"mixer|resmlp|gmlp|gmixer"),
    ("rexnet", r"rexnet"),
    ("repvgg", r"repvgg|mobileone"),
    ("vgg", r"vgg"),
    ("fisher vectors", r"fv_\d"),
)
"""First match wins; a name that none matches is its own family up to the first digit."""

_PRETRAINING = (
    ("jft", r"jft"),
    ("ig-1b", r"ig1b|swag"),
    ("yfcc-100m", r"yfcc|yfc"),
    ("laion-2b", r"laion"),
    ("webli", r"webli|siglip"),
    ("clip", r"openai|clip|quickgelu|metaclip|dfn|datacomp"),
    ("merged-30m", r"m30m|m38m"),
    ("in-21k/22k", r"in2[12]k|_21k|22k|ssld_stage1"),
    ("in-12k", r"in12k"),
    ("seer", r"seer"),
    ("lvd-142m", r"lvd|dinov"),
    ("in-1k", r""),
)


def family_of(model: str) -> str:
    """Return the family of a model's architecture.

    ResNets, ResNeXts, SE-ResNets and their kin are one family, and so are vision transformers of one shape.
    A family too wide makes intervals over families honest; one too narrow makes them too short.

    Examples
    --------
    >>> family_of("timm/seresnext50_32x4d.racm_in1k@288"), family_of("convnextv2_tiny"), family_of("xcit_s12")
    ('resnet', 'convnext', 'xcit')
    """
    name = _architecture(model)
    bare = name
    while (shorter := _PREFIX.sub("", bare)) != bare:
        bare = shorter
    for family, pattern in _FAMILIES:
        if re.match(pattern, bare):
            return family
    start = re.match(r"[a-z]+(?=v\d)|[a-z]+", bare)
    return start.group() if start else name


def pretraining_of(model: str) -> str:
    """Return the data that a timm model saw before ImageNet-1k, by the tag of its name.

    ``in-1k`` where the tag names nothing else; empty where the name has no tag, as before timm 0.9.

    Examples
    --------
    >>> pretraining_of("eva02_large_patch14_448.mim_m38m_ft_in22k_in1k"), pretraining_of("resnet50.a1_in1k")
    ('merged-30m', 'in-1k')
    """
    _, dot, tag = model.partition("@")[0].partition(".")
    if not dot:
        return ""
    return next(data for data, pattern in _PRETRAINING if re.search(pattern, tag.lower()))


def _architecture(model: str) -> str:
    return model.partition("@")[0].partition(".")[0].lower()
