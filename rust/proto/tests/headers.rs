//! Requests and responses.

mod common;

use common::{MAX_SECTION, encoded, headers, request};
use proptest::prelude::*;
use wt_proto::dialect::Dialect;
use wt_proto::error::Error;
use wt_proto::error_code::Code;
use wt_proto::frame::{Frame, FrameContext, FrameParser};
use wt_proto::headers::{self as message, ConnectRequest, HeaderList, PlainRequest, Request, Response};

/// The field section of a HEADERS frame.
fn section(frame: Vec<u8>) -> Vec<u8> {
    let mut parser = FrameParser::new(FrameContext::Request);
    parser.push(frame.into());
    let Ok(Some(Frame::Headers(section))) = parser.next() else {
        panic!("a HEADERS frame")
    };
    parser.finish().expect("nothing behind the frame");
    section.to_vec()
}

/// A field section of literals, without Huffman: what a careless or hostile peer may send.
fn raw(fields: &[(&str, &str)]) -> Vec<u8> {
    let string = |prefix_bits: u32, flags: u8, text: &str| {
        let largest = (1usize << prefix_bits) - 1;
        let mut bytes = vec![flags | text.len().min(largest) as u8];
        if text.len() >= largest {
            let mut rest = text.len() - largest;
            while rest >= 128 {
                bytes.push(rest as u8 | 0x80);
                rest >>= 7;
            }
            bytes.push(rest as u8);
        }
        [bytes, text.as_bytes().to_vec()].concat()
    };
    let lines = fields
        .iter()
        .map(|(name, value)| [string(3, 0x20, name), string(7, 0, value)].concat());
    [vec![0, 0], lines.collect::<Vec<_>>().concat()].concat()
}

fn decode(fields: &[(&str, &str)]) -> Result<Request, Error> {
    Request::decode(&raw(fields), MAX_SECTION)
}

const CONNECT: [(&str, &str); 5] = [
    (":method", "CONNECT"),
    (":scheme", "https"),
    (":authority", "example.org"),
    (":path", "/"),
    (":protocol", "webtransport"),
];

/// The valid request with changes: a value of "-" takes a pseudo-header out.
fn changed(changes: &[(&'static str, &'static str)]) -> Result<Request, Error> {
    let mut fields = CONNECT.to_vec();
    for change in changes {
        match fields.iter_mut().find(|field| field.0 == change.0) {
            Some(field) => *field = *change,
            None => fields.push(*change),
        }
    }
    fields.retain(|field| field.1 != "-");
    decode(&fields)
}

fn assert_malformed<T: std::fmt::Debug>(result: Result<T, Error>) {
    let Err(Error::Stream(error)) = result else {
        panic!("must be malformed: {result:?}")
    };
    assert_eq!(error.code, Code::H3_MESSAGE_ERROR);
}

#[test]
fn a_request_comes_back() {
    for dialect in [Dialect::D02, Dialect::D04, Dialect::D07, Dialect::D14, Dialect::D15] {
        let request = request(dialect);
        let bytes = section(encoded(|out| request.encode_frame(out)));
        assert_eq!(
            Request::decode(&bytes, MAX_SECTION),
            Ok(Request::WebTransport(request.clone()))
        );
        assert_eq!(request.origin(), Some("https://example.org"));
        assert!(request.agrees_with(dialect));
        assert_eq!(request.has_draft02_header(), dialect <= Dialect::D04);
    }
}

#[test]
fn a_draft_02_request_says_so_once() {
    let own = headers(&[("sec-webtransport-http3-draft02", "1")]);
    let request = ConnectRequest::new(Dialect::D02, "a", "/", own.clone());
    assert_eq!(request.headers, own);
    assert_eq!(
        ConnectRequest::new(Dialect::D02, "a", "/", HeaderList::new()).headers,
        own
    );
}

#[test]
fn names_are_sent_in_lower_case() {
    let request = ConnectRequest::new(Dialect::D15, "a", "/", headers(&[("Origin", "https://a")]));
    let bytes = section(encoded(|out| request.encode_frame(out)));
    let Ok(Request::WebTransport(read)) = Request::decode(&bytes, MAX_SECTION) else {
        panic!("valid")
    };
    assert_eq!(read.headers, headers(&[("origin", "https://a")]));
}

#[test]
fn a_response_comes_back() {
    for status in [200, 204, 404, 100, 599] {
        let response = Response::new(status, headers(&[("wt-protocol", "\"chat\"")]));
        let bytes = section(encoded(|out| response.encode_frame(out)));
        assert_eq!(Response::decode(&bytes, MAX_SECTION), Ok(response));
    }
}

#[test]
fn a_token_of_the_wrong_dialect_is_noticed() {
    let Ok(Request::WebTransport(request)) = changed(&[(":protocol", "webtransport-h3")]) else {
        panic!("valid")
    };
    assert!(request.agrees_with(Dialect::D15));
    assert!(!request.agrees_with(Dialect::D07));
}

#[test]
fn other_requests_are_told_apart() {
    let plain = |method: &str, path: &str, fields: HeaderList| {
        Ok(Request::Plain(PlainRequest {
            method: method.into(),
            authority: "example.org".into(),
            path: path.into(),
            content_length: None,
            headers: fields,
        }))
    };
    let protocol = |protocol: Option<&str>| {
        Ok(Request::Connect {
            protocol: protocol.map(str::to_owned),
        })
    };
    assert_eq!(changed(&[(":protocol", "websocket")]), protocol(Some("websocket")));
    assert_eq!(
        changed(&[(":method", "GET"), (":protocol", "-")]),
        plain("GET", "/", headers(&[]))
    );
    assert_eq!(
        changed(&[(":method", "OPTIONS"), (":protocol", "-"), (":path", "*")]),
        plain("OPTIONS", "*", headers(&[]))
    );
    assert_eq!(
        changed(&[(":protocol", "-"), (":scheme", "-"), (":path", "-")]),
        protocol(None)
    );
    let with_host = [
        (":method", "GET"),
        (":protocol", "-"),
        (":authority", "-"),
        ("host", "example.org"),
    ];
    assert_eq!(
        changed(&with_host),
        plain("GET", "/", headers(&[("host", "example.org")]))
    );
}

#[test]
fn a_content_length_is_one_number() {
    let post = |lengths: &[&'static str]| {
        let lengths = lengths.iter().map(|length| ("content-length", *length));
        let request = [(":method", "POST"), CONNECT[1], CONNECT[2], CONNECT[3]];
        decode(&request.into_iter().chain(lengths).collect::<Vec<_>>())
    };
    for (text, number) in [
        ("0", 0),
        ("007", 7),
        ("4611686018427387904", 1 << 62),
        // More than any integer: more than any limit.
        ("99999999999999999999999", u64::MAX),
    ] {
        let Ok(Request::Plain(request)) = post(&[text]) else {
            panic!("{text} is valid")
        };
        assert_eq!(request.content_length, Some(number));
    }
    for lengths in [
        &[""][..],
        &["-1"],
        &["+1"],
        &["0x10"],
        &["5, 5"],
        &["5 "],
        &["5", "5"],
        &["5", "6"],
    ] {
        assert_malformed(post(lengths));
    }
}

#[test]
fn sizes_are_counted_as_the_decoder_counts_them() {
    let request = request(Dialect::D02);
    let request_section = section(encoded(|out| request.encode_frame(out)));
    assert!(Request::decode(&request_section, request.section_size()).is_ok());
    let too_large = Request::decode(&request_section, request.section_size() - 1);
    assert_eq!(too_large.map_err(|error| error.code()), Err(Code::H3_EXCESSIVE_LOAD));

    let response = Response::new(404, headers(&[("server", "this"), ("x", "")]));
    let response_section = section(encoded(|out| response.encode_frame(out)));
    assert!(Response::decode(&response_section, response.section_size()).is_ok());
    assert!(Response::decode(&response_section, response.section_size() - 1).is_err());
}

#[test]
fn a_pseudo_header_that_lacks_is_malformed() {
    for name in [":method", ":scheme", ":authority", ":path"] {
        assert_malformed(changed(&[(name, "-")]));
    }
    assert_malformed(changed(&[(":method", "GET"), (":protocol", "-"), (":authority", "-")]));
    assert_malformed(decode(&[]));
}

#[test]
fn a_pseudo_header_too_many_is_malformed() {
    for extra in [
        (":status", "200"),
        (":unknown", "1"),
        (":path", "/b"),
        (":Method", "CONNECT"),
        (":", ""),
    ] {
        assert_malformed(decode(&[&CONNECT[..], &[extra]].concat()));
    }
    assert_malformed(changed(&[(":protocol", "-")]));
    assert_malformed(changed(&[(":method", "GET")]));
}

#[test]
fn pseudo_headers_come_first() {
    assert_malformed(decode(&[&CONNECT[..4], &[("origin", "a")], &CONNECT[4..]].concat()));
}

#[test]
fn values_of_pseudo_headers_are_checked() {
    for change in [
        (":authority", ""),
        (":authority", "user@example.org"),
        (":authority", "a/b"),
        (":authority", "a b"),
        (":path", ""),
        (":path", "chat"),
        (":path", "*"),
        (":path", "/a#b"),
        (":path", "/a b"),
        (":path", "/\r\n"),
        (":scheme", "http"),
        (":method", ""),
        (":method", "CON NECT"),
    ] {
        assert_malformed(changed(&[change]));
    }
}

#[test]
fn host_agrees_with_the_authority() {
    assert!(changed(&[("host", "example.org")]).is_ok());
    assert_malformed(changed(&[("host", "example.com")]));
    assert_malformed(decode(
        &[&CONNECT[..], &[("host", "example.org"), ("host", "example.org")]].concat(),
    ));
}

#[test]
fn names_and_values_are_checked() {
    for header in [
        ("Origin", "a"),
        ("", "a"),
        ("a b", "c"),
        ("a:b", "c"),
        ("ä", "c"),
        ("connection", "close"),
        ("keep-alive", "1"),
        ("proxy-connection", "1"),
        ("transfer-encoding", "chunked"),
        ("upgrade", "websocket"),
        ("te", "gzip"),
        ("a", "b\0"),
        ("a", "b\r\nc: d"),
        ("a", "\u{7f}"),
    ] {
        assert_malformed(changed(&[header]));
        let own = headers(&[header]);
        assert!(
            header.0 == "Origin" || message::check_fields(&own).is_err(),
            "{header:?}"
        );
    }
    assert!(changed(&[("te", "trailers"), ("a", "tab\there"), ("b", "")]).is_ok());
    assert!(message::check_fields(&headers(&[(":path", "/")])).is_err());
}

#[test]
fn what_must_not_be_sent_is_left_out() {
    let fields = [
        ("X-A", "1"),
        ("Connection", "close"),
        ("transfer-encoding", "chunked"),
        ("te", "gzip"),
        (":path", "/other"),
        ("a b", "c"),
        ("b", "c\r\nd: e"),
        ("Content-Length", "0"),
        ("content-type", "text/plain"),
    ];
    let request = ConnectRequest::new(Dialect::D15, "a", "/", headers(&fields));
    let bytes = section(encoded(|out| request.encode_frame(out)));
    let Ok(Request::WebTransport(read)) = Request::decode(&bytes, MAX_SECTION) else {
        panic!("valid")
    };
    assert_eq!((read.path.as_str(), read.headers), ("/", headers(&[("x-a", "1")])));

    let sent = |status| {
        let response = Response::new(status, headers(&fields));
        let bytes = section(encoded(|out| response.encode_frame(out)));
        Response::decode(&bytes, MAX_SECTION).expect("valid").headers
    };
    assert_eq!(sent(200), headers(&[("x-a", "1")]));
    let content = [("content-length", "0"), ("content-type", "text/plain")];
    assert_eq!(sent(404), headers(&[&[("x-a", "1")][..], &content].concat()));
}

#[test]
fn a_request_for_a_session_describes_no_content() {
    assert_malformed(changed(&[("content-length", "0")]));
    assert_malformed(changed(&[("content-type", "text/plain")]));
    let other = [(":protocol", "-"), (":method", "POST"), ("content-length", "3")];
    assert!(changed(&other).is_ok());
}

#[test]
fn cookie_crumbs_are_put_together() {
    let crumbs = [("cookie", "a=1"), ("x", "y"), ("cookie", "b=2"), ("cookie", "c=3")];
    let Ok(Request::WebTransport(request)) = decode(&[&CONNECT[..], &crumbs].concat()) else {
        panic!("valid")
    };
    assert_eq!(request.headers, headers(&[("cookie", "a=1; b=2; c=3"), ("x", "y")]));
}

#[test]
fn values_that_are_no_utf8_lose_nothing() {
    let mut bytes = raw(&CONNECT);
    bytes.extend([0x21, b'a', 0x02, 0xe4, b'x']);
    let Ok(Request::WebTransport(request)) = Request::decode(&bytes, MAX_SECTION) else {
        panic!("valid")
    };
    assert_eq!(request.headers, headers(&[("a", "äx")]));
}

#[test]
fn a_response_has_one_valid_status() {
    let decode = |fields: &[(&str, &str)]| Response::decode(&raw(fields), MAX_SECTION);
    for status in ["", "20", "2000", "2x0", "+20", "099", "600", "101", "-10"] {
        assert_malformed(decode(&[(":status", status)]));
    }
    assert_malformed(decode(&[]));
    assert_malformed(decode(&[(":status", "200"), (":status", "200")]));
    assert_malformed(decode(&[(":status", "200"), (":path", "/")]));
    assert_malformed(decode(&[("server", "x"), (":status", "200")]));
}

#[test]
fn a_large_section_ends_its_stream() {
    // 32 per field count although the field is two bytes.
    let fields: Vec<(&str, &str)> = CONNECT.into_iter().chain([("a", "b"); 20]).collect();
    let size: u64 = fields
        .iter()
        .map(|(name, value)| (name.len() + value.len() + 32) as u64)
        .sum();
    assert!(Request::decode(&raw(&fields), size).is_ok());
    let Err(Error::Stream(error)) = Request::decode(&raw(&fields), size - 1) else {
        panic!("a stream error")
    };
    assert_eq!(error.code, Code::H3_EXCESSIVE_LOAD);
}

proptest! {
    #[test]
    fn any_valid_request_comes_back(
        path in "/[!-\"$-~]{0,40}",
        fields in proptest::collection::vec(("x-[a-z0-9]{1,10}", "\\PC{0,60}"), 0..10),
    ) {
        let request = ConnectRequest::new(Dialect::D15, "example.org:4433", path, fields);
        prop_assert_eq!(message::check_fields(&request.headers), Ok(()));
        let bytes = section(encoded(|out| request.encode_frame(out)));
        prop_assert_eq!(Request::decode(&bytes, MAX_SECTION), Ok(Request::WebTransport(request)));
    }

    #[test]
    fn any_cut_of_a_request_is_read_alike(cuts in common::cuts()) {
        let frame = encoded(|out| request(Dialect::D15).encode_frame(out));
        let mut parser = FrameParser::new(FrameContext::Request);
        let mut sections = Vec::new();
        for piece in common::cut(&frame, &cuts) {
            parser.push(piece);
            while let Some(frame) = parser.next().expect("valid") {
                sections.push(frame);
            }
        }
        prop_assert_eq!(sections, [Frame::Headers(section(frame).into())]);
    }
}
