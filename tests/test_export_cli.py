"""The command `cellvigil-export`: what it prints, and how it ends."""

import json
from pathlib import Path

import pytest

from cellvigil.bundle.encoder import open_encoder
from cellvigil_export.cli import main


def test_list_names_what_can_be_exported(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["list", "--json"]) == 0
    rows = {row["name"]: row for row in json.loads(capsys.readouterr().out)}
    assert rows["efficientnet-lite0"]["needs_torch"] is False
    assert rows["dinov2-small"] == {
        "kind": "encoder",
        "name": "dinov2-small",
        "checkpoint": "facebook/dinov2-small",
        "page": "https://huggingface.co/facebook/dinov2-small",
        "vector": "pooler_output (class token after the last norm)",
        "dimension": 384,
        "input_size": 224,
        "channels": 3,
        "licences": {"upstream": "Apache-2.0", "weights": "Apache-2.0"},
        "not_commercial": "",
        "weights": "hub",
        "refuses": {},
        "needs_torch": True,
    }
    assert "upstream is CC-BY-NC-4.0" in rows["vit-mae-huge"]["not_commercial"]
    assert rows["swinv2-large"]["refuses"].keys() == {"int8"}
    assert rows["mobile-sam"]["kind"] == "segmenter"


def test_the_table_says_what_may_not_be_used_commercially(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["list"]) == 0
    lines = {line.split()[0]: line for line in capsys.readouterr().out.splitlines() if line}
    assert "  yes " in lines["efficientnet-lite0"]
    assert "CC-BY-NC-4.0 (weights: Apache-2.0)" in lines["convnextv2-large"]
    assert all("  NO " in lines[name] for name in ("convnextv2-large", "vit-mae-huge", "cell-dino-cp-s8"))
    assert all("not stated" in lines[name] for name in ("clip-vit-large", "mobilenetv2"))
    assert "  packaged  " in lines["mobilenetv2"]
    assert "  file  " in lines["dinobloom-s"]
    assert "  hub  " in lines["dinov2-giant"]


def test_run_leaves_a_bundle_and_tells_where_and_under_which_licence(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["run", "efficientnet-lite0", "--out", str(tmp_path)]
    assert main(command) == 0
    said = capsys.readouterr().out
    assert str(tmp_path / "efficientnet-lite0") in said
    assert "Apache-2.0" in said
    assert main(command) == 1
    assert "a bundle of this name already" in capsys.readouterr().err
    assert main([*command, "--force", "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    bundle = open_encoder(tmp_path / "efficientnet-lite0")
    assert (result["sha256"], result["dimension"]) == (bundle.sha256, 1280)


@pytest.mark.parametrize(
    ("command", "code", "complaint"),
    [
        ([], 2, "COMMAND"),
        (["make"], 2, "invalid choice"),
        (["run"], 2, "NAME"),
        (["run", "resnet"], 2, "there are: cell-dino-cp-s8, cell-dino-hpa-l16"),
        (["run", "efficientnet-lite0", "--precision", "fp16"], 2, "--gate-images FOLDER, with one folder a class"),
        (["run", "swinv2-large", "--precision", "int8"], 2, "cannot be had in int8: its cosine against fp32 falls"),
        (["run", "mobile-sam", "--gate-images", "."], 2, "mobile-sam is a segmenter"),
        (["run", "mobile-sam", "--precision", "int8"], 2, "a segmenter is exported in fp32"),
        (["run", "efficientnet-lite0", "--precision", "fp8"], 2, "invalid choice"),
        (["run", "efficientnet-lite0", "--weights", "none.pth"], 2, "not there"),
        (["run", "efficientnet-lite0", "--weights", __file__], 1, "not a plain checkpoint of tensors"),
        (["run", "dinov2-small", "--weights", "none"], 2, "not there"),
        (["run", "dinov2-small", "--weights", "none", "--revision", "main"], 2, "takes no --revision"),
        (["run", "dinobloom-s", "--revision", "main"], 2, "not on the hub"),
        (["run", "dinobloom-s"], 2, "bring DinoBloom-S.pth from https://zenodo.org/records/10908163, put it at"),
        (["run", "dinov2-small", "--name", "mine"], 2, "--name and --licence are of a --checkpoint"),
        (["run", "dinov2-small", "--checkpoint", "x"], 2, "--checkpoint stands alone"),
        (["run", "--checkpoint", "none"], 2, "the checkpoint is not there"),
        (["run", "--checkpoint", str(Path(__file__).parent), "--name", "A b"], 2, "'A b' is no name for a bundle"),
        (["run", "--checkpoint", str(Path(__file__).parent), "--name", "dinov2-small"], 2, "is the name of a declared"),
    ],
)
def test_a_mistake_is_one_line_and_an_exit_code(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], command: list[str], code: int, complaint: str
) -> None:
    out = ["--out", str(tmp_path)] if "run" in command[:1] and len(command) > 1 else []
    assert main([*command, *out]) == code
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("cellvigil-export: ")
    assert complaint in captured.err
    assert captured.err.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_an_out_that_is_a_file_is_an_error(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").write_text("")
    assert main(["run", "efficientnet-lite0", "--out", str(tmp_path / "file")]) == 1
    assert capsys.readouterr().err.count("\n") == 1


@pytest.mark.parametrize("command", [[], ["list"], ["run"]])
def test_every_command_has_help_with_an_example(capsys: pytest.CaptureFixture[str], command: list[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main([*command, "--help"])
    assert ended.value.code == 0
    assert "example: cellvigil-export" in capsys.readouterr().out
