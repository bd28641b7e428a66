//! QUIC variable-length integers (RFC 9000 section 16).

use bytes::{Buf, Bytes, BytesMut};

use crate::codec;

/// Decodes the integer at the start of `buf`: its value and the bytes it took, or `None` when bytes are missing.
///
/// Non-minimal encodings are accepted: RFC 9000 section 16 demands the shortest form for QUIC frame types only.
pub fn decode(buf: &[u8]) -> Option<(u64, usize)> {
    codec::decode_varint(buf)
}

/// Appends the shortest encoding of `value`.
///
/// A value above [`MAX`] is a mistake of the caller: it trips an assertion in debug builds and is clamped otherwise.
pub fn encode(value: u64, out: &mut BytesMut) {
    debug_assert!(value <= MAX, "{value:#x} does not fit into a varint");
    codec::encode_varint(value.min(MAX), out);
}

/// The length of the shortest encoding of `value`.
pub fn len(value: u64) -> usize {
    codec::varint_len(value.min(MAX))
}

/// The largest value: 2^62 - 1.
pub const MAX: u64 = (1 << 62) - 1;

/// Decodes a payload that is exactly one integer.
pub(crate) fn decode_exact(payload: &[u8]) -> Option<u64> {
    match decode(payload) {
        Some((value, used)) if used == payload.len() => Some(value),
        _ => None,
    }
}

/// An integer that arrives in pieces. Holds at most eight bytes and copies each input byte once.
#[derive(Clone, Debug, Default)]
pub(crate) struct Partial {
    bytes: [u8; 8],
    filled: usize,
}

impl Partial {
    /// Takes bytes from the front of `input`; the value once it is complete. Then starts afresh.
    pub(crate) fn read(&mut self, input: &mut Bytes) -> Option<u64> {
        // The top two bits of the first byte give the length: 1, 2, 4 or 8.
        let first = if self.filled > 0 {
            self.bytes[0]
        } else {
            *input.first()?
        };
        let wanted = 1usize << (first >> 6);
        let take = (wanted - self.filled).min(input.len());
        input.copy_to_slice(&mut self.bytes[self.filled..self.filled + take]);
        self.filled += take;
        if self.filled < wanted {
            return None;
        }
        self.filled = 0;
        decode(&self.bytes[..wanted]).map(|(value, _)| value)
    }

    /// The bytes of an unfinished integer.
    pub(crate) fn pending(&self) -> &[u8] {
        &self.bytes[..self.filled]
    }
}
