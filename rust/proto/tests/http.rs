//! One request of plain HTTP against hand-made bytes.

mod common;

use bytes::Bytes;
use common::{MAX_SECTION, bytewise, cut, data, encoded, headers, hex, tlv};
use proptest::prelude::*;
use wt_proto::dialect::Dialect;
use wt_proto::error::ConnectionError;
use wt_proto::error_code::Code;
use wt_proto::headers::{PlainRequest, Response};
use wt_proto::http::{Exchange, ExchangeEvent, InvalidResponse, response};
use wt_proto::session::{Session, SessionEvent, Transmit};

/// POST https://a/ with further lines of its section: see RFC 9204 appendix A.
fn post(lines: &str) -> Vec<u8> {
    tlv(0x01, &hex(&format!("00 00 d4 d7 c1 50 01 61 {lines}")))
}

/// Content-Length (entry 4 of the static table) of one digit.
fn length(digit: char) -> String {
    format!("54 01 {:02x}", digit as u32)
}

/// An exchange and its request, after these bytes of the stream.
fn begun(bytes: Vec<u8>) -> (Exchange, PlainRequest) {
    let mut session = Session::server(0, MAX_SECTION);
    session.handle_data(bytes.into()).expect("a valid request");
    let Some(SessionEvent::Plain(request)) = session.poll_event() else {
        panic!("plain HTTP")
    };
    (session.into_exchange(&request), request)
}

/// An exchange whose content is wanted.
fn collecting(lines: &str, limit: u64) -> Exchange {
    let (mut exchange, _) = begun(post(lines));
    exchange.collect(limit).expect("nothing wrong");
    exchange
}

fn feed(exchange: &mut Exchange, bytes: &[u8]) {
    exchange
        .handle_data(Bytes::copy_from_slice(bytes))
        .expect("no connection error");
}

fn events(exchange: &mut Exchange) -> Vec<ExchangeEvent> {
    std::iter::from_fn(|| exchange.poll_event()).collect()
}

fn transmits(exchange: &mut Exchange) -> Vec<Transmit> {
    std::iter::from_fn(|| exchange.poll_transmit()).collect()
}

/// A response without headers of the caller.
fn answer(method: &str, status: u16, content: &'static [u8]) -> (Response, Bytes) {
    response(method, status, headers(&[]), content.into(), u64::MAX).expect("valid")
}

fn respond(exchange: &mut Exchange, status: u16, content: &'static [u8]) {
    let (response, content) = answer("GET", status, content);
    exchange.respond(&response, content);
}

fn assert_failed(exchange: &mut Exchange, code: Code) {
    let [ExchangeEvent::Failed(error)] = events(exchange)[..] else {
        panic!("must fail")
    };
    assert_eq!(error.code, code);
    assert_eq!(transmits(exchange), [Transmit::Reset(code), Transmit::Stop(code)]);
    assert!(exchange.is_over());
}

// The request.

#[test]
fn content_is_given_when_it_is_whole() {
    let mut exchange = collecting("", 100);
    feed(&mut exchange, &data(b"two "));
    // Empty, unknown and reserved frames in between.
    feed(
        &mut exchange,
        &[data(b""), tlv(0x21, b"grease"), data(b"frames")].concat(),
    );
    assert_eq!(events(&mut exchange), []);
    exchange.handle_fin().expect("between two frames");
    assert_eq!(
        events(&mut exchange),
        [ExchangeEvent::Content(Bytes::from_static(b"two frames"))]
    );
    assert!(!exchange.is_over(), "it is not answered");
    respond(&mut exchange, 200, b"");
    assert!(exchange.is_over());
}

#[test]
fn nothing_is_read_before_somebody_wants_it() {
    let (mut exchange, request) = begun([post(&length('5')), data(b"early")].concat());
    assert_eq!(request.content_length, Some(5));
    assert!(!exchange.wants_input());
    assert_eq!(events(&mut exchange), []);
    exchange.collect(5).expect("nothing wrong");
    exchange.handle_fin().expect("between two frames");
    assert_eq!(
        events(&mut exchange),
        [ExchangeEvent::Content(Bytes::from_static(b"early"))]
    );
}

#[test]
fn the_limit_holds_with_and_without_an_announcement() {
    // Nothing has to arrive for an announced length.
    let mut exchange = collecting(&length('9'), 8);
    assert_eq!(events(&mut exchange), [ExchangeEvent::TooLarge]);
    for pieces in [vec![data(b"123456789")], vec![data(b"12345678"), data(b"9")]] {
        let mut exchange = collecting("", 8);
        pieces.iter().for_each(|piece| feed(&mut exchange, piece));
        assert_eq!(events(&mut exchange), [ExchangeEvent::TooLarge]);
        // The rest is dropped, whatever it is.
        feed(&mut exchange, &hex("02 00 40 41 ff"));
        respond(&mut exchange, 413, b"");
        exchange.handle_fin().expect("ignored");
        assert!(exchange.is_over());
        assert_eq!(events(&mut exchange), []);
    }
    // A frame that announces 2^62 - 1 bytes is judged by what comes.
    let mut exchange = collecting("", 8);
    feed(&mut exchange, &hex("00 ff ff ff ff ff ff ff ff 01 02 03"));
    assert_eq!(events(&mut exchange), []);
    feed(&mut exchange, b"123456");
    assert_eq!(events(&mut exchange), [ExchangeEvent::TooLarge]);
}

#[test]
fn content_of_another_length_than_announced_is_malformed() {
    let mut longer = collecting(&length('3'), 100);
    feed(&mut longer, &data(b"1234"));
    assert_failed(&mut longer, Code::H3_MESSAGE_ERROR);

    let mut shorter = collecting(&length('3'), 100);
    feed(&mut shorter, &data(b"12"));
    shorter.handle_fin().expect("an error of the stream");
    assert_failed(&mut shorter, Code::H3_MESSAGE_ERROR);

    let mut none = collecting(&length('3'), 100);
    none.handle_fin().expect("an error of the stream");
    assert_failed(&mut none, Code::H3_MESSAGE_ERROR);
}

#[test]
fn trailers_end_the_content() {
    let trailers = tlv(0x01, &hex("00 00 21 78 01 79"));
    let mut exchange = collecting("", 100);
    feed(&mut exchange, &[data(b"x"), trailers.clone(), tlv(0x21, b"")].concat());
    exchange.handle_fin().expect("between two frames");
    assert_eq!(
        events(&mut exchange),
        [ExchangeEvent::Content(Bytes::from_static(b"x"))]
    );

    for behind in [data(b"more"), data(b""), trailers.clone()] {
        let mut exchange = collecting("", 100);
        let error = exchange.handle_data([trailers.clone(), behind].concat().into());
        assert_eq!(error.map_err(|error| error.code), Err(Code::H3_FRAME_UNEXPECTED));
    }
}

#[test]
fn trailers_with_pseudo_headers_are_malformed() {
    // :method GET; :status 200; a name in upper case.
    for section in ["00 00 d1", "00 00 d9", "00 00 21 58 01 79"] {
        let mut exchange = collecting("", 100);
        feed(&mut exchange, &tlv(0x01, &hex(section)));
        assert_failed(&mut exchange, Code::H3_MESSAGE_ERROR);
    }
    // They have the same limit as the header section.
    let mut exchange = collecting("", 100);
    feed(&mut exchange, &hex("01 80 01 00 01"));
    assert_failed(&mut exchange, Code::H3_EXCESSIVE_LOAD);
    // And may end the connection like one.
    let mut exchange = collecting("", 100);
    let error = exchange.handle_data(tlv(0x01, &hex("02 00 80")).into());
    assert_eq!(error.map_err(|error| error.code), Err(Code::QPACK_DECOMPRESSION_FAILED));
}

#[test]
fn frames_that_a_request_does_not_have_end_the_connection() {
    for (frame, code) in [
        ("04 00", Code::H3_FRAME_UNEXPECTED),
        ("05 01 00", Code::H3_FRAME_UNEXPECTED),
        ("07 01 00", Code::H3_FRAME_UNEXPECTED),
        ("02 00", Code::H3_FRAME_UNEXPECTED),
        ("40 41 00", Code::H3_FRAME_ERROR),
    ] {
        let mut exchange = collecting("", 100);
        let error = exchange.handle_data(hex(frame).into());
        assert_eq!(error.map_err(|error| error.code), Err(code), "{frame}");
    }
}

#[test]
fn a_fin_inside_a_frame_ends_the_connection() {
    for beginning in ["00", "00 05 78", "21 05", "01 05 00"] {
        let mut exchange = collecting("", 100);
        feed(&mut exchange, &hex(beginning));
        let error = exchange.handle_fin();
        assert_eq!(error.map_err(|error| error.code), Err(Code::H3_FRAME_ERROR));
    }
}

#[test]
fn a_client_that_waits_for_permission_gets_it() {
    // expect: 100-continue, a literal name.
    let expect = "26 65 78 70 65 63 74 0c 31 30 30 2d 43 6f 6e 74 69 6e 75 65";
    let interim = || Transmit::Data(encoded(|out| Response::new(100, headers(&[])).encode_frame(out)).into());
    let mut exchange = collecting(expect, 100);
    assert_eq!(transmits(&mut exchange), [interim()]);
    // Not when the content is there already, or is not wanted.
    let (mut exchange, _) = begun([post(expect), data(b"x")].concat());
    exchange.collect(100).expect("nothing wrong");
    assert_eq!(transmits(&mut exchange), []);
    let mut exchange = collecting(&format!("{expect} {}", length('9')), 8);
    assert_eq!(transmits(&mut exchange), []);
}

#[test]
fn content_that_does_not_come_in_time_can_be_answered() {
    let mut exchange = collecting("", 100);
    feed(&mut exchange, &data(b"x"));
    exchange.handle_content_timeout();
    exchange.handle_content_timeout();
    assert_eq!(events(&mut exchange), [ExchangeEvent::TooSlow]);
    respond(&mut exchange, 408, b"");
    assert_eq!(transmits(&mut exchange).last(), Some(&Transmit::Finish));
    // The rest has not ended either.
    exchange.handle_rest_timeout();
    assert_eq!(transmits(&mut exchange), [Transmit::Stop(Code::H3_NO_ERROR)]);
    assert!(exchange.is_over());
}

// The session that read its header section.

#[test]
fn a_session_does_not_read_on() {
    let mut session = Session::server(0, MAX_SECTION);
    session
        .handle_data([post(""), data(b"x")].concat().into())
        .expect("valid");
    let Some(SessionEvent::Plain(request)) = session.poll_event() else {
        panic!("plain HTTP")
    };
    assert_eq!((request.method.as_str(), request.authority.as_str()), ("POST", "a"));
    session.accept(Dialect::D15, headers(&[]));
    session.handle_data(data(b"y").into()).expect("not read");
    assert_eq!((session.poll_event(), session.poll_transmit()), (None, None));
    // When there is no exchange it can still be refused.
    session.reject(503, headers(&[]));
    assert!(matches!(session.poll_transmit(), Some(Transmit::Data(_))));
    assert_eq!(session.poll_transmit(), Some(Transmit::Finish));
}

#[test]
fn a_refused_session_fits_what_the_peer_takes() {
    for (limit, expected) in [(108, 2), (107, 0)] {
        let mut session = Session::server(0, MAX_SECTION).with_peer_limit(limit);
        let request = encoded(|out| common::request(Dialect::D15).encode_frame(out));
        session.handle_data(request.into()).expect("valid");
        // 10 + 32 for the status, 1 + 32 for each of the others.
        session.reject(429, headers(&[("x", ""), ("y", "")]));
        let Some(Transmit::Data(frame)) = session.poll_transmit() else {
            panic!("a response")
        };
        let response = Response::decode(&frame[2..], MAX_SECTION).expect("valid");
        assert_eq!((response.status, response.headers.len()), (429, expected), "{limit}");
    }
}

// Early ends.

#[test]
fn a_request_that_is_reset_is_cancelled() {
    for is_collecting in [false, true] {
        let (mut exchange, _) = begun(post(""));
        if is_collecting {
            exchange.collect(100).expect("nothing wrong");
        }
        exchange.handle_reset(Code::H3_REQUEST_CANCELLED);
        assert!(matches!(events(&mut exchange)[..], [ExchangeEvent::Failed(_)]));
        assert_eq!(transmits(&mut exchange), [Transmit::Reset(Code::H3_REQUEST_CANCELLED)]);
        respond(&mut exchange, 200, b"late");
        assert_eq!(transmits(&mut exchange), []);
        assert!(exchange.is_over());
    }
}

#[test]
fn a_response_outlives_a_reset_of_the_request() {
    // RFC 9114 4.1: who is answered early may give the rest up.
    let (mut exchange, _) = begun(post(""));
    respond(&mut exchange, 404, b"no");
    let all = transmits(&mut exchange);
    exchange.handle_reset(Code::H3_NO_ERROR);
    assert_eq!(
        (all.len(), transmits(&mut exchange), events(&mut exchange)),
        (4, vec![], vec![])
    );
    assert!(exchange.is_over());
}

#[test]
fn a_response_that_is_stopped_is_reset_with_the_same_code() {
    for is_answered in [false, true] {
        let (mut exchange, _) = begun(post(""));
        if is_answered {
            respond(&mut exchange, 200, b"unwanted");
        }
        exchange.handle_stopped(Code(0x1234));
        assert!(matches!(events(&mut exchange)[..], [ExchangeEvent::Failed(_)]));
        assert_eq!(
            transmits(&mut exchange),
            [
                Transmit::Reset(Code(0x1234)),
                Transmit::Stop(Code::H3_REQUEST_CANCELLED)
            ]
        );
        assert!(exchange.is_over());
    }
}

#[test]
fn a_datagram_ends_a_request_that_gives_it_no_meaning() {
    let (mut waiting, _) = begun(post(""));
    waiting.handle_datagram();
    assert_failed(&mut waiting, Code::H3_DATAGRAM_ERROR);
    let mut reading = collecting("", 100);
    reading.handle_datagram();
    assert_failed(&mut reading, Code::H3_DATAGRAM_ERROR);
    // RFC 9297 2.1: behind the end of the request it is dropped.
    let mut whole = collecting("", 100);
    whole.handle_fin().expect("between two frames");
    events(&mut whole);
    whole.handle_datagram();
    assert_eq!((events(&mut whole), transmits(&mut whole)), (vec![], vec![]));
}

#[test]
fn nobody_answers() {
    let mut exchange = collecting("", 100);
    exchange.abort(Code::H3_INTERNAL_ERROR, "no answer");
    assert_failed(&mut exchange, Code::H3_INTERNAL_ERROR);
    exchange.abort(Code::H3_INTERNAL_ERROR, "no answer");
    assert_eq!((events(&mut exchange), transmits(&mut exchange)), (vec![], vec![]));
}

// The response.

#[test]
fn a_response_is_headers_content_and_fin() {
    let (mut exchange, _) = begun(post(""));
    let (response, content) = answer("POST", 200, b"hello");
    assert_eq!(response.headers, headers(&[("content-length", "5")]));
    exchange.respond(&response, content);
    exchange.respond(&response, Bytes::new());
    let [
        Transmit::Data(head),
        Transmit::Data(header),
        Transmit::Data(content),
        Transmit::Finish,
    ] = &transmits(&mut exchange)[..]
    else {
        panic!("four steps, once")
    };
    assert_eq!([&header[..], &content[..]].concat(), data(b"hello"));
    let decoded = Response::decode(&head[2..], MAX_SECTION).expect("valid");
    assert_eq!(decoded, response);
}

#[test]
fn a_response_says_how_long_its_content_is() {
    let made = |method: &str, status: u16, given: Option<&str>, content: &'static [u8]| {
        let given = given.map(|length| headers(&[("Content-Length", length)]));
        let made = response(method, status, given.unwrap_or_default(), content.into(), u64::MAX);
        let (response, content) = made.expect("valid");
        let length = response.headers.into_iter().map(|(_, value)| value).next();
        (length, content.len())
    };
    let length = |text: &str| Some(text.to_owned());
    assert_eq!(made("GET", 200, Some("999"), b"hello"), (length("5"), 5));
    assert_eq!(made("GET", 200, Some("999"), b""), (length("0"), 0));
    assert_eq!(made("GET", 404, None, b""), (length("0"), 0));
    // HEAD: as GET, without the content; or what its handler says.
    assert_eq!(made("HEAD", 200, Some("999"), b"hello"), (length("5"), 0));
    assert_eq!(made("HEAD", 200, Some("999"), b""), (length("999"), 0));
    assert_eq!(made("HEAD", 200, None, b""), (None, 0));
    assert_eq!(made("GET", 304, Some("999"), b""), (length("999"), 0));
    assert_eq!(made("GET", 204, Some("0"), b""), (None, 0));
}

#[test]
fn a_response_that_cannot_be_sent_is_refused() {
    let made = |status, name: &str, content: &'static [u8]| {
        response("GET", status, headers(&[(name, "1")]), content.into(), 200).expect_err("must be refused")
    };
    for status in [0, 100, 101, 199, 600, 999] {
        assert_eq!(made(status, "x", b""), InvalidResponse::Status(status));
    }
    for status in [204, 205, 304] {
        assert_eq!(made(status, "x", b"content"), InvalidResponse::Content(status));
    }
    for name in [":status", "connection", "transfer-encoding", "a b", ""] {
        assert!(matches!(made(200, name, b""), InvalidResponse::Field(_)), "{name}");
    }
    // 10 + 32 for the status, 15 + 32 for the length, and this one.
    let error = made(200, &"n".repeat(79), b"");
    assert_eq!(error, InvalidResponse::TooLarge { size: 201, limit: 200 });
    assert_eq!(
        error.to_string(),
        "the headers count 201 bytes, the client takes at most 200"
    );
}

// Properties.

fn piece() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        4 => common::noise(20).prop_map(|noise| data(&noise)),
        1 => Just(tlv(0x01, &hex("00 00 21 78 01 79"))),
        1 => Just(tlv(0x01, &hex("00 00 d1"))),
        1 => Just(tlv(0x21, b"grease")),
        1 => common::noise(20),
    ]
}

/// What an exchange made of bytes, as seen from outside.
fn hear(lines: &str, pieces: Vec<Bytes>, fin: bool) -> (Vec<ExchangeEvent>, Vec<Transmit>, Option<ConnectionError>) {
    let mut exchange = collecting(lines, 50);
    let mut error = None;
    for piece in pieces {
        error = exchange.handle_data(piece).err();
        if error.is_some() {
            break;
        }
    }
    if fin && error.is_none() {
        error = exchange.handle_fin().err();
    }
    (events(&mut exchange), transmits(&mut exchange), error)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn any_cut_of_a_request_is_heard_alike(
        pieces in proptest::collection::vec(piece(), 0..8),
        cuts in common::cuts(),
        announced in proptest::option::of(proptest::char::range('0', '9')),
        fin: bool,
    ) {
        let lines = announced.map(length).unwrap_or_default();
        let bytes = pieces.concat();
        let whole = hear(&lines, vec![bytes.clone().into()], fin);
        prop_assert_eq!(&hear(&lines, cut(&bytes, &cuts), fin), &whole);
        prop_assert_eq!(&hear(&lines, bytewise(&bytes), fin), &whole);
    }

    #[test]
    fn each_half_ends_once(steps in proptest::collection::vec((0u8..10, piece()), 0..30)) {
        let (mut exchange, _) = begun(post(""));
        for (step, bytes) in steps {
            let input = exchange.wants_input();
            let mut outcome = Ok(());
            match step {
                0..=2 if input => outcome = exchange.handle_data(bytes.into()),
                3 if input => outcome = exchange.handle_fin(),
                4 => outcome = exchange.collect(50),
                5 => respond(&mut exchange, 200, b"content"),
                6 => exchange.handle_reset(Code::H3_REQUEST_CANCELLED),
                7 => exchange.handle_stopped(Code::H3_REQUEST_CANCELLED),
                8 => exchange.handle_content_timeout(),
                9 => exchange.handle_rest_timeout(),
                _ => exchange.handle_datagram(),
            }
            if outcome.is_err() {
                break;
            }
        }
        exchange.abort(Code::H3_INTERNAL_ERROR, "the end");
        prop_assert!(exchange.is_over());
        let transmits = transmits(&mut exchange);
        let count = |kind: fn(&Transmit) -> bool| transmits.iter().filter(|transmit| kind(transmit)).count();
        prop_assert!(count(|transmit| matches!(transmit, Transmit::Reset(_))) <= 1);
        prop_assert!(count(|transmit| matches!(transmit, Transmit::Stop(_))) <= 1);
        prop_assert!(count(|transmit| matches!(transmit, Transmit::Finish)) <= 1);
        let failures = events(&mut exchange);
        prop_assert!(failures.iter().filter(|event| matches!(event, ExchangeEvent::Failed(_))).count() <= 1);
    }
}
