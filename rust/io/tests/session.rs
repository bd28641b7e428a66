//! Sessions: how they begin, and every way in which they end.

mod common;

use std::time::Duration;

use common::{Net, Pair, Peer, both_drivers, eventually, pattern};
use wt_io::{
    error::{CloseCause, CloseInfo, DatagramError, Initiator, OpenError, StreamEnd},
    proto::{dialect::Dialect, error_code::Code},
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
    a_second_session_is_not_asked_for_without_flow_control,
    sessions_one_after_the_other_leave_nothing,
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
    assert_eq!(
        (&*request.authority, &*request.path),
        ("example.com:4433", "/room?id=7")
    );
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
    let local = dialer.endpoint().local_addr().expect("bound");
    assert_eq!(server.connection().remote_address().port(), local.port());
    assert_eq!(server.connection().local_address(), Some(listener.address()));
    assert_eq!(client.connection().remote_address(), listener.address());
    let pair = Pair {
        listener,
        dialer,
        client,
        server,
    };
    pair.finish().await;
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
        assert!(
            !client.is_connected(),
            "a rejected request is answered, not established"
        );
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

async fn a_second_session_is_not_asked_for_without_flow_control(net: Net) {
    let pair = net.pair().await;
    let connection = pair.client.connection();
    let second = connection.request_session("localhost".into(), "/second".into(), Vec::new());
    assert_eq!(second.expect_err("one at a time"), OpenError::TooManySessions);
    assert!(pair.client.is_connected() && pair.server.is_connected());
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
    assert_eq!(
        (info.cause, info.by),
        (CloseCause::ConnectionLost, Initiator::Transport)
    );
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
