//! What a peer sends that is not yet anybody's: new streams and datagrams.
//!
//! Streams are never accepted one after the other: each gets a task that reads its header and then becomes the pump of its
//! receiving half, so a silent stream holds up nobody (RFC 9114 section 6.2). Half-read headers are bounded by number
//! and time.

use std::{future::Future, sync::Arc};

use bytes::Bytes;
use wt_proto::{
    dialect::Role,
    error::ConnectionError,
    error_code::Code,
    stream_header::{BiHeaderParser, BiStream, UniHeaderParser, UniStream},
};
use wt_quic::{ReadError, RecvStream, SendStream};

use crate::{
    config::STREAM_HEADER_TIMEOUT,
    connect_stream::ConnectStream,
    connection::{Connection, DATAGRAM_BATCH, yield_now},
    driver::{now, select},
    recv_stream,
    session::Arrived,
};

/// What a stream is turned away with that never said whose it is.
const UNKNOWN: u64 = Code::WT_BUFFERED_STREAM_REJECTED.0;

/// How the reading of a stream's header went.
enum Opening<H> {
    Header(H),
    /// The peer finished or reset the stream before.
    Ended,
    TooLate,
}

/// Take what the peer sends until the connection ends. One task for the three: to ask the other two as well costs less
/// than a hundredth of what a stream or datagram costs, and each task takes 200 bytes of an idle connection.
pub(crate) async fn receive(connection: Arc<Connection>) {
    let _ = select(
        read_datagrams(&connection),
        select(accept_uni(&connection), accept_bi(&connection)),
    )
    .await;
}

/// Accept unidirectional streams until the connection ends.
async fn accept_uni(connection: &Arc<Connection>) {
    loop {
        // Not `while let`, which would keep room for the result in this long-lived task.
        let Ok(mut recv) = wt_quic::accept_uni(connection.quic(), connection.stream_limits(), UNKNOWN).await else {
            return;
        };
        if admit(connection).await {
            connection.driver().spawn(uni_stream(connection.clone(), recv));
        } else {
            recv.stop(UNKNOWN);
        }
    }
}

/// Accept bidirectional streams until the connection ends.
async fn accept_bi(connection: &Arc<Connection>) {
    loop {
        let Ok((mut send, mut recv)) = wt_quic::accept_bi(connection.quic(), connection.stream_limits(), UNKNOWN).await
        else {
            return;
        };
        if admit(connection).await {
            connection.driver().spawn(bi_stream(connection.clone(), send, recv));
        } else {
            recv.stop(UNKNOWN);
            send.reset(UNKNOWN);
        }
    }
}

/// Count one more stream whose header is not known; false when there are too many.
async fn admit(connection: &Connection) -> bool {
    if connection.admit_half_open() {
        return true;
    }
    // A burst of streams may all have brought their headers: give those that were accepted before a turn to read them.
    yield_now().await;
    let admitted = connection.admit_half_open();
    if !admitted {
        connection.stats().streams_rejected.add(1);
    }
    admitted
}

/// Read datagrams in batches until the connection ends.
async fn read_datagrams(connection: &Connection) {
    let quic = connection.quic();
    loop {
        let Ok(packet) = quic.read_datagram().await else { return };
        // Not kept between batches: an idle connection holds no buffer.
        let mut batch = vec![packet];
        while batch.len() < DATAGRAM_BATCH {
            match now(quic.read_datagram()) {
                Some(Ok(packet)) => batch.push(packet),
                _ => break,
            }
        }
        let full = batch.len() == DATAGRAM_BATCH;
        if let Err(error) = connection.route_datagrams(&mut batch) {
            return connection.fail(&error);
        }
        if full {
            // A flood gives way to the other tasks after every batch.
            yield_now().await;
        }
    }
}

async fn uni_stream(connection: Arc<Connection>, mut recv: RecvStream) {
    let mut parser = UniHeaderParser::new();
    let header = read_header(&connection, &mut recv, |chunk| parser.push(chunk)).await;
    connection.leave_half_open();
    match header {
        Err(error) => connection.fail(&error),
        // RFC 9114 section 6.2: a stream that ends before its type is complete is no error.
        Ok(Opening::Ended | Opening::TooLate) => {}
        Ok(Opening::Header((UniStream::WebTransport { session }, rest))) => {
            arrive(&connection, session, Arrived { send: None, recv, rest }).await;
        }
        Ok(Opening::Header((kind, rest))) => {
            // A task of its own: it lives as long as the connection, and this one is as large as a stream's pump.
            let other = other_stream(connection.clone(), kind, recv, rest);
            connection.driver().spawn(other);
        }
    }
}

/// A stream that is none of WebTransport's: one of HTTP/3's own, or unknown.
#[expect(
    clippy::manual_async_fn,
    reason = "that would hold its arguments twice, for as long as the connection lives"
)]
fn other_stream(
    connection: Arc<Connection>,
    kind: UniStream,
    mut recv: RecvStream,
    mut rest: Bytes,
) -> impl Future<Output = ()> + Send + 'static {
    async move {
        let opened = connection.peer_streams.lock().open(&kind);
        let ended = match (opened, &kind) {
            (Err(error), _) => Err(error),
            (Ok(()), UniStream::Control | UniStream::QpackEncoder | UniStream::QpackDecoder) => {
                critical_stream(&connection, &kind, &mut recv, &mut rest).await
            }
            (Ok(()), _) => {
                // RFC 9114 section 6.2: reading of an unknown type MUST be aborted or discarded.
                recv.stop(Code::H3_STREAM_CREATION_ERROR.0);
                Ok(())
            }
        };
        if let Err(error) = ended {
            connection.fail(&error);
        }
    }
}

async fn bi_stream(connection: Arc<Connection>, mut send: SendStream, mut recv: RecvStream) {
    let mut parser = BiHeaderParser::new();
    let header = read_header(&connection, &mut recv, |chunk| parser.push(chunk)).await;
    connection.leave_half_open();
    match header {
        Err(error) => connection.fail(&error),
        // RFC 9114 section 4.1: a request that ends before it is complete.
        Ok(Opening::Ended) => send.reset(Code::H3_REQUEST_INCOMPLETE.0),
        Ok(Opening::TooLate) => {}
        Ok(Opening::Header((BiStream::WebTransport { session }, rest))) => {
            arrive(
                &connection,
                session,
                Arrived {
                    send: Some(send),
                    recv,
                    rest,
                },
            )
            .await;
        }
        Ok(Opening::Header((BiStream::Request, rest))) if connection.role() == Role::Server => {
            // A task of its own: this one is as large as the largest thing it may become, and a session lives long.
            let request = connection.clone().serve_request(ConnectStream { send, recv }, rest);
            connection.driver().spawn(request);
        }
        // RFC 9114 section 6.1: clients MUST treat a server-initiated request stream as H3_STREAM_CREATION_ERROR.
        Ok(Opening::Header((BiStream::Request, _))) => connection.fail(&ConnectionError {
            code: Code::H3_STREAM_CREATION_ERROR,
            reason: "the server opened a request stream",
        }),
    }
}

/// Give the stream to its session and go on as the pump of its receiving half.
async fn arrive(connection: &Connection, session: u64, arrived: Arrived) {
    if let Some((session, arrived)) = connection.route_stream(session, arrived)
        && let Some((recv, quic)) = session.arrive(arrived)
    {
        recv_stream::pump(recv, quic).await;
    }
}

/// Read a control or QPACK stream until the connection ends. These streams never end before.
async fn critical_stream(
    connection: &Connection,
    kind: &UniStream,
    recv: &mut RecvStream,
    chunk: &mut Bytes,
) -> Result<(), ConnectionError> {
    loop {
        if !chunk.is_empty() {
            let chunk = std::mem::take(chunk);
            let events = {
                let mut streams = connection.peer_streams.lock();
                match kind {
                    UniStream::Control => streams.handle_control(chunk)?,
                    UniStream::QpackEncoder => streams.handle_encoder(&chunk).map(|()| Vec::new())?,
                    _ => streams.handle_decoder(&chunk).map(|()| Vec::new())?,
                }
            };
            events.into_iter().for_each(|event| connection.handle_control(event));
            // A flood of frames gives way to the other tasks after every piece of it.
            yield_now().await;
        }
        *chunk = match recv.read_chunk().await {
            Ok(Some(chunk)) => chunk,
            Err(ReadError::ConnectionLost) => return Ok(()),
            Ok(None) | Err(_) => return Err(connection.peer_streams.lock().closed(kind)),
        };
    }
}

/// Read a stream's header.
///
/// The time runs from the first byte. Until then there is nothing to blame: a peer that opens stream 14 has opened 6 and
/// 10 with it (RFC 9000 section 2.1), and Chromium leaves those two, its QPACK streams, empty until it needs them.
/// Stopping one would end the connection (RFC 9204 section 4.2). Their number is bounded.
async fn read_header<H>(
    connection: &Connection,
    recv: &mut RecvStream,
    mut push: impl FnMut(Bytes) -> Result<Option<H>, ConnectionError>,
) -> Result<Opening<H>, ConnectionError> {
    let Ok(Some(first)) = recv.read_chunk().await else {
        return Ok(Opening::Ended);
    };
    if let Some(header) = push(first)? {
        return Ok(Opening::Header(header));
    }
    let rest = async {
        while let Ok(Some(chunk)) = recv.read_chunk().await {
            if let Some(header) = push(chunk)? {
                return Ok(Opening::Header(header));
            }
        }
        Ok(Opening::Ended)
    };
    connection
        .driver()
        .timeout(STREAM_HEADER_TIMEOUT, rest)
        .await
        .unwrap_or_else(|| {
            connection.stats().streams_rejected.add(1);
            Ok(Opening::TooLate)
        })
}
