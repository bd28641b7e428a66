//! WT_DRAIN_SESSION and GOAWAY, both ways, and a server that winds down.

mod common;

use std::{sync::Arc, time::Duration};

use bytes::BytesMut;
use common::{
    Net, Peer, both_drivers, eventually,
    raw::{RawClient, RawServer, SETTINGS, closed_by_peer, in_vain, open, quinn_code, reset_code},
};
use wt_io::{
    error::{CloseCause, ConnectError, Initiator, OpenError},
    proto::{
        error_code::Code,
        headers::{HeaderList, Response},
    },
    session::SessionState,
};

both_drivers!(
    either_side_asks_to_drain_and_all_goes_on,
    draining_is_harmless_before_and_after_the_session,
    a_connection_that_goes_away_takes_its_sessions_along_and_no_new_ones,
    a_client_goes_away_too,
    requests_after_the_goaway_are_rejected_whatever_they_ask_for,
    a_request_answered_after_the_goaway_drains,
    a_client_gives_up_requests_that_the_goaway_excludes,
    a_goaway_before_the_answer_is_told_with_it,
    a_goaway_that_names_no_request_or_grows_ends_the_connection,
    a_server_that_drains_waits_for_its_sessions,
    a_server_that_drains_waits_no_longer_than_it_was_told,
    a_close_ends_the_drain,
);

/// Longer than a test takes.
const LONG: Duration = Duration::from_secs(600);

/// A stream there and a datagram back.
async fn works(client: &Peer, server: &Peer) {
    let stream = client.open_uni().await;
    client.write(&stream, b"still here", true).await.expect("writable");
    let arrived = server.accept_uni().await;
    assert_eq!(server.read_to_end(&arrived).await, Ok(b"still here".to_vec()));
    server.send(b"me too").await.expect("sent");
    assert_eq!(client.datagram().await.expect("arrived"), &b"me too"[..]);
}

async fn drains(peer: &Peer) {
    eventually("it drains", || peer.state() == SessionState::Draining).await;
}

async fn either_side_asks_to_drain_and_all_goes_on(net: Net) {
    let pair = net.pair().await;
    pair.server.drain();
    assert_eq!(pair.server.state(), SessionState::Draining);
    drains(&pair.client).await;
    works(&pair.client, &pair.server).await;
    pair.client.drain();
    pair.client.drain();
    works(&pair.client, &pair.server).await;
    pair.finish().await;

    let pair = net.pair().await;
    pair.client.drain();
    drains(&pair.server).await;
    works(&pair.client, &pair.server).await;
    pair.finish().await;
}

async fn draining_is_harmless_before_and_after_the_session(net: Net) {
    let listener = net.listen(net.server_config()).await;
    let dialer = net.dialer(net.client_config());
    let connection = dialer.connect("127.0.0.1", listener.port()).await.expect("connected");
    let client = dialer.request(&connection, "/");
    client.drain();
    assert_eq!(client.state(), SessionState::Connecting);
    let server = listener.accept().await;
    client.established().await;
    assert_eq!(client.state(), SessionState::Connected);
    client.close(7, "done");
    server.closed().await;
    client.closed().await;
    client.drain();
    server.drain();
    assert_eq!(client.state(), SessionState::Closed);
    listener.close().await;
}

async fn a_connection_that_goes_away_takes_its_sessions_along_and_no_new_ones(net: Net) {
    let pair = net.pair().await;
    let connection = pair.client.connection().clone();
    assert!(!connection.is_going_away());
    pair.server.connection().go_away();
    pair.server.connection().go_away();
    assert!(pair.server.connection().is_going_away());
    drains(&pair.server).await;
    drains(&pair.client).await;
    eventually("the GOAWAY arrives", || connection.is_going_away()).await;
    works(&pair.client, &pair.server).await;
    assert!(!connection.can_request_session());
    let refused = connection.request_session("localhost".into(), "/".into(), Vec::new());
    assert_eq!(refused.map(drop), Err(OpenError::GoingAway));
    pair.finish().await;
}

async fn a_client_goes_away_too(net: Net) {
    let pair = net.pair().await;
    pair.client.connection().go_away();
    drains(&pair.client).await;
    drains(&pair.server).await;
    let server = pair.server.connection();
    eventually("the GOAWAY arrives", || server.is_going_away()).await;
    works(&pair.client, &pair.server).await;
    let refused = pair
        .client
        .connection()
        .request_session("localhost".into(), "/".into(), Vec::new());
    assert_eq!(refused.map(drop), Err(OpenError::GoingAway));
    pair.finish().await;
}

async fn requests_after_the_goaway_are_rejected_whatever_they_ask_for(net: Net) {
    let raw = RawClient::ready(&net).await;
    // One whose headers end behind the GOAWAY.
    let (mut early, mut early_answer) = raw.quic.open_bi().await.expect("open");
    early.write_all(&[0x01]).await.expect("written");
    let (_send, mut answer) = raw.request().await;
    let session = raw.listener.request().await;
    session.connection().go_away();
    let (id, _control) = goaway(&raw.quic).await;
    assert_eq!(id, 8);

    let mut request = BytesMut::new();
    common::raw::request().encode_frame(&mut request);
    early.write_all(&request[1..]).await.expect("written");
    assert_eq!(
        reset_code(&mut early_answer).await,
        quinn_code(Code::H3_REQUEST_REJECTED)
    );
    raw.request_is_reset(Code::H3_REQUEST_REJECTED).await;
    // GET https://localhost/: static table entries 17, 23, 1 and a literal :authority.
    let (mut get, mut refusal) = raw.quic.open_bi().await.expect("open");
    get.write_all(&[&[0x01, 0x0f, 0, 0, 0xd1, 0xd7, 0xc1, 0x50, 0x09][..], b"localhost"].concat())
        .await
        .expect("written");
    assert_eq!(reset_code(&mut refusal).await, quinn_code(Code::H3_REQUEST_REJECTED));

    // The one before it is still there to be answered.
    session.reject(404, Vec::new());
    let answer = answer.read_to_end(100).await.expect("a response");
    assert_eq!(answer[0], 0x01, "HEADERS");
    raw.finish().await;
    session.closed().await;
}

async fn a_request_answered_after_the_goaway_drains(net: Net) {
    let raw = RawClient::ready(&net).await;
    let (_send, mut recv) = raw.request().await;
    let session = raw.listener.request().await;
    session.connection().go_away();
    let (id, _control) = goaway(&raw.quic).await;
    assert_eq!(id, 4);
    assert!(session.accept(Vec::new()));
    assert_eq!(session.state(), SessionState::Draining);
    let drain = [0x00, 0x05, 0x80, 0x00, 0x78, 0xae, 0x00];
    let mut received = Vec::new();
    while !received.ends_with(&drain) {
        let chunk = recv.read_chunk(100, true).await.expect("read").expect("open");
        received.extend_from_slice(&chunk.bytes);
    }
    raw.finish().await;
    session.closed().await;
}

async fn a_client_gives_up_requests_that_the_goaway_excludes(net: Net) {
    let (server, dialer) = (RawServer::listen(&net, true), net.dialer(net.client_config()));
    let (connected, (quic, mut control)) = tokio::join!(dialer.connect("127.0.0.1", server.port()), async {
        let quic = server.accept().await;
        let control = open(&quic, SETTINGS).await;
        (quic, control)
    });
    let connection = connected.expect("connected");
    let session = dialer.request(&connection, "/");
    let (send, mut recv) = quic.accept_bi().await.expect("the request");
    control.write_all(&[0x07, 0x01, 0x00]).await.expect("written");
    let info = session.closed().await;
    assert_eq!(
        (info.by, info.cause),
        (Initiator::Peer, CloseCause::Reset(Code::H3_REQUEST_REJECTED))
    );
    assert_eq!(reset_code(&mut recv).await, quinn_code(Code::H3_REQUEST_CANCELLED));
    assert_eq!(
        send.stopped().await.expect("the connection lives"),
        Some(quinn_code(Code::H3_REQUEST_CANCELLED))
    );
    let again = connection.request_session("localhost".into(), "/".into(), Vec::new());
    assert_eq!(again.map(drop), Err(OpenError::GoingAway));
    connection.close(Code::H3_NO_ERROR.0, "");
}

async fn a_goaway_before_the_answer_is_told_with_it(net: Net) {
    let (server, dialer) = (RawServer::listen(&net, true), net.dialer(net.client_config()));
    let (connected, (quic, mut control)) = tokio::join!(dialer.connect("127.0.0.1", server.port()), async {
        let quic = server.accept().await;
        let control = open(&quic, SETTINGS).await;
        (quic, control)
    });
    let connection = connected.expect("connected");
    let session = dialer.request(&connection, "/");
    let (mut send, _recv) = quic.accept_bi().await.expect("the request");
    control.write_all(&[0x07, 0x01, 0x04]).await.expect("written");
    eventually("the GOAWAY arrives", || connection.is_going_away()).await;
    assert_eq!(session.state(), SessionState::Connecting);
    let mut response = BytesMut::new();
    Response::new(200, HeaderList::new()).encode_frame(&mut response);
    send.write_all(&response).await.expect("written");
    drains(&session).await;
    connection.close(Code::H3_NO_ERROR.0, "");
    session.closed().await;
}

async fn a_goaway_that_names_no_request_or_grows_ends_the_connection(net: Net) {
    for frames in [&[0x07, 0x01, 0x03][..], &[0x07, 0x01, 0x04, 0x07, 0x01, 0x08]] {
        let (server, dialer) = (RawServer::listen(&net, true), net.dialer(net.client_config()));
        let (_connected, (quic, mut control)) = tokio::join!(dialer.connect("127.0.0.1", server.port()), async {
            let quic = server.accept().await;
            let control = open(&quic, SETTINGS).await;
            (quic, control)
        });
        control.write_all(frames).await.expect("written");
        assert_eq!(closed_by_peer(&quic).await, quinn_code(Code::H3_ID_ERROR));
    }
    let mut raw = RawClient::ready(&net).await;
    raw.control(&[0x07, 0x01, 0x03, 0x07, 0x01, 0x04]).await;
    raw.ends_with(Code::H3_ID_ERROR).await;
}

async fn a_server_that_drains_waits_for_its_sessions(net: Net) {
    let listener = Arc::new(net.listen(net.server_config()).await);
    let dialers = [net.dialer(net.client_config()), net.dialer(net.client_config())];
    let (first, _first_far) = dialers[0].session(&listener).await;
    let (second, second_far) = dialers[1].session(&listener).await;
    let mut draining = std::pin::pin!(listener.drain(LONG));
    assert!(in_vain(&mut draining).await, "two sessions live");
    drains(&first).await;
    drains(&second).await;
    let Err(ConnectError::Connection { message, .. }) = dialers[0].connect("127.0.0.1", listener.port()).await else {
        panic!("a server that drains takes no connections");
    };
    assert!(message.contains("refused"), "{message}");
    works(&second, &second_far).await;

    first.close(1, "done");
    assert!(in_vain(&mut draining).await, "one session lives");
    second_far.close(2, "done too");
    draining.await;
    assert_eq!(second.closed().await.code, 2);
    listener.close().await;
}

async fn a_server_that_drains_waits_no_longer_than_it_was_told(net: Net) {
    let pair = net.pair().await;
    pair.listener.drain(Duration::from_millis(50)).await;
    assert!(pair.client.is_connected(), "the close comes behind it");
    pair.listener.close().await;
    assert_eq!(pair.client.closed().await.cause, CloseCause::ConnectionLost);
    pair.server.closed().await;
    // Nobody is left to wait for.
    pair.listener.drain(LONG).await;
}

async fn a_close_ends_the_drain(net: Net) {
    let pair = net.pair().await;
    let ((), ()) = tokio::join!(pair.listener.drain(Duration::MAX), pair.listener.close());
    assert_eq!(pair.client.closed().await.cause, CloseCause::ConnectionLost);
    pair.server.closed().await;
}

/// The id in the GOAWAY on the server's control stream, and that stream: whoever drops it ends the connection.
async fn goaway(quic: &quinn::Connection) -> (u8, quinn::RecvStream) {
    let mut control = quic.accept_uni().await.expect("the control stream");
    let mut received = Vec::new();
    loop {
        let chunk = control.read_chunk(100, true).await.expect("read").expect("open");
        received.extend_from_slice(&chunk.bytes);
        if let [.., 0x07, 0x01, id] = received[..] {
            return (id, control);
        }
    }
}
