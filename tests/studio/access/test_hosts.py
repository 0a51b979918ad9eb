"""Names of machines, as browsers send them and as the page is bound to them."""

import pytest

from studio.access import hosts


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("localhost", ("localhost", "")),
        ("LOCALHOST.:7860", ("localhost", "7860")),
        ("[::1]:7860", ("::1", "7860")),
        ("[0:0:0:0:0:0:0:1]", ("::1", "")),
        ("::1", ("::1", "")),
        ("127.0.0.1.:80", ("127.0.0.1", "80")),
        ("my_box-2.example", ("my_box-2.example", "")),
        *((text, None) for text in ("", ".", "a@localhost", "localhost@evil.example", "localhost:80:80", "[localhost]",
            "[::1", "localhost/x", "localhost#", "*.example", "loc\u212aalhost", "a b", "localhost:port")),
    ],
)  # fmt: skip
def test_a_host_is_one_name_and_perhaps_a_port(text, found):
    assert hosts.authority(text) == found


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("http://localhost:7860", ("localhost", "7860")),
        ("HTTPS://[::1]", ("::1", "")),
        *((text, None) for text in ("null", "", "file://", "localhost", "http://a@localhost", "http://localhost/x",
            "chrome-extension://abc", "http://", "ws://localhost")),
    ],
)  # fmt: skip
def test_an_origin_is_a_site_with_a_name(text, found):
    assert hosts.origin(text) == found


@pytest.mark.parametrize(
    ("server", "share", "network"),
    [("", "", False), ("localhost", "", False), ("127.0.0.2", "False", False), ("[::1]", "", False), ("0.0.0.0", "", True),
     ("[::]", "", True), ("192.168.1.5", "", True), ("box.lan", "", True), ("what?", "", True), ("127.0.0.1", "True", True)],
)  # fmt: skip
def test_more_than_loopback_and_a_public_link_are_a_network(server, share, network):
    assert hosts.on_network({"GRADIO_SERVER_NAME": server, "GRADIO_SHARE": share}) is network
