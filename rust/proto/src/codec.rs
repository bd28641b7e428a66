//! The one file that names outside codec crates: varints of `h3`, field sections of `qpack`.
//!
//! Nothing of their types leaves this file, so either can be replaced here.

use bytes::BytesMut;
use h3::proto::varint::VarInt;
use qpack::{DecoderError, HeaderField, decode_stateless, encode_stateless};

use crate::error::{ConnectionError, Error, StreamError};
use crate::error_code::Code;

/// A decoded field line: name and value as they came.
pub(crate) type Field = (Vec<u8>, Vec<u8>);

pub(crate) fn decode_varint(mut buf: &[u8]) -> Option<(u64, usize)> {
    let before = buf.len();
    let value = VarInt::decode(&mut buf).ok()?;
    Some((value.into_inner(), before - buf.len()))
}

/// `value` is below 2^62: the caller's duty, see `varint::encode`.
pub(crate) fn encode_varint(value: u64, out: &mut BytesMut) {
    VarInt::from_u64(value).unwrap_or(VarInt::MAX).encode(out);
}

pub(crate) fn varint_len(value: u64) -> usize {
    VarInt::from_u64(value).unwrap_or(VarInt::MAX).size()
}

/// Encodes a field section with the static table alone.
pub(crate) fn encode_fields<'a>(fields: impl Iterator<Item = (&'a str, &'a str)>) -> BytesMut {
    let mut section = BytesMut::new();
    let written = encode_stateless(&mut section, fields.map(HeaderField::from));
    // Every byte has a Huffman code and every length fits, so the encoder has nothing to object to.
    debug_assert!(written.is_ok(), "{written:?}");
    section
}

/// Decodes a field section of at most `max_size` bytes, counted as RFC 9114 section 4.2.2 does: name, value and 32
/// for each field.
pub(crate) fn decode_fields(section: &[u8], max_size: u64) -> Result<Vec<Field>, Error> {
    check_prefix(section)?;
    let mut buf = section;
    match decode_stateless(&mut buf, max_size) {
        Ok(decoded) => Ok(decoded
            .fields
            .into_iter()
            .map(|field| {
                let (name, value) = field.into_inner();
                (name.into_owned(), value.into_owned())
            })
            .collect()),
        // RFC 9114 4.2.2: the limit is advisory to the peer; this message alone is refused.
        Err(DecoderError::HeaderTooLong(_)) => Err(StreamError {
            code: Code::H3_EXCESSIVE_LOAD,
            reason: "field section larger than the announced limit",
        }
        .into()),
        Err(_) => Err(undecodable("field section cannot be decoded")),
    }
}

/// Checks the two integers in front of a field section: the crate accepts any at capacity 0.
///
/// RFC 9204 4.5.1.1: a Required Insert Count that cannot be is a decompression failure; at capacity 0 only 0 can be,
/// and 0 is the byte 0x00. 4.5.1.2: a Sign bit of 1 is invalid when the count is not above Delta Base, so never valid.
fn check_prefix(section: &[u8]) -> Result<(), Error> {
    match section {
        [0, base, ..] if base & 0x80 == 0 => Ok(()),
        [0, _, ..] => Err(undecodable("negative base in a field section")),
        [_, _, ..] => Err(undecodable(
            "field section refers to a dynamic table that does not exist",
        )),
        _ => Err(undecodable("field section ends in its prefix")),
    }
}

/// RFC 9204 section 2.2: a field section that cannot be decoded is a connection error.
fn undecodable(reason: &'static str) -> Error {
    ConnectionError {
        code: Code::QPACK_DECOMPRESSION_FAILED,
        reason,
    }
    .into()
}
