//! Capsules.

mod common;

use bytes::Bytes;
use common::{bytewise, cut, encoded, hex, tlv, varint};
use proptest::prelude::*;
use wt_proto::capsule::{self, Capsule, CapsuleParser};
use wt_proto::error::StreamError;
use wt_proto::error_code::Code;

/// All capsules, then the error or the end.
fn read(pieces: Vec<Bytes>) -> (Vec<Capsule>, Result<(), StreamError>) {
    let mut parser = CapsuleParser::new(true);
    let mut capsules = Vec::new();
    for piece in pieces {
        parser.push(piece);
        loop {
            match parser.next() {
                Ok(Some(capsule)) => capsules.push(capsule),
                Ok(None) => break,
                Err(error) => {
                    assert_eq!(parser.next(), Err(error), "an error stays");
                    return (capsules, Err(error));
                }
            }
        }
    }
    (capsules, parser.finish())
}

fn whole(bytes: &[u8]) -> (Vec<Capsule>, Result<(), StreamError>) {
    read(vec![Bytes::copy_from_slice(bytes)])
}

fn assert_malformed(bytes: &[u8]) {
    let error = whole(bytes).1.expect_err("must be refused");
    assert_eq!(error.code, Code::H3_MESSAGE_ERROR, "{bytes:02x?}");
}

fn close(code: u32, reason: &str) -> Capsule {
    Capsule::Close {
        code,
        reason: reason.to_owned(),
    }
}

#[test]
fn the_capsules_of_the_vectors() {
    for (capsule, bytes) in [
        (close(0, ""), "68 43 04 00 00 00 00"),
        (close(7, "bye"), "68 43 07 00 00 00 07 62 79 65"),
        (Capsule::Drain, "80 00 78 ae 00"),
        (Capsule::MaxData(65536), "99 0b 4d 3d 04 80 01 00 00"),
        (Capsule::MaxStreams { bidi: true, limit: 100 }, "99 0b 4d 3f 02 40 64"),
        (
            Capsule::MaxStreams {
                bidi: false,
                limit: 100,
            },
            "99 0b 4d 40 02 40 64",
        ),
        (Capsule::DataBlocked(5), "99 0b 4d 41 01 05"),
        (Capsule::StreamsBlocked { bidi: true, limit: 5 }, "99 0b 4d 43 01 05"),
        (Capsule::StreamsBlocked { bidi: false, limit: 5 }, "99 0b 4d 44 01 05"),
        (Capsule::Datagram(Bytes::from_static(b"ab")), "00 02 61 62"),
    ] {
        assert_eq!(encoded(|out| capsule.encode(out)), hex(bytes));
        assert_eq!(whole(&hex(bytes)), (vec![capsule.clone()], Ok(())));
        assert_eq!(read(bytewise(&hex(bytes))), (vec![capsule], Ok(())));
    }
}

#[test]
fn non_minimal_integers_are_accepted() {
    assert_eq!(whole(&hex("80 00 28 43 40 04 00 00 00 09")).0, [close(9, "")]);
    assert_eq!(
        whole(&hex("99 0b 4d 3d 08 c0 00 00 00 00 00 00 07")).0,
        [Capsule::MaxData(7)]
    );
}

#[test]
fn unknown_capsules_are_skipped_silently() {
    let grease = tlv(0x29 * 3 + 0x17, &[0xaa; 300]);
    let old = tlv(0xff37a2, &[]);
    let bytes = [grease.clone(), old, hex("80 00 78 ae 00"), grease].concat();
    assert_eq!(whole(&bytes), (vec![Capsule::Drain], Ok(())));
}

#[test]
fn flow_control_of_single_streams_is_prohibited() {
    for kind in [0x190b_4d3e, 0x190b_4d42] {
        let error = whole(&tlv(kind, &varint(7))).1.expect_err("must be refused");
        assert_eq!(error.code, Code::WT_FLOW_CONTROL_ERROR);
    }
}

#[test]
fn without_flow_control_its_capsules_are_skipped_whatever_they_hold() {
    let mut parser = CapsuleParser::new(false);
    for kind in 0x190b_4d3d..=0x190b_4d44 {
        parser.push(tlv(kind, &[0xff; 100]).into());
        assert_eq!(parser.next(), Ok(None), "{kind:#x}");
    }
    assert_eq!(parser.finish(), Ok(()));
}

#[test]
fn a_huge_unknown_capsule_is_skipped_without_waiting_for_it() {
    let mut parser = CapsuleParser::new(true);
    parser.push([varint(0x1234), varint((1 << 62) - 1)].concat().into());
    for _ in 0..1000 {
        parser.push(Bytes::from_static(&[0; 1000]));
        assert_eq!(parser.next(), Ok(None));
    }
    assert!(parser.finish().is_err());
}

#[test]
fn a_datagram_that_cannot_be_one_is_dropped() {
    let bytes = [tlv(0x00, &vec![1; 65536]), tlv(0x00, &[2])].concat();
    assert_eq!(
        whole(&bytes),
        (vec![Capsule::Datagram(Bytes::from_static(&[2]))], Ok(()))
    );
}

#[test]
fn close_has_a_code_and_at_most_1024_bytes_of_text() {
    assert_malformed(&tlv(0x2843, &[]));
    assert_malformed(&tlv(0x2843, &[0; 3]));
    let longest = [vec![0; 4], vec![b'x'; 1024]].concat();
    assert_eq!(whole(&tlv(0x2843, &longest)).0, [close(0, &"x".repeat(1024))]);
    assert_malformed(&[varint(0x2843), varint(1029)].concat());
}

#[test]
fn close_text_is_utf8() {
    assert_malformed(&tlv(0x2843, &[0, 0, 0, 0, 0xff]));
    assert_malformed(&tlv(0x2843, &[0, 0, 0, 0, 0xe2, 0x82]));
}

#[test]
fn nothing_follows_close() {
    let bytes = [hex("68 43 04 00 00 00 00"), vec![0]].concat();
    let (capsules, end) = whole(&bytes);
    assert_eq!(capsules, [close(0, "")]);
    assert_eq!(end.expect_err("a byte too many").code, Code::H3_MESSAGE_ERROR);
}

#[test]
fn drain_is_empty() {
    assert_malformed(&tlv(0x78ae, &[0]));
}

#[test]
fn limits_are_exactly_one_integer() {
    for kind in [
        0x190b_4d3d,
        0x190b_4d3f,
        0x190b_4d40,
        0x190b_4d41,
        0x190b_4d43,
        0x190b_4d44,
    ] {
        assert_malformed(&tlv(kind, &[]));
        assert_malformed(&tlv(kind, &[0x40]));
        assert_malformed(&tlv(kind, &[0, 0]));
        assert_malformed(&[varint(kind), varint(9)].concat());
    }
}

#[test]
fn a_fin_inside_a_capsule_is_malformed() {
    for bytes in ["68", "68 43", "68 43 04", "68 43 04 00 00 00", "00 05 00"] {
        assert_malformed(&hex(bytes));
    }
}

#[test]
fn a_long_reason_is_cut_between_two_characters() {
    assert_eq!(capsule::truncate_reason("short"), "short");
    assert_eq!(capsule::truncate_reason(&"x".repeat(2000)).len(), 1024);
    // Three bytes each: 341 of them are 1023 bytes.
    assert_eq!(capsule::truncate_reason(&"€".repeat(400)), "€".repeat(341));
    let bytes = encoded(|out| capsule::encode_close(1, &"€".repeat(400), out));
    assert_eq!(whole(&bytes).0, [close(1, &"€".repeat(341))]);
}

fn known() -> impl Strategy<Value = Capsule> {
    let limit = 0u64..1 << 62;
    prop_oneof![
        (any::<u32>(), ".{0,40}").prop_map(|(code, reason)| Capsule::Close { code, reason }),
        Just(Capsule::Drain),
        limit.clone().prop_map(Capsule::MaxData),
        (any::<bool>(), limit.clone()).prop_map(|(bidi, limit)| Capsule::MaxStreams { bidi, limit }),
        limit.clone().prop_map(Capsule::DataBlocked),
        (any::<bool>(), limit).prop_map(|(bidi, limit)| Capsule::StreamsBlocked { bidi, limit }),
        common::noise(30).prop_map(|payload| Capsule::Datagram(payload.into())),
    ]
}

fn bytes() -> impl Strategy<Value = Vec<u8>> {
    let known = known().prop_map(|capsule| encoded(|out| capsule.encode(out)));
    let unknown = (0u64..1 << 30, common::noise(30)).prop_map(|(kind, payload)| tlv(kind, &payload));
    let capsules = proptest::collection::vec(prop_oneof![3 => known, 1 => unknown], 0..8);
    (capsules, common::noise(16)).prop_map(|(capsules, tail)| [capsules.concat(), tail].concat())
}

proptest! {
    #[test]
    fn what_is_encoded_is_decoded(capsule in known()) {
        prop_assert_eq!(whole(&encoded(|out| capsule.encode(out))), (vec![capsule], Ok(())));
    }

    #[test]
    fn any_cut_is_read_alike(bytes in bytes(), cuts in common::cuts()) {
        let expected = whole(&bytes);
        prop_assert_eq!(&read(cut(&bytes, &cuts)), &expected);
        prop_assert_eq!(&read(bytewise(&bytes)), &expected);
    }

    #[test]
    fn any_reason_is_cut_to_valid_text(reason in "\\PC{0,600}") {
        let cut = capsule::truncate_reason(&reason);
        prop_assert!(cut.len() <= 1024 && reason.starts_with(cut));
        prop_assert!(cut.len() == reason.len() || cut.len() > 1020);
    }
}
