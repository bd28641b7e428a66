//! The context of the keying-material exporter.

mod common;

use std::collections::HashSet;

use common::hex;
use proptest::prelude::*;
use wt_proto::exporter::{InvalidExporter, LABEL, MAX_LENGTH, encode_context};

#[test]
fn the_structs_of_the_vectors() {
    for (session, label, context, bytes) in [
        (4, "x", "", "00 00 00 00 00 00 00 04 01 78 00"),
        (0, "ab", "cde", "00 00 00 00 00 00 00 00 02 61 62 03 63 64 65"),
        ((1 << 62) - 4, "x", "x", "3f ff ff ff ff ff ff fc 01 78 01 78"),
    ] {
        let encoded = encode_context(session, label.as_bytes(), context.as_bytes(), 32);
        assert_eq!(encoded.map(|bytes| bytes.to_vec()), Ok(hex(bytes)));
    }
    assert_eq!(LABEL, b"EXPORTER-WebTransport");
}

#[test]
fn lengths_end_at_one_byte_and_at_what_tls_derives() {
    let longest = [b'x'; 255];
    let too_long = [b'x'; 256];
    let encoded = encode_context(0, &longest, &longest, MAX_LENGTH).expect("just fits");
    assert_eq!(encoded.len(), 8 + 1 + 255 + 1 + 255);
    assert_eq!((encoded[8], encoded[8 + 1 + 255]), (255, 255));
    assert_eq!(encode_context(0, &too_long, b"", 32), Err(InvalidExporter::Label(256)));
    assert_eq!(encode_context(0, b"", b"", 32), Err(InvalidExporter::Label(0)));
    assert_eq!(
        encode_context(0, b"x", &too_long, 32),
        Err(InvalidExporter::Context(256))
    );
    for length in [0, MAX_LENGTH + 1] {
        assert_eq!(
            encode_context(0, b"x", b"", length),
            Err(InvalidExporter::Length(length))
        );
    }
}

proptest! {
    #[test]
    fn different_questions_have_different_contexts(
        questions in proptest::collection::hash_set(
            (0u64..3, proptest::collection::vec(0u8..2, 1..4), proptest::collection::vec(0u8..2, 0..4)),
            0..40,
        ),
    ) {
        let contexts: HashSet<_> = questions
            .iter()
            .map(|(session, label, context)| encode_context(session * 4, label, context, 32).expect("fits"))
            .collect();
        prop_assert_eq!(contexts.len(), questions.len());
    }
}
