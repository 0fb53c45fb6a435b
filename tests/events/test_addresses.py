"""Where a URL may lead (attack 18 of the security list)."""

from __future__ import annotations

from ipaddress import ip_address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from store.events.addresses import Addresses, InvalidRule, is_public

PRIVATE = (
    "0.0.0.0", "0.1.2.3", "10.0.0.1", "100.64.0.1", "100.100.100.200", "127.0.0.1", "127.255.255.254",
    "168.63.129.16", "169.254.169.254", "172.16.0.1", "172.31.255.255", "192.0.0.192", "192.0.2.1",
    "192.88.99.1", "192.168.1.1", "198.18.0.1", "198.51.100.7", "203.0.113.9", "224.0.0.1",
    "239.255.255.255", "240.0.0.1", "255.255.255.255", "::", "::1", "::127.0.0.1", "::ffff:127.0.0.1",
    "::ffff:10.0.0.1", "::ffff:8.8.8.8", "64:ff9b::7f00:1", "64:ff9b::a9fe:a9fe", "64:ff9b:1::1", "100::1",
    "2001::1", "2001:0:1::1", "2001:db8::1", "2002:7f00:1::", "2002:a9fe:a9fe::", "3fff::1", "5f00::1",
    "fc00::1", "fd00:ec2::254", "fe80::1", "fe80::1%eth0", "fec0::1", "ff02::1",
)  # fmt: skip
PUBLIC = (
    "1.1.1.1", "8.8.8.8", "100.63.255.255", "100.128.0.1", "172.15.255.255", "172.32.0.1", "192.0.1.1",
    "198.20.0.1", "223.255.255.254", "2001:4860:4860::8888", "2606:4700::1111", "2a00:1450:4001:800::200e",
)  # fmt: skip


@pytest.mark.parametrize("text", PRIVATE)
def test_what_is_not_public_is_refused(text: str) -> None:
    address = ip_address(text)
    assert not is_public(address)
    assert not Addresses().admits("receiver.example", address)
    host = f"[{text.partition('%')[0]}]" if ":" in text else text
    assert Addresses().problem(f"https://{host}/x") is not None


@pytest.mark.parametrize("text", PUBLIC)
def test_what_is_public_is_admitted(text: str) -> None:
    assert is_public(ip_address(text))
    assert Addresses().problem(f"http://{f'[{text}]' if ':' in text else text}:8443/x") is None


@given(st.ip_addresses())
def test_nothing_is_public_that_the_standard_library_knows_to_be_otherwise(address: object) -> None:
    parsed = ip_address(str(address))
    assert not is_public(parsed) or (parsed.is_global and not parsed.is_multicast)


@pytest.mark.parametrize(
    "host",
    ["127.1", "0177.0.0.1", "0x7f.1", "2130706433", "0x7f000001", "017700000001", "127.0.0.1.", "127.0.0.1"]
    + ["169.254.43518", "①②⑦.⓪.⓪.①", "１２７.0.0.1", "999999999999", "localhost", "LOCALHOST."]
    + ["a.localhost", "metadata.google.internal", "printer.local", "router.home.arpa", "0"],
)
def test_other_spellings_of_local_addresses_are_refused(host: str) -> None:
    assert Addresses().problem(f"http://{host}/") is not None


@pytest.mark.parametrize(
    "url",
    [
        "http://user@a.test/",
        "http://user:pw@a.test/",
        "http://a.test:0/",
        "http://a.test:99999/",
        "http://[::1",
    ]
    + ["http://:80/", "http://[1.1.1.1]:x/"],
)
def test_urls_that_say_more_than_where_to_are_refused(url: str) -> None:
    assert Addresses().problem(url) is not None


def test_what_the_operator_lists_is_admitted_and_nothing_beside_it() -> None:
    addresses = Addresses.of(["Hooks.Corp.Example", "10.1.0.0/16", "::1", "localhost"])
    assert addresses.admits("hooks.corp.example.", ip_address("192.168.0.1"))
    assert not addresses.admits("other.corp.example", ip_address("192.168.0.1"))
    assert addresses.admits("anything.example", ip_address("10.1.2.3"))
    assert addresses.admits("anything.example", ip_address("::ffff:10.1.2.3"))
    assert not addresses.admits("anything.example", ip_address("10.2.2.3"))
    for url, admitted in (
        ("http://hooks.corp.example/", True),
        ("http://10.1.9.9/", True),
        ("http://10.2.9.9/", False),
        ("http://[::1]/", True),
        ("http://127.0.0.1/", False),
        ("http://localhost/", True),
    ):
        assert (addresses.problem(url) is None) is admitted, url


@pytest.mark.parametrize(
    "entry", ["", "a b", "http://a.test", "10.0.0.0/33", "10.1.0.0/8", "127.1", "-a.test"]
)
def test_entries_that_are_nothing_are_refused(entry: str) -> None:
    with pytest.raises(InvalidRule):
        Addresses.of([entry])
