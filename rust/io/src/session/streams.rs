//! The streams of a session: opening and accepting them, and what each of their halves still has to do.

use std::sync::{
    Arc,
    atomic::Ordering::{AcqRel, Acquire, Relaxed, Release},
};

use bytes::{Bytes, BytesMut};
use wt_proto::{
    dialect::Role,
    error_code::Code,
    stream_header::{encode_bi_header, encode_uni_header},
};

use super::{Session, SessionState, clamp};
use crate::{
    bridge::ring::{WaitPoint, wait_point},
    error::OpenError,
    operation::Operation,
    recv_stream::{self, RecvStream},
    send_stream::{self, SendStream},
};

/// One direction of a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Half {
    Send,
    Recv,
}

/// Counts a caller that waits for the peer's limit, for as long as it does.
struct Opening {
    session: Arc<Session>,
    bidirectional: bool,
}

impl Opening {
    fn new(session: Arc<Session>, bidirectional: bool) -> Self {
        session.openings[usize::from(bidirectional)].fetch_add(1, AcqRel);
        Self { session, bidirectional }
    }
}

impl Drop for Opening {
    fn drop(&mut self) {
        self.session.openings[usize::from(self.bidirectional)].fetch_sub(1, AcqRel);
    }
}

/// A stream of the peer, or one that was opened.
#[derive(Debug, Clone)]
pub enum Stream {
    /// Both directions.
    Bidirectional(Arc<SendStream>, Arc<RecvStream>),
    /// Opened by this side.
    Send(Arc<SendStream>),
    /// Opened by the peer.
    Recv(Arc<RecvStream>),
}

impl Stream {
    /// Reset and stop it: nobody wants it.
    pub(crate) fn turn_away(&self) {
        let (send, recv) = match self {
            Self::Bidirectional(send, recv) => (Some(send), Some(recv)),
            Self::Send(send) => (Some(send), None),
            Self::Recv(recv) => (None, Some(recv)),
        };
        if let Some(send) = send {
            send.reset(0);
        }
        if let Some(recv) = recv {
            recv.stop(0);
        }
    }
}

/// QUIC's side of a stream whose header is known, on its way to its session.
#[derive(Debug)]
pub(crate) struct Arrived {
    pub(crate) send: Option<wt_quic::SendStream>,
    pub(crate) recv: wt_quic::RecvStream,
    /// What came with the header.
    pub(crate) rest: Bytes,
}

#[derive(Debug)]
pub(super) struct Entry {
    pub(super) send: Option<Arc<SendStream>>,
    pub(super) recv: Option<Arc<RecvStream>>,
    send_done: bool,
    recv_done: bool,
    errored: bool,
}

impl Session {
    /// Open a stream if the peer's limit allows one more right now and nobody waits for that already.
    pub fn try_open(self: &Arc<Self>, bidirectional: bool) -> Result<Option<Stream>, OpenError> {
        self.check_open()?;
        if self.openings[usize::from(bidirectional)].load(Acquire) > 0 {
            return Ok(None);
        }
        let Some(credit) = self.try_stream_credit(bidirectional) else {
            return Ok(None);
        };
        let quic = self.connection.quic();
        let opened = if bidirectional {
            wt_quic::try_open_bi(quic, DROP_CODE).map(|opened| opened.map(|(send, recv)| (send, Some(recv))))
        } else {
            wt_quic::try_open_uni(quic, DROP_CODE).map(|opened| opened.map(|send| (send, None)))
        };
        match opened {
            None => Ok(None),
            Some(Ok((send, recv))) => {
                credit.spend();
                Ok(Some(self.begin(send, recv)))
            }
            Some(Err(_)) => Err(OpenError::SessionClosed(self.close_info())),
        }
    }

    /// Open a stream; waits for the peer's limit. First come, first served.
    ///
    /// # Cancel safety
    /// Dropping it before the end opens nothing.
    pub(crate) async fn open(self: &Arc<Self>, bidirectional: bool) -> Result<Stream, OpenError> {
        self.check_open()?;
        let quic = self.connection.quic();
        // A stream needs both credits (draft-16 section 5.3). The session's first: it is the one that can be given back.
        let opened = async {
            let credit = self.stream_credit(bidirectional).await;
            let opened = if bidirectional {
                let opened = wt_quic::open_bi(quic, DROP_CODE).await;
                opened.map(|(send, recv)| (send, Some(recv)))
            } else {
                wt_quic::open_uni(quic, DROP_CODE).await.map(|send| (send, None))
            };
            opened.map(|opened| (opened, credit))
        };
        match crate::driver::select(opened, self.end.passed()).await {
            crate::driver::Either::Left(Ok(((send, recv), credit))) => {
                credit.spend();
                self.check_open()?;
                Ok(self.begin(send, recv))
            }
            _ => Err(OpenError::SessionClosed(self.close_info())),
        }
    }

    /// Open a stream when the peer allows one more: a place in the queue for stream credit.
    pub fn openable(self: &Arc<Self>, bidirectional: bool) -> Arc<Operation<Result<Stream, OpenError>>> {
        let counted = Opening::new(self.clone(), bidirectional);
        let opened = async move { counted.session.open(bidirectional).await };
        Operation::start(self.connection.driver(), self.port().clone(), opened, |opened| {
            if let Ok(stream) = opened {
                stream.turn_away();
            }
        })
    }

    /// An opening that failed counts as a stream error.
    pub fn count_failed_opening(&self) {
        self.stats.stream_errors.add(1);
    }

    /// The next stream that the peer opened.
    pub fn try_accept(&self) -> Result<Option<Stream>, OpenError> {
        let mut accepted = self.accepted.lock();
        match accepted.pop_front() {
            Some(stream) => {
                if let Some(Stream::Bidirectional(_, recv) | Stream::Recv(recv)) = accepted.get(self.accept_bound() - 1)
                {
                    recv.release();
                }
                Ok(Some(stream))
            }
            None if self.state() >= SessionState::Closing => Err(OpenError::SessionClosed(self.close_info())),
            None => Ok(None),
        }
    }

    /// The application has let the session go: streams that it did not accept are turned away, now and later. Otherwise they
    /// and the session would keep each other for ever.
    pub fn abandon(&self) {
        self.abandoned.store(true, Release);
        let unwanted = std::mem::take(&mut *self.accepted.lock());
        unwanted.iter().for_each(Stream::turn_away);
    }

    /// Streams that are read before they are accepted; further ones wait unread.
    fn accept_bound(&self) -> usize {
        clamp(self.limits().max_incoming_streams).max(1)
    }

    /// Whether somebody waits for a stream already.
    pub fn has_accept_waiters(&self) -> bool {
        self.acceptable.has_waiters()
    }

    /// Ready when a stream of the peer waits, or the session is closing.
    pub fn acceptable(self: &Arc<Self>) -> Box<dyn WaitPoint> {
        wait_point(
            self.clone(),
            |this| &this.acceptable,
            |this| !this.accepted.lock().is_empty() || this.state() >= SessionState::Closing,
        )
    }

    fn check_open(&self) -> Result<(), OpenError> {
        if self.is_connected() {
            Ok(())
        } else {
            Err(OpenError::SessionClosed(self.close_info()))
        }
    }

    /// A stream that this side opened: its header is the first thing on it.
    fn begin(self: &Arc<Self>, quic_send: wt_quic::SendStream, quic_recv: Option<wt_quic::RecvStream>) -> Stream {
        let mut header = BytesMut::with_capacity(16);
        match quic_recv {
            Some(_) => encode_bi_header(self.id, &mut header),
            None => encode_uni_header(self.id, &mut header),
        }
        let id = quic_send.id();
        let send = SendStream::new(id, self.clone(), header.freeze());
        let recv = quic_recv
            .as_ref()
            .map(|_| RecvStream::new(id, self.clone(), Bytes::new()));
        self.register(id, Some(send.clone()), recv.clone());
        let driver = self.connection.driver();
        driver.spawn(send_stream::pump(send.clone(), quic_send));
        match (recv, quic_recv) {
            (Some(recv), Some(quic_recv)) => {
                driver.spawn(recv_stream::pump(recv.clone(), quic_recv));
                Stream::Bidirectional(send, recv)
            }
            _ => Stream::Send(send),
        }
    }

    /// A stream of the peer. The caller runs the pump of the receiving half that it gets; None: the peer had no right to open
    /// it.
    pub(crate) fn arrive(self: &Arc<Self>, arrived: Arrived) -> Option<(Arc<RecvStream>, wt_quic::RecvStream)> {
        let id = arrived.recv.id();
        if !self.admit_stream(arrived.send.is_some()) {
            reject(arrived, Code::WT_SESSION_GONE);
            return None;
        }
        let recv = RecvStream::new(id, self.clone(), arrived.rest);
        let stream = match arrived.send {
            Some(quic_send) => {
                let send = SendStream::new(id, self.clone(), Bytes::new());
                self.register(id, Some(send.clone()), Some(recv.clone()));
                self.connection
                    .driver()
                    .spawn(send_stream::pump(send.clone(), quic_send));
                Stream::Bidirectional(send, recv.clone())
            }
            None => {
                self.register(id, None, Some(recv.clone()));
                Stream::Recv(recv.clone())
            }
        };
        {
            let mut accepted = self.accepted.lock();
            accepted.push_back(stream);
            if accepted.len() > self.accept_bound() {
                recv.hold();
            }
        }
        self.acceptable.notify_one(self.port());
        if self.abandoned.load(Acquire) {
            self.abandon();
        }
        Some((recv, arrived.recv))
    }

    fn register(&self, id: u64, send: Option<Arc<SendStream>>, recv: Option<Arc<RecvStream>>) {
        self.stats.streams_created.add(1);
        match (&send, &recv) {
            (Some(_), Some(_)) => self.stats.bidirectional_streams.add(1),
            _ => self.stats.unidirectional_streams.add(1),
        }
        let entry = Entry {
            send_done: send.is_none(),
            recv_done: recv.is_none(),
            send,
            recv,
            errored: false,
        };
        self.streams.lock().insert(id, entry);
    }

    /// The sending half is done: all with QUIC, or ended early.
    pub(crate) fn send_half_done(&self, id: u64, errored: bool) {
        self.half_done(id, Half::Send, errored);
    }

    /// The receiving half is done: everything up to its end has arrived, or it ended early.
    pub(crate) fn recv_half_done(&self, id: u64, errored: bool) {
        self.half_done(id, Half::Recv, errored);
    }

    fn half_done(&self, id: u64, half: Half, errored: bool) {
        let mut streams = self.streams.lock();
        let Some(entry) = streams.get_mut(&id) else { return };
        if errored && !entry.errored {
            entry.errored = true;
            self.stats.stream_errors.add(1);
        }
        if let (Half::Recv, false, Some(send)) = (half, errored, &entry.send) {
            send.peer_finished();
        }
        let done = match half {
            Half::Send => &mut entry.send_done,
            Half::Recv => &mut entry.recv_done,
        };
        // A half may end twice: finished first, stopped by the peer later. It counts once.
        if !std::mem::replace(done, true) && entry.send_done && entry.recv_done {
            self.stats.streams_closed.add(1);
            drop(streams);
            if self.is_of_peer(id) {
                self.grant_stream(is_bidirectional(id));
            }
        }
    }

    fn is_of_peer(&self, id: u64) -> bool {
        // RFC 9000 section 2.1: the lowest bit says who opened it, 0 for the client.
        let by_server = id & 1 == 1;
        by_server == (self.connection.role() == Role::Client)
    }

    /// The pump of a half has ended: nothing waits for it any more.
    pub(crate) fn release(&self, id: u64, half: Half) {
        {
            let mut streams = self.streams.lock();
            let Some(entry) = streams.get_mut(&id) else { return };
            match half {
                Half::Send => entry.send = None,
                Half::Recv => entry.recv = None,
            }
            if entry.send.is_none() && entry.recv.is_none() {
                streams.remove(&id);
            }
        }
        self.flush_progress();
    }

    pub(crate) fn stream_queued(&self, bytes: usize) {
        self.port().stats.bytes_copied.add(bytes as u64);
        self.queued.fetch_add(bytes, Relaxed);
        self.connection.touch();
    }

    pub(crate) fn stream_unqueued(&self, bytes: usize) {
        // Stream headers are in the stream's queue but not in this sum.
        let _ = self
            .queued
            .fetch_update(Relaxed, Relaxed, |queued| Some(queued.saturating_sub(bytes)));
    }

    pub(crate) fn stream_unread(&self, bytes: usize) {
        self.unread.fetch_add(bytes, Relaxed);
        self.count_received(bytes);
        self.connection.touch();
    }

    pub(crate) fn stream_read(&self, bytes: usize) {
        self.unread.fetch_sub(bytes, Relaxed);
        self.grant_data(bytes);
    }

    /// Wait until everything that was accepted is with the peer (streams that were finished) or at least with QUIC (the
    /// others, and datagrams). The caller bounds the wait.
    pub(crate) async fn flushed(&self) {
        loop {
            let flushed = self.datagrams_flushed()
                && self
                    .streams
                    .lock()
                    .values()
                    .all(|entry| entry.send.as_ref().is_none_or(|send| send.is_flushed()));
            if flushed {
                return;
            }
            self.flush_bell.notified().await;
        }
    }

    /// Whether a stream was written to and not finished: only QUIC knows how much of it the peer has.
    pub(crate) fn has_unfinished_data(&self) -> bool {
        self.streams
            .lock()
            .values()
            .any(|entry| entry.send.as_ref().is_some_and(|send| send.is_unfinished()))
    }
}

/// What a stream half is reset or stopped with when its pump is dropped: a panic, or a driver that was shut down.
pub(crate) const DROP_CODE: u64 = Code::WT_SESSION_GONE.0;

/// Turn a stream away that is nobody's.
pub(crate) fn reject(arrived: Arrived, code: Code) {
    let Arrived { send, mut recv, .. } = arrived;
    recv.stop(code.0);
    if let Some(mut send) = send {
        send.reset(code.0);
    }
}

/// RFC 9000 section 2.1: the second lowest bit of a stream id.
fn is_bidirectional(id: u64) -> bool {
    id & 2 == 0
}
