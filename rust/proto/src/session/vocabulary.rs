//! The words in which a session talks to the layer above.

use bytes::Bytes;

#[cfg(doc)]
use super::Session;
use crate::capsule::Capsule;
use crate::error::StreamError;
use crate::error_code::Code;
use crate::headers::{ConnectRequest, PlainRequest, Response};

/// What the application may do.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum State {
    /// The request was sent or is awaited or unanswered.
    Connecting,
    /// The session is established.
    Open,
    /// Either side asked to wind down; everything still works.
    Draining,
    /// Our CLOSE is sent or being sent, the peer's FIN is awaited.
    Closing,
    /// The session is over.
    Closed,
}

/// Who ended the session.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Initiator {
    /// This side.
    Local,
    /// The peer.
    Peer,
    /// The connection beneath: idle time-out, loss.
    Transport,
}

/// Why and by whom the session ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CloseInfo {
    /// Application code; 0 when there is none.
    pub code: u32,
    /// Application reason, or what happened.
    pub reason: String,
    /// Who ended it.
    pub by: Initiator,
    /// In which way.
    pub cause: CloseCause,
}

/// In which way a session ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CloseCause {
    /// WT_CLOSE_SESSION or a clean FIN.
    Closed,
    /// The request was answered with something other than 2xx.
    Rejected {
        /// The HTTP status.
        status: u16,
    },
    /// The CONNECT stream was reset or stopped.
    Reset(Code),
    /// This side ended it because of what the peer did.
    Protocol(StreamError),
    /// The connection is gone.
    ConnectionLost,
}

/// What the layer above must know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SessionEvent {
    /// Server: a valid WebTransport request. Answer with [`Session::accept`] or [`Session::reject`].
    Request(ConnectRequest),
    /// Server: a valid CONNECT for something else. Answer with [`Session::reject`]: 404, or 501 for an unknown
    /// `protocol`.
    Foreign {
        /// `:protocol` of an extended CONNECT.
        protocol: Option<String>,
    },
    /// Server: a valid request of plain HTTP. Go on with [`Session::into_exchange`]; no input belongs here any more.
    Plain(PlainRequest),
    /// Client: the 2xx response.
    Established(Response),
    /// Client: the response of another status. `Closed` follows.
    Refused(Response),
    /// The peer wants to wind down.
    Draining,
    /// A datagram that came as a capsule.
    Datagram(Bytes),
    /// A capsule of flow control, when that is on: give it to the session's `FlowControl`, and end the session with
    /// [`Session::abort`] when that objects.
    FlowControl(Capsule),
    /// The session ended; reset and stop its streams with WT_SESSION_GONE. Exactly once; it may come without a request
    /// before it, when that was malformed.
    Closed(CloseInfo),
    /// The CONNECT stream has ended in both directions. Exactly once, after `Closed`.
    Finished,
}

/// What to do with the CONNECT stream, in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Transmit {
    /// Write these bytes.
    Data(Bytes),
    /// Finish the sending half behind the bytes so far.
    Finish,
    /// Reset the sending half; it may have been finished before.
    Reset(Code),
    /// Stop the receiving half; nothing from it will be read any more.
    Stop(Code),
}
