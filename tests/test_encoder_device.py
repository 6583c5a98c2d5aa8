"""Which build of onnxruntime is there, and what is said to be missing where a device cannot be had."""

import sys
from pathlib import Path

import pytest

from cellvigil import device
from cellvigil.errors import DeviceError


def installed(folder: Path, *names: str) -> None:
    """Distributions as pip leaves them, as far as their metadata go."""
    for name in names:
        info = folder / f"{name.replace('-', '_')}-1.23.0.dist-info"
        info.mkdir(parents=True)
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.23.0\n")


def only(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    """Let this interpreter see `folder` as its only place of packages."""
    monkeypatch.setattr(sys, "path", [str(folder)])


def test_both_builds_at_once_are_refused_with_the_command_that_mends_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    installed(tmp_path, "onnxruntime", "onnxruntime_gpu", "numpy")
    only(monkeypatch, tmp_path)
    with pytest.raises(DeviceError, match="both installed") as caught:
        device.runtime()
    mend = "-m pip uninstall -y onnxruntime onnxruntime-gpu && "
    assert f"{sys.executable} {mend}{sys.executable} -m pip install 'onnxruntime-gpu[cuda,cudnn]'" in str(caught.value)


def test_no_build_at_all_is_refused_with_the_command_that_mends_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    installed(tmp_path, "numpy", "onnxruntime-extensions")
    only(monkeypatch, tmp_path)
    with pytest.raises(DeviceError, match=r"not installed; .* -m pip install onnxruntime"):
        device.runtime()


@pytest.mark.parametrize("names", [{"onnxruntime"}, {"onnxruntime-gpu", "onnx"}, {"onnxruntime", "onnxruntime-tools"}])
def test_one_build_is_well(names: set[str]) -> None:
    device.check_distributions(names)


def test_this_environment_has_one_build() -> None:
    assert device.runtime().__name__ == "onnxruntime"


@pytest.mark.parametrize(
    ("message", "library"),
    [
        ("libcublasLt.so.13: cannot open shared object file: No such file or directory", "libcublasLt.so.13"),
        ("libcudnn.so.9: cannot open shared object file: No such file or directory", "libcudnn.so.9"),
        (
            "Failed to load x/libp.so with error: libnvinfer.so.10: cannot open shared object file: ...",
            "libnvinfer.so.10",
        ),
        ("/opt/x/libfoo-2.1.so: cannot open shared object file: No such file", "libfoo-2.1.so"),
        ("libcudart.so.13: undefined symbol: cudaFree", ""),
        ("", ""),
    ],
)
def test_the_loader_names_the_library(message: str, library: str) -> None:
    assert device.library_named_in(message) == library


def test_a_build_without_the_provider_is_named_with_its_command() -> None:
    lacks = device.missing(["CPUExecutionProvider"], "cuda")
    assert lacks[-1].what == "the library onnxruntime-gpu is not installed"
    said = str(device.not_obtained("cuda", lacks))
    assert said.startswith("cuda was asked for and cannot be had: ")
    assert "pip uninstall -y onnxruntime && " in said
    assert "set encoder.device to auto or cpu" in said


def test_every_lack_and_its_mending_are_told_once() -> None:
    lacks = [device.Lack("no driver", "install it"), device.Lack("no library", "install it"), device.Lack("odd", "")]
    assert str(device.not_obtained("cuda", lacks)) == (
        "cuda was asked for and cannot be had: no driver, and no library, and odd; "
        "install it; or set encoder.device to auto or cpu"
    )
