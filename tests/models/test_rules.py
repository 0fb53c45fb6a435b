"""What the specification says in words, and the schemas do not hold (numbers as in the rules' checklist)."""

from __future__ import annotations

from typing import Any

import pytest

from store import errors
from store.models.flow import FLOW_PUT, ProfileFlowPut, VideoFlowPut
from store.models.parsing import validate
from store.models.profile import ProfilePost
from store.models.segment import SegmentPost
from store.models.storage import StoragePost
from store.models.webhook import EVENT_ALIASES, WebhookPost, WebhookPut

FLOW = {"id": "0fde9c11-da9d-434a-a113-d3b20a2cf251", "source_id": "5a53975a-1ab5-4636-a4bf-23a0c1cd0daa"}
RATE = {"numerator": 25}
PROFILE = "329b98d6-adeb-418c-8eaf-eca14edc1706"


def video(codec: str = "video/h264", **essence: Any) -> dict[str, Any]:
    size = {"frame_width": 1920, "frame_height": 1080}
    return FLOW | {
        "format": "urn:x-nmos:format:video",
        "codec": codec,
        "essence_parameters": {key: value for key, value in (size | essence).items() if value is not None},
    }


def audio(codec: str, **essence: Any) -> dict[str, Any]:
    return FLOW | {
        "format": "urn:x-nmos:format:audio",
        "codec": codec,
        "essence_parameters": {"sample_rate": 48000, "channels": 2} | essence,
    }


UYVY = {"unc_type": "UYVY"}
CHROMA = {"horiz_chroma_subs": 2, "vert_chroma_subs": 1}
ACCEPTED_FLOWS = {
    "25 a fixed rate": video(frame_rate=RATE),
    "25 a fixed rate, said so": video(frame_rate=RATE, vfr=False),
    "25 a variable rate": video(vfr=True),
    "raw video": video("video/raw", frame_rate=RATE, bit_depth=8, unc_parameters=UYVY, **CHROMA),
    "raw planar video may be RGB": video(
        "video/raw", frame_rate=RATE, bit_depth=8, unc_parameters={"unc_type": "planar"}
    ),
    "coded audio": audio("audio/aac"),
    "raw integers": audio("audio/x-raw-int", bit_depth=16, unc_parameters={"unc_type": "interleaved"}),
    "raw floats": audio("audio/x-raw-float", bit_depth=32, unc_parameters={"unc_type": "planar"}),
    "28 a profile": FLOW | {"profile_id": PROFILE, "max_bit_rate": 5000},
    "28 unlinking": FLOW | {"profile_id": ""},
    "28 unlinking, with new technical metadata": video(frame_rate=RATE)
    | {"profile_id": "", "avg_bit_rate": 5},
    "a collection without roles": FLOW
    | {"format": "urn:x-nmos:format:multi", "flow_collection": [{"id": FLOW["id"]}]},
    "2, 6 any tag": video(vfr=True) | {"tags": {"a/b %.": ["x", ""], "": ""}},
}
REFUSED_FLOWS = {
    "25 no rate": (video(), "frame_rate is required unless vfr is true"),
    "25 no rate, said fixed": (video(vfr=False), "frame_rate is required unless vfr is true"),
    "25 both": (video(frame_rate=RATE, vfr=True), "frame_rate must not be set when vfr is true"),
    "25 a rate of nothing": (video(frame_rate={"numerator": 0}), "/frame_rate/numerator"),
    "26 a negative bit rate": (video(vfr=True) | {"max_bit_rate": -1}, "/max_bit_rate"),
    "27 another status": (video(vfr=True) | {"status": "error"}, "/status must be one of"),
    "28 a profile and a codec": (
        video(vfr=True) | {"profile_id": PROFILE},
        "format, codec, essence_parameters",
    ),
    "28 a profile and a bit rate": (FLOW | {"profile_id": PROFILE, "avg_bit_rate": 1}, "avg_bit_rate"),
    "28 a profile and a container": (FLOW | {"profile_id": PROFILE, "container": "a/b"}, "container"),
    "28 unlinking, with half of it": (FLOW | {"profile_id": "", "codec": "a/b"}, "/format is required"),
    "no source": ({"id": FLOW["id"], "profile_id": PROFILE}, "/source_id is required"),
    "unknown essence": (video(vfr=True, hue=1), "/essence_parameters/hue is not a property"),
    "raw video without depth": (video("video/raw", vfr=True, unc_parameters=UYVY, **CHROMA), "bit_depth"),
    "raw video without packing": (video("video/raw", vfr=True, bit_depth=8), "unc_parameters"),
    "YUV without subsampling": (video(vfr=True, unc_parameters=UYVY), "horiz_chroma_subs"),
    "raw integers without depth": (audio("audio/x-raw-int"), "bit_depth"),
    "raw floats of 24 bits": (audio("audio/x-raw-float", bit_depth=24), "32 or 64"),
    "raw floats without layout": (audio("audio/x-raw-float", bit_depth=64), "unc_parameters"),
    "a container that is no header": (video(vfr=True) | {"container": "vid\u00e9o/x"}, "/container"),
    "too many members": (
        FLOW | {"format": "urn:x-nmos:format:multi", "flow_collection": [{"id": FLOW["id"]}] * 1001},
        "at most 1000 items",
    ),
}


@pytest.mark.parametrize("document", ACCEPTED_FLOWS.values(), ids=ACCEPTED_FLOWS)
def test_a_flow_that_keeps_the_rules_is_accepted(document: dict[str, Any]) -> None:
    assert validate(FLOW_PUT, document).document() == document


@pytest.mark.parametrize(("document", "reason"), REFUSED_FLOWS.values(), ids=REFUSED_FLOWS)
def test_a_flow_that_breaks_a_rule_is_refused_with_it(document: dict[str, Any], reason: str) -> None:
    with pytest.raises(errors.BadRequest, match=reason):
        validate(FLOW_PUT, document)


def test_the_variant_of_a_flow_is_told_by_its_type() -> None:
    assert isinstance(validate(FLOW_PUT, FLOW | {"profile_id": ""}), ProfileFlowPut)
    assert isinstance(validate(FLOW_PUT, video(vfr=True) | {"profile_id": ""}), VideoFlowPut)


def test_unknown_properties_of_a_flow_are_dropped() -> None:
    assert validate(FLOW_PUT, video(vfr=True) | {"colour": "red"}).document() == video(vfr=True)


def test_a_profile_of_several_essences_is_refused() -> None:
    document = {"id": PROFILE, "flow_metadata": {"format": "urn:x-nmos:format:multi"}}
    with pytest.raises(errors.BadRequest, match="/flow_metadata/format must be one of"):
        validate(ProfilePost, document)


SEGMENT = {"object_id": "a/b %é", "timerange": "[0:0_10:0)"}
ACCEPTED_SEGMENTS = {
    "43 all that is kept": {
        "ts_offset": "-1:5",
        "object_timerange": "[1:0_11:0)",
        "last_duration": "0:40000000",
        "sample_offset": 0,
        "sample_count": 250,
        "key_frame_count": 10,
        "init_object_id": "init",
    },
    "an inclusive end": {"timerange": "[0:0_10:0]"},
    "an instant": {"timerange": "[0:0]"},
    "a negative time": {"timerange": "[-10:0_-5:500000000)"},
    "42 an unlabelled URL": {"get_urls": [{"url": "https://x/y"}, {"url": "https://x/z", "label": "z"}]},
    "no URL": {"get_urls": []},
}
REFUSED_SEGMENTS = {
    "eternity": ({"timerange": "_"}, "must have a start and an end"),
    "no end": ({"timerange": "[0:0_"}, "must have a start and an end"),
    "never": ({"timerange": "()"}, "must not be empty"),
    "backwards": ({"timerange": "[5:0_1:0)"}, "must not be empty"),
    "an exclusive start": ({"timerange": "(0:0_10:0)"}, "must start inclusively"),
    "a schema-regex-only timerange": ({"timerange": "[0:0_10:0"}, "the end needs"),
    "an empty object timerange": ({"object_timerange": "()"}, "/object_timerange"),
    "a negative last duration": ({"last_duration": "-0:1"}, "must not be negative"),
    "4 a time beyond 64 bits": ({"timerange": "[9999999999:0_99999999999:0)"}, "64 bits"),
    "4 leading zeros": ({"ts_offset": "01:0"}, "leading zeros"),
    "an empty object id": ({"object_id": ""}, "/object_id must not be empty"),
    "a long object id": ({"object_id": "é" * 513}, "at most 1024 bytes"),
    "42 a label twice": ({"get_urls": [{"url": "https://x/y", "label": "z"}] * 2}, "labels must differ"),
    "42 an empty label": ({"get_urls": [{"url": "https://x/y", "label": ""}]}, "/get_urls/0/label"),
    "another scheme": ({"get_urls": [{"url": "file:///etc/passwd"}]}, "/get_urls/0/url must be an http"),
    "too many URLs": ({"get_urls": [{"url": f"https://x/{n}"} for n in range(17)]}, "at most 16 items"),
}


@pytest.mark.parametrize("more", ACCEPTED_SEGMENTS.values(), ids=ACCEPTED_SEGMENTS)
def test_a_segment_that_keeps_the_rules_is_accepted(more: dict[str, Any]) -> None:
    assert validate(SegmentPost, SEGMENT | more).document() == SEGMENT | more


@pytest.mark.parametrize(("more", "reason"), REFUSED_SEGMENTS.values(), ids=REFUSED_SEGMENTS)
def test_a_segment_that_breaks_a_rule_is_refused_with_it(more: dict[str, Any], reason: str) -> None:
    with pytest.raises(errors.BadRequest, match=reason):
        validate(SegmentPost, SEGMENT | more)


@pytest.mark.parametrize("document", [{}, {"limit": 1}, {"object_ids": []}, {"object_ids": ["a", "A"]}])
def test_storage_is_asked_for_by_number_or_by_name(document: dict[str, Any]) -> None:
    assert validate(StoragePost, document).document() == document


@pytest.mark.parametrize(
    ("document", "reason"),
    [
        ({"limit": 1, "object_ids": ["a"]}, "limit and object_ids exclude each other"),
        ({"object_ids": ["a", "b", "a"]}, "the object ids must differ"),
        ({"object_ids": ["a", ""]}, "/object_ids/1"),
        ({"object_ids": "a"}, "/object_ids must be an array"),
    ],
)
def test_storage_is_never_asked_for_both_ways(document: dict[str, Any], reason: str) -> None:
    with pytest.raises(errors.BadRequest, match=reason):
        validate(StoragePost, document)


HOOK: dict[str, Any] = {"url": "https://hook.example.com/x", "events": ["flows/created"]}


def test_older_event_names_are_read_as_the_current_ones() -> None:
    hook = validate(WebhookPost, HOOK | {"events": [*EVENT_ALIASES, "flows/created"]})
    assert sorted(hook.events) == sorted(set(EVENT_ALIASES.values()))


def test_empty_lists_of_a_webhook_survive() -> None:
    lists = ["flow_ids", "source_ids", "flow_collected_by_ids", "source_collected_by_ids"]
    document = HOOK | {name: [] for name in [*lists, "accept_get_urls", "accept_storage_ids"]}
    hook = validate(WebhookPost, document)
    assert hook.document() == document
    assert validate(WebhookPost, HOOK).flow_ids is None


@pytest.mark.parametrize(
    ("more", "reason"),
    [
        ({"api_key_name": name}, "/api_key_name")
        for name in [
            "",
            "a b",
            "a:b",
            "a\r\nb",
            "é",
            "Host",
            "content-length",
            "Transfer-Encoding",
            "CONNECTION",
        ]
    ]
    + [({"api_key_value": value}, "/api_key_value") for value in ["a\r\nb: c", "é", " a", "a\x7f"]]
    + [
        ({"url": url}, "/url")
        for url in ["", "x", "ftp://x/", "https://", "https:///x", "https://x/a b", "//x", "https://x\x01/"]
    ]
    + [({"status": "started"}, "/status must be one of 'created' or 'disabled'")]
    + [({"flow_ids": ["x"]}, "/flow_ids/0 must be a lower-case UUID")],
)
def test_a_webhook_that_could_not_be_delivered_is_refused(more: dict[str, Any], reason: str) -> None:
    with pytest.raises(errors.BadRequest, match=reason):
        validate(WebhookPost, HOOK | more)


def test_the_secret_of_a_webhook_is_not_in_its_repr() -> None:
    hook = validate(WebhookPost, HOOK | {"api_key_value": "canary"})
    assert hook.api_key_value == "canary"
    assert "canary" not in repr(hook)


def test_a_webhook_is_replaced_with_its_id_and_status_only() -> None:
    with pytest.raises(errors.BadRequest, match="/id is required; /status is required"):
        validate(WebhookPut, HOOK)
