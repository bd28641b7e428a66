//! What can go wrong, one small enum per operation, and how sessions and connections end.

use std::{path::PathBuf, sync::Arc};

pub use wt_proto::session::{CloseCause, CloseInfo, Initiator};
use wt_proto::{
    error_code::{self, Code},
    exporter::InvalidExporter,
};

/// A certificate, key or verification setting that cannot be used. Found before any packet is sent.
#[derive(Debug, Clone, thiserror::Error)]
#[expect(missing_docs, reason = "the messages say what the fields are")]
pub enum TlsConfigError {
    /// The file cannot be read.
    #[error("cannot read {what} '{}': {error}", path.display())]
    Unreadable {
        what: &'static str,
        path: PathBuf,
        error: Arc<std::io::Error>,
    },
    /// The file holds nothing usable.
    #[error("{what} '{}' is not usable: {reason}", path.display())]
    Unusable {
        what: &'static str,
        path: PathBuf,
        reason: String,
    },
    /// A setting is missing or contradicts another.
    #[error("{0}")]
    Setting(String),
}

impl TlsConfigError {
    /// The file in question.
    pub fn path(&self) -> Option<&std::path::Path> {
        match self {
            Self::Unreadable { path, .. } | Self::Unusable { path, .. } => Some(path),
            Self::Setting(_) => None,
        }
    }
}

/// Why a connection attempt failed.
#[derive(Debug, Clone, thiserror::Error)]
#[expect(missing_docs, reason = "the messages say what the fields are")]
pub enum ConnectError {
    /// The name has no address.
    #[error("cannot resolve host '{host}': {reason}")]
    Resolve { host: String, reason: String },
    /// The local socket cannot be made.
    #[error("cannot open a UDP socket: {0}")]
    Socket(String),
    /// TLS refused the peer's certificate.
    #[error("{0}")]
    Certificate(String),
    /// QUIC or TLS failed otherwise, or the peer closed.
    #[error("{message}")]
    Connection { message: String, code: Option<u64> },
    /// The peer is no WebTransport server.
    #[error("the server at {address} does not offer WebTransport: {reason}")]
    Unsupported { address: String, reason: String },
}

/// Why a server could not be started.
#[derive(Debug, Clone, thiserror::Error)]
#[expect(missing_docs, reason = "the messages say what the fields are")]
pub enum ListenError {
    /// Certificate or key.
    #[error(transparent)]
    Tls(#[from] TlsConfigError),
    /// The address cannot be bound.
    #[error("cannot listen on {address}: {reason}")]
    Bind { address: String, reason: String },
}

/// How a connection ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConnectionEnd {
    /// The QUIC or HTTP/3 code, 0 when there was none (idle timeout).
    pub code: u64,
    /// In plain words.
    pub reason: String,
    /// Who ended it.
    pub by: Initiator,
    /// In one word: `closed`, `timeout` or `lost`.
    pub cause: &'static str,
}

impl ConnectionEnd {
    /// From quinn's verdict.
    pub fn new(error: &quinn::ConnectionError) -> Self {
        use quinn::ConnectionError as E;
        let (code, reason, by, cause) = match error {
            E::ApplicationClosed(close) => {
                let code = close.error_code.into_inner();
                (
                    code,
                    name_code(code, &String::from_utf8_lossy(&close.reason)),
                    Initiator::Peer,
                    "closed",
                )
            }
            E::ConnectionClosed(close) => {
                let code = u64::from(close.error_code);
                let text = String::from_utf8_lossy(&close.reason);
                (
                    code,
                    format!("the peer closed the QUIC connection: {} {text}", close.error_code),
                    Initiator::Peer,
                    "lost",
                )
            }
            E::LocallyClosed => (0, String::new(), Initiator::Local, "closed"),
            E::TimedOut => (
                0,
                "no answer from the peer within the idle timeout".into(),
                Initiator::Transport,
                "timeout",
            ),
            E::Reset => (
                0,
                "the peer does not know this connection any more: restarted, or given up (stateless reset)".into(),
                Initiator::Transport,
                "lost",
            ),
            E::TransportError(error) => (u64::from(error.code), error.to_string(), Initiator::Local, "lost"),
            other => (0, other.to_string(), Initiator::Transport, "lost"),
        };
        Self {
            code,
            reason,
            by,
            cause,
        }
    }
}

/// "H3_NO_ERROR: bye", or whichever of the two is there.
fn name_code(code: u64, reason: &str) -> String {
    match (Code(code).name(), reason.is_empty()) {
        (Some("H3_NO_ERROR"), _) => reason.to_owned(),
        (Some(name), true) => name.to_owned(),
        (Some(name), false) => format!("{name}: {reason}"),
        (None, _) => reason.to_owned(),
    }
}

/// How one half of a stream ended before its time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StreamEnd {
    /// The peer reset the stream (receiving half).
    Reset(u64),
    /// The peer asked to stop (sending half).
    Stopped(u64),
    /// This side ended it: finished, reset or stopped.
    Local(&'static str),
    /// The session or its connection ended.
    SessionClosed(CloseInfo),
}

impl StreamEnd {
    /// The raw HTTP/3 code of the peer.
    pub fn wire_code(&self) -> Option<u64> {
        match self {
            Self::Reset(code) | Self::Stopped(code) => Some(*code),
            Self::Local(_) | Self::SessionClosed(_) => None,
        }
    }

    /// The peer's code in the WebTransport range; None outside of it.
    pub fn application_code(&self) -> Option<u32> {
        error_code::from_http(Code(self.wire_code()?))
    }
}

/// Why a stream could not be opened.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OpenError {
    /// The session is not connected, or no longer.
    #[error("the session is closed")]
    SessionClosed(Option<CloseInfo>),
    /// The connection carries as many sessions as it may: one, unless both sides announced flow control.
    #[error("the connection carries as many sessions as it may")]
    TooManySessions,
    /// Either side winds the connection down (GOAWAY): new sessions need a new connection.
    #[error("the connection is winding down")]
    GoingAway,
    /// The server announced that it takes no header sections of this size (RFC 9114 section 4.2.2).
    #[error("the headers of the request count {size} bytes, the server takes at most {limit}")]
    HeadersTooLarge {
        /// Counted with 32 bytes per field.
        size: u64,
        /// What the server announced.
        limit: u64,
    },
}

/// Why a request was not answered as the application wanted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AnswerError {
    /// The request is gone, or was answered before.
    #[error("the request is gone, or was answered before")]
    Gone,
    /// The client announced that it takes no header sections of this size (RFC 9114 section 4.2.2).
    #[error("the headers of the answer count {size} bytes, the client takes at most {limit}")]
    HeadersTooLarge {
        /// Counted with 32 bytes per field.
        size: u64,
        /// What the client announced.
        limit: u64,
    },
}

/// Why there is no keying material.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ExportError {
    /// A label, a context or a length that the exporter does not have.
    #[error(transparent)]
    Invalid(#[from] InvalidExporter),
    /// The session is not established, or has ended.
    #[error("the session is not established, or has ended")]
    SessionClosed(Option<CloseInfo>),
}

/// Why a datagram was not accepted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[expect(missing_docs, reason = "the messages say what the fields are")]
pub enum DatagramError {
    /// Larger than the path allows now.
    #[error("datagram of {size} bytes is larger than the {max} bytes that the path allows")]
    TooLarge { size: usize, max: usize },
    /// The queue is full and nothing in it may be dropped.
    #[error("the datagram queue is full")]
    Full,
    /// The session ended, or never began.
    #[error("the session is closed")]
    SessionClosed(Option<CloseInfo>),
}
