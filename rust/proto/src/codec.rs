//! The one file that names outside codec crates: varints of `h3`, field sections of `qpack`.
//!
//! Nothing of their types leaves this file, so either can be replaced here.

use bytes::BytesMut;
use h3::proto::varint::VarInt;
use qpack::{DecoderError, HeaderField, decode_stateless, encode_stateless};

use crate::error::{Error, StreamError};
use crate::error_code::Code;
use crate::field_section::undecodable;

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

/// Reads the lines of a field section, see `field_section`.
pub(crate) fn decode_fields(section: &[u8], max_size: u64) -> Result<Vec<Field>, Error> {
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

/// Encodes a field section of one field whose name is empty, so that its value is a literal.
pub(crate) fn encode_value(value: &[u8]) -> BytesMut {
    let mut section = BytesMut::new();
    let written = encode_stateless(&mut section, [HeaderField::new(Vec::new(), value)]);
    debug_assert!(written.is_ok(), "{written:?}");
    section
}
