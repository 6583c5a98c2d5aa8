"""Weights from the hub: a pinned revision, the cache, and a hub that is not there. Needs the extra `export`."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("torch", reason="needs the extra `export`")
pytest.importorskip("huggingface_hub", reason="needs the extra `export`")
import transformers

from hub_at_home import COMMIT, serving
from vision_networks import saved, whole

pytestmark = pytest.mark.export

REPOSITORY = "facebook/dinov2-small"
FIND = """
import json, sys
from cellvigil_export.weights import find
from cellvigil_export.zoo import declared
from cellvigil.errors import CellvigilError
try:
    found = find(declared("dinov2-small"), None, sys.argv[1] or None)
    print(json.dumps([found.revision, sorted(path.name for path in found.path.iterdir())]))
except CellvigilError as error:
    sys.exit(str(error))
"""


def find(cache: Path, endpoint: str, revision: str = "", **environment: str) -> subprocess.CompletedProcess[str]:
    """`find` in a process of its own: huggingface_hub reads its address when it is imported."""
    return ran(["-c", FIND, revision], cache, endpoint, **environment)


def ran(arguments: list[str], cache: Path, endpoint: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """This Python with a hub and a cache of its own."""
    given = {"HF_HOME": str(cache), "HF_ENDPOINT": endpoint, "HF_HUB_DISABLE_XET": "1", **environment}
    path = os.pathsep.join(sys.path)
    return subprocess.run(
        [sys.executable, *arguments],
        env={**os.environ, "PYTHONPATH": path, **given},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )


NOWHERE = "http://127.0.0.1:9"  # nobody listens at the discard port
FILES = ["config.json", "model.safetensors", "preprocessor_config.json"]


def test_the_newest_revision_is_resolved_to_its_commit_and_kept(tmp_path: Path) -> None:
    folder = saved(whole("dinov2"), tmp_path / "published")
    (folder / "pytorch_model.bin").write_bytes(b"the same, as a pickle")
    (folder / "tf_model.h5").write_bytes(b"the same, for others")
    cache = tmp_path / "cache"
    with serving(REPOSITORY, folder) as hub:
        first = find(cache, hub.address)
        assert first.returncode == 0, first.stderr
        assert json.loads(first.stdout) == [COMMIT, FILES]
        assert not any("pytorch_model.bin" in path or "tf_model" in path for path in hub.asked)
        fetched = len(hub.asked)
        assert json.loads(find(cache, hub.address, COMMIT).stdout) == [COMMIT, FILES]
        assert not any(REPOSITORY in path for path in hub.asked[fetched:])  # it is pinned, and here
        unknown = find(cache, hub.address, "no-such-branch")
        assert "facebook/dinov2-small at no-such-branch cannot be had from the hub" in unknown.stderr
    for revision in ("", COMMIT):
        assert json.loads(find(cache, NOWHERE, revision).stdout) == [COMMIT, FILES]  # of the cache


FETCH = "import sys, huggingface_hub as hub; [hub.hf_hub_download(sys.argv[1], name) for name in sys.argv[2:]]"
LOAD = "import sys, transformers; transformers.AutoModel.from_pretrained(sys.argv[1])"  # without a preprocessor


@pytest.mark.parametrize(
    ("fill", "revision"),
    [([LOAD, REPOSITORY], ""), ([FETCH, REPOSITORY, "config.json", "model.safetensors"], COMMIT)],
    ids=["newest, as transformers", "pinned"],
)
def test_a_cache_that_transformers_filled_is_completed(tmp_path: Path, fill: list[str], revision: str) -> None:
    folder, cache = saved(whole("dinov2"), tmp_path / "published"), tmp_path / "cache"
    with serving(REPOSITORY, folder) as hub:
        filled = ran(["-c", *fill], cache, hub.address)
        assert filled.returncode == 0, filled.stderr
        before = find(cache, NOWHERE, revision)
        assert json.loads(before.stdout) == [COMMIT, ["config.json", "model.safetensors"]]
        assert "facebook/dinov2-small is taken from the cache, which holds no preprocessor_config.json" in before.stderr
        asked = len(hub.asked)
        found = find(cache, hub.address, revision)
        assert not any("model.safetensors" in path for path in hub.asked[asked:])  # that was there
    assert json.loads(found.stdout) == [COMMIT, FILES]
    again = find(cache, NOWHERE, revision)
    assert (json.loads(again.stdout), again.stderr) == ([COMMIT, FILES], "")


@pytest.mark.parametrize("revision", ["", COMMIT], ids=["newest", "pinned"])
def test_a_cached_pickle_is_not_taken_where_safetensors_are_published(tmp_path: Path, revision: str) -> None:
    folder, cache = saved(whole("dinov2"), tmp_path / "published"), tmp_path / "cache"
    (folder / "pytorch_model.bin").write_bytes(b"the same, as a pickle")
    there = ["config.json", "preprocessor_config.json", "pytorch_model.bin"]
    with serving(REPOSITORY, folder) as hub:
        assert ran(["-c", FETCH, REPOSITORY, *there], cache, hub.address).returncode == 0
        before = find(cache, NOWHERE, revision)
        assert json.loads(before.stdout) == [COMMIT, there]
        assert "which holds no model.safetensors, and the hub cannot be had" in before.stderr
        found = find(cache, hub.address, revision)
    assert json.loads(found.stdout) == [COMMIT, sorted([*there, "model.safetensors"])]


@pytest.mark.parametrize("gone", ["preprocessor_config.json", "model.safetensors"])
def test_what_upstream_does_not_publish_is_not_missed(tmp_path: Path, gone: str) -> None:
    folder, cache = saved(whole("dinov2"), tmp_path / "published"), tmp_path / "cache"
    content = (folder / gone).read_bytes()
    (folder / gone).unlink()
    if gone == "model.safetensors":
        (folder / "pytorch_model.bin").write_bytes(content)
    there = sorted(path.name for path in folder.iterdir())
    with serving(REPOSITORY, folder) as hub:
        assert json.loads(find(cache, hub.address).stdout) == [COMMIT, there]
        fetched = len(hub.asked)
        assert json.loads(find(cache, hub.address, COMMIT).stdout) == [COMMIT, there]
        assert hub.asked[fetched:] == []  # what there is at that commit is known
    for revision in ("", COMMIT):
        found = find(cache, NOWHERE, revision)
        assert (json.loads(found.stdout), found.stderr) == ([COMMIT, there], "")


def test_without_safetensors_the_pickle_is_fetched(tmp_path: Path) -> None:
    folder = saved(whole("dinov2"), tmp_path / "published")
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    with serving(REPOSITORY, folder) as hub:
        found = find(tmp_path / "cache", hub.address, COMMIT)
    assert json.loads(found.stdout) == [COMMIT, ["config.json", "preprocessor_config.json", "pytorch_model.bin"]]


def test_shards_are_fetched_with_their_list(tmp_path: Path) -> None:
    folder = saved(whole("dinov2"), tmp_path / "published", max_shard_size="30KB")
    with serving(REPOSITORY, folder) as hub:
        found = json.loads(find(tmp_path / "cache", hub.address).stdout)
    assert found == [COMMIT, sorted(path.name for path in folder.iterdir())]


@pytest.mark.parametrize("environment", [{}, {"HF_HUB_OFFLINE": "1"}], ids=["unreachable", "offline"])
def test_a_hub_that_is_not_there_says_which_files_to_bring_and_where_to_put_them(
    tmp_path: Path, environment: dict[str, str]
) -> None:
    missed = find(tmp_path / "cache", NOWHERE, **environment)
    assert missed.returncode == 1
    wanted = "bring config.json, preprocessor_config.json and model.safetensors (or pytorch_model.bin) from "
    assert f"{wanted}https://huggingface.co/facebook/dinov2-small" in missed.stderr
    assert "put them in checkpoints/dinov2-small, and say --weights checkpoints/dinov2-small" in missed.stderr
    assert missed.stderr.strip().count("\n") == 0


def test_the_manifest_says_which_commit_was_exported(tmp_path: Path) -> None:
    settings = {"hidden_size": 384, "num_hidden_layers": 1, "num_attention_heads": 6, "image_size": 28}
    transformers.Dinov2Model(transformers.Dinov2Config(**settings)).save_pretrained(tmp_path / "published")
    command = ["-m", "cellvigil_export", "run", "dinov2-small", "--revision", "main", "--out", str(tmp_path / "out")]
    with serving(REPOSITORY, tmp_path / "published") as hub:
        done = ran(command, tmp_path / "cache", hub.address)
    assert done.returncode == 0, done.stderr
    assert COMMIT in done.stdout
    manifest = json.loads((tmp_path / "out" / "dinov2-small" / "manifest.json").read_text())
    assert manifest["source"]["revision"] == COMMIT
    assert manifest["source"]["checkpoint"] == REPOSITORY
