//! Encoded field sections (RFC 9204 section 4.5), without a dynamic table.
//!
//! The codec crate reads the lines. It does not tell an integer that is too large from other faults, takes any Required
//! Insert Count, and does not check the padding behind a Huffman-coded string. So the lines are walked here as well.

use crate::codec::{self, Field};
use crate::error::{ConnectionError, Error, StreamError};
use crate::error_code::Code;

/// Decodes a field section of at most `max_size` bytes, counted as RFC 9114 section 4.2.2 does: name, value and 32
/// for each field.
///
/// # Errors
///
/// QPACK_DECOMPRESSION_FAILED for the connection (RFC 9204 2.2), or for the stream when an integer is larger than what is
/// read here (7.4); H3_EXCESSIVE_LOAD for the stream when the section is too large.
pub(crate) fn decode(section: &[u8], max_size: u64) -> Result<Vec<Field>, Error> {
    let lines = Lines(after_prefix(section)?);
    for line in lines.clone() {
        line?;
    }
    let fields = codec::decode_fields(section, max_size)?;
    for (line, (name, value)) in lines.zip(&fields) {
        let line = line?;
        check_padding(line.name, name)?;
        check_padding(line.value, value)?;
    }
    Ok(fields)
}

/// Checks the two integers in front of the lines and gives the lines.
///
/// RFC 9204 4.5.1.1: a Required Insert Count that cannot be is a decompression failure; at capacity 0 only 0 can be,
/// and 0 is the byte 0x00. 4.5.1.2: a Sign bit of 1 is invalid when the count is not above Delta Base, so never valid;
/// without references any other Delta Base is as good as 0.
fn after_prefix(section: &[u8]) -> Result<&[u8], Error> {
    match section {
        [0, base, ..] if base & 0x80 == 0 => {
            let mut rest = &section[1..];
            integer(&mut rest, 7)?;
            Ok(rest)
        }
        [0, _, ..] => Err(undecodable("negative base in a field section")),
        [_, _, ..] => Err(undecodable(
            "field section refers to a dynamic table that does not exist",
        )),
        _ => Err(undecodable("field section ends in its prefix")),
    }
}

/// One line: those of its strings that are Huffman-coded.
#[derive(Default)]
struct Line<'a> {
    name: Option<&'a [u8]>,
    value: Option<&'a [u8]>,
}

/// The lines of a field section by their layout alone.
#[derive(Clone)]
struct Lines<'a>(&'a [u8]);

impl<'a> Iterator for Lines<'a> {
    type Item = Result<Line<'a>, Error>;

    fn next(&mut self) -> Option<Self::Item> {
        let first = *self.0.first()?;
        Some(read_line(first, &mut self.0))
    }
}

/// RFC 9204 4.5.2 to 4.5.6, told apart by their first bits.
fn read_line<'a>(first: u8, rest: &mut &'a [u8]) -> Result<Line<'a>, Error> {
    let mut line = Line::default();
    match first {
        // Indexed, and indexed behind the base.
        0x80.. => integer(rest, 6).map(drop)?,
        0x10..0x20 => integer(rest, 4).map(drop)?,
        // A literal with a name of its own, and with the name of an entry.
        0x20..0x40 => {
            line.name = string(rest, 3)?;
            line.value = string(rest, 7)?;
        }
        0x40..0x80 => {
            integer(rest, 4)?;
            line.value = string(rest, 7)?;
        }
        // With the name of an entry behind the base.
        _ => {
            integer(rest, 3)?;
            line.value = string(rest, 7)?;
        }
    }
    Ok(line)
}

/// Reads a string literal whose length has a prefix of `bits`, and before that the bit H; the string if H is set.
fn string<'a>(rest: &mut &'a [u8], bits: u32) -> Result<Option<&'a [u8]>, Error> {
    let huffman = rest.first().is_some_and(|first| first >> bits & 1 == 1);
    let length = usize::try_from(integer(rest, bits)?).unwrap_or(usize::MAX);
    let Some((string, others)) = rest.split_at_checked(length) else {
        return Err(undecodable("field section ends inside a string"));
    };
    *rest = others;
    Ok(huffman.then_some(string))
}

/// Reads an integer with a prefix of `bits` (RFC 7541 section 5.1).
fn integer(rest: &mut &[u8], bits: u32) -> Result<u64, Error> {
    let mut next = || match rest.split_first() {
        Some((first, others)) => {
            *rest = others;
            Ok(*first)
        }
        None => Err(undecodable("field section ends inside an integer")),
    };
    let prefix = (1u8 << bits) - 1;
    let mut value = u64::from(next()? & prefix);
    if value < u64::from(prefix) {
        return Ok(value);
    }
    for shift in (0..LONGEST_INTEGER).map(|group| 7 * group) {
        let byte = next()?;
        value += u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Ok(value);
        }
    }
    Err(StreamError {
        code: Code::QPACK_DECOMPRESSION_FAILED,
        reason: "integer of more than 63 bits in a field section",
    }
    .into())
}

/// RFC 7541 5.2: padding of more than seven bits or other than ones, and the code EOS, MUST be errors. A string without
/// is the one that this side writes, which Huffman-codes every string.
fn check_padding(coded: Option<&[u8]>, decoded: &[u8]) -> Result<(), Error> {
    if coded.is_none() {
        return Ok(());
    }
    let own = codec::encode_value(decoded);
    let own = Lines(after_prefix(&own)?).next().transpose()?;
    if own.is_some_and(|line| line.value == coded) {
        Ok(())
    } else {
        Err(undecodable("bad end of a Huffman-coded string"))
    }
}

/// RFC 9204 section 2.2: a field section that cannot be decoded is a connection error.
pub(crate) fn undecodable(reason: &'static str) -> Error {
    ConnectionError {
        code: Code::QPACK_DECOMPRESSION_FAILED,
        reason,
    }
    .into()
}

/// Bytes behind the prefix of an integer, seven bits each. RFC 9204 4.1.1: 62 bits MUST be read, whatever the prefix.
const LONGEST_INTEGER: u32 = 9;
