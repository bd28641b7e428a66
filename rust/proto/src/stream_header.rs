//! The first bytes of a stream: what it is, and for WebTransport streams whose (RFC 9114 section 6.2, §4.2, §4.3).
//!
//! One parser per new stream. Each keeps at most the bytes of one unfinished integer, so a peer that opens streams and
//! then says nothing costs a few bytes per stream.

use bytes::{Bytes, BytesMut};

use crate::error::ConnectionError;
use crate::error_code::Code;
use crate::frame;
use crate::settings::Settings;
use crate::varint::{self, Partial};

/// What a unidirectional stream is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum UniStream {
    /// The control stream.
    Control,
    /// A push stream.
    Push,
    /// The QPACK encoder stream.
    QpackEncoder,
    /// The QPACK decoder stream.
    QpackDecoder,
    /// A WebTransport stream.
    WebTransport {
        /// The id of its CONNECT stream.
        session: u64,
    },
    /// Any other type. RFC 9114 6.2: abort reading or discard, never a connection error.
    Unknown(u64),
}

/// What a bidirectional stream is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum BiStream {
    /// A WebTransport stream.
    WebTransport {
        /// The id of its CONNECT stream.
        session: u64,
    },
    /// A stream of HTTP/3 frames.
    Request,
}

/// Reads the header of a unidirectional stream.
#[derive(Debug, Default)]
pub struct UniHeaderParser {
    integer: Partial,
    is_webtransport: bool,
}

impl UniHeaderParser {
    /// A parser for a stream of which nothing was read yet.
    pub fn new() -> Self {
        UniHeaderParser::default()
    }

    /// Takes bytes; the kind of stream and the bytes behind the header, once the header is complete.
    ///
    /// A stream that ends before that is no error (RFC 9114 6.2): drop the parser. Do not call again after `Some`.
    ///
    /// # Errors
    ///
    /// H3_ID_ERROR for a session id that no client-initiated bidirectional stream can have.
    pub fn push(&mut self, mut chunk: Bytes) -> Result<Option<(UniStream, Bytes)>, ConnectionError> {
        if !self.is_webtransport {
            let Some(kind) = self.integer.read(&mut chunk) else {
                return Ok(None);
            };
            let stream = match kind {
                kind::CONTROL => UniStream::Control,
                kind::PUSH => UniStream::Push,
                kind::QPACK_ENCODER => UniStream::QpackEncoder,
                kind::QPACK_DECODER => UniStream::QpackDecoder,
                kind::WEBTRANSPORT => {
                    self.is_webtransport = true;
                    return self.push(chunk);
                }
                other => UniStream::Unknown(other),
            };
            return Ok(Some((stream, chunk)));
        }
        let Some(session) = self.integer.read(&mut chunk) else {
            return Ok(None);
        };
        check_session_id(session)?;
        Ok(Some((UniStream::WebTransport { session }, chunk)))
    }
}

/// Reads the header of a bidirectional stream.
#[derive(Debug, Default)]
pub struct BiHeaderParser {
    integer: Partial,
    is_webtransport: bool,
}

impl BiHeaderParser {
    /// A parser for a stream of which nothing was read yet.
    pub fn new() -> Self {
        BiHeaderParser::default()
    }

    /// Takes bytes; the kind of stream and the bytes that belong to it, once that is known.
    ///
    /// For [`BiStream::Request`] these are all bytes so far: they are frames. Do not call again after `Some`.
    ///
    /// # Errors
    ///
    /// H3_ID_ERROR for a session id that no client-initiated bidirectional stream can have.
    pub fn push(&mut self, mut chunk: Bytes) -> Result<Option<(BiStream, Bytes)>, ConnectionError> {
        if !self.is_webtransport {
            let before = self.integer.clone();
            let whole = chunk.clone();
            let Some(kind) = self.integer.read(&mut chunk) else {
                return Ok(None);
            };
            if kind != frame::kind::WT_STREAM {
                return Ok(Some((BiStream::Request, rejoin(before.pending(), whole))));
            }
            self.is_webtransport = true;
        }
        let Some(session) = self.integer.read(&mut chunk) else {
            return Ok(None);
        };
        check_session_id(session)?;
        Ok(Some((BiStream::WebTransport { session }, chunk)))
    }
}

/// Appends the header of a unidirectional WebTransport stream.
pub fn encode_uni_header(session: u64, out: &mut BytesMut) {
    varint::encode(kind::WEBTRANSPORT, out);
    varint::encode(session, out);
}

/// Appends the header of a bidirectional WebTransport stream.
pub fn encode_bi_header(session: u64, out: &mut BytesMut) {
    varint::encode(frame::kind::WT_STREAM, out);
    varint::encode(session, out);
}

/// Appends the start of the control stream: its type and the SETTINGS frame.
pub fn encode_control_preface(settings: &Settings, out: &mut BytesMut) {
    varint::encode(kind::CONTROL, out);
    settings.encode_frame(out);
}

/// Types of unidirectional streams.
pub mod kind {
    /// Control stream (RFC 9114).
    pub const CONTROL: u64 = 0x00;
    /// Push stream (RFC 9114).
    pub const PUSH: u64 = 0x01;
    /// QPACK encoder stream (RFC 9204).
    pub const QPACK_ENCODER: u64 = 0x02;
    /// QPACK decoder stream (RFC 9204).
    pub const QPACK_DECODER: u64 = 0x03;
    /// WebTransport stream (§4.2).
    pub const WEBTRANSPORT: u64 = 0x54;
}

/// Whether `id` is that of a client-initiated bidirectional stream: the two low bits say so (RFC 9000 section 2.1).
pub(crate) fn is_client_bidi(id: u64) -> bool {
    id.is_multiple_of(4)
}

/// §4: a session id that is no client-initiated bidirectional stream MUST close the connection with H3_ID_ERROR. Ids of
/// closed sessions are not an error.
fn check_session_id(id: u64) -> Result<(), ConnectionError> {
    if is_client_bidi(id) {
        Ok(())
    } else {
        Err(ConnectionError {
            code: Code::H3_ID_ERROR,
            reason: "session id is not that of a client-initiated bidirectional stream",
        })
    }
}

/// Puts back the bytes that earlier chunks brought. Copies only when the first integer was split.
fn rejoin(earlier: &[u8], rest: Bytes) -> Bytes {
    if earlier.is_empty() {
        return rest;
    }
    let mut all = BytesMut::with_capacity(earlier.len() + rest.len());
    all.extend_from_slice(earlier);
    all.extend_from_slice(&rest);
    all.freeze()
}
