//! The first bytes of streams.

mod common;

use bytes::Bytes;
use common::{bytewise, cut, encoded, hex, varint};
use proptest::prelude::*;
use wt_proto::error::ConnectionError;
use wt_proto::error_code::Code;
use wt_proto::settings::Settings;
use wt_proto::stream_header::{self, BiHeaderParser, BiStream, UniHeaderParser, UniStream};

/// Feeds the pieces; what lies behind the header comes from the parser and from later pieces.
fn read<T>(
    pieces: Vec<Bytes>,
    mut push: impl FnMut(Bytes) -> Result<Option<(T, Bytes)>, ConnectionError>,
) -> Result<Option<(T, Vec<u8>)>, ConnectionError> {
    let mut found: Option<(T, Vec<u8>)> = None;
    for piece in pieces {
        match &mut found {
            Some((_, rest)) => rest.extend_from_slice(&piece),
            None => found = push(piece)?.map(|(stream, rest)| (stream, rest.to_vec())),
        }
    }
    Ok(found)
}

fn read_uni(pieces: Vec<Bytes>) -> Result<Option<(UniStream, Vec<u8>)>, ConnectionError> {
    let mut parser = UniHeaderParser::new();
    read(pieces, |chunk| parser.push(chunk))
}

fn read_bi(pieces: Vec<Bytes>) -> Result<Option<(BiStream, Vec<u8>)>, ConnectionError> {
    let mut parser = BiHeaderParser::new();
    read(pieces, |chunk| parser.push(chunk))
}

#[test]
fn the_headers_of_the_vectors() {
    assert_eq!(encoded(|out| stream_header::encode_uni_header(4, out)), hex("40 54 04"));
    assert_eq!(encoded(|out| stream_header::encode_bi_header(0, out)), hex("40 41 00"));
}

#[test]
fn the_control_stream_starts_with_settings() {
    let mut settings = Settings::default();
    settings.set(0x33, 1);
    assert_eq!(
        encoded(|out| stream_header::encode_control_preface(&settings, out)),
        hex("00 04 02 33 01")
    );
}

#[test]
fn kinds_of_unidirectional_streams() {
    for (bytes, stream) in [
        ("00", UniStream::Control),
        ("01", UniStream::Push),
        ("02", UniStream::QpackEncoder),
        ("03", UniStream::QpackDecoder),
        ("21", UniStream::Unknown(0x21)),
        ("80 00 00 00", UniStream::Control),
        ("40 54 40 04", UniStream::WebTransport { session: 4 }),
    ] {
        let all = [hex(bytes), b"body".to_vec()].concat();
        let expected = Ok(Some((stream, b"body".to_vec())));
        assert_eq!(read_uni(vec![all.clone().into()]), expected);
        assert_eq!(read_uni(bytewise(&all)), expected);
    }
}

#[test]
fn a_request_keeps_all_its_bytes() {
    for bytes in ["01 02 03 04", "40 01 00 00", "c0 00 00 00 00 00 00 01 00"] {
        let bytes = hex(bytes);
        let expected = Ok(Some((BiStream::Request, bytes.clone())));
        assert_eq!(read_bi(vec![bytes.clone().into()]), expected);
        assert_eq!(read_bi(bytewise(&bytes)), expected);
    }
}

#[test]
fn a_webtransport_signal_may_be_encoded_long() {
    let bytes = hex("80 00 00 41 80 00 00 08 ff");
    assert_eq!(
        read_bi(bytewise(&bytes)),
        Ok(Some((BiStream::WebTransport { session: 8 }, vec![0xff])))
    );
}

#[test]
fn a_session_that_no_client_can_have_ends_the_connection() {
    for session in ["01", "02", "03", "7f ff"] {
        let uni = read_uni(vec![hex(&format!("40 54 {session}")).into()]);
        let bi = read_bi(vec![hex(&format!("40 41 {session}")).into()]);
        assert_eq!(uni.expect_err("bad id").code, Code::H3_ID_ERROR);
        assert_eq!(bi.expect_err("bad id").code, Code::H3_ID_ERROR);
    }
}

#[test]
fn a_silent_stream_stays_undecided() {
    assert_eq!(read_uni(vec![]), Ok(None));
    assert_eq!(read_uni(bytewise(&hex("40"))), Ok(None));
    assert_eq!(read_uni(bytewise(&hex("40 54"))), Ok(None));
    assert_eq!(read_bi(bytewise(&hex("40 41 c0 00"))), Ok(None));
}

fn bytes() -> impl Strategy<Value = Vec<u8>> {
    let kind = prop_oneof![Just(0x41u64), Just(0x54), 0u64..5, 0u64..1 << 62];
    prop_oneof![
        common::noise(24),
        (kind, 0u64..1 << 62, common::noise(10)).prop_map(|(kind, session, body)| [
            varint(kind),
            varint(session & !3),
            body
        ]
        .concat()),
    ]
}

proptest! {
    #[test]
    fn any_cut_of_a_unidirectional_stream_is_read_alike(bytes in bytes(), cuts in common::cuts()) {
        let whole = read_uni(vec![bytes.clone().into()]);
        prop_assert_eq!(&read_uni(cut(&bytes, &cuts)), &whole);
        prop_assert_eq!(&read_uni(bytewise(&bytes)), &whole);
    }

    #[test]
    fn any_cut_of_a_bidirectional_stream_is_read_alike(bytes in bytes(), cuts in common::cuts()) {
        let whole = read_bi(vec![bytes.clone().into()]);
        prop_assert_eq!(&read_bi(cut(&bytes, &cuts)), &whole);
        prop_assert_eq!(&read_bi(bytewise(&bytes)), &whole);
    }
}
