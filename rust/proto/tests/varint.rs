//! QUIC integers.

mod common;

use common::{encoded, hex};
use proptest::prelude::*;
use wt_proto::varint;

#[test]
fn lengths_change_at_the_borders() {
    for (value, length) in [
        (0, 1),
        (63, 1),
        (64, 2),
        (16383, 2),
        (16384, 4),
        ((1 << 30) - 1, 4),
        (1 << 30, 8),
    ] {
        assert_eq!(varint::len(value), length, "{value}");
        assert_eq!(encoded(|out| varint::encode(value, out)).len(), length, "{value}");
    }
    assert_eq!(encoded(|out| varint::encode(varint::MAX, out)), [0xff; 8]);
}

#[test]
fn non_minimal_encodings_are_accepted() {
    for bytes in ["00", "40 00", "80 00 00 00", "c0 00 00 00 00 00 00 00"] {
        let bytes = hex(bytes);
        assert_eq!(varint::decode(&bytes), Some((0, bytes.len())));
    }
    assert_eq!(varint::decode(&hex("80 00 00 41 ff")), Some((0x41, 4)));
}

#[test]
fn missing_bytes_are_reported_as_such() {
    assert_eq!(varint::decode(&[]), None);
    assert_eq!(varint::decode(&hex("40")), None);
    assert_eq!(varint::decode(&hex("80 00 00")), None);
    assert_eq!(varint::decode(&hex("c0 00 00 00 00 00 00")), None);
}

proptest! {
    #[test]
    fn every_value_comes_back(value in 0..=varint::MAX, tail in common::noise(4)) {
        let mut bytes = encoded(|out| varint::encode(value, out));
        let length = bytes.len();
        prop_assert_eq!(length, varint::len(value));
        bytes.extend(tail);
        prop_assert_eq!(varint::decode(&bytes), Some((value, length)));
        for end in 0..length {
            prop_assert_eq!(varint::decode(&bytes[..end]), None);
        }
    }

    #[test]
    fn any_bytes_are_a_value_or_too_few(bytes in common::noise(12)) {
        match varint::decode(&bytes) {
            Some((value, used)) => prop_assert!(value <= varint::MAX && used <= bytes.len()),
            None => prop_assert!(bytes.len() < 8),
        }
    }
}
