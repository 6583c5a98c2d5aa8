"""The configuration: every wrong key answered, every value checked, equal meanings equal digests."""

from pathlib import Path

import pytest

from cellvigil import config
from cellvigil.errors import UsageError

GOOD = {"name": "a", "kind": "gen5", "path": "in", "timezone": "UTC", "index": "i"}


def parsed(source=None, **changes):
    return config.parse({"sources": [{**GOOD, **(source or {})}], **changes}, base=Path("/base"))


CASES = [
    ({"source": {"timezone": ""}}, "timezone is required for gen5"),
    ({"source": {"timezone": "Mars/Olympus"}}, "no time zone"),
    ({"source": {"kind": "gen6"}}, "'sources.0.kind'"),
    ({"source": {"kind": "plain"}}, "pattern is required"),
    ({"source": {"kind": "plain", "pattern": "("}}, "no regular expression"),
    ({"source": {"kind": "plain", "pattern": "(?P<wel>x)"}}, "unknown groups ['wel']"),
    ({"source": {"pixel_size_um": -1}}, "pixel_size_um"),
    ({"source": {"settle_scans": 1}}, "settle_scans"),
    ({"source": {"name": "../up"}}, "'sources.0.name'"),
    ({"source": {"channels": {"segmnt": "x"}}}, "did you mean 'segment'?"),
    ({"source": {"expect": {"well": 3}}}, "did you mean 'wells'?"),
    ({"encodr": {}}, "did you mean 'encoder'?"),
    ({"encoder": {"device": "gpu"}}, "'encoder.device'"),
    ({"version": 2}, "'version'"),
    ({"sources": []}, "at least 1 item"),
    ({"sources": [GOOD, GOOD]}, "two sources share one name"),
]


@pytest.mark.parametrize(("changes", "said"), CASES)
def test_what_is_wrong_is_said(changes, said):
    with pytest.raises(UsageError) as error:
        parsed(**changes)
    assert said in str(error.value)
    assert error.value.exit_code == 2


def test_a_missing_required_key_is_named():
    with pytest.raises(UsageError, match=r"'sources\.0\.index' is missing"):
        config.parse({"sources": [{k: v for k, v in GOOD.items() if k != "index"}]}, base=Path("/base"))


def test_relative_paths_are_taken_from_the_file_and_absolute_ones_stand(tmp_path):
    path = tmp_path / "c.yaml"
    path.write_text("sources: [{name: a, kind: gen5, path: in, timezone: UTC, index: i}]\nstate_dir: /elsewhere\n")
    settings = config.load(path)
    assert settings.sources[0].path == tmp_path / "in"
    assert settings.store.path == tmp_path / "store"
    assert settings.state_dir == Path("/elsewhere")


def test_one_number_is_a_square_pixel():
    assert parsed({"pixel_size_um": 0.5}).sources[0].pixel_size_um == (0.5, 0.5)
    assert parsed({"pixel_size_um": [0.5, 0.6]}).sources[0].pixel_size_um == (0.5, 0.6)


def test_the_segmentation_channel_is_always_awaited_first():
    channels = parsed({"channels": {"segment": "BF", "required": ["GFP", "BF"]}}).sources[0].channels
    assert channels.awaited == ("BF", "GFP")


def test_equal_meanings_have_equal_digests():
    assert parsed().sha256 == parsed(encoder={"device": "auto"}).sha256
    assert parsed().sha256 != parsed(encoder={"device": "cpu"}).sha256


@pytest.mark.parametrize("text", ["- a list", "a: [1", "", "just text"])
def test_what_is_no_mapping_or_no_yaml_is_an_error_with_the_file_in_it(tmp_path, text):
    path = tmp_path / "c.yaml"
    path.write_text(text)
    with pytest.raises(UsageError, match=r"c\.yaml"):
        config.load(path)


def test_yaml_cannot_run_code(tmp_path):
    path = tmp_path / "c.yaml"
    path.write_text("sources: !!python/object/apply:os.system ['touch /tmp/never']")
    with pytest.raises(UsageError, match="no YAML"):
        config.load(path)


def test_a_file_that_is_not_there_is_named():
    with pytest.raises(UsageError, match=r"/nowhere/c\.yaml"):
        config.load("/nowhere/c.yaml")
