//! Field sections without a dynamic table (RFC 9204).

mod common;

use common::{MAX_SECTION, encoded, headers, hex, request, varint};
use proptest::prelude::*;
use wt_proto::dialect::Dialect;
use wt_proto::error::Error;
use wt_proto::error_code::Code;
use wt_proto::headers::{ConnectRequest, HeaderList, Request, Response};

/// Appendix A, in order. Only values with a comma or a semicolon hold spaces.
const STATIC_TABLE: &str = "
    :authority=|:path=/|age=0|content-disposition=|content-length=0|cookie=|date=|etag=|if-modified-since=
    |if-none-match=|last-modified=|link=|location=|referer=|set-cookie=|:method=CONNECT|:method=DELETE|:method=GET
    |:method=HEAD|:method=OPTIONS|:method=POST|:method=PUT|:scheme=http|:scheme=https|:status=103|:status=200
    |:status=304|:status=404|:status=503|accept=*/*|accept=application/dns-message|accept-encoding=gzip, deflate, br
    |accept-ranges=bytes|access-control-allow-headers=cache-control|access-control-allow-headers=content-type
    |access-control-allow-origin=*|cache-control=max-age=0|cache-control=max-age=2592000|cache-control=max-age=604800
    |cache-control=no-cache|cache-control=no-store|cache-control=public, max-age=31536000|content-encoding=br
    |content-encoding=gzip|content-type=application/dns-message|content-type=application/javascript
    |content-type=application/json|content-type=application/x-www-form-urlencoded|content-type=image/gif
    |content-type=image/jpeg|content-type=image/png|content-type=text/css|content-type=text/html; charset=utf-8
    |content-type=text/plain|content-type=text/plain;charset=utf-8|range=bytes=0-
    |strict-transport-security=max-age=31536000|strict-transport-security=max-age=31536000; includesubdomains
    |strict-transport-security=max-age=31536000; includesubdomains; preload|vary=accept-encoding|vary=origin
    |x-content-type-options=nosniff|x-xss-protection=1; mode=block|:status=100|:status=204|:status=206|:status=302
    |:status=400|:status=403|:status=421|:status=425|:status=500|accept-language=
    |access-control-allow-credentials=FALSE|access-control-allow-credentials=TRUE|access-control-allow-headers=*
    |access-control-allow-methods=get|access-control-allow-methods=get, post, options
    |access-control-allow-methods=options|access-control-expose-headers=content-length
    |access-control-request-headers=content-type|access-control-request-method=get|access-control-request-method=post
    |alt-svc=clear|authorization=|content-security-policy=script-src 'none'; object-src 'none'; base-uri 'none'
    |early-data=1|expect-ct=|forwarded=|if-range=|origin=|purpose=prefetch|server=|timing-allow-origin=*
    |upgrade-insecure-requests=1|user-agent=|x-forwarded-for=|x-frame-options=deny|x-frame-options=sameorigin";

/// A line that is an entry of the static table.
fn indexed(index: u64) -> Vec<u8> {
    match u8::try_from(index) {
        Ok(index @ ..63) => vec![0xc0 | index],
        _ => [vec![0xff], integer(index - 63)].concat(),
    }
}

/// What follows a prefix whose bits are all set.
fn integer(mut rest: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    while rest >= 0x80 {
        bytes.push(rest as u8 | 0x80);
        rest >>= 7;
    }
    bytes.push(rest as u8);
    bytes
}

/// A response of status 200 with these lines behind it.
fn response(lines: &[u8]) -> Result<HeaderList, Error> {
    let section = [&[0x00, 0x00, 0xd9], lines].concat();
    Response::decode(&section, MAX_SECTION).map(|response| response.headers)
}

#[track_caller]
fn assert_ends_the_connection<T: std::fmt::Debug>(result: Result<T, Error>) {
    let Err(Error::Connection(error)) = result else {
        panic!("a connection error: {result:?}")
    };
    assert_eq!(error.code, Code::QPACK_DECOMPRESSION_FAILED);
}

#[test]
fn the_static_table_is_that_of_the_appendix() {
    let mut entries = STATIC_TABLE
        .split('|')
        .map(|entry| entry.trim().split_once('=').expect("name=value"));
    for (index, (name, value)) in entries.by_ref().enumerate() {
        let line = indexed(index as u64);
        let read = match name {
            ":status" => Response::decode(&[vec![0, 0], line].concat(), MAX_SECTION)
                .map(|response| (name.to_owned(), response.status.to_string())),
            ":method" | ":scheme" | ":path" | ":authority" => {
                assert_eq!(pseudo(name, &line), pseudo_literal(name, value), "{name} {value}");
                continue;
            }
            _ => response(&line).map(|mut headers| headers.remove(0)),
        };
        assert_eq!(read, Ok((name.to_owned(), value.to_owned())), "{index}");
    }
    assert_eq!(STATIC_TABLE.split('|').count(), 99);
}

/// How a request is read in which one pseudo-header is this line.
fn pseudo(name: &str, line: &[u8]) -> Result<Request, Error> {
    let others = [
        (":method", "OPTIONS"),
        (":scheme", "https"),
        (":authority", "a"),
        (":path", "*"),
    ];
    let lines = others.iter().map(|(other, value)| match *other == name {
        true => line.to_vec(),
        false => literal(other, value),
    });
    Request::decode(&[vec![0, 0], lines.collect::<Vec<_>>().concat()].concat(), MAX_SECTION)
}

fn pseudo_literal(name: &str, value: &str) -> Result<Request, Error> {
    pseudo(name, &literal(name, value))
}

/// A line that spells out both name and value, neither Huffman-coded.
fn literal(name: &str, value: &str) -> Vec<u8> {
    let name_length = match name.len() {
        length @ ..7 => vec![0x20 | length as u8],
        length => [vec![0x27], integer(length as u64 - 7)].concat(),
    };
    assert!(value.len() < 127);
    [&name_length, name.as_bytes(), &[value.len() as u8], value.as_bytes()].concat()
}

#[test]
fn lines_keep_their_order() {
    let lines = [
        literal("b", "1"),
        indexed(2),
        literal("a", "2"),
        indexed(2),
        literal("b", "3"),
    ]
    .concat();
    let read = response(&lines).expect("valid");
    assert_eq!(
        read,
        headers(&[("b", "1"), ("age", "0"), ("a", "2"), ("age", "0"), ("b", "3")])
    );
    let request = ConnectRequest::new(Dialect::D15, "a", "/", read.clone());
    let frame = encoded(|out| request.encode_frame(out));
    let Ok(Request::WebTransport(read_again)) = Request::decode(&frame[2..], MAX_SECTION) else {
        panic!("valid")
    };
    assert_eq!(read_again.headers, read);
}

#[test]
fn another_encoder_is_understood() {
    // By ls-qpack 2.6 without a dynamic table: Huffman-coded where that is shorter.
    let section = hex(
        "00 00 cf d7 50 8c 2f 91 d3 5d 05 5c f6 4d 71 a6 99 67 51 89 60 93 8d 3f e5 87 3d 30 07 2f 00 b9 5d 87 49 c8 7a \
         3f 8b f0 58 d3 60 ea 45 67 b1 2b 4e cf 5f 4b 8e 9d 29 ad 17 18 60 be 47 4d 74 15 73 d9 37 23 78 2d 61 01 7e 23 \
         78 2d 62 00 5f 45 88 ba 34 18 8a 16 fd 6d ff",
    );
    let Ok(Request::WebTransport(read)) = Request::decode(&section, MAX_SECTION) else {
        panic!("valid")
    };
    let fields = [
        ("origin", "https://example.org"),
        ("x-a", "~"),
        ("x-b", ""),
        ("authorization", "Basic eDp5"),
    ];
    let expected = ConnectRequest::new(Dialect::D15, "example.org:4433", "/chat?room=1", headers(&fields));
    assert_eq!(read, expected);
}

#[test]
fn what_is_sent_needs_no_dynamic_table() {
    let response = Response::new(404, headers(&[("server", "x"), ("x-a", "ä"), ("vary", "origin")]));
    let frame = encoded(|out| response.encode_frame(out));
    // `:status: 404`; the name of entry 92; a name of its own; entry 60. No line has a first byte of the dynamic table's.
    let lines = hex("00 00 db 5f 4d 81 f3");
    assert!(frame[2..].starts_with(&lines), "{frame:02x?}");
    assert_eq!((frame[9], *frame.last().expect("not empty")), (0x2b, 0xfc));
    assert_eq!(Response::decode(&frame[2..], MAX_SECTION), Ok(response));
}

#[test]
fn references_to_a_dynamic_table_end_the_connection() {
    // An entry, one behind the base; the name of an entry, of one behind the base.
    for line in [
        "80",
        "bf 00",
        "10",
        "1f 00",
        "40 01 61",
        "6f 00 01 61",
        "00 01 61",
        "0f 00 01 61",
    ] {
        assert_ends_the_connection(response(&hex(line)));
    }
}

#[test]
fn the_prefix_names_neither_insertions_nor_a_negative_base() {
    for prefix in [
        "",
        "00",
        "01 00 d9",
        "ff 01 00 d9",
        "ff 00 00 d9",
        "00 80 d9",
        "00 81 d9",
        "00 ff 00 d9",
        "00 7f",
    ] {
        assert_ends_the_connection(Response::decode(&hex(prefix), MAX_SECTION));
    }
    for base in ["05", "7f 00", "7f ff ff ff ff ff ff ff ff 3f"] {
        let section = [hex("00"), hex(base), hex("d9")].concat();
        assert_eq!(
            Response::decode(&section, MAX_SECTION),
            Ok(Response::new(200, HeaderList::new()))
        );
    }
}

#[test]
fn an_entry_that_is_not_there_ends_the_connection() {
    for index in [99, 100, 1 << 32, (1 << 62) - 1] {
        assert_ends_the_connection(response(&indexed(index)));
        // The same as the name of a literal.
        let name = [vec![0x5f], integer(index - 15), vec![0x01, b'a']].concat();
        assert_ends_the_connection(response(&name));
    }
}

#[test]
fn an_integer_larger_than_can_be_read_ends_the_stream_alone() {
    let endless = [vec![0xff; 9], vec![0x01]].concat();
    for first in [0xffu8, 0x5f, 0x27, 0x2f, 0x1f, 0x0f] {
        let Err(Error::Stream(error)) = response(&[vec![first], endless.clone()].concat()) else {
            panic!("a stream error: {first:02x}")
        };
        assert_eq!(error.code, Code::QPACK_DECOMPRESSION_FAILED);
    }
    let base = [hex("00 7f"), endless].concat();
    assert!(matches!(Response::decode(&base, MAX_SECTION), Err(Error::Stream(_))));
}

#[test]
fn sections_end_with_a_line() {
    // Inside an index, a length, a string; strings of 2^62 - 1 bytes.
    for line in [
        "ff",
        "ff 80",
        "27",
        "21",
        "21 61",
        "21 61 01",
        "21 61 81",
        "5f",
        "51",
        "27 f8 ff ff ff ff ff ff ff 3f 61",
        "21 61 7f 80 ff ff ff ff ff ff ff 3f 61",
    ] {
        assert_ends_the_connection(response(&hex(line)));
    }
}

#[test]
fn strings_may_be_huffman_coded_and_never_indexed() {
    for line in [
        "21 61 01 62", // plain
        "31 61 01 62", // with the bit N
        "29 1f 81 8f", // both strings Huffman-coded
        "21 61 81 8f",
    ] {
        assert_eq!(response(&hex(line)), Ok(headers(&[("a", "b")])), "{line}");
    }
    for line in ["5f 4d 01 62", "7f 4d 81 8f"] {
        assert_eq!(response(&hex(line)), Ok(headers(&[("server", "b")])), "{line}");
    }
}

#[test]
fn huffman_padding_is_short_and_of_ones() {
    // Five bits of `a`, then zeros; ones, but a byte too many; a byte of nothing but padding; EOS, alone and behind.
    for value in [
        "81 18",
        "82 1f ff",
        "81 ff",
        "84 ff ff ff ff",
        "85 1f ff ff ff ff",
        "83 1f ff ff",
        "82 00 b7", // ones behind a zero
    ] {
        assert_ends_the_connection(response(&[hex("21 61"), hex(value)].concat()));
    }
    // As much in a name.
    assert_ends_the_connection(response(&hex("2a 1f ff 01 62")));
}

#[test]
fn a_field_as_large_as_the_limit_passes() {
    let value = "a".repeat(MAX_SECTION as usize - 400);
    let request = ConnectRequest::new(Dialect::D15, "a", "/", headers(&[("x", &value)]));
    let frame = encoded(|out| request.encode_frame(out));
    // Type, and a length of four bytes.
    assert!(Request::decode(&frame[5..], MAX_SECTION) == Ok(Request::WebTransport(request)));
}

proptest! {
    #[test]
    fn integers_of_62_bits_are_read(index in 99u64..1 << 62, base in 127u64..1 << 62) {
        let section = [vec![0x00, 0x7f], integer(base - 127), vec![0xd9]].concat();
        prop_assert!(Response::decode(&section, MAX_SECTION).is_ok());
        // Understood, and no entry of the table.
        prop_assert!(matches!(response(&indexed(index)), Err(Error::Connection(_))));
    }

    #[test]
    fn any_text_comes_back_huffman_coded(text in "\\PC{0,60}") {
        let sent = Response::new(200, headers(&[("x", &text)]));
        let frame = encoded(|out| sent.encode_frame(out));
        let (_, used) = wt_proto::varint::decode(&frame[1..]).expect("a length");
        prop_assert_eq!(Response::decode(&frame[1 + used..], MAX_SECTION), Ok(sent));
    }

    #[test]
    fn any_huffman_coded_string_is_one_of_this_side_or_refused(bytes in common::noise(12)) {
        let line = [vec![0x21, b'a', 0x80 | bytes.len() as u8], bytes.clone()].concat();
        // Values that are no UTF-8 are told as text of another encoding: they do not come back byte for byte.
        if let Ok(fields) = response(&line)
            && fields.iter().all(|(_, value)| value.is_ascii())
        {
            let sent = encoded(|out| Response::new(200, fields).encode_frame(out));
            prop_assert!(sent.ends_with(&bytes));
        }
    }

    #[test]
    fn any_section_is_a_message_or_an_error(bytes in common::noise(80), limit in 0u64..400) {
        let bytes = [vec![0, 0], bytes].concat();
        let _ = (Request::decode(&bytes, limit), Response::decode(&bytes, limit));
    }

    #[test]
    fn any_damage_to_a_request_is_a_message_or_an_error(
        place in 0usize..200, value: u8, end in 0usize..200,
    ) {
        let frame = encoded(|out| request(Dialect::D02).encode_frame(out));
        let mut bytes = frame[3..].to_vec();
        let length = bytes.len();
        bytes[place % length] = value;
        bytes.truncate(end);
        let _ = (Request::decode(&bytes, MAX_SECTION), Response::decode(&bytes, MAX_SECTION));
    }

    #[test]
    fn prefixes_other_than_zero_never_pass(count in 1u64..1 << 20) {
        let bytes = [varint(count), vec![0, 0xd9]].concat();
        prop_assume!(bytes[0] != 0);
        prop_assert!(matches!(Response::decode(&bytes, MAX_SECTION), Err(Error::Connection(_))));
    }
}
