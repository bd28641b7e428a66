//! The receiving half of a stream: bounded read-ahead on the I/O side, synchronous reads on the application's side.
//!
//! The pump keeps at most `stream_buffer_size` bytes (plus one batch) ready; QUIC's flow control stops the peer when nobody
//! reads. After the session ended the pump goes on with what QUIC has received already and then ends the stream with the
//! session's close, so that nothing that arrived is lost.

use std::{collections::VecDeque, sync::Arc, time::Duration};

use bytes::{Bytes, BytesMut};
use parking_lot::Mutex;
use tokio::sync::Notify;
use wt_proto::error_code::{Code, to_http};
use wt_quic::ReadError;

use crate::{
    bridge::ring::{WaitPoint, WaitQueue, WaitTimes, timed_wait_point, wait_point},
    config::CLOSE_ANSWER_TIMEOUT,
    driver::{Either, poll_once, select},
    error::StreamEnd,
    session::{Half, Session},
};

/// Chunks taken from QUIC at once: 64 packets of 1 400 bytes are 90 KiB.
const BATCH: usize = 64;

/// Of those, the ones for which there is room at first.
const FEW: usize = 4;

/// Pieces below this size are copied together. A piece keeps the packet it came in, or a whole batch of packets, in memory:
/// a peer that sends single bytes would make the read-ahead a thousand times as large as it counts.
const SMALL: usize = 1024;

/// How long a stream is still read after the peer's CLOSE, which may overtake data that was sent before it. The peer's
/// reset usually ends it within a round trip.
const LATE_DATA: Duration = CLOSE_ANSWER_TIMEOUT;

/// Every so many reads that did not wait the reader is sent through the event loop once.
const YIELD_INTERVAL: u32 = 256;

/// Where the receiving half stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RecvState {
    /// More may come.
    Open,
    /// The application has read the end of the stream.
    Finished,
    /// Reset by the peer.
    Reset,
    /// Stopped by this side.
    Stopped,
    /// The session or its connection ended first.
    Closed,
}

impl RecvState {
    /// The name the binding shows.
    pub fn name(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::Finished => "finished",
            Self::Reset => "reset",
            Self::Stopped => "stopped",
            Self::Closed => "closed",
        }
    }
}

/// The receiving half of one stream, shared by the application and its pump.
#[derive(Debug)]
pub struct RecvStream {
    id: u64,
    session: Arc<Session>,
    ahead: Mutex<ReadAhead>,
    bell: Notify,
    /// Waiters for data and for the end.
    progress: WaitQueue,
    waits: WaitTimes,
}

#[derive(Debug, Default)]
struct ReadAhead {
    chunks: VecDeque<Bytes>,
    /// Small pieces, behind the chunks.
    tail: BytesMut,
    /// Bytes in both.
    buffered: usize,
    bytes_read: u64,
    hits: u32,
    /// How it ended at the transport; the application sees it after the buffered bytes.
    end: Option<End>,
    /// The application has seen the end.
    end_seen: bool,
    stop: Option<Code>,
    pump_waits: bool,
    /// Too many streams wait to be accepted before this one.
    is_held: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum End {
    Finished,
    Early(StreamEnd),
}

impl RecvStream {
    /// A stream whose first bytes, which came with its header, are `rest`; run [`pump`] with it.
    pub(crate) fn new(id: u64, session: Arc<Session>, rest: Bytes) -> Arc<Self> {
        let mut ahead = ReadAhead::default();
        session.stream_unread(rest.len());
        ahead.push(rest);
        Arc::new(Self {
            id,
            session,
            ahead: Mutex::new(ahead),
            bell: Notify::new(),
            progress: WaitQueue::default(),
            waits: WaitTimes::default(),
        })
    }

    /// How long readers have waited.
    pub fn waits(&self) -> &WaitTimes {
        &self.waits
    }

    /// The QUIC stream id.
    pub fn id(&self) -> u64 {
        self.id
    }

    /// Where it stands, as the application sees it.
    pub fn state(&self) -> RecvState {
        let ahead = self.ahead.lock();
        match &ahead.end {
            Some(End::Finished) if ahead.end_seen => RecvState::Finished,
            Some(End::Early(StreamEnd::Reset(_))) if ahead.buffered == 0 => RecvState::Reset,
            Some(End::Early(StreamEnd::Local(_))) => RecvState::Stopped,
            Some(End::Early(_)) if ahead.buffered == 0 => RecvState::Closed,
            _ => RecvState::Open,
        }
    }

    /// What ended the stream early.
    pub fn end(&self) -> Option<StreamEnd> {
        match &self.ahead.lock().end {
            Some(End::Early(end)) => Some(end.clone()),
            _ => None,
        }
    }

    /// Bytes read by the application.
    pub fn bytes_received(&self) -> u64 {
        self.ahead.lock().bytes_read
    }

    /// Bytes that can be read without waiting.
    pub fn buffered(&self) -> usize {
        self.ahead.lock().buffered
    }

    /// Take up to `max` bytes as the chunks in which they arrived; an empty list is the end of the stream, None means
    /// that there is nothing yet (or that it is time to let others run).
    pub fn try_read(&self, max: usize) -> Result<Option<Chunks>, StreamEnd> {
        let mut ahead = self.ahead.lock();
        if ahead.buffered == 0 {
            ahead.hits = 0;
            let end = ahead.end.clone();
            return match end {
                None => Ok(None),
                Some(End::Finished) => {
                    ahead.end_seen = true;
                    drop(ahead);
                    self.progress.notify_all(self.session.port());
                    Ok(Some(Chunks::default()))
                }
                Some(End::Early(end)) => Err(end),
            };
        }
        ahead.hits += 1;
        if ahead.hits.is_multiple_of(YIELD_INTERVAL) {
            return Ok(None);
        }
        let taken = ahead.take(max);
        let resume = ahead.pump_waits && ahead.buffered <= self.session.limits().stream_buffer_size / 2;
        if resume {
            ahead.pump_waits = false;
        }
        drop(ahead);
        // The caller is about to do it.
        self.session.port().stats.bytes_copied.add(taken.len as u64);
        self.session.stream_read(taken.len);
        if resume {
            self.bell.notify_one();
        }
        Ok(Some(taken))
    }

    /// Drop what is buffered and send STOP_SENDING with an application code. Harmless when it has ended.
    pub fn stop(&self, code: u32) {
        let mut ahead = self.ahead.lock();
        let dropped = ahead.clear();
        if ahead.end.is_none() {
            ahead.stop = Some(to_http(code));
        }
        if ahead.end != Some(End::Finished) || !ahead.end_seen {
            // A finished stream that nobody read to its end counts as stopped too.
            if !matches!(ahead.end, Some(End::Early(_))) {
                ahead.end = Some(End::Early(StreamEnd::Local("it was stopped by this side")));
            }
        }
        drop(ahead);
        self.session.stream_read(dropped);
        self.bell.notify_one();
        self.progress.notify_all(self.session.port());
    }

    /// Read nothing more until [`release`](Self::release): a stream that is not read keeps its credit, so that a session that
    /// accepts no streams holds no more of them than the peer may have open.
    pub(crate) fn hold(&self) {
        self.ahead.lock().is_held = true;
    }

    /// The application is about to accept it.
    pub(crate) fn release(&self) {
        if std::mem::take(&mut self.ahead.lock().is_held) {
            self.bell.notify_one();
        }
    }

    /// The session ended: finish with what is there.
    pub(crate) fn session_closed(&self) {
        self.bell.notify_one();
    }

    /// Ready when there is something to read, or the end.
    pub fn readable(self: &Arc<Self>) -> Box<dyn WaitPoint> {
        timed_wait_point(
            self.clone(),
            |this| &this.progress,
            |this| {
                let ahead = this.ahead.lock();
                ahead.buffered > 0 || ahead.end.is_some()
            },
            |this| Some(&this.waits),
        )
    }

    /// Ready when the state is no longer open.
    pub fn ended(self: &Arc<Self>) -> Box<dyn WaitPoint> {
        wait_point(
            self.clone(),
            |this| &this.progress,
            |this| this.state() != RecvState::Open,
        )
    }

    /// Take what came with the first chunk too. Not in [`pump`]: a task that waits holds no batch.
    fn push_batch(&self, first: Bytes, quic: &mut wt_quic::RecvStream) {
        // A small message is one chunk: room for a whole batch would cost more than the message.
        let mut few: [Bytes; FEW] = std::array::from_fn(|_| Bytes::new());
        few[0] = first;
        let count = 1 + quic.try_read_chunks(&mut few[1..]);
        self.push(&mut few[..count]);
        if count == FEW {
            let mut many: [Bytes; BATCH - FEW] = std::array::from_fn(|_| Bytes::new());
            let count = quic.try_read_chunks(&mut many);
            self.push(&mut many[..count]);
        }
    }

    fn push(&self, chunks: &mut [Bytes]) {
        if chunks.is_empty() {
            return;
        }
        let bytes: usize = chunks.iter().map(Bytes::len).sum();
        self.session.stream_unread(bytes);
        {
            let mut ahead = self.ahead.lock();
            if ahead.stop.is_some() {
                drop(ahead);
                self.session.stream_read(bytes);
                return;
            }
            chunks.iter_mut().for_each(|chunk| ahead.push(std::mem::take(chunk)));
        }
        self.progress.notify_all(self.session.port());
    }

    fn finish(&self, end: End) {
        {
            let mut ahead = self.ahead.lock();
            if ahead.end.is_none() {
                ahead.end = Some(end);
            }
        }
        self.progress.notify_all(self.session.port());
    }
}

impl ReadAhead {
    fn push(&mut self, chunk: Bytes) {
        if chunk.is_empty() {
            return;
        }
        // A piece that nothing waits behind is soon read, so it need not be copied.
        let is_first = self.buffered == 0;
        self.buffered += chunk.len();
        if chunk.len() < SMALL && !is_first {
            self.tail.extend_from_slice(&chunk);
        } else {
            self.close_tail();
            self.chunks.push_back(chunk);
        }
    }

    /// Make the small pieces a chunk like the others.
    fn close_tail(&mut self) {
        if !self.tail.is_empty() {
            self.chunks.push_back(self.tail.split().freeze());
        }
    }

    fn take(&mut self, max: usize) -> Chunks {
        let mut taken = Chunks::default();
        self.close_tail();
        while let Some(front) = self.chunks.front_mut() {
            let room = max - taken.len;
            if room == 0 {
                break;
            }
            let chunk = if front.len() <= room {
                self.chunks.pop_front()
            } else {
                Some(front.split_to(room))
            };
            let Some(chunk) = chunk else { break };
            taken.len += chunk.len();
            taken.list.push(chunk);
        }
        self.buffered -= taken.len;
        self.bytes_read += taken.len as u64;
        taken
    }

    fn clear(&mut self) -> usize {
        self.chunks.clear();
        self.tail = BytesMut::new();
        std::mem::take(&mut self.buffered)
    }
}

/// Bytes in the pieces in which they arrived; the reader joins them with one copy.
#[derive(Debug, Default)]
pub struct Chunks {
    list: Vec<Bytes>,
    len: usize,
}

impl Chunks {
    /// Their sum in bytes.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether this is the end of the stream.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The pieces in order.
    pub fn iter(&self) -> impl Iterator<Item = &Bytes> {
        self.list.iter()
    }
}

/// Move a stream's data from QUIC into the read-ahead until it ends. One task per receiving half.
pub(crate) async fn pump(stream: Arc<RecvStream>, mut quic: wt_quic::RecvStream) {
    let mut after_end = None;
    let errored = loop {
        let full = {
            let mut ahead = stream.ahead.lock();
            if let Some(code) = ahead.stop {
                drop(ahead);
                quic.stop(code.0);
                stream.session.grant_lost_stream(true);
                break true;
            }
            // After the end everything is taken at once: QUIC drops what it holds when the peer's reset comes.
            let is_full = ahead.is_held || ahead.buffered >= stream.session.limits().stream_buffer_size;
            ahead.pump_waits = is_full && !stream.session.has_ended();
            ahead.pump_waits
        };
        if full {
            stream.bell.notified().await;
            continue;
        }
        let read = if stream.session.has_ended() {
            let late = after_end.get_or_insert_with(|| stream.session.connection().driver().sleep(LATE_DATA));
            let read = if stream.session.closed_by_peer() {
                match select(quic.read_chunk(), late).await {
                    Either::Left(read) => Some(read),
                    Either::Right(()) => None,
                }
            } else {
                poll_once(quic.read_chunk()).await
            };
            match read {
                Some(read) => read,
                None => {
                    // Draft-16 section 4.7: on session termination the endpoint MUST stop every receive side.
                    quic.stop(Code::WT_SESSION_GONE.0);
                    stream.finish(End::Early(StreamEnd::SessionClosed(
                        stream.session.close_info_after_end().await,
                    )));
                    break false;
                }
            }
        } else {
            match select(quic.read_chunk(), stream.bell.notified()).await {
                Either::Left(read) => read,
                Either::Right(()) => continue,
            }
        };
        match read {
            Ok(Some(first)) => stream.push_batch(first, &mut quic),
            Ok(None) => {
                stream.finish(End::Finished);
                break false;
            }
            Err(ReadError::Reset(code)) if code == Code::WT_SESSION_GONE.0 => {
                // The peer's way to say that the session ended; the CLOSE that says why may still be under way.
                let info = stream.session.close_info_or_gone().await;
                stream.finish(End::Early(StreamEnd::SessionClosed(info)));
                break false;
            }
            Err(ReadError::Reset(code)) => {
                stream.session.grant_lost_stream(false);
                stream.finish(End::Early(StreamEnd::Reset(code)));
                break true;
            }
            Err(ReadError::ConnectionLost | ReadError::Closed) => {
                let info = stream.session.close_info_after_end().await;
                stream.finish(End::Early(StreamEnd::SessionClosed(info)));
                break false;
            }
        }
    };
    stream.session.recv_half_done(stream.id, errored);
    stream.session.release(stream.id, Half::Recv);
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn single_bytes_do_not_keep_their_packets() {
        let mut ahead = ReadAhead::default();
        for _ in 0..100_000 {
            let packet = Bytes::from(vec![7; 1200]);
            ahead.push(packet.slice(..1));
        }
        assert_eq!((ahead.buffered, ahead.chunks.len()), (100_000, 1));
        assert!(ahead.tail.capacity() <= 2 * 100_000, "{}", ahead.tail.capacity());
        assert_eq!(ahead.clear(), 100_000);
        assert_eq!(ahead.tail.capacity(), 0);
    }

    proptest! {
        #[test]
        fn bytes_leave_in_their_order(steps in proptest::collection::vec((0usize..3 * SMALL, 0usize..4 * SMALL), 0..40)) {
            let mut ahead = ReadAhead::default();
            let (mut pushed, mut taken) = (Vec::new(), Vec::new());
            for (push, take) in steps {
                let chunk: Vec<u8> = (0..push).map(|index| (pushed.len() + index) as u8).collect();
                pushed.extend_from_slice(&chunk);
                ahead.push(chunk.into());
                let before = taken.len();
                ahead.take(take).iter().for_each(|chunk| taken.extend_from_slice(chunk));
                prop_assert_eq!(taken.len() - before, take.min(pushed.len() - before));
                prop_assert_eq!(ahead.buffered, pushed.len() - taken.len());
            }
            ahead.take(usize::MAX).iter().for_each(|chunk| taken.extend_from_slice(chunk));
            prop_assert_eq!(taken, pushed);
        }
    }
}
