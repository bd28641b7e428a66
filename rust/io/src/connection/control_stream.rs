//! This side's control stream: SETTINGS first, GOAWAY when it winds down.

use std::{
    convert::Infallible,
    future::{Future, pending},
    sync::{
        Arc,
        atomic::Ordering::{AcqRel, Acquire},
    },
};

use bytes::{Bytes, BytesMut};
use wt_proto::{
    dialect::Role, error::ConnectionError, error_code::Code, settings::Settings, stream_header::encode_control_preface,
};
use wt_quic::Stopped;

use super::Connection;
use crate::{
    driver::{Either, poll_once, select},
    session::{Command, Session},
};

/// `Connection::peer_goaway` before the peer sent one; stream ids have 62 bits.
pub(super) const NO_GOAWAY: u64 = u64::MAX;

impl Connection {
    /// Wind down: no new sessions here, and those that live are asked to end (draft-16 section 4.7). Idempotent.
    ///
    /// A server sends GOAWAY and resets requests that come later with H3_REQUEST_REJECTED, which tells a client that it may
    /// repeat them elsewhere. A client sends GOAWAY too, and then uses the connection for no new session.
    pub fn go_away(&self) {
        let Some(frame) = self.goaway.lock().send() else {
            return;
        };
        *self.goaway_frame.lock() = frame;
        self.goaway_due.open();
        self.sessions().iter().for_each(|session| session.drain());
        self.changed();
    }

    /// Whether either side winds this connection down: a client must not ask for a session on it any more (RFC 9114 section
    /// 5.2).
    pub fn is_going_away(&self) -> bool {
        self.goaway_due.is_open() || self.peer_goaway.load(Acquire) != NO_GOAWAY
    }

    /// The peer's GOAWAY; each names the same id as the one before, or a lower one.
    pub(super) fn handle_goaway(&self, id: u64) {
        let before = self.peer_goaway.swap(id, AcqRel);
        // Only the first is news to a server, and only a lower id to a client: a flood of them costs nothing.
        if before == id || (self.role == Role::Server && before != NO_GOAWAY) {
            return;
        }
        self.sessions()
            .iter()
            .for_each(|session| session.command(Command::Goaway(id)));
        self.changed();
    }

    /// A session that was registered while the peer's GOAWAY arrived.
    pub(super) fn tell_goaway(&self, session: &Session) {
        let id = self.peer_goaway.load(Acquire);
        if id != NO_GOAWAY {
            session.command(Command::Goaway(id));
        }
    }

    fn sessions(&self) -> Vec<Arc<Session>> {
        let registry = self.registry.lock();
        registry.iter().map(|(_, session)| session.clone()).collect()
    }
}

/// The control stream of this side, and what of its beginning the peer's limits have not let through yet.
#[derive(Debug)]
pub(crate) struct ControlStream {
    send: wt_quic::SendStream,
    rest: Bytes,
}

/// What a control stream begins with: its type and these SETTINGS.
pub(crate) fn preface(settings: &Settings) -> Bytes {
    let mut preface = BytesMut::new();
    encode_control_preface(settings, &mut preface);
    preface.freeze()
}

/// Open the control stream and send as much of its beginning as goes without waiting. None: the connection is lost.
///
/// # Cancel safety
/// It waits before the stream is open, not after.
pub(crate) async fn begin(quic: &wt_quic::Connection, preface: Bytes) -> Option<ControlStream> {
    let mut send = wt_quic::open_uni(quic, Code::H3_NO_ERROR.0).await.ok()?;
    // Bulk streams must not hold it up.
    send.set_priority(i32::MAX);
    let mut chunks = [preface];
    // An error comes again with the next write.
    let _ = poll_once(send.write_chunks(&mut chunks)).await;
    let [rest] = chunks;
    Some(ControlStream { send, rest })
}

/// Open the control stream, unless it is, and send all of its beginning. None: the connection is lost.
pub(super) async fn open(connection: Arc<Connection>, begun: Option<ControlStream>) -> Option<wt_quic::SendStream> {
    let begun = match begun {
        Some(begun) => begun,
        None => begin(&connection.quic, preface(&connection.local_settings)).await?,
    };
    let ControlStream { mut send, rest } = begun;
    write(&mut send, rest).await;
    Some(send)
}

/// RFC 9114 section 6.2.1: the control stream comes first, begins with SETTINGS and is never closed.
pub(super) async fn send(
    connection: &Connection,
    opened: impl Future<Output = Option<wt_quic::SendStream>>,
) -> Infallible {
    let Some(mut send) = opened.await else {
        return pending().await;
    };
    let stopped = send.stopped();
    let winding_down = async {
        connection.goaway_due.passed().await;
        let frame = connection.goaway_frame.lock().clone();
        Box::pin(write(&mut send, frame)).await;
        pending().await
    };
    let ended: Either<Infallible, Stopped> = select(winding_down, stopped).await;
    if let Either::Right(Stopped::ByPeer(_)) = ended {
        // RFC 9114 section 6.2.1: the peer MUST NOT ask for that. RFC 9000 section 3.5 wants a reset as the answer, and a
        // control stream that is closed MUST be an error of the connection.
        connection.fail(&ConnectionError {
            code: Code::H3_CLOSED_CRITICAL_STREAM,
            reason: "the peer stopped the control stream of this side",
        });
    }
    pending().await
}

/// Write all of it, or as much as the peer and the connection let through.
async fn write(send: &mut wt_quic::SendStream, bytes: Bytes) {
    let mut chunks = [bytes];
    while !chunks[0].is_empty() {
        if send.write_chunks(&mut chunks).await.is_err() {
            break;
        }
    }
}
