//! Send and receive streams that always end with a code of this side's choosing.
//!
//! quinn finishes a dropped `SendStream` (truncated data looks complete) and stops a dropped `RecvStream` with code 0,
//! which is outside the WebTransport range. These wrappers carry the code to use when they are dropped early, whatever
//! the reason: a cancelled task, a panic, a garbage-collected handle.

use std::{
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, Waker},
};

use bytes::Bytes;
use pin_project_lite::pin_project;
use quinn::{Connection, ConnectionError, StoppedError, VarInt};

use crate::stream_limits::{Direction, OpenStream, StreamLimits};

/// Why a write did not happen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum WriteError {
    /// The peer asked to stop with this code.
    Stopped(u64),
    /// The connection is gone.
    ConnectionLost,
    /// This side finished or reset the stream before.
    Closed,
}

/// Why a read did not happen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ReadError {
    /// The peer reset the stream with this code.
    Reset(u64),
    /// The connection is gone.
    ConnectionLost,
    /// This side stopped the stream before.
    Closed,
}

/// What ended the wait of [`SendStream::stopped`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stopped {
    /// The peer sent STOP_SENDING with this code.
    ByPeer(u64),
    /// Everything up to the FIN was acknowledged.
    Acknowledged,
    /// The connection is gone.
    ConnectionLost,
}

/// The sending half. Dropping it before [`finish`](Self::finish) resets it with `drop_code`.
#[derive(Debug)]
pub struct SendStream {
    inner: quinn::SendStream,
    priority: i32,
    drop_code: u64,
    ended: bool,
    /// The peer opened it.
    counted: Option<Arc<OpenStream>>,
}

impl SendStream {
    fn new(inner: quinn::SendStream, drop_code: u64) -> Self {
        Self {
            inner,
            priority: 0,
            drop_code,
            ended: false,
            counted: None,
        }
    }

    /// The QUIC stream id.
    pub fn id(&self) -> u64 {
        VarInt::from(self.inner.id()).into_inner()
    }

    /// Hand over as much of `chunks` as flow control allows; waits while it allows nothing.
    ///
    /// Returns the number of whole chunks that were taken; a chunk taken in part is cut in place.
    ///
    /// # Cancel safety
    /// Either the bytes were taken out of `chunks`, or nothing happened.
    pub async fn write_chunks(&mut self, chunks: &mut [Bytes]) -> Result<usize, WriteError> {
        match self.inner.write_chunks(chunks).await {
            Ok(written) => Ok(written.chunks),
            Err(quinn::WriteError::Stopped(code)) => Err(WriteError::Stopped(code.into_inner())),
            Err(quinn::WriteError::ConnectionLost(_)) => Err(WriteError::ConnectionLost),
            Err(quinn::WriteError::ClosedStream | quinn::WriteError::ZeroRttRejected) => Err(WriteError::Closed),
        }
    }

    /// FIN after everything that was written.
    pub fn finish(&mut self) {
        self.ended = true;
        // An error means that the stream was stopped or reset already: there is nothing left to finish.
        let _ = self.inner.finish();
    }

    /// RESET_STREAM; data that was not sent is dropped.
    pub fn reset(&mut self, code: u64) {
        self.ended = true;
        let _ = self.inner.reset(varint(code));
    }

    /// Scheduling priority among the streams of the connection, 0 at first; larger goes first. Setting it to what it is
    /// costs nothing.
    pub fn set_priority(&mut self, priority: i32) {
        if std::mem::replace(&mut self.priority, priority) != priority {
            // An error means that the stream is gone.
            let _ = self.inner.set_priority(priority);
        }
    }

    /// Resolves when the peer stops the stream, or when all is acknowledged after [`finish`](Self::finish).
    pub fn stopped(&self) -> impl Future<Output = Stopped> + Send + 'static {
        WaitForStop {
            inner: self.inner.stopped(),
        }
    }
}

pin_project! {
    // Not an async block: that would hold quinn's future twice, for as long as the stream lives.
    struct WaitForStop<F> {
        #[pin]
        inner: F,
    }
}

impl<F: Future<Output = Result<Option<VarInt>, StoppedError>>> Future for WaitForStop<F> {
    type Output = Stopped;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Stopped> {
        self.project().inner.poll(cx).map(|stopped| match stopped {
            Ok(Some(code)) => Stopped::ByPeer(code.into_inner()),
            Ok(None) => Stopped::Acknowledged,
            Err(_) => Stopped::ConnectionLost,
        })
    }
}

impl Drop for SendStream {
    fn drop(&mut self) {
        if !self.ended {
            let _ = self.inner.reset(varint(self.drop_code));
        }
    }
}

/// The receiving half. Dropping it before the end stops it with `drop_code`.
#[derive(Debug)]
pub struct RecvStream {
    inner: quinn::RecvStream,
    drop_code: u64,
    /// How it ended, as far as anybody knows.
    end: Option<Result<(), ReadError>>,
    /// The peer opened it.
    counted: Option<Arc<OpenStream>>,
}

impl RecvStream {
    fn new(inner: quinn::RecvStream, drop_code: u64) -> Self {
        Self {
            inner,
            drop_code,
            end: None,
            counted: None,
        }
    }

    /// The QUIC stream id.
    pub fn id(&self) -> u64 {
        VarInt::from(self.inner.id()).into_inner()
    }

    /// The next piece of what arrived, in order and without copying; waits for it. None at the end of the stream.
    ///
    /// # Cancel safety
    /// Either the chunk was taken, or nothing happened.
    pub async fn read_chunk(&mut self) -> Result<Option<Bytes>, ReadError> {
        if let Some(end) = &self.end {
            return end.clone().map(|()| None);
        }
        let read = self.inner.read_chunk(usize::MAX, true).await;
        self.note_end(read).map(|chunk| chunk.map(|chunk| chunk.bytes))
    }

    /// Fill `chunks` with what else is there; returns their number. The end of the stream is left to
    /// [`read_chunk`](Self::read_chunk).
    pub fn try_read_chunks(&mut self, chunks: &mut [Bytes]) -> usize {
        if self.end.is_some() {
            return 0;
        }
        let Some(read) = now(self.inner.read_chunks(chunks)) else {
            return 0;
        };
        self.note_end(read).ok().flatten().unwrap_or(0)
    }

    /// quinn tells the end once; after a reset it would tell another one.
    fn note_end<T>(&mut self, read: Result<Option<T>, quinn::ReadError>) -> Result<Option<T>, ReadError> {
        let read = read.map_err(|error| match error {
            quinn::ReadError::Reset(code) => ReadError::Reset(code.into_inner()),
            quinn::ReadError::ConnectionLost(_) => ReadError::ConnectionLost,
            quinn::ReadError::ClosedStream
            | quinn::ReadError::IllegalOrderedRead
            | quinn::ReadError::ZeroRttRejected => ReadError::Closed,
        });
        match &read {
            Ok(Some(_)) => {}
            Ok(None) => self.end = Some(Ok(())),
            Err(error) => self.end = Some(Err(error.clone())),
        }
        read
    }

    /// STOP_SENDING; what arrived and was not read is dropped.
    pub fn stop(&mut self, code: u64) {
        self.end.get_or_insert(Err(ReadError::Closed));
        let _ = self.inner.stop(varint(code));
    }
}

impl Drop for RecvStream {
    fn drop(&mut self) {
        if self.end.is_none() {
            let _ = self.inner.stop(varint(self.drop_code));
        }
    }
}

/// Accept the next unidirectional stream of the peer. Cancel safe.
pub async fn accept_uni(
    connection: &Connection,
    limits: &Arc<StreamLimits>,
    drop_code: u64,
) -> Result<RecvStream, ConnectionError> {
    let mut recv = RecvStream::new(connection.accept_uni().await?, drop_code);
    recv.counted = Some(Arc::new(limits.opened(Direction::Uni)));
    Ok(recv)
}

/// Accept the next bidirectional stream of the peer. Cancel safe.
pub async fn accept_bi(
    connection: &Connection,
    limits: &Arc<StreamLimits>,
    drop_code: u64,
) -> Result<(SendStream, RecvStream), ConnectionError> {
    let (mut send, mut recv) = wrap(connection.accept_bi().await?, drop_code);
    let counted = Arc::new(limits.opened(Direction::Bi));
    recv.counted = Some(counted.clone());
    send.counted = Some(counted);
    Ok((send, recv))
}

/// Open a unidirectional stream; waits for the peer's stream credit.
pub async fn open_uni(connection: &Connection, drop_code: u64) -> Result<SendStream, ConnectionError> {
    connection.open_uni().await.map(|send| SendStream::new(send, drop_code))
}

/// Open a bidirectional stream; waits for the peer's stream credit.
pub async fn open_bi(connection: &Connection, drop_code: u64) -> Result<(SendStream, RecvStream), ConnectionError> {
    connection.open_bi().await.map(|pair| wrap(pair, drop_code))
}

/// [`open_uni`] if the credit is there; None instead of waiting.
pub fn try_open_uni(connection: &Connection, drop_code: u64) -> Option<Result<SendStream, ConnectionError>> {
    Some(now(connection.open_uni())?.map(|send| SendStream::new(send, drop_code)))
}

/// [`open_bi`] if the credit is there; None instead of waiting.
pub fn try_open_bi(
    connection: &Connection,
    drop_code: u64,
) -> Option<Result<(SendStream, RecvStream), ConnectionError>> {
    Some(now(connection.open_bi())?.map(|pair| wrap(pair, drop_code)))
}

fn wrap((send, recv): (quinn::SendStream, quinn::RecvStream), drop_code: u64) -> (SendStream, RecvStream) {
    (SendStream::new(send, drop_code), RecvStream::new(recv, drop_code))
}

/// Poll a future once.
fn now<F: Future>(future: F) -> Option<F::Output> {
    let future = std::pin::pin!(future);
    match Future::poll(future, &mut Context::from_waker(Waker::noop())) {
        Poll::Ready(value) => Some(value),
        Poll::Pending => None,
    }
}

/// Codes come from `wt_proto::error_code`, which stays below 2^62 by construction.
fn varint(code: u64) -> VarInt {
    VarInt::from_u64(code).unwrap_or(VarInt::MAX)
}
