//! Sessions: how they begin, and every way in which they end.

mod common;

use std::{sync::Arc, time::Duration};

use bytes::BytesMut;
use common::{Listener, Net, Pair, Peer, both_drivers, eventually, pattern};
use wt_io::{
    connection::Connection,
    error::{CloseCause, CloseInfo, DatagramError, Initiator, StreamEnd},
    proto::{
        capsule,
        dialect::Dialect,
        error_code::Code,
        frame,
        headers::ConnectRequest,
        stream_header::{encode_bi_header, encode_uni_header},
    },
    session::SessionState,
};

both_drivers!(
    a_request_shows_path_and_headers_and_its_answer_too,
    both_sides_speak_the_newest_dialect_they_share,
    a_rejected_request_tells_its_status,
    a_request_that_is_closed_before_its_answer_is_cancelled,
    an_unanswered_request_can_be_closed,
    code_and_reason_reach_the_other_side,
    a_long_reason_is_cut_at_a_character,
    the_first_close_wins,
    a_close_from_both_sides_ends_on_both,
    a_fin_is_a_close_without_a_code,
    a_reset_of_the_connect_stream_ends_the_session,
    capsules_of_a_foreign_client_are_understood,
    a_plain_request_is_not_found,
    a_second_session_on_one_connection_is_refused,
    sessions_one_after_the_other_leave_nothing,
    early_streams_and_datagrams_find_their_session,
    early_arrivals_expire,
    too_many_early_streams_are_turned_away,
    a_late_stream_is_told_that_its_session_is_gone,
    a_closed_connection_ends_its_session_and_wakes_everybody,
    a_vanished_peer_ends_the_session_by_the_idle_timeout,
    a_close_does_not_wait_for_ever_for_a_silent_peer,
    streams_that_nobody_accepted_do_not_keep_the_session_alive,
    cancelled_waits_leave_no_waiter,
);

async fn a_request_shows_path_and_headers_and_its_answer_too(net: Net) {
    let listener = net.listen(net.server_config()).await;
    let dialer = net.dialer(net.client_config());
    let connection = dialer.connect("localhost", listener.port()).await.expect("connected");
    let headers = vec![
        ("origin".to_owned(), "https://example.com".to_owned()),
        ("x-test".to_owned(), "grüße".to_owned()),
    ];
    let client = dialer.request_with(&connection, "example.com:4433", "/room?id=7", headers.clone());
    assert_eq!(client.state(), SessionState::Connecting);
    assert!(client.try_open(false).is_err(), "not before the answer");

    let server = listener.request().await;
    assert_eq!(server.state(), SessionState::Connecting);
    let request = server.request().expect("its headers have arrived");
    assert_eq!((&*request.authority, &*request.path), ("example.com:4433", "/room?id=7"));
    assert_eq!(request.headers, headers);
    assert_eq!(request.origin(), Some("https://example.com"));
    assert!(server.accept(vec![("x-answer".into(), "42".into())]));
    assert!(!server.accept(Vec::new()), "answered already");

    client.established().await;
    for end in [&client, &server] {
        assert_eq!(end.state(), SessionState::Connected);
        assert_eq!(end.id(), 0);
        assert_eq!(end.close_info(), None);
        let stats = end.stats();
        assert!(stats.created_at.get() > 0.0);
        assert!(stats.ready_at.get() >= stats.created_at.get());
        assert_eq!(stats.closed_at.get(), 0.0);
        assert_eq!(end.connection().session_count(), 1);
    }
    let answer = client.response_headers().expect("answered");
    assert!(answer.contains(&("x-answer".into(), "42".into())));
    let local = client.connection().local_address().expect("Linux tells");
    assert_eq!(server.connection().remote_address().port(), local.port());
    assert_eq!(client.connection().remote_address().port(), listener.port());
    finish(net, listener, dialer, client, server).await;
}

async fn both_sides_speak_the_newest_dialect_they_share(net: Net) {
    for (client_draft15, server_draft15, dialect) in [
        (true, true, Dialect::D15),
        (false, true, Dialect::D07),
        (true, false, Dialect::D07),
    ] {
        let (mut server, mut client) = (net.server_config(), net.client_config());
        client.common.draft15 = client_draft15;
        server.common.draft15 = server_draft15;
        let pair = net.pair_with(server, client).await;
        for end in [&pair.client, &pair.server] {
            assert_eq!(end.connection().dialect(), Some(dialect));
        }
        let protocol = &pair.server.request().expect("answered").protocol;
        assert_eq!(protocol, dialect.token());
        pair.finish().await;
    }
}

async fn a_rejected_request_tells_its_status(net: Net) {
    let listener = net.listen(net.server_config()).await;
    let dialer = net.dialer(net.client_config());
    let connection = dialer.connect("127.0.0.1", listener.port()).await.expect("connected");
    for status in [404, 403, 429, 302, 599] {
        let client = dialer.request(&connection, "/nowhere");
        let server = listener.request().await;
        server.reject(status, Vec::new());
        for (end, by) in [(&client, Initiator::Peer), (&server, Initiator::Local)] {
            let info = end.closed().await;
            assert_eq!((info.by, info.cause), (by, CloseCause::Rejected { status }));
        }
        client.established().await;
        assert!(!client.is_connected(), "a rejected request is answered, not established");
        assert_eq!(client.stats().ready_at.get(), 0.0);
        assert!(!server.accept(Vec::new()), "it is over");
        no_session_left(&client, &server).await;
    }
    assert!(connection.end().is_none(), "the connection serves the next request");
}

async fn a_request_that_is_closed_before_its_answer_is_cancelled(net: Net) {
    let listener = net.listen(net.server_config()).await;
    let dialer = net.dialer(net.client_config());
    let connection = dialer.connect("127.0.0.1", listener.port()).await.expect("connected");
    let client = dialer.request(&connection, "/");
    let server = listener.request().await;
    client.close(9, "changed my mind");
    assert_eq!(client.closed().await.by, Initiator::Local);
    let info = server.closed().await;
    assert_eq!(
        (info.by, info.cause),
        (Initiator::Peer, CloseCause::Reset(Code::H3_REQUEST_CANCELLED))
    );
    assert!(!server.accept(Vec::new()));
    no_session_left(&client, &server).await;
}

async fn an_unanswered_request_can_be_closed(net: Net) {
    let listener = net.listen(net.server_config()).await;
    let dialer = net.dialer(net.client_config());
    let connection = dialer.connect("127.0.0.1", listener.port()).await.expect("connected");
    let client = dialer.request(&connection, "/");
    let server = listener.request().await;
    server.close(1, "not now");
    server.closed().await;
    assert_eq!(client.closed().await.cause, CloseCause::Rejected { status: 503 });
    no_session_left(&client, &server).await;
}

async fn code_and_reason_reach_the_other_side(net: Net) {
    for (code, reason) in [(0, ""), (1, "one"), (u32::MAX, "größer geht nicht 🛑")] {
        for by_client in [true, false] {
            let pair = net.pair().await;
            let (here, there) = if by_client {
                (&pair.client, &pair.server)
            } else {
                (&pair.server, &pair.client)
            };
            here.close(code, reason);
            assert!(here.state() >= SessionState::Closing);
            for (end, by) in [(here, Initiator::Local), (there, Initiator::Peer)] {
                assert_eq!(end.closed().await, closed(code, reason, by));
                assert_eq!(end.state(), SessionState::Closed);
                assert!(end.stats().closed_at.get() > 0.0);
                assert_eq!(end.stats().protocol_errors.get(), 0);
                assert!(end.connection().end().is_none(), "the connection lives on");
            }
            pair.finish().await;
        }
    }
}

async fn a_long_reason_is_cut_at_a_character(net: Net) {
    let pair = net.pair().await;
    pair.server.close(1, &"ä".repeat(600));
    let info = pair.client.closed().await;
    assert_eq!(info.reason, "ä".repeat(512));
    pair.finish().await;
}

async fn the_first_close_wins(net: Net) {
    let pair = net.pair().await;
    pair.client.close(1, "first");
    pair.client.close(2, "second");
    assert_eq!(pair.server.closed().await, closed(1, "first", Initiator::Peer));
    pair.server.close(3, "late");
    assert_eq!(pair.client.closed().await, closed(1, "first", Initiator::Local));
    assert_eq!(pair.server.close_info(), Some(closed(1, "first", Initiator::Peer)));
    pair.finish().await;
}

async fn a_close_from_both_sides_ends_on_both(net: Net) {
    for _ in 0..10 {
        let pair = net.pair().await;
        pair.client.close(1, "from the client");
        pair.server.close(2, "from the server");
        // Whose close comes first is open; each side has one of the two, whole.
        let from = |by_client| {
            if by_client {
                (1, "from the client".to_owned())
            } else {
                (2, "from the server".to_owned())
            }
        };
        let info = pair.client.closed().await;
        assert_eq!((info.code, info.reason), from(info.by == Initiator::Local));
        let info = pair.server.closed().await;
        assert_eq!((info.code, info.reason), from(info.by == Initiator::Peer));
        pair.finish().await;
    }
}

async fn a_fin_is_a_close_without_a_code(net: Net) {
    let foreign = Foreign::connect(&net).await;
    let (mut send, mut recv, server) = foreign.session("/").await;
    send.finish().expect("not finished before");
    assert_eq!(server.closed().await, closed(0, "", Initiator::Peer));
    // The answer to a FIN is a FIN.
    let rest = recv.read_to_end(1000).await.expect("no reset");
    assert!(rest.is_empty());
    foreign.finish(server).await;
}

async fn a_reset_of_the_connect_stream_ends_the_session(net: Net) {
    let foreign = Foreign::connect(&net).await;
    let (mut send, _recv, server) = foreign.session("/").await;
    let stream = server.open_uni().await;
    server.write(&stream, b"begun", false).await.expect("written");
    send.reset(quinn_code(Code::H3_REQUEST_CANCELLED))
        .expect("not ended before");
    let info = server.closed().await;
    assert_eq!(info.cause, CloseCause::Reset(Code::H3_REQUEST_CANCELLED));
    assert_eq!(stream.end(), Some(StreamEnd::SessionClosed(info)));
    foreign.finish(server).await;
}

async fn capsules_of_a_foreign_client_are_understood(net: Net) {
    let foreign = Foreign::connect(&net).await;
    let (mut send, _recv, server) = foreign.session("/").await;
    let mut capsules = BytesMut::new();
    // One that nobody knows (RFC 9297 section 5.4), a datagram, and a wish to wind down, byte by byte.
    capsules.extend_from_slice(&[0x17, 0x03, 1, 2, 3]);
    capsules.extend_from_slice(&[0x00, 0x05, b'h', b'e', b'l', b'l', b'o']);
    capsule::encode_drain(&mut capsules);
    let mut framed = BytesMut::new();
    frame::data_frame(&capsules, &mut framed);
    for byte in framed {
        send.write_all(&[byte]).await.expect("written");
    }
    assert_eq!(server.datagram().await.expect("received"), "hello");
    eventually("it drains", || server.state() == SessionState::Draining).await;
    assert!(server.is_connected(), "a draining session still works");
    server.open_uni().await.finish();

    let (mut close, mut framed) = (BytesMut::new(), BytesMut::new());
    capsule::encode_close(7, "bye", &mut close);
    frame::data_frame(&close, &mut framed);
    send.write_all(&framed).await.expect("written");
    send.finish().expect("not finished before");
    assert_eq!(server.closed().await, closed(7, "bye", Initiator::Peer));
    foreign.finish(server).await;
}

async fn a_plain_request_is_not_found(net: Net) {
    let foreign = Foreign::connect(&net).await;
    let (mut send, mut recv) = foreign.connection.quic().open_bi().await.expect("open");
    // HEADERS: GET https /, authority "a" (RFC 9204 appendix A: 17, 23, 1, 0).
    let get = [0x01, 0x08, 0x00, 0x00, 0xd1, 0xd7, 0xc1, 0x50, 0x01, b'a'];
    send.write_all(&get).await.expect("written");
    send.finish().expect("not finished before");
    let answer = recv.read_to_end(1000).await.expect("an answer");
    // :status 404 is entry 27 of the static table.
    assert!(answer.contains(&(0xc0 | 27)), "{answer:02x?}");
    assert_eq!(foreign.listener.server.stats().requests_rejected.get(), 1);
    // The connection serves WebTransport all the same.
    let (_send, _recv, server) = foreign.session("/").await;
    foreign.finish(server).await;
}

async fn a_second_session_on_one_connection_is_refused(net: Net) {
    let pair = net.pair().await;
    let second = pair.dialer.request(pair.client.connection(), "/second");
    let info = second.closed().await;
    assert_eq!(info.cause, CloseCause::Reset(Code::H3_REQUEST_REJECTED));
    assert_eq!(pair.listener.server.stats().requests_rejected.get(), 1);
    assert!(pair.client.is_connected() && pair.server.is_connected());
    drop(second);
    pair.finish().await;
}

async fn sessions_one_after_the_other_leave_nothing(net: Net) {
    let listener = net.listen(net.server_config()).await;
    let dialer = net.dialer(net.client_config());
    let connection = dialer.connect("127.0.0.1", listener.port()).await.expect("connected");
    for number in 0..50_u32 {
        let client = dialer.request(&connection, &format!("/{number}"));
        let server = listener.accept().await;
        client.established().await;
        assert!(client.is_connected(), "{:?}", client.close_info());
        let (here, there) = if number % 2 == 0 {
            (&client, &server)
        } else {
            (&server, &client)
        };
        let send = here.open_uni().await;
        here.write(&send, &number.to_be_bytes(), true).await.expect("written");
        let recv = there.accept_uni().await;
        assert_eq!(there.read_to_end(&recv).await, Ok(number.to_be_bytes().to_vec()));
        here.close(number, "next");
        assert_eq!(there.closed().await.code, number);
        assert_eq!(here.closed().await.code, number);
        no_session_left(&client, &server).await;
    }
    assert_eq!(listener.server.stats().requests_rejected.get(), 0);
    assert_eq!(listener.server.stats().connections_accepted.get(), 1);
    assert_eq!(connection.early_drops(), (0, 0));
}

async fn early_streams_and_datagrams_find_their_session(net: Net) {
    let foreign = Foreign::connect(&net).await;
    let quic = foreign.connection.quic().clone();
    quic.send_datagram(b"\x00early".as_ref().into()).expect("accepted");
    // Opened before the CONNECT stream, which then has the id 4.
    let (mut bi, _bi_recv) = quic.open_bi().await.expect("open");
    let mut uni = quic.open_uni().await.expect("open");
    let (mut bi_header, mut uni_header) = (BytesMut::new(), BytesMut::new());
    encode_bi_header(4, &mut bi_header);
    encode_uni_header(4, &mut uni_header);
    bi.write_all(&bi_header).await.expect("written");
    bi.write_all(b"early too").await.expect("written");
    bi.finish().expect("not finished before");
    uni.write_all(&uni_header).await.expect("written");
    uni.write_all(b"early").await.expect("written");
    uni.finish().expect("not finished before");
    quic.send_datagram(b"\x01early".as_ref().into()).expect("accepted");
    // Acknowledged means arrived: these streams are there before the CONNECT is.
    assert_eq!(bi.stopped().await, Ok(None));
    assert_eq!(uni.stopped().await, Ok(None));

    let (_send, _recv, server) = foreign.session("/").await;
    assert_eq!(server.id(), 4);
    let mut found = Vec::new();
    for _ in 0..2 {
        use wt_io::session::Stream;
        match server.accept_stream().await.expect("the session is open") {
            Stream::Bidirectional(send, recv) => {
                send.finish();
                found.push(server.read_to_end(&recv).await.expect("read"));
            }
            Stream::Recv(recv) => found.push(server.read_to_end(&recv).await.expect("read")),
            Stream::Send(_) => unreachable!("opened by the peer"),
        }
    }
    found.sort();
    assert_eq!(found, [b"early".to_vec(), b"early too".to_vec()]);
    assert_eq!(server.datagram().await.expect("received"), "early");
    assert!(
        matches!(server.try_receive_datagram(), Ok(None)),
        "the other datagram is for session 0"
    );
    foreign.finish(server).await;
}

async fn early_arrivals_expire(net: Net) {
    let mut config = net.server_config();
    config.common.pending_ttl = Duration::from_millis(50);
    let foreign = Foreign::connect_to(&net, net.listen(config).await).await;
    let quic = foreign.connection.quic().clone();
    quic.send_datagram(b"\x00early".as_ref().into()).expect("accepted");
    let mut uni = early_stream(&foreign.connection, 0).await;
    let code = uni.stopped().await.expect("the connection lives");
    assert_eq!(code, Some(quinn_code(Code::WT_BUFFERED_STREAM_REJECTED)));
    let server = foreign.listener.connection().await;
    eventually("the datagram expires too", || server.early_drops() == (1, 1)).await;
    assert_eq!(server.stats().streams_rejected.get(), 1);
    // The session comes too late for them.
    let (_send, _recv, session) = foreign.session("/").await;
    assert!(matches!(session.try_accept(), Ok(None)));
    assert!(matches!(session.try_receive_datagram(), Ok(None)));
    let _ = uni.reset(quinn_code(Code::H3_NO_ERROR));
    foreign.finish(session).await;
}

async fn too_many_early_streams_are_turned_away(net: Net) {
    let mut config = net.server_config();
    config.common.max_pending_per_session = 2;
    let foreign = Foreign::connect_to(&net, net.listen(config).await).await;
    let mut streams = Vec::new();
    for _ in 0..5 {
        streams.push(early_stream(&foreign.connection, 0).await);
    }
    let server = foreign.listener.connection().await;
    eventually("three of five are too many", || server.early_drops() == (3, 0)).await;
    let (_send, _recv, session) = foreign.session("/").await;
    for _ in 0..2 {
        session.accept_uni().await.stop(0);
    }
    assert!(matches!(session.try_accept(), Ok(None)));
    foreign.finish(session).await;
}

async fn a_late_stream_is_told_that_its_session_is_gone(net: Net) {
    let pair = net.pair().await;
    pair.client.close(0, "");
    pair.client.closed().await;
    let server = pair.server.connection();
    eventually("the server has forgotten it", || server.session_count() == 0).await;
    let uni = early_stream(pair.client.connection(), 0).await;
    let code = uni.stopped().await.expect("the connection lives");
    assert_eq!(code, Some(quinn_code(Code::WT_SESSION_GONE)));
    pair.client
        .connection()
        .quic()
        .send_datagram(b"\x00late".as_ref().into())
        .expect("accepted");
    eventually("the datagram is dropped", || server.early_drops() == (1, 1)).await;
    drop(uni);
    pair.finish().await;
}

async fn a_closed_connection_ends_its_session_and_wakes_everybody(net: Net) {
    let pair = net.pair().await;
    let Pair { client, server, .. } = &pair;
    let (send, recv) = client.open_bi().await;
    client.write(&send, b"hello", false).await.expect("written");
    let waits = {
        let (reader, acceptor, receiver, watcher) = (client.clone(), client.clone(), client.clone(), client.clone());
        let recv = recv.clone();
        (
            tokio::spawn(async move { reader.read_to_end(&recv).await }),
            tokio::spawn(async move { acceptor.accept_stream().await.map(drop) }),
            tokio::spawn(async move { receiver.datagram().await }),
            tokio::spawn(async move { watcher.closed().await }),
        )
    };
    eventually("they wait", || client.event_loop().waiting() == 4).await;
    let (accepted, _) = server.accept_bi().await;
    server.connection().close(0x102, "maintenance");

    let info = waits.3.await.expect("woken");
    assert_eq!(info.cause, CloseCause::ConnectionLost);
    assert_eq!((info.code, info.by), (0x102, Initiator::Peer));
    assert!(info.reason.contains("maintenance"), "{}", info.reason);
    let gone = StreamEnd::SessionClosed(info.clone());
    assert_eq!(waits.0.await.expect("woken"), Err(gone.clone()));
    assert!(waits.1.await.expect("woken").is_err());
    assert_eq!(
        waits.2.await.expect("woken"),
        Err(DatagramError::SessionClosed(Some(info)))
    );
    client.event_loop().ready(send.ended()).await;
    assert_eq!(send.end(), Some(gone));

    let info = server.closed().await;
    assert_eq!(
        (info.code, &*info.reason, info.by),
        (0x102, "maintenance", Initiator::Local)
    );
    server.event_loop().ready(accepted.ended()).await;
    pair.finish().await;
}

async fn a_vanished_peer_ends_the_session_by_the_idle_timeout(net: Net) {
    let mut config = net.server_config();
    config.common.idle_timeout = Duration::from_millis(300);
    let pair = net.pair_with(config, net.client_config()).await;
    let stream = pair.server.open_uni().await;
    pair.server.write(&stream, b"begun", false).await.expect("written");
    let reader = tokio::spawn({
        let server = pair.server.clone();
        async move { server.accept_stream().await.map(drop) }
    });
    pair.dialer.vanish();
    let info = pair.server.closed().await;
    assert_eq!((info.cause, info.by), (CloseCause::ConnectionLost, Initiator::Transport));
    assert!(info.reason.contains("idle timeout"), "{}", info.reason);
    assert!(reader.await.expect("woken").is_err());
    assert_eq!(pair.server.connection().end().expect("it ended").cause, "timeout");
    pair.server.event_loop().ready(stream.ended()).await;
    pair.finish().await;
}

async fn a_close_does_not_wait_for_ever_for_a_silent_peer(net: Net) {
    let mut config = net.server_config();
    config.common.close_timeout = Duration::from_millis(100);
    let pair = net.pair_with(config, net.client_config()).await;
    let stream = pair.server.open_uni().await;
    pair.server
        .write(&stream, &pattern(100_000), true)
        .await
        .expect("written");
    pair.dialer.vanish();
    let began = std::time::Instant::now();
    pair.server.close(1, "anybody there?");
    assert_eq!(
        pair.server.closed().await,
        closed(1, "anybody there?", Initiator::Local)
    );
    // The bound of the flush, and a second for the peer's FIN.
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
    pair.server.connection().close(0, "");
    pair.finish().await;
}

async fn streams_that_nobody_accepted_do_not_keep_the_session_alive(net: Net) {
    let pair = net.pair().await;
    for _ in 0..3 {
        let stream = pair.client.open_uni().await;
        pair.client.write(&stream, b"hello?", true).await.expect("written");
    }
    eventually("they arrived", || pair.server.stats().streams_created.get() == 3).await;
    // Nobody accepts them, and the application forgets the session. The fixture sees whether it is freed.
    pair.client.close(0, "");
    pair.client.closed().await;
    pair.server.closed().await;
    pair.server.abandon();
    assert!(pair.server.try_accept().is_err());
    pair.finish().await;
}

async fn cancelled_waits_leave_no_waiter(net: Net) {
    let pair = net.pair().await;
    let (send, recv) = pair.client.open_bi().await;
    let soon = Duration::from_millis(1);
    for _ in 0..20 {
        assert!(tokio::time::timeout(soon, pair.client.read(&recv, 10)).await.is_err());
        assert!(tokio::time::timeout(soon, pair.client.accept_stream()).await.is_err());
        assert!(tokio::time::timeout(soon, pair.client.datagram()).await.is_err());
        assert!(tokio::time::timeout(soon, pair.client.closed()).await.is_err());
        assert!(tokio::time::timeout(soon, pair.listener.next()).await.is_err());
    }
    assert_eq!(pair.client.event_loop().waiting(), 0);
    // Nothing was lost on the way.
    pair.client.write(&send, b"ping", true).await.expect("written");
    let (answer, question) = pair.server.accept_bi().await;
    assert_eq!(pair.server.read_to_end(&question).await, Ok(b"ping".to_vec()));
    pair.server.write(&answer, b"pong", true).await.expect("written");
    assert_eq!(pair.client.read_to_end(&recv).await, Ok(b"pong".to_vec()));
    pair.finish().await;
}

/// A client that writes its CONNECT stream by hand.
struct Foreign {
    listener: Listener,
    dialer: common::Dialer,
    connection: Arc<Connection>,
}

impl Foreign {
    async fn connect(net: &Net) -> Self {
        Self::connect_to(net, net.listen(net.server_config()).await).await
    }

    async fn connect_to(net: &Net, listener: Listener) -> Self {
        let dialer = net.dialer(net.client_config());
        let connection = dialer.connect("127.0.0.1", listener.port()).await.expect("connected");
        Self {
            listener,
            dialer,
            connection,
        }
    }

    /// An established session: the halves of its CONNECT stream behind request and response, and the server's view of it.
    async fn session(&self, path: &str) -> (quinn::SendStream, quinn::RecvStream, Peer) {
        let (mut send, mut recv) = self.connection.quic().open_bi().await.expect("open");
        let mut request = BytesMut::new();
        ConnectRequest::new(Dialect::D15, "localhost", path, Vec::new()).encode_frame(&mut request);
        send.write_all(&request).await.expect("written");
        let server = self.listener.accept().await;
        // HEADERS of three bytes: the prefix, and :status 200, entry 25 of the static table.
        let mut response = [0; 5];
        recv.read_exact(&mut response).await.expect("an answer");
        assert_eq!(response, [0x01, 0x03, 0x00, 0x00, 0xc0 | 25]);
        (send, recv, server)
    }

    async fn finish(self, server: Peer) {
        self.connection.close(0x100, "");
        server.closed().await;
        server.connection().lost().await;
        server.abandon();
        server.all_streams_closed().await;
        assert_eq!(server.connection().session_count(), 0);
        self.listener.close().await;
        drop(self.dialer);
    }
}

/// A unidirectional stream that the client opens for a session of its choice.
async fn early_stream(connection: &Connection, session: u64) -> quinn::SendStream {
    let mut stream = connection.quic().open_uni().await.expect("open");
    let mut header = BytesMut::new();
    encode_uni_header(session, &mut header);
    stream.write_all(&header).await.expect("written");
    stream.write_all(b"early").await.expect("written");
    stream
}

fn quinn_code(code: Code) -> quinn::VarInt {
    quinn::VarInt::from_u64(code.0).expect("codes are below 2^62")
}

fn closed(code: u32, reason: &str, by: Initiator) -> CloseInfo {
    CloseInfo {
        code,
        reason: reason.to_owned(),
        by,
        cause: CloseCause::Closed,
    }
}

async fn no_session_left(client: &Peer, server: &Peer) {
    for end in [client, server] {
        let connection = end.connection();
        eventually("the session left its connection", || connection.session_count() == 0).await;
    }
}

async fn finish(_net: Net, listener: Listener, dialer: common::Dialer, client: Peer, server: Peer) {
    let pair = Pair {
        listener,
        dialer,
        client,
        server,
    };
    pair.finish().await;
}
