//! HTTP/3 frames (RFC 9114 section 7), read incrementally.
//!
//! Payloads of DATA frames are handed out as they arrive and never copied; unknown frames are dropped as they arrive;
//! every other payload has a cap and is collected.

use bytes::{Bytes, BytesMut};

use crate::error::{ConnectionError, Error, StreamError};
use crate::error_code::Code;
use crate::settings::Settings;
use crate::tlv::{Payload, Plan, Reader};
use crate::varint;

/// Frame types.
pub mod kind {
    /// DATA.
    pub const DATA: u64 = 0x00;
    /// HEADERS.
    pub const HEADERS: u64 = 0x01;
    /// CANCEL_PUSH.
    pub const CANCEL_PUSH: u64 = 0x03;
    /// SETTINGS.
    pub const SETTINGS: u64 = 0x04;
    /// PUSH_PROMISE.
    pub const PUSH_PROMISE: u64 = 0x05;
    /// GOAWAY.
    pub const GOAWAY: u64 = 0x07;
    /// MAX_PUSH_ID.
    pub const MAX_PUSH_ID: u64 = 0x0d;
    /// WT_STREAM, the signal at the start of a bidirectional WebTransport stream (§4.3).
    pub const WT_STREAM: u64 = 0x41;
    /// PRIORITY_UPDATE for a request (RFC 9218).
    pub const PRIORITY_UPDATE_REQUEST: u64 = 0xf0700;
    /// PRIORITY_UPDATE for a push (RFC 9218).
    pub const PRIORITY_UPDATE_PUSH: u64 = 0xf0701;
}

/// The stream that frames are read from; it decides which of them are allowed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum FrameContext {
    /// The peer's control stream.
    Control,
    /// A request stream as a server reads it.
    Request,
    /// A request stream as a client reads it.
    Response,
}

/// A frame, or a piece of one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Frame {
    /// A piece of a DATA payload, as it arrived. Empty only for a DATA frame of length zero.
    Data(Bytes),
    /// A whole encoded field section.
    Headers(Bytes),
    /// The first frame of a control stream.
    Settings(Settings),
    /// The id in GOAWAY, unchecked.
    Goaway(u64),
    /// The id in MAX_PUSH_ID, unchecked.
    MaxPushId(u64),
    /// The id in CANCEL_PUSH, unchecked.
    CancelPush(u64),
    /// PRIORITY_UPDATE.
    PriorityUpdate {
        /// Whether `element` is a push id; otherwise it is the id of a request stream. Unchecked.
        push: bool,
        /// The prioritized element.
        element: u64,
        /// The Priority field value, unparsed.
        value: Bytes,
    },
}

/// Reads the frames of one stream.
///
/// Call [`push`](Self::push) with what arrived, then [`next`](Self::next) until it gives `None`, then
/// [`finish`](Self::finish) at the FIN. After an error the parser stays in it.
#[derive(Debug)]
pub struct FrameParser {
    context: FrameContext,
    reader: Reader,
    headers_limit: u64,
    /// Whether the first frame has been seen.
    started: bool,
    failed: Option<Error>,
}

impl FrameParser {
    /// A parser for a stream of the given kind, with [`DEFAULT_HEADERS_LIMIT`].
    pub fn new(context: FrameContext) -> Self {
        FrameParser {
            context,
            reader: Reader::default(),
            headers_limit: DEFAULT_HEADERS_LIMIT,
            started: false,
            failed: None,
        }
    }

    /// Sets the largest HEADERS payload that is collected.
    pub fn with_headers_limit(mut self, limit: u64) -> Self {
        self.headers_limit = limit;
        self
    }

    /// Takes bytes of the stream.
    pub fn push(&mut self, chunk: Bytes) {
        if self.failed.is_none() {
            self.reader.push(chunk);
        }
    }

    /// The next frame, or `None` when more bytes are needed.
    ///
    /// # Errors
    ///
    /// A connection error for a frame that is not allowed here or has a bad layout; a stream error for a field section
    /// that is too large.
    #[expect(clippy::should_implement_trait, reason = "it can fail, and `None` is not the end")]
    pub fn next(&mut self) -> Result<Option<Frame>, Error> {
        if let Some(error) = self.failed {
            return Err(error);
        }
        let (context, limit, started) = (self.context, self.headers_limit, &mut self.started);
        let result = self
            .reader
            .next(|kind, length| {
                let first = !std::mem::replace(started, true);
                plan(context, first, kind, length, limit)
            })
            .and_then(|payload| payload.map(decode).transpose());
        if let Err(error) = result {
            self.failed = Some(error);
            self.reader.clear();
        }
        result
    }

    /// The stream ended.
    ///
    /// # Errors
    ///
    /// RFC 9114 7.1: a last frame that is cut off MUST be H3_FRAME_ERROR.
    pub fn finish(&self) -> Result<(), Error> {
        match self.failed {
            Some(error) => Err(error),
            None if self.reader.is_between() => Ok(()),
            None => Err(malformed("stream ends inside a frame").into()),
        }
    }

    /// Whether bytes wait to be read by [`next`](Self::next).
    pub(crate) fn has_input(&self) -> bool {
        self.reader.has_input()
    }
}

/// Appends a DATA frame.
pub fn data_frame(payload: &[u8], out: &mut BytesMut) {
    encode(kind::DATA, payload, out);
}

/// Appends the header of a DATA frame; its payload follows.
pub(crate) fn data_header(length: u64, out: &mut BytesMut) {
    varint::encode(kind::DATA, out);
    varint::encode(length, out);
}

/// Appends a GOAWAY frame.
pub(crate) fn goaway_frame(id: u64, out: &mut BytesMut) {
    let mut payload = BytesMut::new();
    varint::encode(id, &mut payload);
    encode(kind::GOAWAY, &payload, out);
}

/// Appends a HEADERS frame.
pub(crate) fn headers_frame(section: &[u8], out: &mut BytesMut) {
    encode(kind::HEADERS, section, out);
}

fn encode(kind: u64, payload: &[u8], out: &mut BytesMut) {
    varint::encode(kind, out);
    varint::encode(payload.len() as u64, out);
    out.extend_from_slice(payload);
}

/// Decides about a frame by its header alone.
fn plan(context: FrameContext, first: bool, kind: u64, length: u64, headers_limit: u64) -> Result<Plan, Error> {
    use FrameContext::{Control, Request, Response};
    // RFC 9114 6.2.1: any other first frame on the control stream, ignorable ones included, MUST be
    // H3_MISSING_SETTINGS.
    if context == Control && first && kind != kind::SETTINGS {
        return Err(connection(
            Code::H3_MISSING_SETTINGS,
            "control stream does not begin with SETTINGS",
        ));
    }
    match (context, kind) {
        (Request | Response, kind::DATA) => Ok(Plan::Pieces),
        (Request | Response, kind::HEADERS) if length > headers_limit => Err(StreamError {
            code: Code::H3_EXCESSIVE_LOAD,
            reason: "HEADERS frame larger than the announced limit",
        }
        .into()),
        (Request | Response, kind::HEADERS) => Ok(Plan::Whole),
        // 7.2.4: a second SETTINGS frame MUST be H3_FRAME_UNEXPECTED.
        (Control, kind::SETTINGS) if !first => Err(unexpected("second SETTINGS frame")),
        (Control, kind::SETTINGS | kind::PRIORITY_UPDATE_REQUEST | kind::PRIORITY_UPDATE_PUSH) => {
            if length > CONTROL_LIMIT {
                return Err(connection(Code::H3_EXCESSIVE_LOAD, "control frame is too large"));
            }
            Ok(Plan::Whole)
        }
        (Control, kind::GOAWAY | kind::MAX_PUSH_ID | kind::CANCEL_PUSH) => {
            // One varint is the whole payload.
            if length > 8 {
                return Err(malformed("control frame is longer than its id").into());
            }
            Ok(Plan::Whole)
        }
        // §4.3: WT_STREAM anywhere but at the very start of a stream MUST be H3_FRAME_ERROR.
        (_, kind::WT_STREAM) => Err(malformed("WT_STREAM inside a stream of frames").into()),
        (Control, kind::DATA | kind::HEADERS) => Err(unexpected("message frame on the control stream")),
        (
            Request | Response,
            kind::SETTINGS
            | kind::GOAWAY
            | kind::MAX_PUSH_ID
            | kind::CANCEL_PUSH
            | kind::PRIORITY_UPDATE_REQUEST
            | kind::PRIORITY_UPDATE_PUSH,
        ) => Err(unexpected("control frame on a request stream")),
        // 7.2.5: a push id above the largest that was allowed MUST be H3_ID_ERROR; here none ever is. To a server, and on
        // the control stream, the frame itself is H3_FRAME_UNEXPECTED.
        (Response, kind::PUSH_PROMISE) => Err(connection(Code::H3_ID_ERROR, "PUSH_PROMISE without MAX_PUSH_ID")),
        (_, kind::PUSH_PROMISE) => Err(unexpected("PUSH_PROMISE where none can be")),
        // 7.2.8: frame types of HTTP/2 MUST be H3_FRAME_UNEXPECTED.
        (_, 0x02 | 0x06 | 0x08 | 0x09) => Err(unexpected("frame of HTTP/2")),
        // 9: unknown types MUST be ignored, wherever they stand.
        _ => Ok(Plan::Skip),
    }
}

/// Decodes a payload that [`plan`] let through.
fn decode(payload: Payload) -> Result<Frame, Error> {
    let Payload { kind, bytes } = payload;
    match kind {
        kind::DATA => Ok(Frame::Data(bytes)),
        kind::HEADERS => Ok(Frame::Headers(bytes)),
        kind::SETTINGS => Ok(Frame::Settings(Settings::decode(&bytes)?)),
        kind::PRIORITY_UPDATE_REQUEST | kind::PRIORITY_UPDATE_PUSH => {
            let (element, used) = varint::decode(&bytes).ok_or(malformed("PRIORITY_UPDATE ends inside its id"))?;
            let push = kind == kind::PRIORITY_UPDATE_PUSH;
            Ok(Frame::PriorityUpdate {
                push,
                element,
                value: bytes.slice(used..),
            })
        }
        _ => {
            // 7.1: a payload that is longer or shorter than its fields MUST be H3_FRAME_ERROR.
            let id = varint::decode_exact(&bytes).ok_or(malformed("control frame is not exactly one id"))?;
            Ok(match kind {
                kind::GOAWAY => Frame::Goaway(id),
                kind::MAX_PUSH_ID => Frame::MaxPushId(id),
                _ => Frame::CancelPush(id),
            })
        }
    }
}

fn connection(code: Code, reason: &'static str) -> Error {
    ConnectionError { code, reason }.into()
}

fn malformed(reason: &'static str) -> ConnectionError {
    ConnectionError {
        code: Code::H3_FRAME_ERROR,
        reason,
    }
}

fn unexpected(reason: &'static str) -> Error {
    connection(Code::H3_FRAME_UNEXPECTED, reason)
}

/// Largest HEADERS payload unless the user says otherwise: the 64 KiB of the server recipe. An encoded
/// section is smaller than the count of RFC 9114 4.2.2, which adds 32 per field, so the same number
/// serves; only long non-ASCII values that a peer Huffman-codes all the same hit it earlier.
pub const DEFAULT_HEADERS_LIMIT: u64 = 65536;

/// Largest payload of SETTINGS and PRIORITY_UPDATE. Browsers send about 60 bytes; 4 KiB are 256 settings at the
/// largest encoding.
const CONTROL_LIMIT: u64 = 4096;
