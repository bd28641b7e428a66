//! Plain HTTP beside the sessions: requests that a peer writes by hand over plain quinn.

mod common;

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use common::{
    Net, both_drivers, eventually,
    raw::{RawClient, RawServer, SETTINGS, closed_by_peer, in_vain, open, quinn_code, reset_code},
};
use wt_io::{
    config::MAX_EXCHANGES,
    error::{AnswerError, OpenError},
    http::{Exchange, NoContent},
    proto::{
        dialect::Dialect,
        error_code::Code,
        frame::{Frame, FrameContext, FrameParser},
        headers::{ConnectRequest, HeaderList, Response},
        http::InvalidResponse,
    },
};

both_drivers!(
    a_plain_request_is_answered,
    a_request_lives_beside_a_session,
    a_client_without_webtransport_is_served,
    content_is_read_for_who_wants_it,
    content_beyond_the_limit_is_not_collected,
    content_of_another_length_ends_its_stream_alone,
    a_frame_behind_the_trailers_ends_the_connection,
    a_client_that_waits_for_permission_gets_it,
    slow_content_can_be_answered,
    a_slow_header_section_is_given_up,
    a_response_that_nobody_takes_is_given_up,
    a_datagram_ends_a_request_that_gives_it_no_meaning,
    a_datagram_behind_the_end_of_a_request_is_dropped,
    a_stream_of_no_session_is_turned_away,
    requests_that_are_cancelled_are_over,
    an_answer_that_never_comes_is_an_error_of_the_stream,
    a_flood_of_requests_has_a_bound,
    a_hundred_requests_have_room_beside_the_streams_of_sessions,
    answers_respect_what_the_client_takes,
    a_request_that_the_server_does_not_take_is_not_sent,
    a_draining_server_lets_its_answers_arrive,
    a_session_that_closes_leaves_the_answer_its_connection,
    a_token_of_another_dialect_is_a_bad_request,
);

/// HEADERS of a request to https://a/ with further lines (RFC 9204 appendix A: 17 GET, 18 HEAD, 20 POST, 23 https, 1
/// /).
fn request(method: u8, lines: &[u8]) -> Vec<u8> {
    let section = [&[0x00, 0x00, 0xc0 | method, 0xd7, 0xc1, 0x50, 0x01, b'a'], lines].concat();
    [&[0x01, section.len() as u8], &section[..]].concat()
}

fn get() -> Vec<u8> {
    request(17, &[])
}

fn post(lines: &[u8]) -> Vec<u8> {
    request(20, lines)
}

/// Content-Length of one digit.
fn length(digit: u8) -> [u8; 3] {
    [0x54, 0x01, digit]
}

fn data(payload: &[u8]) -> Vec<u8> {
    [&[0x00, payload.len() as u8], payload].concat()
}

/// Send bytes on a new stream, and the end of it if they are all.
async fn ask(raw: &RawClient, bytes: &[u8], all: bool) -> (quinn::SendStream, quinn::RecvStream) {
    let (mut send, recv) = raw.quic.open_bi().await.expect("open");
    send.write_all(bytes).await.expect("written");
    if all {
        send.finish().expect("not finished before");
    }
    (send, recv)
}

/// The final response: its header section and its content.
async fn answer(recv: &mut quinn::RecvStream) -> (Response, Vec<u8>) {
    let bytes = recv.read_to_end(100_000).await.expect("a whole response");
    let mut parser = FrameParser::new(FrameContext::Response);
    parser.push(bytes.into());
    let Ok(Some(Frame::Headers(section))) = parser.next() else {
        panic!("a response begins with HEADERS")
    };
    let response = Response::decode(&section, 10_000).expect("a valid response");
    let mut content = Vec::new();
    while let Ok(Some(Frame::Data(piece))) = parser.next() {
        content.extend_from_slice(&piece);
    }
    parser.finish().expect("whole frames");
    (response, content)
}

fn respond(exchange: &Arc<Exchange>, status: u16, content: &'static [u8]) {
    exchange
        .respond(status, HeaderList::new(), content.into())
        .expect("a valid response");
}

/// A request is answered and done.
async fn works(raw: &RawClient) {
    let (_send, mut recv) = ask(raw, &get(), true).await;
    let exchange = raw.listener.exchange().await;
    respond(&exchange, 200, b"works");
    assert_eq!(answer(&mut recv).await.1, b"works");
    eventually("it is done", || exchange.connection().exchange_count() == 0).await;
}

async fn a_plain_request_is_answered(net: Net) {
    let raw = RawClient::ready(&net).await;
    let (_send, mut recv) = ask(&raw, &get(), true).await;
    let exchange = raw.listener.exchange().await;
    let request = exchange.request();
    assert_eq!(
        (&request.method[..], &request.authority[..], &request.path[..]),
        ("GET", "a", "/")
    );
    assert_eq!((request.content_length, &request.headers), (None, &Vec::new()));
    let headers = vec![
        ("Content-Type".into(), "text/plain".into()),
        ("content-length".into(), "7".into()),
    ];
    exchange
        .respond(200, headers, Bytes::from_static(b"hello"))
        .expect("a valid response");
    let (response, content) = answer(&mut recv).await;
    let expected = [("content-type", "text/plain"), ("content-length", "5")];
    assert_eq!(
        (response.status, content),
        (200, b"hello".to_vec()),
        "the first answer, and not the second"
    );
    assert_eq!(
        response.headers,
        expected.map(|(name, value)| (name.into(), value.into()))
    );
    respond(&exchange, 500, b"too late");

    // HEAD: what GET would have, and nothing of it.
    let (_send, mut recv) = ask(&raw, &request_head(), true).await;
    let exchange = raw.listener.exchange().await;
    respond(&exchange, 200, b"hello");
    let (response, content) = answer(&mut recv).await;
    assert_eq!(response.headers, [("content-length".to_string(), "5".to_string())]);
    assert!(content.is_empty());

    works(&raw).await;
    let stats = raw.listener.server.stats();
    assert_eq!((stats.http_requests.get(), stats.requests_rejected.get()), (3, 0));
    raw.finish().await;
}

fn request_head() -> Vec<u8> {
    request(18, &[])
}

async fn a_request_lives_beside_a_session(net: Net) {
    // Without flow control a connection has one session.
    let raw = RawClient::ready(&net).await;
    works(&raw).await;
    let (_send, _recv) = raw.request().await;
    let session = raw.listener.accept().await;
    works(&raw).await;
    assert!(session.is_connected());
    assert_eq!(session.connection().session_count(), 1);
    raw.finish().await;
    session.closed().await;
}

async fn a_client_without_webtransport_is_served(net: Net) {
    // No settings at all.
    let raw = RawClient::ready_with(&net, net.server_config(), &[0x00, 0x04, 0x00]).await;
    works(&raw).await;
    raw.finish().await;
}

async fn content_is_read_for_who_wants_it(net: Net) {
    let raw = RawClient::ready(&net).await;
    let (mut send, mut recv) = ask(&raw, &post(&length(b'9')), false).await;
    let exchange = raw.listener.exchange().await;
    assert_eq!(exchange.request().content_length, Some(9));
    exchange.collect(9);
    // Byte by byte, in two frames with an unknown one between them.
    for byte in [data(b"two "), vec![0x21, 0x01, 0xff], data(b"parts")].concat() {
        send.write_all(&[byte]).await.expect("written");
    }
    assert_eq!(exchange.content(), None, "it is not whole");
    send.finish().expect("not finished before");
    assert_eq!(
        raw.listener.content(&exchange).await,
        Ok(Bytes::from_static(b"two parts"))
    );
    respond(&exchange, 204, b"");
    assert_eq!(answer(&mut recv).await.0.status, 204);

    // Whoever does not want it answers without: the rest is dropped.
    let (mut send, mut recv) = ask(&raw, &post(&[]), false).await;
    let exchange = raw.listener.exchange().await;
    respond(&exchange, 404, b"no");
    assert_eq!(answer(&mut recv).await.0.status, 404);
    send.write_all(&[0xff; 100_000]).await.expect("dropped");
    send.finish().expect("not finished before");
    eventually("it is done", || exchange.connection().exchange_count() == 0).await;
    raw.finish().await;
}

async fn content_beyond_the_limit_is_not_collected(net: Net) {
    let raw = RawClient::ready(&net).await;
    // Announced as 2^62 bytes, announced as 9, and not announced: by a frame of 2^62 - 1 bytes, or by many.
    let digits = b"4611686018427387904";
    let huge = [&[0x54, digits.len() as u8][..], digits].concat();
    for bytes in [
        post(&huge),
        post(&length(b'9')),
        [
            post(&[]),
            vec![0x00, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff],
            vec![0; 9],
        ]
        .concat(),
        [post(&[]), data(b"1234"), data(b"5678"), data(b"9")].concat(),
    ] {
        let (_send, mut recv) = ask(&raw, &bytes, false).await;
        let exchange = raw.listener.exchange().await;
        exchange.collect(8);
        assert_eq!(raw.listener.content(&exchange).await, Err(NoContent::TooLarge));
        respond(&exchange, NoContent::TooLarge.status().expect("413"), b"");
        assert_eq!(answer(&mut recv).await.0.status, 413);
    }
    works_beside(&raw).await;
    raw.finish().await;
}

/// As [`works`], while other requests are not done.
async fn works_beside(raw: &RawClient) {
    let (_send, mut recv) = ask(raw, &get(), true).await;
    respond(&raw.listener.exchange().await, 200, b"works");
    assert_eq!(answer(&mut recv).await.1, b"works");
}

async fn content_of_another_length_ends_its_stream_alone(net: Net) {
    let raw = RawClient::ready(&net).await;
    for (content, all) in [(data(b"1234"), false), (data(b"12"), true), (vec![], true)] {
        let (send, mut recv) = ask(&raw, &[post(&length(b'3')), content].concat(), all).await;
        let exchange = raw.listener.exchange().await;
        exchange.collect(100);
        assert_eq!(reset_code(&mut recv).await, quinn_code(Code::H3_MESSAGE_ERROR));
        assert_eq!(raw.listener.content(&exchange).await, Err(NoContent::Gone));
        if !all {
            let stopped = send.stopped().await.expect("the connection lives");
            assert_eq!(stopped, Some(quinn_code(Code::H3_MESSAGE_ERROR)));
        }
        respond(&exchange, 200, b"nobody hears it");
    }
    works(&raw).await;
    raw.finish().await;
}

async fn a_frame_behind_the_trailers_ends_the_connection(net: Net) {
    let trailers = [0x01, 0x05, 0x00, 0x00, 0x21, b'x', 0x00];
    let raw = RawClient::ready(&net).await;
    let whole = [post(&[]), data(b"x"), trailers.to_vec()].concat();
    let (_send, mut recv) = ask(&raw, &whole, true).await;
    let exchange = raw.listener.exchange().await;
    exchange.collect(100);
    assert_eq!(raw.listener.content(&exchange).await, Ok(Bytes::from_static(b"x")));
    respond(&exchange, 200, b"");
    assert_eq!(answer(&mut recv).await.0.status, 200);

    let (_send, _recv) = ask(&raw, &[whole, data(b"y")].concat(), true).await;
    let exchange = raw.listener.exchange().await;
    exchange.collect(100);
    assert_eq!(raw.listener.content(&exchange).await, Err(NoContent::Gone));
    raw.ends_with(Code::H3_FRAME_UNEXPECTED).await;
}

async fn a_client_that_waits_for_permission_gets_it(net: Net) {
    let raw = RawClient::ready(&net).await;
    let expect = [&[0x26][..], b"expect", &[0x0c], b"100-continue"].concat();
    let (mut send, mut recv) = ask(&raw, &post(&expect), false).await;
    let exchange = raw.listener.exchange().await;
    exchange.collect(100);
    // HEADERS of one line: :status 100 is entry 63 of the static table.
    let mut interim = [0; 6];
    recv.read_exact(&mut interim).await.expect("an interim response");
    assert_eq!(interim, [0x01, 0x04, 0x00, 0x00, 0xff, 0x00]);
    send.write_all(&data(b"now")).await.expect("written");
    send.finish().expect("not finished before");
    assert_eq!(raw.listener.content(&exchange).await, Ok(Bytes::from_static(b"now")));
    respond(&exchange, 200, b"");
    assert_eq!(answer(&mut recv).await.0.status, 200);
    raw.finish().await;
}

/// A server with little patience.
async fn impatient(net: &Net) -> RawClient {
    let mut config = net.server_config();
    config.request_timeout = Duration::from_millis(100);
    RawClient::ready_with(net, config, SETTINGS).await
}

async fn slow_content_can_be_answered(net: Net) {
    let raw = impatient(&net).await;
    let (send, mut recv) = ask(&raw, &[post(&[]), data(b"begun")].concat(), false).await;
    let exchange = raw.listener.exchange().await;
    exchange.collect(100);
    assert_eq!(raw.listener.content(&exchange).await, Err(NoContent::TooSlow));
    respond(&exchange, NoContent::TooSlow.status().expect("408"), b"");
    assert_eq!(answer(&mut recv).await.0.status, 408);
    // RFC 9114 section 4.1: the rest is not wanted, and nothing is wrong.
    let stopped = send.stopped().await.expect("the connection lives");
    assert_eq!(stopped, Some(quinn_code(Code::H3_NO_ERROR)));
    eventually("it is done", || exchange.connection().exchange_count() == 0).await;
    assert_eq!(raw.listener.server.stats().requests_timed_out.get(), 1);
    raw.finish().await;
}

async fn a_slow_header_section_is_given_up(net: Net) {
    let raw = impatient(&net).await;
    for beginning in [&get()[..5], &[0x21, 0x00]] {
        let (send, mut recv) = ask(&raw, beginning, false).await;
        assert_eq!(reset_code(&mut recv).await, quinn_code(Code::H3_REQUEST_REJECTED));
        let stopped = send.stopped().await.expect("the connection lives");
        assert_eq!(stopped, Some(quinn_code(Code::H3_REQUEST_REJECTED)));
    }
    assert_eq!(raw.listener.server.stats().requests_timed_out.get(), 2);
    works(&raw).await;
    raw.finish().await;
    // The client's SETTINGS are waited for as long.
    let mut config = net.server_config();
    config.request_timeout = Duration::from_millis(100);
    let raw = RawClient::connect_to(&net, config, true).await;
    raw.request_is_reset(Code::H3_REQUEST_REJECTED).await;
    raw.finish().await;
}

async fn a_response_that_nobody_takes_is_given_up(net: Net) {
    let raw = impatient(&net).await;
    let (_send, mut recv) = ask(&raw, &get(), true).await;
    let exchange = raw.listener.exchange().await;
    // More than the windows of quinn's default configuration.
    let large = Bytes::from(vec![0; 32 << 20]);
    exchange.respond(200, HeaderList::new(), large).expect("valid");
    eventually("it is given up", || exchange.connection().exchange_count() == 0).await;
    assert_eq!(raw.listener.server.stats().requests_timed_out.get(), 1);
    let error = recv.read_to_end(64 << 20).await.expect_err("it is not whole");
    let quinn::ReadToEndError::Read(quinn::ReadError::Reset(code)) = error else {
        panic!("must be reset: {error}")
    };
    assert_eq!(code, quinn_code(Code::H3_REQUEST_CANCELLED));
    works(&raw).await;
    raw.finish().await;
}

async fn a_datagram_ends_a_request_that_gives_it_no_meaning(net: Net) {
    let raw = RawClient::ready(&net).await;
    // Stream 0: while it waits for the application; stream 4: while its content is read.
    for id in 0..2 {
        let (send, mut recv) = ask(&raw, &post(&[]), false).await;
        let exchange = raw.listener.exchange().await;
        if id == 1 {
            exchange.collect(100);
        }
        raw.quic.send_datagram(vec![id, b'x'].into()).expect("accepted");
        assert_eq!(reset_code(&mut recv).await, quinn_code(Code::H3_DATAGRAM_ERROR));
        let stopped = send.stopped().await.expect("the connection lives");
        assert_eq!(stopped, Some(quinn_code(Code::H3_DATAGRAM_ERROR)));
        assert_eq!(raw.listener.content(&exchange).await, Err(NoContent::Gone));
    }
    // Stream 8: it was there before the header section was, and the application never sees the request.
    let (mut send, mut recv) = raw.quic.open_bi().await.expect("open");
    let connection = raw.listener.server.stats();
    raw.quic.send_datagram(vec![2, b'x'].into()).expect("accepted");
    let mut early = open(&raw.quic, &[0x40, 0x54, 0x0c, b'x']).await;
    early.finish().expect("not finished before");
    assert_eq!(early.stopped().await, Ok(None), "what came before it has arrived");
    send.write_all(&post(&[])).await.expect("written");
    assert_eq!(reset_code(&mut recv).await, quinn_code(Code::H3_DATAGRAM_ERROR));
    assert_eq!(connection.http_requests.get(), 2);
    works(&raw).await;
    raw.finish().await;
}

async fn a_datagram_behind_the_end_of_a_request_is_dropped(net: Net) {
    let raw = RawClient::ready(&net).await;
    let (_send, mut recv) = ask(&raw, &get(), true).await;
    let exchange = raw.listener.exchange().await;
    exchange.collect(0);
    assert_eq!(raw.listener.content(&exchange).await, Ok(Bytes::new()));
    raw.quic.send_datagram(vec![0, b'x'].into()).expect("accepted");
    let connection = exchange.connection().clone();
    eventually("it is dropped", || connection.early_drops().1 == 1).await;
    respond(&exchange, 200, b"all the same");
    assert_eq!(answer(&mut recv).await.1, b"all the same");
    // And when the request is over.
    eventually("it is done", || connection.exchange_count() == 0).await;
    raw.quic.send_datagram(vec![0, b'x'].into()).expect("accepted");
    eventually("it is dropped too", || connection.early_drops().1 == 1).await;
    works(&raw).await;
    raw.finish().await;
}

async fn a_stream_of_no_session_is_turned_away(net: Net) {
    let raw = RawClient::ready(&net).await;
    let early = open(&raw.quic, &[0x40, 0x54, 0x00, b'x']).await;
    let (_send, mut recv) = ask(&raw, &get(), true).await;
    let exchange = raw.listener.exchange().await;
    let late = open(&raw.quic, &[0x40, 0x54, 0x00, b'x']).await;
    for stream in [early, late] {
        let stopped = stream.stopped().await.expect("the connection lives");
        assert_eq!(stopped, Some(quinn_code(Code::WT_SESSION_GONE)));
    }
    respond(&exchange, 200, b"");
    assert_eq!(answer(&mut recv).await.0.status, 200);
    raw.finish().await;
}

async fn requests_that_are_cancelled_are_over(net: Net) {
    let raw = RawClient::ready(&net).await;
    let code = quinn_code(Code::H3_REQUEST_CANCELLED);
    // Reset while its content is read.
    let (mut send, mut recv) = ask(&raw, &post(&[]), false).await;
    let exchange = raw.listener.exchange().await;
    exchange.collect(100);
    send.reset(code).expect("not ended before");
    assert_eq!(reset_code(&mut recv).await, code);
    assert_eq!(raw.listener.content(&exchange).await, Err(NoContent::Gone));
    // The response is stopped before it is there, and while it is written.
    for is_answered in [false, true] {
        let (_send, mut recv) = ask(&raw, &get(), true).await;
        let exchange = raw.listener.exchange().await;
        if is_answered {
            let large = Bytes::from(vec![0; 32 << 20]);
            exchange.respond(200, HeaderList::new(), large).expect("valid");
        }
        recv.stop(code).expect("not ended before");
        let connection = exchange.connection().clone();
        eventually("it is over", || connection.exchange_count() == 0).await;
        respond(&exchange, 200, b"late");
    }
    works(&raw).await;
    raw.finish().await;
}

async fn an_answer_that_never_comes_is_an_error_of_the_stream(net: Net) {
    let raw = RawClient::ready(&net).await;
    let (_send, mut recv) = ask(&raw, &get(), true).await;
    let exchange = raw.listener.exchange().await;
    exchange.abandon();
    assert_eq!(reset_code(&mut recv).await, quinn_code(Code::H3_INTERNAL_ERROR));
    works(&raw).await;
    raw.finish().await;
}

async fn a_flood_of_requests_has_a_bound(net: Net) {
    let mut config = net.server_config();
    config.common.max_incoming_streams = 1_000;
    let raw = RawClient::ready_with(&net, config, SETTINGS).await;
    let mut held = Vec::new();
    for _ in 0..MAX_EXCHANGES {
        held.push((ask(&raw, &get(), true).await, raw.listener.exchange().await));
    }
    for _ in 0..200 {
        let (_send, mut recv) = ask(&raw, &get(), true).await;
        assert_eq!(reset_code(&mut recv).await, quinn_code(Code::H3_REQUEST_REJECTED));
    }
    assert_eq!(raw.listener.server.stats().requests_rejected.get(), 200);
    // Sessions have limits of their own.
    let (_send, _recv) = raw.request().await;
    let session = raw.listener.accept().await;
    for ((_, mut recv), exchange) in held {
        respond(&exchange, 200, b"at last");
        assert_eq!(answer(&mut recv).await.1, b"at last");
    }
    eventually("all are done", || session.connection().exchange_count() == 0).await;
    works(&raw).await;
    raw.finish().await;
    session.closed().await;
}

async fn a_hundred_requests_have_room_beside_the_streams_of_sessions(net: Net) {
    let mut config = net.server_config();
    config.common.initial_max_streams_bidi = 2;
    // WT_INITIAL_MAX_STREAMS_BIDI 1: both sides have flow control.
    let mut settings = [SETTINGS, &[0x6b, 0x65, 0x01]].concat();
    settings[2] += 3;
    let raw = RawClient::ready_with(&net, config, &settings).await;
    let mut held = Vec::new();
    for _ in 0..100 {
        held.push((ask(&raw, &get(), true).await, raw.listener.exchange().await));
    }
    for ((_, mut recv), exchange) in held {
        respond(&exchange, 200, b"all at once");
        assert_eq!(answer(&mut recv).await.1, b"all at once");
    }
    raw.finish().await;
}

async fn answers_respect_what_the_client_takes(net: Net) {
    // Draft-15, and SETTINGS_MAX_FIELD_SECTION_SIZE 100.
    let settings = [SETTINGS, &[0x06, 0x40, 100]].concat();
    let mut settings = settings;
    settings[2] += 3;
    let raw = RawClient::ready_with(&net, net.server_config(), &settings).await;
    let long = |length: usize| vec![("x".to_string(), "y".repeat(length))];
    // 42 for the status, 33 for the name: 25 are left.
    let too_large = AnswerError::HeadersTooLarge { size: 101, limit: 100 };

    let (_send, mut recv) = raw.request().await;
    let session = raw.listener.request().await;
    assert_eq!(session.accept_with(long(26), &[]), Err(too_large));
    // It can still be refused; the headers are left out.
    session.reject(403, long(26));
    let (response, _) = answer(&mut recv).await;
    assert_eq!((response.status, response.headers), (403, Vec::new()));
    session.closed().await;

    let (_send, _recv) = raw.request().await;
    let session = raw.listener.request().await;
    assert_eq!(session.accept_with(long(25), &[]), Ok(()));
    assert_eq!(session.accept_with(long(25), &[]), Err(AnswerError::Gone));

    // 47 for the length of the content: 11 are left.
    let (_send, mut recv) = ask(&raw, &get(), true).await;
    let exchange = raw.listener.exchange().await;
    let error = exchange.respond(200, vec![("x".into(), String::new())], Bytes::new());
    assert_eq!(error, Err(InvalidResponse::TooLarge { size: 122, limit: 100 }));
    respond(&exchange, 200, b"");
    assert_eq!(answer(&mut recv).await.0.status, 200);
    raw.finish().await;
    session.closed().await;
}

async fn a_request_that_the_server_does_not_take_is_not_sent(net: Net) {
    let server = RawServer::listen(&net, true);
    let dialer = net.dialer(net.client_config());
    let mut settings = [SETTINGS, &[0x06, 0x41, 0x2c]].concat();
    settings[2] += 3;
    let (connected, (quic, _control)) = tokio::join!(dialer.connect("127.0.0.1", server.port()), async {
        let quic = server.accept().await;
        let control = open(&quic, &settings).await;
        (quic, control)
    });
    let connection = connected.expect("connected");
    let ask = |length: usize| {
        let headers = vec![("x".to_string(), "y".repeat(length))];
        connection.request_session("localhost".into(), "/".into(), headers)
    };
    let OpenError::HeadersTooLarge { size, limit: 300 } = ask(1_000).expect_err("too large") else {
        panic!("another error")
    };
    assert!(in_vain(quic.accept_bi()).await, "nothing was sent");
    // To the byte: what fits is sent.
    let rest = 1_000 - usize::try_from(size - 300).expect("it is small");
    assert!(ask(rest + 1).is_err());
    let session = ask(rest).expect("it fits");
    let (_send, mut recv) = quic.accept_bi().await.expect("the request");
    let first = recv.read_chunk(1, true).await.expect("read").expect("not empty");
    assert_eq!(first.bytes[0], 0x01, "HEADERS");
    connection.close(Code::H3_NO_ERROR.0, "");
    assert_eq!(closed_by_peer(&quic).await, quinn_code(Code::H3_NO_ERROR));
    drop(session);
}

async fn a_draining_server_lets_its_answers_arrive(net: Net) {
    let raw = RawClient::ready(&net).await;
    let (_send, mut recv) = ask(&raw, &get(), true).await;
    let exchange = raw.listener.exchange().await;
    let draining = async {
        raw.listener.drain(Duration::from_secs(20)).await;
        raw.listener.close().await;
    };
    let answering = async {
        eventually("it drains", || exchange.connection().is_going_away()).await;
        respond(&exchange, 200, b"the last words");
        assert_eq!(answer(&mut recv).await.1, b"the last words");
    };
    tokio::join!(draining, answering);
    raw.finish().await;
}

async fn a_session_that_closes_leaves_the_answer_its_connection(net: Net) {
    let raw = RawClient::ready(&net).await;
    let (mut send, _recv) = raw.request().await;
    let session = raw.listener.accept().await;
    let (_send, mut recv) = ask(&raw, &get(), true).await;
    let exchange = raw.listener.exchange().await;
    session.close(0, "");
    send.finish().expect("not finished before");
    session.closed().await;
    session.connection().release();
    // Longer than a server waits before it closes an idle connection.
    assert!(in_vain(raw.quic.closed()).await, "the connection lives");
    respond(&exchange, 200, b"here");
    assert_eq!(answer(&mut recv).await.1, b"here");
    raw.finish().await;
}

async fn a_token_of_another_dialect_is_a_bad_request(net: Net) {
    let raw = RawClient::ready(&net).await;
    let mut frame = bytes::BytesMut::new();
    ConnectRequest::new(Dialect::D07, "localhost", "/", Vec::new()).encode_frame(&mut frame);
    let (_send, mut recv) = ask(&raw, &frame, false).await;
    assert_eq!(answer(&mut recv).await.0.status, 400);
    raw.finish().await;
}
