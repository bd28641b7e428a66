"""Datagrams: the transport of a session, and transports over a callable."""

from __future__ import annotations

import asyncio
import hashlib
import time

import pytest

from pywebtransport import DatagramError, Event, TimeoutError, WebTransportDatagramTransport
from pywebtransport.datagram import DatagramMessage, DatagramStats, DatagramTransportDiagnostics
from pywebtransport.types import Data, EventType
from pywebtransport.utils import DevCertificate
from tests.harness import SECONDS, Pair, Server, client_config, connected_pair


async def test_payloads_of_every_kind_arrive(pair: Pair) -> None:
    payloads: list[Data] = [b"bytes", "täxt", bytearray(b"bytearray"), memoryview(b"memoryview"), b""]
    for payload in payloads:
        await pair.client.datagrams.send(payload)
    received = [await pair.server.datagrams.receive(timeout=SECONDS) for _ in payloads]
    assert received == [b"bytes", "täxt".encode(), b"bytearray", b"memoryview", b""]


async def test_there_is_one_transport_per_session(pair: Pair) -> None:
    made = await asyncio.gather(*(pair.client.create_datagram_transport() for _ in range(5)))
    assert all(transport is pair.client.datagrams for transport in made)
    assert pair.client.datagrams.session_id == pair.client.session_id


async def test_datagrams_that_came_before_the_transport_are_kept(pair: Pair) -> None:
    await pair.client.datagrams.send(b"early")
    await pair.uni()
    assert await (await pair.server.create_datagram_transport()).receive(timeout=SECONDS) == b"early"


async def test_receivers_are_served_in_order(pair: Pair) -> None:
    receivers = [asyncio.create_task(pair.server.datagrams.receive(timeout=SECONDS)) for _ in range(5)]
    await asyncio.sleep(0)
    for number in range(5):
        await pair.client.datagrams.send(bytes([number]))
    assert await asyncio.gather(*receivers) == [bytes([number]) for number in range(5)]


async def test_counters_are_right_at_once(pair: Pair) -> None:
    datagrams = pair.client.datagrams
    await asyncio.gather(*(datagrams.send(b"12345") for _ in range(50)))
    assert datagrams.datagrams_sent == datagrams.send_sequence == 50
    assert datagrams.bytes_sent == 250
    for _ in range(50):
        await pair.server.datagrams.receive(timeout=SECONDS)
    assert pair.server.datagrams.datagrams_received == pair.server.datagrams.receive_sequence == 50
    assert pair.server.datagrams.bytes_received == 250
    stats = pair.server.datagrams.diagnostics.stats
    assert stats.min_datagram_size == stats.max_datagram_size == 5
    assert stats.avg_datagram_size == 5


async def test_an_oversize_datagram_is_refused(pair: Pair) -> None:
    datagrams = pair.client.datagrams
    size = datagrams.max_datagram_size
    assert size > 1000
    with pytest.raises(DatagramError) as caught:
        await datagrams.send(b"x" * (size + 1))
    assert caught.value.datagram_size == size + 1
    assert caught.value.max_size == size
    assert isinstance(caught.value, ValueError)
    assert not await datagrams.try_send(b"x" * (size + 1))
    assert datagrams.datagrams_sent == 0
    assert datagrams.diagnostics.stats.send_drops >= 1
    await datagrams.send(b"x" * datagrams.max_datagram_size)
    assert len(await pair.server.datagrams.receive(timeout=SECONDS)) >= size


@pytest.mark.parametrize("data", [None, 3])
async def test_other_types_are_a_type_error(pair: Pair, data: object) -> None:
    with pytest.raises(TypeError):
        await pair.client.datagrams.send(data)  # type: ignore[arg-type]  # wrong on purpose
    with pytest.raises(TypeError):
        await pair.client.datagrams.try_send(data)  # type: ignore[arg-type]  # wrong on purpose
    with pytest.raises(TypeError):
        await pair.client.datagrams.send_multiple([b"a", data])  # type: ignore[list-item]
    assert pair.client.datagrams.datagrams_sent == 0


async def test_batches(pair: Pair) -> None:
    assert await pair.client.datagrams.send_multiple([b"1", "2", bytearray(b"3")]) == 3
    received: list[bytes] = []
    while len(received) < 3:
        received += await pair.server.datagrams.receive_multiple(max_count=10, timeout=SECONDS)
    assert received == [b"1", b"2", b"3"]
    with pytest.raises(ValueError, match="at least 1"):
        await pair.server.datagrams.receive_multiple(max_count=0)
    too_large = b"x" * (pair.client.datagrams.max_datagram_size + 1)
    assert await pair.client.datagrams.send_multiple([b"4", too_large, b"5"]) == 1
    assert await pair.client.datagrams.send_multiple([too_large]) == 0


async def test_json(pair: Pair) -> None:
    await pair.client.datagrams.send_json({"a": [1, None]})
    assert await pair.server.datagrams.receive(timeout=SECONDS) == b'{"a":[1,null]}'
    await pair.client.datagrams.send_json("x")
    assert await pair.server.datagrams.receive_json(timeout=SECONDS) == "x"
    with pytest.raises(DatagramError, match="not JSON serializable"):
        await pair.client.datagrams.send_json(object())
    await pair.client.datagrams.send(b"{")
    with pytest.raises(DatagramError, match="not valid JSON"):
        await pair.server.datagrams.receive_json(timeout=SECONDS)
    assert pair.server.datagrams.diagnostics.stats.receive_errors == 1


async def test_metadata(pair: Pair) -> None:
    await pair.client.datagrams.send(b"abc")
    result = await pair.server.datagrams.receive_with_metadata(timeout=SECONDS)
    assert result["data"] == b"abc"
    metadata = result["metadata"]
    assert set(metadata) == {
        "size",
        "timestamp",
        "age",
        "checksum",
        "sequence",
        "priority",
        "ttl",
        "is_expired",
        "receive_time",
    }
    assert metadata["size"] == 3
    assert metadata["checksum"] == hashlib.sha256(b"abc").hexdigest()[:8]
    assert abs(metadata["timestamp"] - time.time()) < 60


async def test_receive_times_out_and_loses_nothing(pair: Pair) -> None:
    for receive in (pair.server.datagrams.receive, pair.server.datagrams.receive_with_metadata):
        with pytest.raises(TimeoutError) as caught:
            await receive(timeout=0.01)
        assert caught.value.timeout_duration == 0.01
    with pytest.raises(TimeoutError):
        await pair.server.datagrams.receive_multiple(timeout=0.01)
    assert await pair.server.datagrams.try_receive() is None
    await pair.client.datagrams.send(b"late")
    assert await pair.server.datagrams.receive(timeout=SECONDS) == b"late"


async def test_iterating_ends_with_the_session(pair: Pair) -> None:
    await pair.client.datagrams.send(b"1")
    await pair.client.datagrams.send(b"2")
    closing = asyncio.create_task(pair.client.close())
    async with asyncio.timeout(SECONDS):
        assert [datagram async for datagram in pair.server.datagrams] == [b"1", b"2"]
    await closing


async def test_a_pending_receive_gets_the_datagram_before_the_close(pair: Pair) -> None:
    receiving = asyncio.create_task(pair.server.datagrams.receive())
    await asyncio.sleep(0)
    await pair.client.datagrams.send(b"last")
    await pair.client.close(9, "over")
    async with asyncio.timeout(SECONDS):
        assert await receiving == b"last"
        with pytest.raises(DatagramError) as caught:
            await pair.server.datagrams.receive()
    assert caught.value.close_code == 9
    assert caught.value.close_reason == "over"


async def test_after_the_sessions_end(pair: Pair) -> None:
    datagrams = pair.client.datagrams
    await pair.client.close()
    assert datagrams.is_closed
    assert not datagrams.is_readable
    assert not datagrams.is_writable
    with pytest.raises(DatagramError):
        await datagrams.send(b"x")
    with pytest.raises(DatagramError):
        await datagrams.send_multiple([b"x"])
    with pytest.raises(DatagramError):
        await datagrams.receive()
    assert not await datagrams.try_send(b"x")
    assert await datagrams.try_receive() is None
    assert datagrams.diagnostics.issues == ["Datagram transport is closed"]


async def test_closing_the_transport_wakes_receivers_and_leaves_the_session(pair: Pair) -> None:
    datagrams = pair.client.datagrams
    receivers = [asyncio.create_task(datagrams.receive()), asyncio.create_task(datagrams.receive_multiple())]
    await asyncio.sleep(0)
    await datagrams.close()
    await datagrams.close()
    async with asyncio.timeout(SECONDS):
        outcomes = await asyncio.gather(*receivers, return_exceptions=True)
    assert all(isinstance(outcome, DatagramError) for outcome in outcomes)
    assert pair.client.is_ready
    assert pair.client.datagrams is not datagrams


async def test_a_full_queue_with_policy_wait(certificate: DevCertificate, server: Server, driver: str) -> None:
    config = client_config(certificate, driver=driver, datagram_overflow="wait", datagram_queue_size=4)
    async with connected_pair(server, config) as pair:
        assert pair.client.datagrams.outgoing_high_water_mark == 4
        async with asyncio.timeout(SECONDS):
            for number in range(200):
                await pair.client.datagrams.send(b"%d" % number)
        stats = pair.client.datagrams.diagnostics.stats
        assert stats.datagrams_sent == 200
        assert stats.send_drops == 0


async def test_a_full_queue_with_policy_error(certificate: DevCertificate, server: Server) -> None:
    # The loop driver sends at the end of the loop turn, so a burst without a turn meets a full queue.
    config = client_config(certificate, driver="loop", datagram_overflow="error", datagram_queue_size=4)
    async with connected_pair(server, config) as pair:
        outcomes = [await pair.client.datagrams.try_send(b"x" * 1000) for _ in range(500)]
        assert outcomes[0]
        assert pair.client.datagrams.diagnostics.stats.send_drops == outcomes.count(False)


async def test_a_full_queue_evicts_the_oldest(certificate: DevCertificate, server: Server, driver: str) -> None:
    config = client_config(certificate, driver=driver, datagram_queue_size=4)
    async with connected_pair(server, config) as pair:
        assert await pair.client.datagrams.send_multiple([b"%d" % number for number in range(100)]) == 100
        assert pair.client.datagrams.datagrams_sent == 100


async def test_priorities_are_clamped(pair: Pair) -> None:
    await pair.client.datagrams.send(b"low", priority=-5)
    await pair.client.datagrams.send(b"high", priority=99)
    received = {await pair.server.datagrams.receive(timeout=SECONDS) for _ in range(2)}
    assert received == {b"low", b"high"}


async def test_queues_can_be_cleared(pair: Pair) -> None:
    await pair.client.datagrams.send_multiple([b"a", b"b", b"c"])
    await pair.uni()
    assert pair.server.datagrams.get_receive_buffer_size() == 3
    assert await pair.server.datagrams.clear_receive_buffer() == 3
    assert pair.server.datagrams.get_receive_buffer_size() == 0
    assert await pair.client.datagrams.clear_send_buffer() == pair.client.datagrams.get_send_buffer_size() == 0


async def test_heartbeat(pair: Pair) -> None:
    pair.client.datagrams.enable_heartbeat(interval=0.01)
    beats = [await pair.server.datagrams.receive(timeout=SECONDS) for _ in range(2)]
    assert all(beat.startswith(b"HEARTBEAT:") and beat[10:].isdigit() for beat in beats)
    await pair.client.datagrams.disable_heartbeat()


async def test_single_datagrams_are_events_for_those_who_listen(pair: Pair) -> None:
    sent, received = [], []
    both = asyncio.Event()

    def on_sent(event: Event) -> None:
        sent.append(event.data)

    def on_received(event: Event) -> None:
        received.append(event.data)
        if len(received) == 2:
            both.set()

    pair.client.datagrams.on(EventType.DATAGRAM_SENT, on_sent)
    pair.server.datagrams.on(EventType.DATAGRAM_RECEIVED, on_received)
    await pair.client.datagrams.send(b"abc")
    await pair.client.datagrams.send_multiple([b"de"])
    async with asyncio.timeout(SECONDS):
        await both.wait()
    assert [event["size"] for event in received] == [3, 2]
    assert all(set(event) == {"size", "sequence", "age", "receive_time"} for event in received)
    assert all(set(event) == {"size", "sequence", "send_time"} for event in sent)
    assert all(0 <= event["send_time"] < 60 for event in sent)


async def test_diagnostics_of_a_healthy_transport(pair: Pair) -> None:
    diagnostics = pair.client.datagrams.diagnostics
    assert diagnostics.issues == []
    assert set(diagnostics.queue_stats) == {"outgoing", "incoming"}
    keys = {"size", "max_size", "priority_0", "priority_1", "priority_2"}
    assert all(set(queue) == keys for queue in diagnostics.queue_stats.values())
    assert diagnostics.stats.to_dict()["min_datagram_size"] == 0
    assert diagnostics.stats.send_success_rate == 1.0
    assert pair.client.datagrams.incoming_max_age is None
    assert pair.client.datagrams.outgoing_max_age is None


def test_issues_of_a_transport_in_trouble() -> None:
    stats = DatagramStats(session_id="s", created_at=0.0, datagrams_sent=10, send_failures=10, send_drops=5)
    stats.total_send_time = 10.0
    queues = {"outgoing": {"size": 95, "max_size": 100}, "incoming": {}}
    diagnostics = DatagramTransportDiagnostics(stats=stats, queue_stats=queues, is_closed=True)
    assert len(diagnostics.issues) == 5


def test_message() -> None:
    message = DatagramMessage(data=b"abc", ttl=0.0, timestamp=time.time() - 5)
    assert message.size == 3
    assert message.checksum == hashlib.sha256(b"abc").hexdigest()[:8]
    assert message.age >= 5
    assert message.is_expired
    assert "data" not in message.to_dict()


# --- transports over a callable ---


async def test_a_transport_over_a_callable() -> None:
    sent: list[bytes] = []
    transport = WebTransportDatagramTransport(session_id="s", datagram_sender=sent.append, max_datagram_size=10)
    with pytest.raises(DatagramError, match="not initialized"):
        await transport.send(b"x")
    with pytest.raises(DatagramError, match="not initialized"):
        await transport.try_receive()
    await transport.initialize()
    async with transport:
        await transport.send(b"low", priority=0)
        await transport.send(b"high", priority=2)
        await transport.send(b"old", ttl=-1.0)
        with pytest.raises(DatagramError):
            await transport.send(b"x" * 11)
        assert transport.get_send_buffer_size() == 3
        waiting = asyncio.create_task(transport.receive(timeout=SECONDS))
        await asyncio.sleep(0)
        await transport.receive_from_protocol(data=b"in")
        assert await waiting == b"in"
        assert sent == [b"high", b"low"]
        assert transport.diagnostics.stats.send_drops == 1
        waiting = asyncio.create_task(transport.receive())
        await asyncio.sleep(0)
    with pytest.raises(DatagramError):
        await waiting
    assert transport.is_closed
    assert not await transport.try_send(b"x")


async def test_a_full_queue_over_a_callable() -> None:
    transport = WebTransportDatagramTransport("s", lambda data: None, 100, high_water_mark=2)
    await transport.initialize()
    await transport.send(b"1")
    await transport.send(b"2", priority=1)
    await transport.send(b"3", priority=1)
    with pytest.raises(DatagramError, match="full"):
        await transport.send(b"4", priority=1)
    assert not await transport.try_send(b"5", priority=1)
    assert transport.diagnostics.stats.send_drops == 3
    for number in range(3):
        await transport.receive_from_protocol(bytes([number]))
    assert await transport.receive_multiple() == [b"\x01", b"\x02"]
    assert transport.diagnostics.stats.receive_drops == 1
    await transport.close()


async def test_the_core_feeds_the_transports_of_sessions(pair: Pair) -> None:
    with pytest.raises(DatagramError):
        await pair.client.datagrams.receive_from_protocol(b"x")
