//! HTTP datagrams.

mod common;

use bytes::Bytes;
use common::{encoded, hex, varint};
use proptest::prelude::*;
use wt_proto::datagram;
use wt_proto::error_code::Code;

#[test]
fn the_prefixes_of_the_vectors() {
    for (session, bytes) in [(0, "00"), (4, "01"), (252, "3f"), (256, "40 40")] {
        assert_eq!(encoded(|out| datagram::encode_prefix(session, out)), hex(bytes));
        assert_eq!(datagram::prefix_len(session), hex(bytes).len());
    }
}

#[test]
fn an_empty_payload_is_a_datagram() {
    assert_eq!(datagram::decode(Bytes::from_static(b"\x01")), Ok((4, Bytes::new())));
}

#[test]
fn a_datagram_without_a_whole_id_ends_the_connection() {
    for bytes in ["", "40", "c0 00 00"] {
        let error = datagram::decode(hex(bytes).into()).expect_err("too short");
        assert_eq!(error.code, Code::H3_DATAGRAM_ERROR);
    }
}

#[test]
fn an_id_above_the_largest_stream_ends_the_connection() {
    let largest = (1 << 60) - 1;
    assert_eq!(
        datagram::decode(varint(largest).into()),
        Ok((largest * 4, Bytes::new()))
    );
    let error = datagram::decode(varint(largest + 1).into()).expect_err("impossible id");
    assert_eq!(error.code, Code::H3_DATAGRAM_ERROR);
}

proptest! {
    #[test]
    fn what_is_encoded_is_decoded(quarter in 0u64..1 << 60, payload in common::noise(40)) {
        let mut bytes = encoded(|out| datagram::encode_prefix(quarter * 4, out));
        prop_assert_eq!(bytes.len(), datagram::prefix_len(quarter * 4));
        bytes.extend(&payload);
        prop_assert_eq!(datagram::decode(bytes.into()), Ok((quarter * 4, payload.into())));
    }

    #[test]
    fn any_bytes_are_a_datagram_or_an_error(bytes in common::noise(20)) {
        if let Ok((session, payload)) = datagram::decode(bytes.clone().into()) {
            prop_assert_eq!(session % 4, 0);
            prop_assert!(bytes.ends_with(&payload));
        }
    }
}
