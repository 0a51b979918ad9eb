"""Rights of an agent that comes by MCP: those of the token in its header."""

import re

import pytest

from data.store import Store
from tests.awaiting import finished
from tests.browser.conftest import serving


@pytest.fixture(scope="module")
def network(tmp_path_factory):
    """A studio that is bound to every address of the machine, with an image that has gold; without models."""
    folder = tmp_path_factory.mktemp("network")
    with serving(
        folder / "home", folder / "models", GRADIO_SERVER_NAME="0.0.0.0", STUDIO_MCP="yes"
    ) as running:
        row = {"prompt": "a red circle", "n_words": 3, "seed": 1, "backbone": "tiny", "width": 128, "height": 128,
               "steps": 20, "guidance": 4.0, "image_path": "images/s0.png", "image_sha256": "0" * 64}  # fmt: skip
        store = Store(running.home / "studio.db")
        store.samples.add([row | {"id": "s0"}])
        store.gold.set("s0", 1, 7, "ann", word="red")
        yield running


def call(running, tool, headers, **given):
    """The text of what a tool answers, and whether it is an error."""
    import httpx
    from mcp import ClientSession
    from mcp.client.streamable_http import streamable_http_client

    async def ask():
        async with (
            httpx.AsyncClient(headers=headers, timeout=60) as http,
            streamable_http_client(f"{running.url}gradio_api/mcp/", http_client=http) as (read, write, _),
            ClientSession(read, write) as session,
        ):
            await session.initialize()
            (name,) = [
                t.name
                for t in (await session.list_tools()).tools
                if t.name.removeprefix("studio_").endswith(tool)
            ]
            answer = await session.call_tool(name, given)
            return answer.content[0].text, answer.isError

    return finished(ask())


def test_an_agent_is_an_administrator_with_the_token_alone(network):
    token = re.search(r"\?token=(\S+)$", network.log.read_text(), re.MULTILINE)[1]
    bearer = {"Authorization": f"Bearer {token}"}
    for headers, administrator in (({}, False), ({"Authorization": "Bearer another"}, False), (bearer, True)):
        answer, error = call(network, "sample_history", headers, sample="s0")
        assert not error and ("gold" in answer) == administrator, answer
        answer, error = call(network, "people", headers)
        assert error != administrator and bool(re.search("alone may", answer)) == error, answer
