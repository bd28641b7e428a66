//! Streams between both ends of a session.

mod common;

use std::{sync::Arc, time::Duration};

use common::{Net, Pair, both_drivers, eventually, pattern};
use wt_io::{
    error::{DatagramError, Initiator, OpenError, StreamEnd},
    recv_stream::RecvState,
    send_stream::{SendState, Written},
    session::Stream,
};

both_drivers!(
    both_kinds_echo_in_both_directions,
    reads_of_any_size_give_the_same_bytes,
    finish_without_data_is_an_empty_stream,
    a_finished_stream_takes_nothing_more,
    writes_wait_for_room,
    data_written_right_before_the_close_arrives,
    an_unfinished_stream_keeps_what_was_written_before_the_close,
    many_streams_written_right_before_the_close_arrive,
    the_code_of_a_reset_surfaces,
    the_code_of_a_stop_surfaces,
    thousands_of_streams_are_open_at_once,
    a_stop_surfaces_while_nobody_writes,
    a_stop_surfaces_when_all_credit_is_used_up,
    a_reset_right_after_the_opening_finds_its_session,
    ten_openers_share_a_limit_of_five,
    a_cancelled_opening_gives_its_place_up,
    a_silent_stream_holds_up_nobody,
    a_slow_reader_holds_up_nobody_else,
    the_end_of_the_session_ends_its_streams,
    a_thousand_streams_leave_no_entry,
    a_thousand_streams_at_once_all_arrive,
);

async fn both_kinds_echo_in_both_directions(net: Net) {
    let pair = net.pair().await;
    let data = pattern(200_000);
    for (here, there) in [(&pair.client, &pair.server), (&pair.server, &pair.client)] {
        let (send, recv) = here.open_bi().await;
        here.write(&send, &data, true).await.expect("written");
        let (answer, question) = there.accept_bi().await;
        let asked = there.read_to_end(&question).await.expect("read");
        assert!(asked == data);
        there.write(&answer, &asked, true).await.expect("written");
        assert!(here.read_to_end(&recv).await.expect("read") == data);

        let send = here.open_uni().await;
        here.write(&send, &data, true).await.expect("written");
        let recv = there.accept_uni().await;
        assert!(there.read_to_end(&recv).await.expect("read") == data);
        assert_eq!(send.bytes_sent(), data.len() as u64);
        assert_eq!(recv.bytes_received(), data.len() as u64);
    }
    for end in [&pair.client, &pair.server] {
        let stats = end.stats();
        assert_eq!(stats.streams_created.get(), 4);
        assert_eq!(stats.bidirectional_streams.get(), 2);
        assert_eq!(stats.unidirectional_streams.get(), 2);
        end.all_streams_closed().await;
        assert_eq!(stats.stream_errors.get(), 0);
    }
    pair.finish().await;
}

async fn reads_of_any_size_give_the_same_bytes(net: Net) {
    let pair = net.pair().await;
    let data = pattern(300_000);
    for max in [1000, 1, 65_537, usize::MAX] {
        let len = if max == 1 { 500 } else { data.len() };
        let send = pair.client.open_uni().await;
        pair.client.write(&send, &data[..len], true).await.expect("written");
        let recv = pair.server.accept_uni().await;
        let mut read = Vec::new();
        loop {
            let piece = pair.server.read(&recv, max).await.expect("read");
            assert!(piece.len() <= max);
            if piece.is_empty() {
                break;
            }
            read.extend(piece);
        }
        assert!(read == data[..len]);
        assert_eq!(recv.state(), RecvState::Finished);
        assert_eq!(recv.buffered(), 0);
    }
    pair.finish().await;
}

async fn finish_without_data_is_an_empty_stream(net: Net) {
    let pair = net.pair().await;
    pair.client.open_uni().await.finish();
    let recv = pair.server.accept_uni().await;
    assert_eq!(pair.server.read_to_end(&recv).await, Ok(Vec::new()));
    pair.finish().await;
}

async fn a_finished_stream_takes_nothing_more(net: Net) {
    let pair = net.pair().await;
    let send = pair.client.open_uni().await;
    assert_eq!(send.write(b"all", true), Ok(Written::Sent));
    assert_eq!(send.write(b"more", false), Err(StreamEnd::Local("it was finished")));
    let recv = pair.server.accept_uni().await;
    assert_eq!(pair.server.read_to_end(&recv).await, Ok(b"all".to_vec()));
    eventually("everything is acknowledged", || send.state() == SendState::Acknowledged).await;
    send.reset(1);
    assert_eq!(
        send.state(),
        SendState::Acknowledged,
        "a reset after the end is harmless"
    );
    pair.finish().await;
}

async fn writes_wait_for_room(net: Net) {
    let mut config = net.client_config();
    config.common.max_stream_buffer_size = 10_000;
    let pair = net.pair_with(net.server_config(), config).await;
    let data = pattern(10_000);
    let send = pair.client.open_uni().await;
    let paused = pair.client.event_loop().pause().await;
    assert_eq!(send.write(&data, false), Ok(Written::Sent));
    assert_eq!(send.write(&data, false), Ok(Written::NoRoom), "nothing of it was taken");
    assert!(send.buffered() >= data.len());
    drop(paused);
    for _ in 0..20 {
        pair.client.write(&send, &data, false).await.expect("written");
    }
    send.finish();
    let recv = pair.server.accept_uni().await;
    assert!(pair.server.read_to_end(&recv).await.expect("read") == data.repeat(21));
    pair.finish().await;
}

async fn data_written_right_before_the_close_arrives(net: Net) {
    let pair = net.pair().await;
    let data = pattern(1 << 20);
    let send = pair.client.open_uni().await;
    pair.client.write(&send, &data, true).await.expect("written");
    pair.client.close(7, "that was all");
    let info = pair.server.closed().await;
    assert_eq!((info.code, &*info.reason), (7, "that was all"));
    let recv = pair.server.accept_uni().await;
    assert!(pair.server.read_to_end(&recv).await.expect("all of it") == data);
    pair.finish().await;
}

async fn an_unfinished_stream_keeps_what_was_written_before_the_close(net: Net) {
    let pair = net.pair().await;
    let data = pattern(300_000);
    let send = pair.server.open_uni().await;
    pair.server.write(&send, &data, false).await.expect("written");
    pair.server.close(9, "no end of stream");
    let recv = pair.client.accept_uni().await;
    assert!(pair.client.read_exact(&recv, data.len()).await == data);
    let end = pair.client.read(&recv, 1).await.expect_err("it was never finished");
    assert!(
        matches!(&end, StreamEnd::SessionClosed(info) if info.code == 9),
        "{end:?}"
    );
    pair.finish().await;
}

async fn many_streams_written_right_before_the_close_arrive(net: Net) {
    let pair = net.pair().await;
    for number in 0..90_u8 {
        let send = pair.server.open_uni().await;
        assert_eq!(send.write(&[number; 100], true), Ok(Written::Sent));
    }
    pair.server.close(0, "");
    pair.client.closed().await;
    for number in 0..90_u8 {
        let recv = pair.client.accept_uni().await;
        assert_eq!(pair.client.read_to_end(&recv).await, Ok(vec![number; 100]));
    }
    assert!(matches!(
        pair.client.try_accept(),
        Err(OpenError::SessionClosed(Some(_)))
    ));
    pair.finish().await;
}

/// The borders of the mapping to HTTP/3 codes (protocol.md 6).
const CODES: [u32; 7] = [0, 29, 30, 255, 256, 0x7fff_ffff, u32::MAX];

async fn the_code_of_a_reset_surfaces(net: Net) {
    let pair = net.pair().await;
    for (here, there) in [(&pair.client, &pair.server), (&pair.server, &pair.client)] {
        for code in CODES {
            let send = here.open_uni().await;
            here.write(&send, b"begun", false).await.expect("written");
            let recv = there.accept_uni().await;
            assert_eq!(there.read_exact(&recv, 5).await, b"begun");
            send.reset(code);
            assert_eq!(send.state(), SendState::Reset);
            let end = there.read_to_end(&recv).await.expect_err("it was reset");
            assert!(matches!(end, StreamEnd::Reset(_)), "{end:?}");
            assert_eq!(end.application_code(), Some(code));
            assert_eq!(recv.state(), RecvState::Reset);
            assert_eq!(recv.end(), Some(end));
        }
    }
    for end in [&pair.client, &pair.server] {
        end.all_streams_closed().await;
        assert_eq!(end.stats().stream_errors.get(), 2 * CODES.len() as u64);
    }
    pair.finish().await;
}

async fn the_code_of_a_stop_surfaces(net: Net) {
    let pair = net.pair().await;
    for (here, there) in [(&pair.client, &pair.server), (&pair.server, &pair.client)] {
        for code in CODES {
            let (send, answers) = here.open_bi().await;
            here.write(&send, b"question", false).await.expect("written");
            let (answer, recv) = there.accept_bi().await;
            recv.stop(code);
            assert_eq!(recv.state(), RecvState::Stopped);
            let end = loop {
                if let Err(end) = here.write(&send, &pattern(1000), false).await {
                    break end;
                }
            };
            assert!(matches!(end, StreamEnd::Stopped(_)), "{end:?}");
            assert_eq!(end.application_code(), Some(code));
            assert_eq!(send.state(), SendState::Stopped);
            // The other direction goes on.
            there.write(&answer, b"answer", true).await.expect("written");
            assert_eq!(here.read_to_end(&answers).await, Ok(b"answer".to_vec()));
        }
    }
    pair.finish().await;
}

async fn thousands_of_streams_are_open_at_once(net: Net) {
    const STREAMS: usize = 2_000;
    let mut config = net.server_config();
    config.common.max_incoming_streams = STREAMS as u64;
    let pair = net.pair_with(config, net.client_config()).await;
    let mut sending = Vec::new();
    // quinn's limit begins with some of them and follows.
    for _ in 0..STREAMS {
        let send = pair.client.open_uni().await;
        pair.client.write(&send, b"first", false).await.expect("written");
        sending.push(send);
    }
    let mut received = 0;
    for send in sending {
        pair.client.write(&send, b" and last", true).await.expect("written");
    }
    while received < STREAMS {
        let recv = pair.server.accept_uni().await;
        assert!(pair.server.read_to_end(&recv).await.expect("read") == b"first and last");
        received += 1;
    }
    pair.finish().await;
}

async fn a_stop_surfaces_while_nobody_writes(net: Net) {
    let pair = net.pair().await;
    let send = pair.client.open_uni().await;
    pair.client.write(&send, b"hello", false).await.expect("written");
    pair.server.accept_uni().await.stop(77);
    pair.client.event_loop().ready(send.ended()).await;
    assert_eq!(send.end().and_then(|end| end.application_code()), Some(77));
    pair.finish().await;
}

async fn a_stop_surfaces_when_all_credit_is_used_up(net: Net) {
    let mut config = net.server_config();
    config.common.window_auto_scale = false;
    config.common.window_size = 20_000;
    config.common.stream_buffer_size = 1;
    let pair = net.pair_with(config, net.client_config()).await;
    let frames = || pair.client.connection().quic().stats().frame_tx;
    let mut streams = Vec::new();
    for number in 1..=3 {
        let send = pair.client.open_uni().await;
        assert_eq!(send.write(&pattern(300_000), false), Ok(Written::Sent));
        streams.push((send, pair.server.accept_uni().await));
        eventually("the stream's credit is used up", || {
            frames().stream_data_blocked >= number
        })
        .await;
    }
    // The connection's window is that of four streams.
    for _ in 0..2 {
        let send = pair.client.open_uni().await;
        assert_eq!(send.write(&pattern(300_000), false), Ok(Written::Sent));
    }
    eventually("the connection's credit is used up", || frames().data_blocked > 0).await;
    for (send, recv) in streams {
        recv.stop(77);
        pair.client.event_loop().ready(send.ended()).await;
        assert_eq!(send.end().and_then(|end| end.application_code()), Some(77));
    }
    pair.finish().await;
}

/// Without RESET_STREAM_AT the peer may still lose the header of such a stream, when it is busy; so one of many will do.
async fn a_reset_right_after_the_opening_finds_its_session(net: Net) {
    let pair = net.pair().await;
    let mut codes = 0..50;
    let recv = loop {
        let send = pair.client.open_uni().await;
        send.reset(codes.next().expect("one of fifty finds its session"));
        let patience = Duration::from_millis(200);
        if let Ok(recv) = tokio::time::timeout(patience, pair.server.accept_uni()).await {
            break recv;
        }
    };
    let end = pair.server.read_to_end(&recv).await.expect_err("it was reset");
    assert_eq!(end.application_code(), Some(codes.start - 1));
    pair.finish().await;
}

async fn ten_openers_share_a_limit_of_five(net: Net) {
    for bidirectional in [false, true] {
        let mut config = net.server_config();
        config.common.initial_max_streams_bidi = 5;
        config.common.initial_max_streams_uni = 5;
        let pair = net.pair_with(config, net.client_config()).await;
        let mut openers = Vec::new();
        for number in 0..10_u8 {
            let client = pair.client.clone();
            openers.push(tokio::spawn(async move {
                match client.open(bidirectional).await.expect("the session is open") {
                    Stream::Send(send) | Stream::Bidirectional(send, _) => {
                        client.write(&send, &[number], true).await.expect("written");
                    }
                    Stream::Recv(_) => unreachable!("opened here"),
                }
            }));
        }
        for number in 0..10_u8 {
            let recv = match pair.server.accept_stream().await.expect("the session is open") {
                Stream::Recv(recv) => recv,
                Stream::Bidirectional(send, recv) => {
                    send.finish();
                    recv
                }
                Stream::Send(_) => unreachable!("opened by the peer"),
            };
            let read = pair.server.read_to_end(&recv).await;
            assert_eq!(read, Ok(vec![number]), "first come, first served");
        }
        for opener in openers {
            opener.await.expect("it finished");
        }
        pair.finish().await;
    }
}

async fn a_cancelled_opening_gives_its_place_up(net: Net) {
    let mut config = net.server_config();
    config.common.initial_max_streams_bidi = 1;
    let pair = net.pair_with(config, net.client_config()).await;
    let (first, _) = pair.client.open_bi().await;
    pair.client.write(&first, b"first", true).await.expect("written");
    for _ in 0..3 {
        let waits = tokio::time::timeout(Duration::from_millis(5), pair.client.open(true)).await;
        assert!(waits.is_err(), "the limit is used up");
    }
    let next = tokio::spawn({
        let client = pair.client.clone();
        async move { client.open_bi().await }
    });
    let (answer, question) = pair.server.accept_bi().await;
    assert_eq!(pair.server.read_to_end(&question).await, Ok(b"first".to_vec()));
    answer.finish();
    let (next, _) = next.await.expect("it got the place");
    pair.client.write(&next, b"next", true).await.expect("written");
    let (_, question) = pair.server.accept_bi().await;
    assert_eq!(pair.server.read_to_end(&question).await, Ok(b"next".to_vec()));
    pair.finish().await;
}

async fn a_silent_stream_holds_up_nobody(net: Net) {
    let pair = net.pair().await;
    let quic = pair.client.connection().quic();
    let mut silent_uni = quic.open_uni().await.expect("open");
    let (mut silent_bi, _recv) = quic.open_bi().await.expect("open");
    // Half of a stream type each: 0x4054 and 0x4041.
    silent_uni.write_all(&[0x40]).await.expect("written");
    silent_bi.write_all(&[0x40]).await.expect("written");
    for _ in 0..3 {
        let (send, recv) = pair.client.open_bi().await;
        pair.client.write(&send, b"ping", true).await.expect("written");
        let (answer, question) = pair.server.accept_bi().await;
        assert_eq!(pair.server.read_to_end(&question).await, Ok(b"ping".to_vec()));
        pair.server.write(&answer, b"pong", true).await.expect("written");
        assert_eq!(pair.client.read_to_end(&recv).await, Ok(b"pong".to_vec()));
    }
    // The rest of the header makes it an ordinary stream, late as it is.
    silent_uni.write_all(&[0x54, 0x00, b'!']).await.expect("written");
    silent_uni.finish().expect("not finished before");
    let recv = pair.server.accept_uni().await;
    assert_eq!(pair.server.read_to_end(&recv).await, Ok(b"!".to_vec()));
    pair.finish().await;
}

async fn a_slow_reader_holds_up_nobody_else(net: Net) {
    let pair = net.pair().await;
    let (other, other_server) = pair.dialer.session(&pair.listener).await;
    let data = pattern(6 << 20);
    let unread = pair.client.open_uni().await;
    let writer = tokio::spawn({
        let (client, unread, data) = (pair.client.clone(), unread.clone(), data.clone());
        async move { client.write(&unread, &data, true).await }
    });
    let slow = pair.server.accept_uni().await;
    eventually("the read-ahead is full", || slow.buffered() >= 64 << 10).await;
    for (client, server) in [(&pair.client, &pair.server), (&other, &other_server)] {
        for _ in 0..20 {
            let send = client.open_uni().await;
            client.write(&send, &data[..100_000], true).await.expect("written");
            let recv = server.accept_uni().await;
            assert!(server.read_to_end(&recv).await.expect("read") == data[..100_000]);
        }
    }
    // The read-ahead is bounded: the limit, and one batch of packets more.
    assert!(slow.buffered() < 1 << 20, "{} bytes are buffered", slow.buffered());
    assert!(unread.state() < SendState::Sent, "flow control holds the sender");
    assert!(pair.server.read_to_end(&slow).await.expect("read") == data);
    writer.await.expect("it ends").expect("written");
    for end in [&other, &other_server] {
        end.close(0, "");
        end.closed().await;
        end.all_streams_closed().await;
    }
    pair.finish().await;
}

async fn the_end_of_the_session_ends_its_streams(net: Net) {
    let mut config = net.server_config();
    config.common.initial_max_streams_bidi = 1;
    let pair = net.pair_with(config, net.client_config()).await;
    let Pair { client, server, .. } = &pair;
    let (send, recv) = client.open_bi().await;
    client.write(&send, b"hello", false).await.expect("written");
    let (server_send, server_recv) = server.accept_bi().await;
    assert_eq!(server.read_exact(&server_recv, 5).await, b"hello");

    let waiting = |end: &common::Peer, recv: &Arc<_>| {
        let (reader, acceptor, receiver) = (end.clone(), end.clone(), end.clone());
        let recv = Arc::clone(recv);
        (
            tokio::spawn(async move { reader.read_to_end(&recv).await }),
            tokio::spawn(async move { acceptor.accept_stream().await.map(drop) }),
            tokio::spawn(async move { receiver.datagram().await }),
        )
    };
    let opener = tokio::spawn({
        let client = client.clone();
        async move { client.open(true).await.map(drop) }
    });
    let waits = [waiting(client, &recv), waiting(server, &server_recv)];
    eventually("seven of them wait", || {
        client.event_loop().waiting() + server.event_loop().waiting() == 7
    })
    .await;
    server.close(5, "enough");
    let [on_client, on_server] = waits;
    for (reader, by) in [(on_client.0, Initiator::Peer), (on_server.0, Initiator::Local)] {
        let end = reader.await.expect("woken").expect_err("no end of stream came");
        assert!(
            matches!(&end, StreamEnd::SessionClosed(info) if info.by == by && info.code == 5),
            "{end:?}"
        );
    }
    for refused in [on_client.1, on_server.1, opener] {
        assert!(refused.await.expect("woken").is_err());
    }
    for refused in [on_client.2, on_server.2] {
        assert!(matches!(
            refused.await.expect("woken"),
            Err(DatagramError::SessionClosed(_))
        ));
    }
    for (end, send, by) in [
        (client, &send, Initiator::Peer),
        (server, &server_send, Initiator::Local),
    ] {
        let info = end.closed().await;
        assert_eq!((info.code, &*info.reason, info.by), (5, "enough", by));
        assert_eq!(send.write(b"late", false), Err(StreamEnd::SessionClosed(info)));
        assert_eq!(send.state(), SendState::Closed);
        assert!(end.try_open(false).is_err());
        end.all_streams_closed().await;
        assert_eq!(end.stats().stream_errors.get(), 0);
    }
    pair.finish().await;
}

async fn a_thousand_streams_leave_no_entry(net: Net) {
    let pair = net.pair().await;
    let holders = || [&pair.client, &pair.server].map(|end| Arc::strong_count(end));
    let before = holders();
    for number in 0..1000_u32 {
        let (send, recv) = pair.client.open_bi().await;
        pair.client
            .write(&send, &number.to_be_bytes(), true)
            .await
            .expect("written");
        let (answer, question) = pair.server.accept_bi().await;
        let asked = pair.server.read_to_end(&question).await.expect("read");
        pair.server.write(&answer, &asked, true).await.expect("written");
        assert_eq!(pair.client.read_to_end(&recv).await, Ok(number.to_be_bytes().to_vec()));
    }
    // Each stream holds its session: as many holders as before means that no stream is left.
    eventually("all streams are forgotten", || holders() == before).await;
    for end in [&pair.client, &pair.server] {
        assert_eq!(end.stats().streams_created.get(), 1000);
        assert_eq!(end.stats().streams_closed.get(), 1000);
        assert_eq!(end.stats().stream_errors.get(), 0);
    }
    pair.finish().await;
}

async fn a_thousand_streams_at_once_all_arrive(net: Net) {
    let mut config = net.server_config();
    config.common.max_incoming_streams = 1000;
    let pair = net.pair_with(config, net.client_config()).await;
    for number in 0..1000_u32 {
        let send = pair.client.open_uni().await;
        assert!(send.write(&number.to_be_bytes(), true).is_ok());
    }
    let mut numbers = Vec::new();
    for _ in 0..1000 {
        let recv = pair.server.accept_uni().await;
        let read = pair.server.read_to_end(&recv).await.expect("read");
        numbers.push(u32::from_be_bytes(read.try_into().expect("four bytes")));
    }
    numbers.sort_unstable();
    assert_eq!(numbers, (0..1000).collect::<Vec<_>>());
    assert_eq!(pair.server.connection().stats().streams_rejected.get(), 0);
    pair.finish().await;
}
