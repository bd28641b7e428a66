//! What the tests share: bytes, cuts, and messages.
#![allow(dead_code, reason = "each test file uses its part")]

use bytes::{Bytes, BytesMut};
use proptest::prelude::*;
use wt_proto::dialect::Dialect;
use wt_proto::headers::{ConnectRequest, HeaderList};
use wt_proto::session::{Session, SessionEvent, Transmit};

/// Bytes from hex digits with spaces.
pub(crate) fn hex(text: &str) -> Vec<u8> {
    text.split_whitespace()
        .map(|byte| u8::from_str_radix(byte, 16).expect("two hex digits"))
        .collect()
}

/// What an encoder appends.
pub(crate) fn encoded(encode: impl FnOnce(&mut BytesMut)) -> Vec<u8> {
    let mut out = BytesMut::new();
    encode(&mut out);
    out.to_vec()
}

/// Cuts `bytes` at the given places (taken modulo the length); empty pieces included.
pub(crate) fn cut(bytes: &[u8], cuts: &[usize]) -> Vec<Bytes> {
    let mut places: Vec<usize> = cuts.iter().map(|place| place % (bytes.len() + 1)).collect();
    places.extend([0, bytes.len()]);
    places.sort_unstable();
    places
        .windows(2)
        .map(|pair| Bytes::copy_from_slice(&bytes[pair[0]..pair[1]]))
        .collect()
}

/// One piece per byte.
pub(crate) fn bytewise(bytes: &[u8]) -> Vec<Bytes> {
    bytes.chunks(1).map(Bytes::copy_from_slice).collect()
}

/// Places to cut at.
pub(crate) fn cuts() -> impl Strategy<Value = Vec<usize>> {
    proptest::collection::vec(0usize..2000, 0..12)
}

/// Arbitrary bytes.
pub(crate) fn noise(max: usize) -> impl Strategy<Value = Vec<u8>> {
    proptest::collection::vec(any::<u8>(), 0..max)
}

pub(crate) fn varint(value: u64) -> Vec<u8> {
    encoded(|out| wt_proto::varint::encode(value, out))
}

/// Type, length, payload.
pub(crate) fn tlv(kind: u64, payload: &[u8]) -> Vec<u8> {
    [varint(kind), varint(payload.len() as u64), payload.to_vec()].concat()
}

/// A DATA frame.
pub(crate) fn data(payload: &[u8]) -> Vec<u8> {
    tlv(0x00, payload)
}

pub(crate) fn request(dialect: Dialect) -> ConnectRequest {
    ConnectRequest::new(
        dialect,
        "example.org",
        "/chat?room=1",
        headers(&[("origin", "https://example.org")]),
    )
}

pub(crate) fn headers(fields: &[(&str, &str)]) -> HeaderList {
    fields
        .iter()
        .map(|(name, value)| (name.to_string(), value.to_string()))
        .collect()
}

pub(crate) fn events(session: &mut Session) -> Vec<SessionEvent> {
    std::iter::from_fn(|| session.poll_event()).collect()
}

pub(crate) fn transmits(session: &mut Session) -> Vec<Transmit> {
    std::iter::from_fn(|| session.poll_transmit()).collect()
}

/// The limit that tests give for field sections.
pub(crate) const MAX_SECTION: u64 = 65536;
