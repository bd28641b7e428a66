//! The peer's control stream and its QPACK streams: one of each per connection.
//!
//! This side announces no dynamic table and never allows push, which leaves little that these streams may say.

use bytes::Bytes;

use crate::dialect::Role;
use crate::error::{ConnectionError, Error};
use crate::error_code::Code;
use crate::frame::{Frame, FrameContext, FrameParser};
use crate::settings::{Settings, id};
use crate::stream_header::{UniStream, is_client_bidi};

/// What the control stream says to the connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ControlEvent {
    /// The peer's SETTINGS, once.
    Settings(Settings),
    /// The peer is going away. From a server: requests at or above this id were not processed.
    Goaway(u64),
    /// New priority of a request (RFC 9218). Ignoring it is legal.
    PriorityUpdate {
        /// The request stream.
        element: u64,
        /// The Priority field value, unparsed.
        value: Bytes,
    },
}

/// State of the peer's critical streams.
///
/// [`open`](Self::open) for each unidirectional stream whose header is known, then its bytes to the method of its kind,
/// [`closed`](Self::closed) when one of them ends.
#[derive(Debug)]
pub struct PeerStreams {
    role: Role,
    has_control: bool,
    has_encoder: bool,
    has_decoder: bool,
    control: FrameParser,
    goaway: Option<u64>,
    max_push_id: Option<u64>,
    /// Continuation bytes seen of a stream id on the decoder stream; `None` between instructions.
    cancellation: Option<u8>,
}

impl PeerStreams {
    /// Nothing open yet. `role` is this side's.
    pub fn new(role: Role) -> Self {
        PeerStreams {
            role,
            has_control: false,
            has_encoder: false,
            has_decoder: false,
            control: FrameParser::new(FrameContext::Control),
            goaway: None,
            max_push_id: None,
            cancellation: None,
        }
    }

    /// The peer opened a unidirectional stream of this kind.
    ///
    /// # Errors
    ///
    /// H3_STREAM_CREATION_ERROR for a second critical stream (RFC 9114 6.2.1, RFC 9204 4.2) and for a push stream from
    /// a client (RFC 9114 6.2.2); H3_ID_ERROR for a push stream from a server, which was never given a push id (4.6).
    pub fn open(&mut self, kind: &UniStream) -> Result<(), ConnectionError> {
        let seen = match kind {
            UniStream::Control => &mut self.has_control,
            UniStream::QpackEncoder => &mut self.has_encoder,
            UniStream::QpackDecoder => &mut self.has_decoder,
            UniStream::Push if self.role == Role::Server => {
                return Err(error(Code::H3_STREAM_CREATION_ERROR, "push stream from a client"));
            }
            UniStream::Push => return Err(error(Code::H3_ID_ERROR, "push stream without a push id")),
            UniStream::WebTransport { .. } | UniStream::Unknown(_) => return Ok(()),
        };
        if std::mem::replace(seen, true) {
            return Err(error(Code::H3_STREAM_CREATION_ERROR, "second control or QPACK stream"));
        }
        Ok(())
    }

    /// Takes bytes of the control stream.
    ///
    /// # Errors
    ///
    /// Whatever is wrong on a control stream ends the connection.
    pub fn handle_control(&mut self, chunk: Bytes) -> Result<Vec<ControlEvent>, ConnectionError> {
        self.control.push(chunk);
        let mut events = Vec::new();
        while let Some(frame) = self.control.next().map_err(widen)? {
            events.extend(self.handle_frame(frame)?);
        }
        Ok(events)
    }

    /// Takes bytes of the encoder stream.
    ///
    /// # Errors
    ///
    /// QPACK_ENCODER_STREAM_ERROR for everything but Set Dynamic Table Capacity 0, the one instruction that fits the
    /// announced maximum of 0 (RFC 9204 4.3.1, 3.2.3). It is the single byte 0x20.
    pub fn handle_encoder(&mut self, chunk: &[u8]) -> Result<(), ConnectionError> {
        if chunk.iter().all(|byte| *byte == 0x20) {
            Ok(())
        } else {
            Err(error(
                Code::QPACK_ENCODER_STREAM_ERROR,
                "instruction for a dynamic table that does not exist",
            ))
        }
    }

    /// Takes bytes of the decoder stream.
    ///
    /// # Errors
    ///
    /// QPACK_DECODER_STREAM_ERROR for everything but Stream Cancellation: nothing was inserted that could be
    /// acknowledged (RFC 9204 4.4.1, 4.4.3).
    pub fn handle_decoder(&mut self, chunk: &[u8]) -> Result<(), ConnectionError> {
        for byte in chunk {
            self.cancellation = match self.cancellation {
                None if byte & 0xc0 != 0x40 => {
                    return Err(error(
                        Code::QPACK_DECODER_STREAM_ERROR,
                        "acknowledgement of what was never sent",
                    ));
                }
                // The id fits into the six bits of the first byte, unless all are set.
                None => (byte & 0x3f == 0x3f).then_some(0),
                Some(_) if byte & 0x80 == 0 => None,
                // Stream ids have 62 bits, that is nine groups of seven.
                Some(8..) => return Err(error(Code::QPACK_DECODER_STREAM_ERROR, "stream id too large")),
                Some(count) => Some(count + 1),
            };
        }
        Ok(())
    }

    /// A critical stream was finished or reset.
    ///
    /// RFC 9114 6.2.1, RFC 9204 4.2: closing one MUST be H3_CLOSED_CRITICAL_STREAM.
    pub fn closed(&mut self, kind: &UniStream) -> ConnectionError {
        let reason = match kind {
            UniStream::QpackEncoder => "QPACK encoder stream closed",
            UniStream::QpackDecoder => "QPACK decoder stream closed",
            _ => "control stream closed",
        };
        error(Code::H3_CLOSED_CRITICAL_STREAM, reason)
    }

    fn handle_frame(&mut self, frame: Frame) -> Result<Option<ControlEvent>, ConnectionError> {
        match frame {
            Frame::Settings(settings) => {
                // §3.1: a client MUST treat WT_ENABLED above 1 as H3_SETTINGS_ERROR.
                if self.role == Role::Client && settings.get(id::WT_ENABLED).is_some_and(|value| value > 1) {
                    return Err(error(Code::H3_SETTINGS_ERROR, "WT_ENABLED is neither 0 nor 1"));
                }
                Ok(Some(ControlEvent::Settings(settings)))
            }
            Frame::Goaway(id) => {
                // RFC 9114 7.2.6: a server names a request stream; any other id MUST be H3_ID_ERROR.
                if self.role == Role::Client && !is_client_bidi(id) {
                    return Err(error(Code::H3_ID_ERROR, "GOAWAY with an id that is no request"));
                }
                // 5.2: the id of a later GOAWAY MUST NOT be greater.
                if self.goaway.is_some_and(|last| id > last) {
                    return Err(error(Code::H3_ID_ERROR, "GOAWAY with a growing id"));
                }
                self.goaway = Some(id);
                Ok(Some(ControlEvent::Goaway(id)))
            }
            Frame::MaxPushId(id) => {
                // 7.2.7: a client MUST treat MAX_PUSH_ID as H3_FRAME_UNEXPECTED.
                if self.role == Role::Client {
                    return Err(error(Code::H3_FRAME_UNEXPECTED, "MAX_PUSH_ID from a server"));
                }
                // 7.2.7: a maximum that shrinks MUST be H3_ID_ERROR.
                if self.max_push_id.is_some_and(|last| id < last) {
                    return Err(error(Code::H3_ID_ERROR, "MAX_PUSH_ID with a shrinking id"));
                }
                self.max_push_id = Some(id);
                Ok(None)
            }
            // 7.2.3: a push id that was never allowed or promised MUST be H3_ID_ERROR; here none ever is.
            Frame::CancelPush(_) => Err(error(Code::H3_ID_ERROR, "CANCEL_PUSH for a push that never was")),
            // RFC 9218 7.2: a client that receives PRIORITY_UPDATE MUST answer with H3_FRAME_UNEXPECTED.
            Frame::PriorityUpdate { .. } if self.role == Role::Client => {
                Err(error(Code::H3_FRAME_UNEXPECTED, "PRIORITY_UPDATE from a server"))
            }
            // RFC 9218 7.2: an id that is no request stream, or no promised push, MUST be H3_ID_ERROR.
            Frame::PriorityUpdate { push, element, .. } if push || !is_client_bidi(element) => {
                Err(error(Code::H3_ID_ERROR, "PRIORITY_UPDATE for what is no request"))
            }
            Frame::PriorityUpdate { element, value, .. } => Ok(Some(ControlEvent::PriorityUpdate { element, value })),
            // The parser lets neither through in this context.
            Frame::Data(_) | Frame::Headers(_) => {
                Err(error(Code::H3_FRAME_UNEXPECTED, "message frame on the control stream"))
            }
        }
    }
}

/// On a critical stream even an error of stream width ends the connection.
fn widen(error: Error) -> ConnectionError {
    match error {
        Error::Connection(error) => error,
        Error::Stream(error) => ConnectionError {
            code: error.code,
            reason: error.reason,
        },
    }
}

fn error(code: Code, reason: &'static str) -> ConnectionError {
    ConnectionError { code, reason }
}
