//! HTTP datagrams in QUIC DATAGRAM frames: the quarter stream id, then the payload (RFC 9297 section 2.1).

use bytes::{Buf, Bytes, BytesMut};

use crate::error::ConnectionError;
use crate::error_code::Code;
use crate::varint;

/// Appends what stands in front of a payload of `session`.
pub fn encode_prefix(session: u64, out: &mut BytesMut) {
    varint::encode(session / 4, out);
}

/// The length of that prefix. The largest payload is the largest QUIC datagram minus this.
pub fn prefix_len(session: u64) -> usize {
    varint::len(session / 4)
}

/// Splits a QUIC datagram into session id and payload.
///
/// # Errors
///
/// RFC 9297 2.1: a datagram too short for its id, or an id above 2^60 - 1, MUST be H3_DATAGRAM_ERROR.
pub fn decode(mut datagram: Bytes) -> Result<(u64, Bytes), ConnectionError> {
    let (quarter, used) = varint::decode(&datagram).ok_or(ConnectionError {
        code: Code::H3_DATAGRAM_ERROR,
        reason: "datagram ends inside its stream id",
    })?;
    if quarter > MAX_QUARTER {
        return Err(ConnectionError {
            code: Code::H3_DATAGRAM_ERROR,
            reason: "datagram with an impossible stream id",
        });
    }
    datagram.advance(used);
    Ok((quarter * 4, datagram))
}

/// Stream ids end at 2^62 - 1, so their quarters at 2^60 - 1.
const MAX_QUARTER: u64 = (1 << 60) - 1;
