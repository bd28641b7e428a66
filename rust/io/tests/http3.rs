//! The rules of HTTP/3 under the sessions, towards a peer that writes its streams by hand over plain quinn.

mod common;

use common::{
    Net, both_drivers, eventually,
    raw::{RawClient, RawServer, SETTINGS, closed_by_peer, in_vain, open, quinn_code, reset_code},
};
use wt_io::{
    error::ConnectError,
    proto::{
        dialect::{Dialect, Unsupported},
        error_code::Code,
        headers::{ConnectRequest, Response},
    },
};

both_drivers!(
    a_client_requests_nothing_before_the_settings,
    a_request_waits_for_the_clients_settings,
    sessions_of_a_client_without_the_required_settings_are_malformed,
    sessions_of_a_client_without_quic_datagrams_are_malformed,
    a_server_without_quic_datagrams_is_not_asked_for_sessions,
    a_session_id_that_cannot_be_ends_the_connection,
    a_webtransport_signal_inside_a_request_ends_the_connection,
    a_datagram_that_names_no_request_ends_the_connection,
    faults_of_the_critical_streams_end_the_connection,
    streams_of_no_known_kind_are_refused_one_by_one,
    a_request_stream_of_the_server_ends_the_connection,
    this_side_opens_its_control_stream_first_and_leaves_the_peers_alone,
    a_control_stream_that_is_stopped_ends_the_connection,
    there_is_credit_for_a_hundred_requests_and_three_streams_of_http3,
    a_server_that_closes_says_that_nothing_is_wrong,
    requests_that_end_too_early_are_incomplete,
    malformed_requests_end_their_stream_alone,
    an_unknown_protocol_is_not_implemented,
    priority_updates_are_read_and_change_nothing,
    priority_updates_for_what_is_no_request_end_the_connection,
);

async fn a_client_requests_nothing_before_the_settings(net: Net) {
    let server = RawServer::listen(&net, true);
    let dialer = net.dialer(net.client_config());
    let (connected, (quic, _control)) = tokio::join!(dialer.connect("127.0.0.1", server.port()), async {
        let quic = server.accept().await;
        assert!(in_vain(quic.accept_bi()).await, "no request without SETTINGS");
        let control = open(&quic, SETTINGS).await;
        (quic, control)
    });
    let connection = connected.expect("connected");
    assert_eq!(connection.dialect(), Some(Dialect::D15));
    let _session = dialer.request(&connection, "/");
    let (_send, mut recv) = quic.accept_bi().await.expect("the request");
    let first = recv.read_chunk(1, true).await.expect("read").expect("not empty");
    assert_eq!(first.bytes[0], 0x01, "HEADERS");
    connection.close(Code::H3_NO_ERROR.0, "");
}

async fn a_request_waits_for_the_clients_settings(net: Net) {
    let raw = RawClient::connect(&net, true).await;
    let (_send, mut recv) = raw.request().await;
    assert!(in_vain(raw.listener.request()).await, "no request without SETTINGS");
    let _control = open(&raw.quic, SETTINGS).await;
    let session = raw.listener.accept().await;
    let answer = recv.read_chunk(1, true).await.expect("read").expect("not empty");
    assert_eq!(answer.bytes[0], 0x01, "HEADERS");
    raw.finish().await;
    session.closed().await;
}

async fn sessions_of_a_client_without_the_required_settings_are_malformed(net: Net) {
    // None at all, and draft-15 without HTTP datagrams.
    for settings in [
        &[0x00, 0x04, 0x00][..],
        &[0x00, 0x04, 0x05, 0xac, 0x7c, 0xf0, 0x00, 0x01],
    ] {
        let raw = RawClient::connect(&net, true).await;
        let _control = open(&raw.quic, settings).await;
        raw.request_is_reset(Code::H3_MESSAGE_ERROR).await;
        assert!(raw.quic.close_reason().is_none(), "the connection lives");
        raw.finish().await;
    }
}

async fn sessions_of_a_client_without_quic_datagrams_are_malformed(net: Net) {
    let raw = RawClient::connect(&net, false).await;
    let _control = open(&raw.quic, SETTINGS).await;
    raw.request_is_reset(Code::H3_MESSAGE_ERROR).await;
    raw.finish().await;
}

async fn a_server_without_quic_datagrams_is_not_asked_for_sessions(net: Net) {
    let server = RawServer::listen(&net, false);
    let dialer = net.dialer(net.client_config());
    let (connected, ()) = tokio::join!(dialer.connect("127.0.0.1", server.port()), async {
        let quic = server.accept().await;
        let _control = open(&quic, SETTINGS).await;
        quic.closed().await;
        assert!(quic.accept_bi().await.is_err(), "nothing was asked");
    });
    let Err(ConnectError::Unsupported { reason, .. }) = connected else {
        panic!("must not connect");
    };
    assert_eq!(reason, Unsupported::QuicDatagrams.to_string());
}

async fn a_session_id_that_cannot_be_ends_the_connection(net: Net) {
    let raw = RawClient::ready(&net).await;
    open(&raw.quic, &[0x40, 0x54, 0x01]).await;
    raw.ends_with(Code::H3_ID_ERROR).await;

    let raw = RawClient::ready(&net).await;
    let (mut send, _recv) = raw.quic.open_bi().await.expect("open");
    send.write_all(&[0x40, 0x41, 0x02]).await.expect("written");
    raw.ends_with(Code::H3_ID_ERROR).await;
}

async fn a_webtransport_signal_inside_a_request_ends_the_connection(net: Net) {
    let raw = RawClient::ready(&net).await;
    let (mut send, _recv) = raw.request().await;
    let session = raw.listener.accept().await;
    send.write_all(&[0x40, 0x41, 0x00]).await.expect("written");
    raw.ends_with(Code::H3_FRAME_ERROR).await;
    session.closed().await;
}

async fn a_datagram_that_names_no_request_ends_the_connection(net: Net) {
    // Too short for its id, and an id that no stream has.
    for datagram in [&[0x40][..], &[0xd0, 0, 0, 0, 0, 0, 0, 0]] {
        let raw = RawClient::ready(&net).await;
        raw.quic.send_datagram(datagram.to_vec().into()).expect("accepted");
        raw.ends_with(Code::H3_DATAGRAM_ERROR).await;
    }
}

async fn faults_of_the_critical_streams_end_the_connection(net: Net) {
    for (bytes, finished, code) in [
        // A second control stream.
        (&[0x00, 0x04, 0x00][..], false, Code::H3_STREAM_CREATION_ERROR),
        // A push stream of a client.
        (&[0x01, 0x00], false, Code::H3_STREAM_CREATION_ERROR),
        // QPACK streams that end; that insert into, or acknowledge, a table that does not exist.
        (&[0x02], true, Code::H3_CLOSED_CRITICAL_STREAM),
        (&[0x03], true, Code::H3_CLOSED_CRITICAL_STREAM),
        (&[0x02, 0xc0, 0x00], false, Code::QPACK_ENCODER_STREAM_ERROR),
        (&[0x03, 0x80], false, Code::QPACK_DECODER_STREAM_ERROR),
    ] {
        let raw = RawClient::ready(&net).await;
        let mut stream = open(&raw.quic, bytes).await;
        if finished {
            stream.finish().expect("not finished before");
        }
        raw.ends_with(code).await;
    }
    for (bytes, finished, code) in [
        // A control stream that does not begin with SETTINGS, that has them twice, that ends.
        (&[0x00, 0x07, 0x01, 0x00][..], false, Code::H3_MISSING_SETTINGS),
        (&[0x00, 0x04, 0x00, 0x04, 0x00], false, Code::H3_FRAME_UNEXPECTED),
        (&[0x00, 0x04, 0x00], true, Code::H3_CLOSED_CRITICAL_STREAM),
    ] {
        let raw = RawClient::connect(&net, true).await;
        let mut stream = open(&raw.quic, bytes).await;
        if finished {
            stream.finish().expect("not finished before");
        }
        raw.ends_with(code).await;
    }
}

async fn streams_of_no_known_kind_are_refused_one_by_one(net: Net) {
    let raw = RawClient::ready(&net).await;
    // A reserved type (RFC 9114 section 6.2.3) and an unknown one.
    for kind in [&[0x21, 1, 2, 3][..], &[0x40, 0x99, 1, 2, 3]] {
        let stream = open(&raw.quic, kind).await;
        let code = stream.stopped().await.expect("the connection lives");
        assert_eq!(code, Some(quinn_code(Code::H3_STREAM_CREATION_ERROR)));
    }
    // Streams that end before their type is complete: finished, and reset.
    open(&raw.quic, &[0x40]).await.finish().expect("not finished before");
    let mut empty = raw.quic.open_uni().await.expect("open");
    empty.finish().expect("not finished before");
    let mut reset = open(&raw.quic, &[0x40]).await;
    reset.reset(quinn_code(Code::H3_NO_ERROR)).expect("not ended before");
    // All of it harms nobody, and nothing of it is kept.
    let (_send, _recv) = raw.request().await;
    let session = raw.listener.accept().await;
    let connection = session.connection().clone();
    eventually("no header is awaited", || connection.half_open_streams() == 0).await;
    raw.finish().await;
    session.closed().await;
}

async fn a_request_stream_of_the_server_ends_the_connection(net: Net) {
    let server = RawServer::listen(&net, true);
    let dialer = net.dialer(net.client_config());
    let (connected, (quic, _control)) = tokio::join!(dialer.connect("127.0.0.1", server.port()), async {
        let quic = server.accept().await;
        let control = open(&quic, SETTINGS).await;
        (quic, control)
    });
    let connection = connected.expect("connected");
    let (mut send, _recv) = quic.open_bi().await.expect("open");
    send.write_all(&[0x01, 0x00]).await.expect("written");
    assert_eq!(closed_by_peer(&quic).await, quinn_code(Code::H3_STREAM_CREATION_ERROR));
    connection.lost().await;
}

async fn this_side_opens_its_control_stream_first_and_leaves_the_peers_alone(net: Net) {
    let raw = RawClient::connect(&net, true).await;
    // Before this side has said anything.
    let mut theirs = raw.quic.accept_uni().await.expect("a stream");
    let mut preface = [0; 2];
    theirs.read_exact(&mut preface).await.expect("read");
    assert_eq!(preface, [0x00, 0x04], "control stream, SETTINGS");
    let critical = [
        open(&raw.quic, SETTINGS).await,
        open(&raw.quic, &[0x02]).await,
        open(&raw.quic, &[0x03]).await,
    ];
    let (_send, _recv) = raw.request().await;
    let session = raw.listener.accept().await;
    for stream in &critical {
        assert!(in_vain(stream.stopped()).await, "no STOP_SENDING");
    }
    let ended = async { while let Ok(Some(_)) = theirs.read_chunk(1000, true).await {} };
    assert!(in_vain(ended).await, "the control stream stays open");
    raw.finish().await;
    session.closed().await;
}

async fn a_control_stream_that_is_stopped_ends_the_connection(net: Net) {
    let raw = RawClient::ready(&net).await;
    let mut control = raw.quic.accept_uni().await.expect("the server's first stream");
    control.stop(quinn_code(Code::H3_NO_ERROR)).expect("it is open");
    raw.ends_with(Code::H3_CLOSED_CRITICAL_STREAM).await;
}

async fn there_is_credit_for_a_hundred_requests_and_three_streams_of_http3(net: Net) {
    let raw = RawClient::connect(&net, true).await;
    // All are open at once: none says what it is.
    let mut open = Vec::new();
    for _ in 0..100 {
        let (mut send, recv) = raw.quic.open_bi().await.expect("open");
        send.write_all(&[0xc0]).await.expect("written");
        open.push((send, Some(recv)));
    }
    for _ in 0..3 {
        let mut send = raw.quic.open_uni().await.expect("open");
        // An unknown type, and 1024 bytes with it.
        send.write_all(&[&[0x40][..], &[0x21; 1023]].concat())
            .await
            .expect("written");
        open.push((send, None));
    }
    raw.finish().await;
}

async fn a_server_that_closes_says_that_nothing_is_wrong(net: Net) {
    let raw = RawClient::ready(&net).await;
    let (_send, _recv) = raw.request().await;
    let session = raw.listener.accept().await;
    raw.listener.close().await;
    assert_eq!(closed_by_peer(&raw.quic).await, quinn_code(Code::H3_NO_ERROR));
    session.closed().await;
    raw.finish().await;
}

async fn requests_that_end_too_early_are_incomplete(net: Net) {
    let raw = RawClient::ready(&net).await;
    // Nothing at all, half a type, and a frame that may be ignored but nothing behind it.
    for bytes in [&[][..], &[0x40], &[0x21, 0x00]] {
        let (mut send, mut recv) = raw.quic.open_bi().await.expect("open");
        send.write_all(bytes).await.expect("written");
        send.finish().expect("not finished before");
        assert_eq!(reset_code(&mut recv).await, quinn_code(Code::H3_REQUEST_INCOMPLETE));
    }
    let (_send, _recv) = raw.request().await;
    let session = raw.listener.accept().await;
    raw.finish().await;
    session.closed().await;
}

async fn malformed_requests_end_their_stream_alone(net: Net) {
    let raw = RawClient::ready(&net).await;
    for section in [
        // GET with neither scheme nor path; a response (RFC 9204 appendix A: 17, 25).
        &[0x00, 0x00, 0xd1][..],
        &[0x00, 0x00, 0xd9],
    ] {
        let (mut send, mut recv) = raw.quic.open_bi().await.expect("open");
        let frame = [&[0x01, section.len() as u8], section].concat();
        send.write_all(&frame).await.expect("written");
        assert_eq!(reset_code(&mut recv).await, quinn_code(Code::H3_MESSAGE_ERROR));
        let stopped = send.stopped().await.expect("the connection lives");
        assert_eq!(stopped, Some(quinn_code(Code::H3_MESSAGE_ERROR)));
    }
    let (_send, _recv) = raw.request().await;
    let session = raw.listener.accept().await;
    raw.finish().await;
    session.closed().await;
}

async fn an_unknown_protocol_is_not_implemented(net: Net) {
    let raw = RawClient::ready(&net).await;
    let (mut send, mut recv) = raw.quic.open_bi().await.expect("open");
    let request = ConnectRequest {
        authority: "localhost".into(),
        path: "/".into(),
        protocol: "websocket".into(),
        headers: Vec::new(),
    };
    let mut frame = bytes::BytesMut::new();
    request.encode_frame(&mut frame);
    send.write_all(&frame).await.expect("written");
    let answer = recv.read_to_end(100).await.expect("a whole response");
    let response = Response::decode(&answer[2..], 1_000).expect("a valid response");
    assert_eq!(response.status, 501);
    raw.finish().await;
}

/// PRIORITY_UPDATE of a request (RFC 9218 section 7.2), up to its length.
const PRIORITY_UPDATE: &[u8] = &[0x80, 0x0f, 0x07, 0x00];

async fn priority_updates_are_read_and_change_nothing(net: Net) {
    let mut control = SETTINGS.to_vec();
    // For stream 0, which is not there yet, twice; without a value; for stream 400; with values that are none.
    for payload in [
        &b"\0u=1, i"[..],
        b"\0u=7",
        b"\0",
        b"\x41\x90u=2",
        b"\0u=9;?",
        b"\0\xff\0",
    ] {
        control.extend_from_slice(PRIORITY_UPDATE);
        control.push(payload.len() as u8);
        control.extend_from_slice(payload);
    }
    let raw = RawClient::ready_with(&net, net.server_config(), &control).await;
    let (_send, _recv) = raw.request().await;
    let session = raw.listener.accept().await;
    assert!(in_vain(raw.quic.closed()).await, "the connection lives");
    assert!(session.is_connected());
    raw.finish().await;
    session.closed().await;
}

async fn priority_updates_for_what_is_no_request_end_the_connection(net: Net) {
    let update = |rest: &[u8]| [SETTINGS, PRIORITY_UPDATE, rest].concat();
    for (control, code) in [
        // Streams of the server and unidirectional ones; no stream at all; a push that was never promised.
        (update(&[0x01, 0x01]), Code::H3_ID_ERROR),
        (update(&[0x01, 0x02]), Code::H3_ID_ERROR),
        (update(&[0x00]), Code::H3_FRAME_ERROR),
        (
            [SETTINGS, &[0x80, 0x0f, 0x07, 0x01, 0x01, 0x00]].concat(),
            Code::H3_ID_ERROR,
        ),
    ] {
        let raw = RawClient::ready_with(&net, net.server_config(), &control).await;
        raw.ends_with(code).await;
    }
    // On any other stream.
    let raw = RawClient::ready(&net).await;
    let (mut send, _recv) = raw.quic.open_bi().await.expect("open");
    let frame = [PRIORITY_UPDATE, &[0x01, 0x00]].concat();
    send.write_all(&frame).await.expect("written");
    raw.ends_with(Code::H3_FRAME_UNEXPECTED).await;
}
