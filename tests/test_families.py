"""Families and pretraining of real model names."""

import pytest

from manyhot.classes import family_of, pretraining_of


@pytest.mark.parametrize(
    ("family", "models"),
    [
        (
            "resnet",
            "resnet50 resnet_v1_50_tf resnet_v2_152_tf fbresnet152 cafferesnet101 se_resnext50_32x4d "
            "senet154 resnext101_64x4d seresnet152d.ra2_in1k legacy_senet154.in1k wide_resnet50_2.tv_in1k "
            "ecaresnet50d gluon_resnet50_v1b resnetv2_101x1_bit.goog_in21k_ft_in1k ssl_resnext101_32x8d "
            "skresnet18 tresnet_l res2net50_26w_4s res2next50 timm/resnet18.a1_in1k@224",
        ),
        (
            "inception",
            "inception_v3 inceptionresnetv2 inception_resnet_v2_tf bninception polynet xception41.tf_in1k",
        ),
        ("inceptionnext", "inception_next_tiny.sail_in1k"),
        ("densenet", "densenet121 densenetblur121d.ra_in1k"),
        ("vgg", "vgg_16_tf vgg19_bn repvgg_is_not"),
        ("nasnet", "nasnet_large_tf nasnetamobile pnasnet5large pnasnet_mobile_tf"),
        (
            "vit",
            "vit_base_patch16_224.augreg_in21k deit3_small_patch16_384 beitv2_large_patch16_224 eva02_tiny",
        ),
        ("convnext", "convnext_tiny convnextv2_huge.fcmae_ft_in22k_in1k_512"),
        (
            "efficientnet",
            "tf_efficientnet_b7.ns_jft_in1k efficientnetv2_rw_m gc_efficientnetv2_rw_t efficientnet-lite0",
        ),
        (
            "mobilenet",
            "mobilenet_v1_tf mobilenetv3_large_100 tf_mobilenetv3_small_075 mnasnet_100 semnasnet_075",
        ),
        ("fisher vectors", "fv_4k fv_16k fv_64k"),
        ("alexnet", "alexnet"),
        ("xcit", "xcit_nano_12_p8_224.fb_dist_in1k"),
    ],
)
def test_families(family, models):
    found = {model: family_of(model) for model in models.split() if model != "repvgg_is_not"}
    assert set(found.values()) == {family}, found


def test_repvgg_is_no_vgg():
    assert family_of("repvgg_a2") == "repvgg"


def test_all_published_models_are_in_few_families(published):
    """64 families of timm's 1,266 models, none of them nameless, none of more than a fifth of all."""
    text = published("aa4b5850c1543fa488abf260f18390eda46cf85d/results/results-imagenet.csv").read_text()
    models = {line.partition(",")[0] for line in text.splitlines()[1:]}
    found = [family_of(m) for m in models]
    assert len(models) == 1266
    assert 50 < len(set(found)) < 80
    assert all(family.isascii() and family for family in found)
    assert max(found.count(f) for f in set(found)) < 1266 / 5


def test_families_are_timms_modules():
    """Models of one file of timm's source are of one family, but for files that hold several kinds."""
    timm = pytest.importorskip("timm")
    registry = pytest.importorskip("timm.models._registry")
    of_module = {}
    for model in timm.list_models():
        of_module.setdefault(registry._model_to_module[model], set()).add(family_of(model))
    mixed = {module for module, families in of_module.items() if len(families) > 1}
    assert mixed <= {
        "byobnet",  # RepVGG, GENet, RegNet-Z and ResNets out of blocks
        "byoanet",
        "dla",  # Res2Net among them
        "nfnet",
        "efficientnet",  # MNASNet and MobileNet among them
        "hieradet_sam2",
        "vision_transformer_hybrid",  # a ResNet before the transformer
    }


@pytest.mark.parametrize(
    ("model", "data"),
    [
        ("resnet50.a1_in1k@224", "in-1k"),
        ("eva02_large_patch14_448.mim_m38m_ft_in22k_in1k", "merged-30m"),
        ("tf_efficientnet_l2.ns_jft_in1k_475", "jft"),
        ("resnext101_32x8d.fb_swsl_ig1b_ft_in1k", "ig-1b"),
        ("resnet18.fb_ssl_yfcc100m_ft_in1k", "yfcc-100m"),
        ("vit_large_patch14_clip_336.laion2b_ft_in12k_in1k", "laion-2b"),
        ("vit_base_patch16_clip_224.openai_ft_in1k", "clip"),
        ("vit_so400m_patch14_siglip_gap_378.webli_ft_in1k", "webli"),
        ("convnext_base.fb_in22k_ft_in1k", "in-21k/22k"),
        ("regnety_160.swag_ft_in1k", "ig-1b"),
        ("mobilenetv4_hybrid_large.e600_r384_in1k", "in-1k"),
        ("beit_large_patch16_512", ""),
    ],
)
def test_pretraining(model, data):
    assert pretraining_of(model) == data
