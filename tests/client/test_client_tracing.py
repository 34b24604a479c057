"""The client passes on the trace that it is called in."""

import asyncio

import pytest
from opentelemetry.sdk.trace import TracerProvider

import items_client
from items_client import Client, SyncClient
from tests.client.scripted import scripting

PARENT = f"00-{'1' * 32}-{'2' * 16}-01"


async def test_without_a_trace_nothing_is_passed_on() -> None:
    async with scripting() as script, Client(script.url) as client:
        await client.items.get(7)
        assert script.sent("traceparent") == [None]


async def test_a_trace_is_passed_on_from_the_context_variable_or_from_a_hook() -> None:
    async with scripting() as script:
        token = items_client.traceparent.set(PARENT)
        try:
            async with Client(script.url) as client:
                await client.items.get(7)
        finally:
            items_client.traceparent.reset(token)
        async with Client(script.url, trace_headers=lambda: {"traceparent": PARENT, "tracestate": "a=1"}) as client:
            await client.items.get(7)
        assert script.sent("traceparent") == [PARENT, PARENT]
        assert script.sent("tracestate") == [None, "a=1"]


@pytest.mark.parametrize("kind", [Client, SyncClient])
async def test_the_current_span_of_opentelemetry_is_passed_on(kind: type) -> None:
    tracer = TracerProvider(shutdown_on_exit=False).get_tracer("test")
    async with scripting() as script:
        with tracer.start_as_current_span("call") as span:
            if kind is Client:
                async with Client(script.url) as client:
                    await client.items.get(7)
            else:
                await in_thread(script.url)
        context = span.get_span_context()
        [passed_on] = script.sent("traceparent")
        assert passed_on is not None
        assert passed_on.startswith(f"00-{context.trace_id:032x}-{context.span_id:016x}-")


async def in_thread(url: str) -> None:
    """Read an item as a script does, in a thread that has this one's context."""

    def read() -> None:
        with SyncClient(url) as client:
            client.items.get(7)

    await asyncio.to_thread(read)
