//! Capsules on the CONNECT stream (RFC 9297 section 3), read incrementally from the payload of DATA frames.
//!
//! Unknown capsules are dropped as they arrive. The known ones have a cap each, so no more than one small payload is
//! ever collected.

use bytes::{Buf, BufMut, Bytes, BytesMut};

use crate::error::StreamError;
use crate::error_code::Code;
use crate::tlv::{Payload, Plan, Reader};
use crate::varint;

/// Capsule types.
pub mod kind {
    /// DATAGRAM (RFC 9297).
    pub const DATAGRAM: u64 = 0x00;
    /// WT_CLOSE_SESSION.
    pub const CLOSE: u64 = 0x2843;
    /// WT_DRAIN_SESSION.
    pub const DRAIN: u64 = 0x78ae;
    /// WT_MAX_DATA.
    pub const MAX_DATA: u64 = 0x190b_4d3d;
    /// WT_MAX_STREAM_DATA of WebTransport over HTTP/2: prohibited here.
    pub const MAX_STREAM_DATA: u64 = 0x190b_4d3e;
    /// WT_MAX_STREAMS for bidirectional streams.
    pub const MAX_STREAMS_BIDI: u64 = 0x190b_4d3f;
    /// WT_MAX_STREAMS for unidirectional streams.
    pub const MAX_STREAMS_UNI: u64 = 0x190b_4d40;
    /// WT_DATA_BLOCKED.
    pub const DATA_BLOCKED: u64 = 0x190b_4d41;
    /// WT_STREAM_DATA_BLOCKED of WebTransport over HTTP/2: prohibited here.
    pub const STREAM_DATA_BLOCKED: u64 = 0x190b_4d42;
    /// WT_STREAMS_BLOCKED for bidirectional streams.
    pub const STREAMS_BLOCKED_BIDI: u64 = 0x190b_4d43;
    /// WT_STREAMS_BLOCKED for unidirectional streams.
    pub const STREAMS_BLOCKED_UNI: u64 = 0x190b_4d44;
}

/// A capsule this implementation knows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Capsule {
    /// WT_CLOSE_SESSION.
    Close {
        /// Application error code.
        code: u32,
        /// At most [`MAX_REASON`] bytes.
        reason: String,
    },
    /// WT_DRAIN_SESSION.
    Drain,
    /// WT_MAX_DATA.
    MaxData(u64),
    /// WT_MAX_STREAMS.
    MaxStreams {
        /// Which kind of streams.
        bidi: bool,
        /// Streams over the life of the session.
        limit: u64,
    },
    /// WT_DATA_BLOCKED.
    DataBlocked(u64),
    /// WT_STREAMS_BLOCKED.
    StreamsBlocked {
        /// Which kind of streams.
        bidi: bool,
        /// The limit at which the peer stands.
        limit: u64,
    },
    /// DATAGRAM: the same as a datagram in a QUIC frame (RFC 9297 section 3.5).
    Datagram(Bytes),
}

impl Capsule {
    /// Appends the capsule, without the DATA frame that must enclose it on the wire.
    pub fn encode(&self, out: &mut BytesMut) {
        match self {
            Capsule::Close { code, reason } => encode_close(*code, reason, out),
            Capsule::Drain => encode_drain(out),
            Capsule::MaxData(limit) => encode_limit(kind::MAX_DATA, *limit, out),
            Capsule::MaxStreams { bidi: true, limit } => encode_limit(kind::MAX_STREAMS_BIDI, *limit, out),
            Capsule::MaxStreams { bidi: false, limit } => encode_limit(kind::MAX_STREAMS_UNI, *limit, out),
            Capsule::DataBlocked(limit) => encode_limit(kind::DATA_BLOCKED, *limit, out),
            Capsule::StreamsBlocked { bidi: true, limit } => encode_limit(kind::STREAMS_BLOCKED_BIDI, *limit, out),
            Capsule::StreamsBlocked { bidi: false, limit } => encode_limit(kind::STREAMS_BLOCKED_UNI, *limit, out),
            Capsule::Datagram(payload) => {
                encode_header(kind::DATAGRAM, payload.len(), out);
                out.extend_from_slice(payload);
            }
        }
    }
}

/// Reads the capsules of one session.
///
/// Call [`push`](Self::push) with pieces of DATA payloads, then [`next`](Self::next) until it gives `None`, then
/// [`finish`](Self::finish) at the FIN. After an error the parser stays in it.
#[derive(Debug, Default)]
pub struct CapsuleParser {
    reader: Reader,
    /// Whether the capsules of flow control mean anything.
    flow_control: bool,
    /// WT_CLOSE_SESSION was read: nothing may follow.
    closed: bool,
    failed: Option<StreamError>,
}

impl CapsuleParser {
    /// A parser at the start of the capsule stream. §5.1: without flow control its capsules MUST be ignored.
    pub fn new(flow_control: bool) -> Self {
        CapsuleParser {
            flow_control,
            ..CapsuleParser::default()
        }
    }

    /// Takes a piece of a DATA payload. A capsule may span frames, a frame may hold several capsules.
    pub fn push(&mut self, chunk: Bytes) {
        if self.failed.is_none() {
            self.reader.push(chunk);
        }
    }

    /// The next known capsule, or `None` when more bytes are needed.
    ///
    /// # Errors
    ///
    /// H3_MESSAGE_ERROR for a capsule with a bad layout and for bytes after WT_CLOSE_SESSION; WT_FLOW_CONTROL_ERROR for a
    /// prohibited one.
    #[expect(clippy::should_implement_trait, reason = "it can fail, and `None` is not the end")]
    pub fn next(&mut self) -> Result<Option<Capsule>, StreamError> {
        if let Some(error) = self.failed {
            return Err(error);
        }
        let result = if self.closed && self.reader.has_input() {
            // §6: stream data after WT_CLOSE_SESSION: the stream MUST be reset with H3_MESSAGE_ERROR.
            Err(malformed("bytes after WT_CLOSE_SESSION"))
        } else {
            let flow_control = self.flow_control;
            self.reader
                .next(|kind, length| plan(kind, length, flow_control))
                .and_then(|payload| payload.map(decode).transpose())
        };
        match &result {
            Ok(Some(Capsule::Close { .. })) => self.closed = true,
            Ok(_) => {}
            Err(error) => {
                self.failed = Some(*error);
                self.reader.clear();
            }
        }
        result
    }

    /// The stream ended.
    ///
    /// # Errors
    ///
    /// RFC 9297 3.3: a capsule that is cut off makes the message malformed.
    pub fn finish(&self) -> Result<(), StreamError> {
        match self.failed {
            Some(error) => Err(error),
            None if self.reader.is_between() => Ok(()),
            None => Err(malformed("stream ends inside a capsule")),
        }
    }
}

/// Appends WT_CLOSE_SESSION. The reason is cut as [`truncate_reason`] does.
pub fn encode_close(code: u32, reason: &str, out: &mut BytesMut) {
    let reason = truncate_reason(reason);
    encode_header(kind::CLOSE, 4 + reason.len(), out);
    out.put_u32(code);
    out.extend_from_slice(reason.as_bytes());
}

/// Appends WT_DRAIN_SESSION.
pub fn encode_drain(out: &mut BytesMut) {
    encode_header(kind::DRAIN, 0, out);
}

/// The longest prefix of at most [`MAX_REASON`] bytes that ends between two characters.
pub fn truncate_reason(reason: &str) -> &str {
    let mut end = reason.len().min(MAX_REASON);
    // A character has four bytes at most, so this takes three steps at most. 0 is a boundary.
    while !reason.is_char_boundary(end) {
        end -= 1;
    }
    &reason[..end]
}

/// §6: the message of WT_CLOSE_SESSION MUST NOT exceed 1024 bytes.
pub const MAX_REASON: usize = 1024;

fn encode_header(kind: u64, length: usize, out: &mut BytesMut) {
    varint::encode(kind, out);
    varint::encode(length as u64, out);
}

fn encode_limit(kind: u64, limit: u64, out: &mut BytesMut) {
    encode_header(kind, varint::len(limit), out);
    varint::encode(limit, out);
}

/// Decides about a capsule by its header alone.
fn plan(kind: u64, length: u64, flow_control: bool) -> Result<Plan, StreamError> {
    match kind {
        kind::MAX_DATA..=kind::STREAMS_BLOCKED_UNI if !flow_control => Ok(Plan::Skip),
        // §5.4: these are prohibited over HTTP/3 and MUST be a session error.
        kind::MAX_STREAM_DATA | kind::STREAM_DATA_BLOCKED => Err(StreamError {
            code: Code::WT_FLOW_CONTROL_ERROR,
            reason: "flow control of single streams, which QUIC does",
        }),
        kind::CLOSE if !(4..=4 + MAX_REASON as u64).contains(&length) => {
            // §6: a longer message: the receiver MUST reset with H3_MESSAGE_ERROR.
            Err(malformed("WT_CLOSE_SESSION with a bad length"))
        }
        kind::DRAIN if length != 0 => Err(malformed("WT_DRAIN_SESSION is not empty")),
        kind::MAX_DATA
        | kind::MAX_STREAMS_BIDI
        | kind::MAX_STREAMS_UNI
        | kind::DATA_BLOCKED
        | kind::STREAMS_BLOCKED_BIDI
        | kind::STREAMS_BLOCKED_UNI
            if length > 8 =>
        {
            Err(malformed("flow-control capsule is longer than its limit"))
        }
        // RFC 9297 3.5: a datagram that is too large to be handled may be dropped.
        kind::DATAGRAM if length > MAX_DATAGRAM => Ok(Plan::Skip),
        kind::CLOSE
        | kind::DRAIN
        | kind::DATAGRAM
        | kind::MAX_DATA
        | kind::MAX_STREAMS_BIDI
        | kind::MAX_STREAMS_UNI
        | kind::DATA_BLOCKED
        | kind::STREAMS_BLOCKED_BIDI
        | kind::STREAMS_BLOCKED_UNI => Ok(Plan::Whole),
        // RFC 9297 3.2: unknown capsules MUST be skipped silently.
        _ => Ok(Plan::Skip),
    }
}

/// Decodes a payload that [`plan`] let through.
fn decode(payload: Payload) -> Result<Capsule, StreamError> {
    let Payload { kind, mut bytes } = payload;
    let limit =
        |bytes: &Bytes| varint::decode_exact(bytes).ok_or(malformed("flow-control capsule is not exactly one limit"));
    match kind {
        kind::CLOSE => {
            let code = bytes
                .try_get_u32()
                .map_err(|_| malformed("WT_CLOSE_SESSION without a code"))?;
            // §6: the message is UTF-8; anything else is malformed.
            let reason = std::str::from_utf8(&bytes)
                .map_err(|_| malformed("message of WT_CLOSE_SESSION is not UTF-8"))?
                .to_owned();
            Ok(Capsule::Close { code, reason })
        }
        kind::DRAIN => Ok(Capsule::Drain),
        kind::MAX_DATA => Ok(Capsule::MaxData(limit(&bytes)?)),
        kind::MAX_STREAMS_BIDI | kind::MAX_STREAMS_UNI => Ok(Capsule::MaxStreams {
            bidi: kind == kind::MAX_STREAMS_BIDI,
            limit: limit(&bytes)?,
        }),
        kind::DATA_BLOCKED => Ok(Capsule::DataBlocked(limit(&bytes)?)),
        kind::STREAMS_BLOCKED_BIDI | kind::STREAMS_BLOCKED_UNI => Ok(Capsule::StreamsBlocked {
            bidi: kind == kind::STREAMS_BLOCKED_BIDI,
            limit: limit(&bytes)?,
        }),
        _ => Ok(Capsule::Datagram(bytes)),
    }
}

fn malformed(reason: &'static str) -> StreamError {
    StreamError {
        code: Code::H3_MESSAGE_ERROR,
        reason,
    }
}

/// Largest DATAGRAM capsule that is kept: what fits into a QUIC DATAGRAM frame at 65535.
const MAX_DATAGRAM: u64 = 65535;
