//! A session's WebTransport flow control (draft-16 section 5): wt-proto's model, shared by its streams.
//!
//! Streams reserve credit before they write or open and wait here for more; what the application reads grants the peer new
//! credit. The capsules go through the CONNECT stream's task, which asks for them late, so that the peer hears the latest
//! number and no queue builds up. Without flow control on the connection all of this costs one branch.

use std::{collections::VecDeque, future::poll_fn, pin::pin, sync::Arc, task::Poll};

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::sync::Notify;
use wt_proto::{
    capsule::Capsule,
    error::StreamError,
    flow_control::{FlowControl as Model, Kind, Limits, Usage},
};
use wt_quic::WriteError;

use crate::{connection::Connection, session::Command, session::Session};

/// Credit that one write takes at once: streams that wait for credit take turns, and none of them takes all there is.
const QUANTUM: usize = 256 << 10;

/// Credit of one session, in both directions.
#[derive(Debug)]
pub(crate) struct FlowControl {
    model: Mutex<Model>,
    /// Rung when there is more to reserve, one bell per kind.
    raised: [Notify; 3],
}

/// What the binding shows of it: limits and their use, for data, bidirectional and unidirectional streams.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Credits {
    /// Set by the peer for this side.
    pub sending: [Usage; 3],
    /// Set by this side for the peer.
    pub receiving: [Usage; 3],
}

const KINDS: [Kind; 3] = [Kind::Data, Kind::StreamsBidi, Kind::StreamsUni];

impl FlowControl {
    /// For a new session of this connection; None when flow control is off there.
    pub(crate) fn of(connection: &Connection) -> Option<Self> {
        let peer = connection.peer_settings().filter(|_| connection.has_flow_control())?;
        let local = Limits::announced(connection.local_settings());
        let model = Model::new(local, Limits::announced(peer), &connection.limits().flow_control());
        Some(Self {
            model: Mutex::new(model),
            raised: Default::default(),
        })
    }

    /// Bytes that the peer may be ahead of the application, at most.
    pub(crate) fn window(&self) -> u64 {
        self.model.lock().window()
    }
}

impl Session {
    /// Limits of WebTransport flow control and their use; None when it is off.
    pub fn credits(&self) -> Option<Credits> {
        let model = self.flow_control()?.model.lock();
        Some(Credits {
            sending: KINDS.map(|kind| model.sending(kind)),
            receiving: KINDS.map(|kind| model.receiving(kind)),
        })
    }

    /// Change the model; what it has to say goes to the CONNECT stream's task.
    fn with_model<T>(&self, change: impl FnOnce(&mut Model) -> T) -> Option<T> {
        let mut model = self.flow_control()?.model.lock();
        let result = change(&mut model);
        let is_due = model.has_capsule();
        drop(model);
        if is_due {
            self.command_bell.notify_one();
        }
        Some(result)
    }

    fn end_if_violated(&self, checked: Option<Result<(), StreamError>>) -> bool {
        let Some(Err(error)) = checked else { return false };
        self.command(Command::Abort(error));
        true
    }

    /// Wake those who wait for credit of this kind.
    fn raised(&self, kind: Kind) {
        if let Some(flow) = self.flow_control() {
            flow.raised[kind as usize].notify_waiters();
        }
    }

    fn give_back(&self, kind: Kind, unused: u64) {
        if unused > 0 {
            self.with_model(|model| model.give_back(kind, unused));
            self.raised(kind);
        }
    }

    // For streams.

    /// The credit for one more stream, if there is some now. Without flow control there always is.
    pub(crate) fn try_stream_credit(self: &Arc<Self>, bidirectional: bool) -> Option<StreamCredit> {
        let kind = Kind::streams(bidirectional);
        let got = self.with_model(|model| model.reserve(kind, 1)).unwrap_or(1);
        (got > 0).then(|| StreamCredit {
            session: Some(self.clone()),
            kind,
        })
    }

    /// The same, and wait for it.
    ///
    /// # Cancel safety
    /// Credit that was reserved is given back.
    pub(crate) async fn stream_credit(self: &Arc<Self>, bidirectional: bool) -> StreamCredit {
        let bell = self
            .flow_control()
            .map(|flow| &flow.raised[Kind::streams(bidirectional) as usize]);
        loop {
            // Heard from here on: a limit that is raised between the look and the wait is not missed.
            let mut raised = pin!(bell.map(Notify::notified));
            if let Some(raised) = raised.as_mut().as_pin_mut() {
                raised.enable();
            }
            if let Some(credit) = self.try_stream_credit(bidirectional) {
                return credit;
            }
            if let Some(raised) = raised.as_mut().as_pin_mut() {
                raised.await;
            }
        }
    }

    /// Write as much of `rest` as both QUIC's and the session's credit allow; waits while either allows nothing. The first
    /// `free` bytes, the stream's header, need no credit of the session (section 5.4). Returns the bytes taken.
    ///
    /// # Cancel safety
    /// Nothing is reserved while it waits: a stream that QUIC holds up must not hold up the others.
    pub(crate) async fn write_within_credit(
        &self,
        quic: &mut wt_quic::SendStream,
        rest: &mut VecDeque<Bytes>,
        free: usize,
    ) -> Result<usize, WriteError> {
        let Some(flow) = self.flow_control() else {
            return Ok(0);
        };
        let bell = &flow.raised[Kind::Data as usize];
        let mut raised = pin!(bell.notified());
        let left: usize = rest.iter().map(Bytes::len).sum();
        let written = poll_fn(|cx| {
            loop {
                raised.as_mut().enable();
                let want = (left - free.min(left)).min(QUANTUM) as u64;
                let credit = self.with_model(|model| model.reserve(Kind::Data, want)).unwrap_or(0);
                // `credit` is at most QUANTUM.
                let mut part = prefix(rest, free.min(left) + credit as usize);
                let before: usize = part.iter().map(Bytes::len).sum();
                if before == 0 {
                    match raised.as_mut().poll(cx) {
                        Poll::Pending => return Poll::Pending,
                        Poll::Ready(()) => raised.set(bell.notified()),
                    }
                    continue;
                }
                let polled = pin!(quic.write_chunks(&mut part)).poll(cx);
                let written = before - part.iter().map(Bytes::len).sum::<usize>();
                let body = (written - written.min(free)) as u64;
                self.give_back(Kind::Data, credit - body);
                return polled.map_ok(|_| written);
            }
        })
        .await?;
        advance(rest, written);
        Ok(written)
    }

    /// The peer opened a stream; false when it was not allowed to, which ends the session.
    pub(crate) fn admit_stream(&self, bidirectional: bool) -> bool {
        let checked = self.with_model(|model| model.receive_stream(bidirectional));
        !self.end_if_violated(checked)
    }

    /// A stream of the peer is closed in every direction.
    pub(crate) fn grant_stream(&self, bidirectional: bool) {
        self.with_model(|model| model.stream_closed(bidirectional));
    }

    /// Bytes of a stream arrived.
    pub(crate) fn count_received(&self, bytes: usize) {
        let checked = self.with_model(|model| model.receive_data(bytes as u64));
        self.end_if_violated(checked);
    }

    /// Bytes that had arrived were taken by the application, or dropped.
    pub(crate) fn grant_data(&self, bytes: usize) {
        if self.flow_control().is_some() && bytes > 0 {
            let round_trip = self.connection().quic().rtt();
            let now = self.connection().driver().now();
            self.with_model(|model| model.consume_data(bytes as u64, now, round_trip));
        }
    }

    /// A receiving half ended before all of it was read; `is_stopped`: by this side.
    pub(crate) fn grant_lost_stream(&self, is_stopped: bool) {
        self.with_model(|model| model.stream_lost(is_stopped));
    }

    // For the CONNECT stream's task.

    /// The next capsule for the peer, made from the latest numbers.
    pub(crate) fn next_credit_capsule(&self) -> Option<Capsule> {
        self.flow_control()?.model.lock().poll_capsule()
    }

    /// A capsule of flow control from the peer.
    pub(crate) fn take_credit_capsule(&self, capsule: &Capsule) -> Result<(), StreamError> {
        if let Some(Some(kind)) = self.with_model(|model| model.handle_capsule(capsule)).transpose()? {
            self.raised(kind);
            self.changed();
        }
        Ok(())
    }
}

/// The right to open one stream. Given back when it is dropped unspent.
#[derive(Debug)]
pub(crate) struct StreamCredit {
    session: Option<Arc<Session>>,
    kind: Kind,
}

impl StreamCredit {
    /// The stream is open.
    pub(crate) fn spend(mut self) {
        self.session = None;
    }
}

impl Drop for StreamCredit {
    fn drop(&mut self) {
        if let Some(session) = self.session.take() {
            session.give_back(self.kind, 1);
        }
    }
}

/// The first `len` bytes of `chunks`, shared.
fn prefix(chunks: &VecDeque<Bytes>, mut len: usize) -> Vec<Bytes> {
    let mut first = Vec::new();
    for chunk in chunks {
        if len == 0 {
            break;
        }
        let take = len.min(chunk.len());
        first.push(chunk.slice(..take));
        len -= take;
    }
    first
}

/// Drop the first `len` bytes of `chunks`.
fn advance(chunks: &mut VecDeque<Bytes>, mut len: usize) {
    while let Some(first) = chunks.front_mut() {
        if first.len() > len {
            return drop(first.split_to(len));
        }
        len -= first.len();
        chunks.pop_front();
    }
}
