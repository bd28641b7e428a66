//! The sending half of a stream: a budgeted queue on the application's side, a pump on the I/O side.
//!
//! `write` copies into the queue and rings the pump; nothing waits for a reply. The pump hands chunks to QUIC, carries out
//! finish and reset, and sees STOP_SENDING also while nobody writes. It keeps running after the FIN until everything is
//! acknowledged, so that a session close can wait for that.

use std::{
    collections::VecDeque,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicI32, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use bytes::{Bytes, BytesMut};
use parking_lot::Mutex;
use tokio::sync::Notify;
use wt_proto::error_code::{Code, to_http};
use wt_quic::{Stopped, WriteError};

use crate::{
    bridge::ring::{WaitPoint, WaitQueue, WaitTimes, timed_wait_point, wait_point},
    driver::{Either, select},
    error::StreamEnd,
    session::{Half, Session},
};

/// Writes from this size on get an allocation of their own; smaller ones share one, which QUIC frees when all are acknowledged.
const OWN_ALLOCATION: usize = 16 << 10;

/// What small writes share.
const SHARED_ALLOCATION: usize = 4 << 10;

/// Every so many writes the caller is told to let the event loop run.
const YIELD_INTERVAL: u64 = 256;

/// What applications may give: the numbers outside are the CONNECT streams', which go before everything while the session
/// lives, and behind everything with its CLOSE.
const LOWEST_PRIORITY: i32 = i32::MIN + 1;
const HIGHEST_PRIORITY: i32 = i32::MAX - 1;

/// Where the sending half stands; only forward.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum SendState {
    /// Accepts data.
    Open,
    /// FIN accepted, not all handed to QUIC yet.
    Finished,
    /// All data and the FIN are with QUIC.
    Sent,
    /// The peer acknowledged everything.
    Acknowledged,
    /// Reset by this side.
    Reset,
    /// Stopped by the peer.
    Stopped,
    /// The session or its connection ended first.
    Closed,
}

impl SendState {
    /// The name the binding shows.
    pub fn name(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::Finished => "finished",
            Self::Sent => "sent",
            Self::Acknowledged => "acknowledged",
            Self::Reset => "reset",
            Self::Stopped => "stopped",
            Self::Closed => "closed",
        }
    }
}

/// What became of a write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Written {
    /// Accepted.
    Sent,
    /// Accepted; many in a row did not wait, so let others run.
    SentYield,
    /// Nothing was taken: the queue is above its high-water mark.
    NoRoom,
}

/// The sending half of one stream, shared by the application and its pump.
#[derive(Debug)]
pub struct SendStream {
    id: u64,
    session: Arc<Session>,
    queue: Mutex<Queue>,
    /// For the pump, which tells QUIC.
    priority: AtomicI32,
    /// All that the peer sends on this stream has arrived.
    peer_finished: AtomicBool,
    bell: Notify,
    /// Waiters for room, for an empty queue and for the end: all are woken by any progress.
    progress: WaitQueue,
    waits: WaitTimes,
}

#[derive(Debug)]
struct Queue {
    /// Goes out before everything, also before a reset: without it the peer never learns whose stream it is.
    header: Bytes,
    chunks: Vec<Bytes>,
    shared: BytesMut,
    buffered: usize,
    bytes_sent: u64,
    writes: u64,
    state: SendState,
    /// Set with [`SendState::Reset`]; the pump carries it out.
    reset: Option<Code>,
    end: Option<StreamEnd>,
}

impl SendStream {
    /// A stream whose first bytes are `header`; run [`pump`] with it.
    pub(crate) fn new(id: u64, session: Arc<Session>, header: Bytes) -> Arc<Self> {
        let buffered = header.len();
        Arc::new(Self {
            id,
            session,
            queue: Mutex::new(Queue {
                header,
                chunks: Vec::new(),
                shared: BytesMut::new(),
                buffered,
                bytes_sent: 0,
                writes: 0,
                state: SendState::Open,
                reset: None,
                end: None,
            }),
            priority: AtomicI32::new(0),
            peer_finished: AtomicBool::new(false),
            bell: Notify::new(),
            progress: WaitQueue::default(),
            waits: WaitTimes::default(),
        })
    }

    /// How long writers have waited.
    pub fn waits(&self) -> &WaitTimes {
        &self.waits
    }

    /// The QUIC stream id.
    pub fn id(&self) -> u64 {
        self.id
    }

    /// Where it stands.
    pub fn state(&self) -> SendState {
        self.queue.lock().state
    }

    /// Its place among the streams of the connection, see [`SendStream::set_priority`].
    pub fn priority(&self) -> i32 {
        self.priority.load(Relaxed)
    }

    /// The W3C API's send order: of the streams that have something to send, those with the largest number go first, and
    /// those with the same number take turns. 0 at first. QUIC orders what it has taken already by it, too.
    ///
    /// Numbers at the ends of the range are for the CONNECT streams; such a number is moved inside.
    pub fn set_priority(&self, priority: i32) {
        let priority = priority.clamp(LOWEST_PRIORITY, HIGHEST_PRIORITY);
        self.priority.store(priority, Relaxed);
        self.bell.notify_one();
    }

    /// Whether everything up to the peer's FIN has arrived on the other half: what is written now is the answer to it.
    pub fn peer_has_finished(&self) -> bool {
        self.peer_finished.load(Relaxed)
    }

    pub(crate) fn peer_finished(&self) {
        self.peer_finished.store(true, Relaxed);
    }

    /// Why it cannot be written to; None while it can, and after a clean finish.
    pub fn end(&self) -> Option<StreamEnd> {
        self.queue.lock().end.clone()
    }

    /// Bytes accepted from the application.
    pub fn bytes_sent(&self) -> u64 {
        self.queue.lock().bytes_sent
    }

    /// Accepted bytes that QUIC has not taken yet.
    pub fn buffered(&self) -> usize {
        self.queue.lock().buffered
    }

    /// Queue all of `data`, and the FIN if asked to, or nothing.
    pub fn write(&self, data: &[u8], finish: bool) -> Result<Written, StreamEnd> {
        let mut queue = self.queue.lock();
        let mut whole = None;
        if data.len() >= OWN_ALLOCATION {
            if !self.takes(&queue, data)? {
                return Ok(Written::NoRoom);
            }
            // Not under the lock: the pump would have to wait for the copy, and be woken by the system.
            drop(queue);
            whole = Some(Bytes::copy_from_slice(data));
            queue = self.queue.lock();
        }
        if !self.takes(&queue, data)? {
            return Ok(Written::NoRoom);
        }
        match whole {
            Some(whole) => queue.push(whole),
            None => queue.push_copy(data),
        }
        queue.writes += 1;
        if finish {
            queue.state = SendState::Finished;
        }
        let yields = queue.writes.is_multiple_of(YIELD_INTERVAL);
        drop(queue);
        self.session.stream_queued(data.len());
        self.bell.notify_one();
        Ok(if yields { Written::SentYield } else { Written::Sent })
    }

    /// Whether there is room for `data` now; an error when there never will be.
    fn takes(&self, queue: &Queue, data: &[u8]) -> Result<bool, StreamEnd> {
        match queue.state {
            SendState::Open => Ok(data.is_empty() || queue.buffered < self.session.limits().max_stream_buffer_size),
            SendState::Finished | SendState::Sent | SendState::Acknowledged => Err(StreamEnd::Local("it was finished")),
            _ => Err(queue.end.clone().unwrap_or(StreamEnd::Local("it has ended"))),
        }
    }

    /// FIN after what was written. Harmless when it has ended.
    pub fn finish(&self) {
        let mut queue = self.queue.lock();
        if queue.state == SendState::Open {
            queue.state = SendState::Finished;
            drop(queue);
            self.bell.notify_one();
        }
    }

    /// Drop what is queued and reset with an application code. Harmless when everything was sent or it has ended.
    pub fn reset(&self, code: u32) {
        self.abort(to_http(code), SendState::Reset, StreamEnd::Local("it was reset"));
    }

    /// The session ended: RESET_STREAM with WT_SESSION_GONE (draft-16 section 4.7, "MUST reset").
    pub(crate) fn session_closed(&self, end: StreamEnd) {
        self.abort(Code::WT_SESSION_GONE, SendState::Closed, end);
    }

    fn abort(&self, code: Code, state: SendState, end: StreamEnd) {
        let mut queue = self.queue.lock();
        // With data and FIN at QUIC the pump waits for the acknowledgement only: there is nothing left to take back.
        if queue.state >= SendState::Sent {
            return;
        }
        let dropped = queue.clear();
        queue.state = state;
        queue.reset = Some(code);
        queue.end = Some(end);
        drop(queue);
        self.session.stream_unqueued(dropped);
        self.bell.notify_one();
        self.progress.notify_all(self.session.port());
    }

    /// Whether a session close need not wait for this stream any more.
    pub(crate) fn is_flushed(&self) -> bool {
        let queue = self.queue.lock();
        match queue.state {
            SendState::Open => queue.buffered == 0,
            SendState::Finished | SendState::Sent => false,
            _ => true,
        }
    }

    /// Whether data was written and the end is still open.
    pub(crate) fn is_unfinished(&self) -> bool {
        let queue = self.queue.lock();
        queue.state == SendState::Open && queue.bytes_sent > 0
    }

    /// Ready when `write` would take data or fail.
    pub fn writable(self: &Arc<Self>) -> Box<dyn WaitPoint> {
        timed_wait_point(
            self.clone(),
            |this| &this.progress,
            |this| {
                let queue = this.queue.lock();
                // Half the mark: a writer that is woken can write more than one small piece before it waits again.
                queue.state != SendState::Open || queue.buffered <= this.session.limits().max_stream_buffer_size / 2
            },
            |this| Some(&this.waits),
        )
    }

    /// Ready when QUIC has taken everything, or the stream ended.
    pub fn flushed(self: &Arc<Self>) -> Box<dyn WaitPoint> {
        timed_wait_point(
            self.clone(),
            |this| &this.progress,
            |this| {
                let queue = this.queue.lock();
                queue.buffered == 0 || queue.state >= SendState::Sent
            },
            |this| Some(&this.waits),
        )
    }

    /// Ready when the peer has acknowledged everything up to the FIN, or the stream ended otherwise.
    pub fn ended(self: &Arc<Self>) -> Box<dyn WaitPoint> {
        wait_point(
            self.clone(),
            |this| &this.progress,
            |this| this.queue.lock().state > SendState::Sent,
        )
    }

    /// QUIC took `bytes`; wake those who wait for room.
    fn taken(&self, bytes: usize) {
        let mut queue = self.queue.lock();
        // A reset in between has emptied the queue already.
        let bytes = bytes.min(queue.buffered);
        queue.buffered -= bytes;
        let low = queue.buffered <= self.session.limits().max_stream_buffer_size / 2;
        drop(queue);
        self.session.stream_unqueued(bytes);
        if low {
            self.progress.notify_all(self.session.port());
        }
        self.session.flush_progress();
    }

    /// A state that the pump found; ignored when the stream has ended already.
    fn enter(&self, state: SendState, end: Option<StreamEnd>) {
        let mut queue = self.queue.lock();
        if queue.state >= state {
            return;
        }
        queue.state = state;
        let dropped = queue.clear();
        if end.is_some() {
            queue.end = end;
        }
        drop(queue);
        self.session.stream_unqueued(dropped);
        self.progress.notify_all(self.session.port());
        self.session.flush_progress();
    }
}

impl Queue {
    fn push(&mut self, chunk: Bytes) {
        self.buffered += chunk.len();
        self.bytes_sent += chunk.len() as u64;
        self.chunks.push(chunk);
    }

    fn push_copy(&mut self, data: &[u8]) {
        if data.is_empty() {
            return;
        }
        if self.shared.capacity() < data.len() {
            self.shared = BytesMut::with_capacity(SHARED_ALLOCATION.max(data.len()));
        }
        self.shared.extend_from_slice(data);
        let chunk = self.shared.split().freeze();
        self.push(chunk);
    }

    /// Nothing is written after this.
    fn clear(&mut self) -> usize {
        self.chunks.clear();
        self.shared = BytesMut::new();
        std::mem::take(&mut self.buffered)
    }
}

/// What the pump has to do next.
enum Work {
    /// Chunks, of which the first so many bytes are the stream's header.
    Write(Vec<Bytes>, usize),
    Finish,
    Reset(Code),
    Wait,
}

/// Move a stream's data to QUIC until it has ended there. One task per sending half.
pub(crate) async fn pump(stream: Arc<SendStream>, mut quic: wt_quic::SendStream) {
    let mut stopped = std::pin::pin!(quic.stopped());
    let mut header_sent = None;
    loop {
        quic.set_priority(stream.priority());
        let work = {
            let mut queue = stream.queue.lock();
            if !queue.header.is_empty() {
                header_sent = Some(stream.session.connection().driver().now());
                let header = std::mem::take(&mut queue.header);
                let header_len = header.len();
                let mut chunks = vec![header];
                chunks.append(&mut queue.chunks);
                Work::Write(chunks, header_len)
            } else if let Some(code) = queue.reset {
                Work::Reset(code)
            } else if !queue.chunks.is_empty() {
                Work::Write(std::mem::take(&mut queue.chunks), 0)
            } else if queue.state == SendState::Finished {
                Work::Finish
            } else {
                Work::Wait
            }
        };
        let stopped = match work {
            Work::Write(chunks, header_len) => {
                let write = async {
                    if stream.session.flow_control().is_none() {
                        write(&stream, &mut quic, chunks).await
                    } else {
                        write_within_credit(&stream, &mut quic, chunks, header_len).await
                    }
                };
                // A write that credit holds up, the session's or QUIC's, need not hear of a stop. Of quinn-proto 0.11.19 it does
                // not when both the connection's and the stream's credit were used up as the stop came.
                let written = match select(write, &mut stopped).await {
                    Either::Left(written) => written,
                    Either::Right(Stopped::ByPeer(code)) => Err(WriteError::Stopped(code)),
                    Either::Right(_) => Err(WriteError::ConnectionLost),
                };
                match written {
                    Ok(()) => continue,
                    Err(WriteError::Stopped(code)) => Stopped::ByPeer(code),
                    Err(WriteError::ConnectionLost | WriteError::Closed) => Stopped::ConnectionLost,
                }
            }
            Work::Finish => {
                quic.finish();
                stream.enter(SendState::Sent, None);
                stream.session.send_half_done(stream.id, false);
                // Also when the session ends meanwhile: what was sent keeps being retransmitted, and somebody may wait to
                // hear that it arrived. The connection bounds it.
                acknowledged(&stream, &mut quic, &mut stopped).await
            }
            Work::Reset(code) => {
                if let Some(delay) = header_sent.and_then(|sent| header_delay(&stream, sent)) {
                    let _ = select(
                        stream.session.connection().driver().sleep(delay),
                        stream.session.connection().lost(),
                    )
                    .await;
                }
                quic.reset(code.0);
                stream.session.send_half_done(stream.id, code != Code::WT_SESSION_GONE);
                break;
            }
            Work::Wait => match select(stream.bell.notified(), &mut stopped).await {
                Either::Left(()) => continue,
                Either::Right(stopped) => stopped,
            },
        };
        match stopped {
            Stopped::Acknowledged => stream.enter(SendState::Acknowledged, None),
            Stopped::ByPeer(code) => {
                // RFC 9000 section 3.5: STOP_SENDING is answered with RESET_STREAM and the same code.
                quic.reset(code);
                stream.enter(SendState::Stopped, Some(StreamEnd::Stopped(code)));
                stream
                    .session
                    .send_half_done(stream.id, code != Code::WT_SESSION_GONE.0);
            }
            Stopped::ConnectionLost => {
                let info = stream.session.close_info_after_end().await;
                stream.enter(SendState::Closed, Some(StreamEnd::SessionClosed(info)));
                stream.session.send_half_done(stream.id, false);
            }
        }
        break;
    }
    stream.session.release(stream.id, Half::Send);
}

/// Wait for the end of a stream that was finished. What QUIC still holds of it may get another priority meanwhile.
async fn acknowledged(
    stream: &SendStream,
    quic: &mut wt_quic::SendStream,
    mut stopped: impl Future<Output = Stopped> + Unpin,
) -> Stopped {
    loop {
        match select(&mut stopped, stream.bell.notified()).await {
            Either::Left(stopped) => return stopped,
            Either::Right(()) => quic.set_priority(stream.priority()),
        }
    }
}

/// Hand over `chunks`, or stop early when the application resets the stream.
async fn write(stream: &SendStream, quic: &mut wt_quic::SendStream, mut chunks: Vec<Bytes>) -> Result<(), WriteError> {
    let mut rest = &mut chunks[..];
    while !rest.is_empty() {
        quic.set_priority(stream.priority());
        let before: usize = rest.iter().map(Bytes::len).sum();
        let whole = match select(quic.write_chunks(rest), stream.bell.notified()).await {
            Either::Left(result) => result?,
            // The bell rings for new data too, which the pump fetches afterwards.
            Either::Right(()) if stream.queue.lock().reset.is_some() => return Ok(()),
            Either::Right(()) => 0,
        };
        let after: usize = rest.iter().map(Bytes::len).sum();
        if after < before {
            stream.taken(before - after);
        }
        rest = &mut rest[whole..];
    }
    // The bell may have been swallowed above; the pump looks at the queue before it waits again.
    Ok(())
}

/// The same on a session with flow control; the first `header_len` bytes need no credit.
async fn write_within_credit(
    stream: &SendStream,
    quic: &mut wt_quic::SendStream,
    chunks: Vec<Bytes>,
    mut header_len: usize,
) -> Result<(), WriteError> {
    let mut rest = VecDeque::from(chunks);
    while !rest.is_empty() {
        quic.set_priority(stream.priority());
        let write = stream.session.write_within_credit(quic, &mut rest, header_len);
        match select(write, stream.bell.notified()).await {
            Either::Left(written) => {
                let written = written?;
                header_len -= header_len.min(written);
                stream.taken(written);
            }
            Either::Right(()) if stream.queue.lock().reset.is_some() => return Ok(()),
            Either::Right(()) => {}
        }
    }
    Ok(())
}

/// Without RESET_STREAM_AT a reset may overtake the stream header, and the peer never learns whose stream it was (measured:
/// 212 of 300 immediate resets; protocol.md 6). So a reset waits until 2 round trips after the header was `sent`.
fn header_delay(stream: &SendStream, sent: Instant) -> Option<Duration> {
    let connection = stream.session.connection();
    let safe = 2 * connection.quic().rtt();
    let elapsed = connection.driver().now().saturating_duration_since(sent);
    safe.checked_sub(elapsed).filter(|delay| !delay.is_zero())
}
