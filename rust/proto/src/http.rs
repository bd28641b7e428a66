//! One request of plain HTTP and its response, on a request stream as a server sees it (RFC 9114 section 4.1).
//!
//! # Theory of operation
//!
//! A [`Session`](crate::session::Session) reads the header section of every request. When that turns out to be plain
//! HTTP, an [`Exchange`] goes on with the stream. The two halves of it are independent:
//!
//! ```text
//! receiving: Waiting --collect--> Content --trailers--> Trailers        sending: Open --respond--> Finished
//!               |                    |                     |                       |                  |
//!               +----- respond, ----------------------> Discard                    +-----> Reset <----+
//!               |  too much, too late                      |
//!               +---------------- FIN, reset, stop --------+--> Ended
//! ```
//!
//! Rules of this file:
//!
//! * Nothing is read before it is known whether anybody wants it: until [`Exchange::collect`] or [`Exchange::respond`]
//!   is called, read no more from the stream. QUIC holds the rest back.
//! * Content is collected up to the limit of its reader and not a byte beyond it.
//! * What follows on a stream whose response is decided is dropped unread. RFC 9114 4.1 lets a server stop it with
//!   H3_NO_ERROR; that comes only when the rest has not ended in time, because clients lose responses over it.
//! * A fault of the peer is either a `ConnectionError`, returned, or of stream width: [`ExchangeEvent::Failed`].
//!
//! # Calling order
//!
//! After any call drain [`Exchange::poll_event`] and [`Exchange::poll_transmit`]. The exchange is over when
//! [`Exchange::is_over`] and all that was transmitted is written.

use std::collections::VecDeque;

use bytes::{Bytes, BytesMut};

use crate::error::{ConnectionError, Error, StreamError};
use crate::error_code::Code;
use crate::frame::{self, Frame, FrameContext, FrameParser};
use crate::headers::{self, HeaderList, PlainRequest, Response};
use crate::session::Transmit;

/// A request of plain HTTP and its response.
#[derive(Debug)]
pub struct Exchange {
    max_field_section: u64,
    /// What Content-Length says.
    announced: Option<u64>,
    /// The client waits for 100 before it sends content.
    expects_continue: bool,
    recv: RecvHalf,
    send: SendHalf,
    frames: FrameParser,
    content: BytesMut,
    limit: u64,
    /// Bytes of content so far.
    received: u64,
    events: VecDeque<ExchangeEvent>,
    transmits: VecDeque<Transmit>,
}

/// What the layer above must know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ExchangeEvent {
    /// The request is whole: its content.
    Content(Bytes),
    /// The content is larger than the limit. Answer 413.
    TooLarge,
    /// The content did not come in time. Answer 408.
    TooSlow,
    /// There is nobody to answer any more: the peer has cancelled, or this side has because of what the peer did.
    Failed(StreamError),
}

/// What the receiving half waits for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum RecvHalf {
    /// The decision whether the content is wanted.
    Waiting,
    /// Content, or the trailers.
    Content,
    /// The end behind the trailers.
    Trailers,
    /// The end, whatever comes before it.
    Discard,
    /// Nothing.
    Ended,
}

/// How far the sending half is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum SendHalf {
    Open,
    Finished,
    Reset,
}

impl Exchange {
    /// Behind the header section of `request`; `frames` is the parser that has read it.
    pub(crate) fn new(request: &PlainRequest, frames: FrameParser, max_field_section: u64) -> Self {
        let mut expectations = headers::values(&request.headers, "expect");
        Exchange {
            max_field_section,
            announced: request.content_length,
            expects_continue: expectations.any(|value| value.eq_ignore_ascii_case("100-continue")),
            recv: RecvHalf::Waiting,
            send: SendHalf::Open,
            frames,
            content: BytesMut::new(),
            limit: 0,
            received: 0,
            events: VecDeque::new(),
            transmits: VecDeque::new(),
        }
    }

    // Input from the stream and the connection.

    /// Bytes of the request stream.
    ///
    /// # Errors
    ///
    /// Only what ends the connection.
    pub fn handle_data(&mut self, chunk: Bytes) -> Result<(), ConnectionError> {
        if matches!(self.recv, RecvHalf::Discard | RecvHalf::Ended) {
            return Ok(());
        }
        self.frames.push(chunk);
        self.read()
    }

    /// The peer finished its half.
    ///
    /// # Errors
    ///
    /// RFC 9114 7.1: a FIN inside a frame MUST be the connection error H3_FRAME_ERROR.
    pub fn handle_fin(&mut self) -> Result<(), ConnectionError> {
        if matches!(self.recv, RecvHalf::Content | RecvHalf::Trailers) {
            if let Err(Error::Connection(error)) = self.frames.finish() {
                self.discard();
                return Err(error);
            }
            // RFC 9114 4.1.2: a Content-Length other than the sum of the DATA frames makes the message malformed.
            if self.announced.is_some_and(|announced| announced != self.received) {
                self.fail(malformed("content is shorter than its Content-Length"));
                return Ok(());
            }
            let content = std::mem::take(&mut self.content).freeze();
            self.events.push_back(ExchangeEvent::Content(content));
        }
        self.end_recv();
        Ok(())
    }

    /// The peer reset its half.
    pub fn handle_reset(&mut self, code: Code) {
        match self.recv {
            RecvHalf::Ended => {}
            // The response does not depend on it.
            RecvHalf::Discard => self.end_recv(),
            RecvHalf::Waiting | RecvHalf::Content | RecvHalf::Trailers => {
                self.end_recv();
                self.cancel(code);
            }
        }
    }

    /// The peer stopped our half: it does not want the response.
    pub fn handle_stopped(&mut self, code: Code) {
        match self.send {
            SendHalf::Reset => {}
            // RFC 9000 3.5: STOP_SENDING is answered with RESET_STREAM and the same code.
            SendHalf::Open | SendHalf::Finished => {
                self.events.push_back(ExchangeEvent::Failed(cancelled(code)));
                self.reset(code);
                self.stop(Code::H3_REQUEST_CANCELLED);
            }
        }
    }

    /// A datagram for this request, which gives it no meaning.
    ///
    /// RFC 9297 2: that MUST end the request with H3_DATAGRAM_ERROR; 2.1: behind the end of the receiving half it MUST
    /// be dropped.
    pub fn handle_datagram(&mut self) {
        if self.recv != RecvHalf::Ended {
            self.fail(StreamError {
                code: Code::H3_DATAGRAM_ERROR,
                reason: "datagram for a request of plain HTTP",
            });
        }
    }

    /// The content did not come in time.
    pub fn handle_content_timeout(&mut self) {
        if matches!(self.recv, RecvHalf::Content | RecvHalf::Trailers) {
            self.discard();
            self.events.push_back(ExchangeEvent::TooSlow);
        }
    }

    /// The response is sent, and the rest of the request has not ended in time.
    ///
    /// RFC 9114 4.1: H3_NO_ERROR asks for no more of a request that is answered.
    pub fn handle_rest_timeout(&mut self) {
        self.stop(Code::H3_NO_ERROR);
    }

    // What the application decides.

    /// Reads the content, at most `limit` bytes of it: one of the first three events follows, or `Failed`. Once; after
    /// [`respond`](Self::respond) it does nothing.
    ///
    /// # Errors
    ///
    /// As [`handle_data`](Self::handle_data), for what was read together with the header section.
    pub fn collect(&mut self, limit: u64) -> Result<(), ConnectionError> {
        if self.recv != RecvHalf::Waiting {
            return Ok(());
        }
        self.limit = limit;
        self.recv = RecvHalf::Content;
        if self.announced.is_some_and(|announced| announced > limit) {
            self.refuse_content();
            return Ok(());
        }
        // RFC 9110 10.1.1: a server that waits for content MUST say so to a client that waits for that.
        if self.expects_continue && !self.frames.has_input() {
            self.send_headers(&Response::new(100, HeaderList::new()));
        }
        self.read()
    }

    /// Sends the response, as [`response`] has made it. Once.
    pub fn respond(&mut self, response: &Response, content: Bytes) {
        if self.send != SendHalf::Open {
            return;
        }
        self.send_headers(response);
        if !content.is_empty() {
            let mut header = BytesMut::new();
            frame::data_header(content.len() as u64, &mut header);
            self.transmits.push_back(Transmit::Data(header.freeze()));
            self.transmits.push_back(Transmit::Data(content));
        }
        self.send = SendHalf::Finished;
        self.transmits.push_back(Transmit::Finish);
        self.discard();
    }

    /// Ends the exchange with a code: H3_INTERNAL_ERROR when nobody answers, H3_REQUEST_CANCELLED when the peer does
    /// not take the response.
    pub fn abort(&mut self, code: Code, reason: &'static str) {
        self.fail(StreamError { code, reason });
    }

    // Output.

    /// The next thing to know.
    pub fn poll_event(&mut self) -> Option<ExchangeEvent> {
        self.events.pop_front()
    }

    /// The next thing to do with the stream.
    pub fn poll_transmit(&mut self) -> Option<Transmit> {
        self.transmits.pop_front()
    }

    /// Whether the stream may be read: its content is wanted, or it is dropped.
    pub fn wants_input(&self) -> bool {
        !matches!(self.recv, RecvHalf::Waiting | RecvHalf::Ended)
    }

    /// Whether the content is being read.
    pub fn is_collecting(&self) -> bool {
        matches!(self.recv, RecvHalf::Content | RecvHalf::Trailers)
    }

    /// Whether both halves have ended.
    pub fn is_over(&self) -> bool {
        self.recv == RecvHalf::Ended && self.send != SendHalf::Open
    }

    // Frames.

    fn read(&mut self) -> Result<(), ConnectionError> {
        while self.is_collecting() {
            let step = match self.frames.next() {
                Ok(Some(frame)) => self.handle_frame(frame),
                Ok(None) => return Ok(()),
                Err(error) => Err(error),
            };
            match step {
                Ok(()) => {}
                Err(Error::Stream(error)) => self.fail(error),
                Err(Error::Connection(error)) => {
                    self.discard();
                    return Err(error);
                }
            }
        }
        Ok(())
    }

    fn handle_frame(&mut self, frame: Frame) -> Result<(), Error> {
        match (self.recv, frame) {
            (RecvHalf::Content, Frame::Data(piece)) => self.take(&piece)?,
            (RecvHalf::Content, Frame::Headers(section)) => {
                headers::check_trailers(&section, self.max_field_section)?;
                self.recv = RecvHalf::Trailers;
            }
            // RFC 9114 4.1: DATA and HEADERS behind the trailers are H3_FRAME_UNEXPECTED. Nothing else leaves the
            // parser of a request stream.
            _ => {
                return Err(ConnectionError {
                    code: Code::H3_FRAME_UNEXPECTED,
                    reason: "frame behind the trailers of a request",
                }
                .into());
            }
        }
        Ok(())
    }

    fn take(&mut self, piece: &[u8]) -> Result<(), StreamError> {
        self.received += piece.len() as u64;
        if self.announced.is_some_and(|announced| self.received > announced) {
            return Err(malformed("content is longer than its Content-Length"));
        }
        if self.received > self.limit {
            self.refuse_content();
        } else {
            // Copied, so that many small pieces cannot hold on to many large buffers.
            self.content.extend_from_slice(piece);
        }
        Ok(())
    }

    fn refuse_content(&mut self) {
        self.discard();
        self.events.push_back(ExchangeEvent::TooLarge);
    }

    fn send_headers(&mut self, response: &Response) {
        let mut out = BytesMut::new();
        response.encode_plain_frame(&mut out);
        self.transmits.push_back(Transmit::Data(out.freeze()));
    }

    // The two halves.

    fn cancel(&mut self, code: Code) {
        if self.send != SendHalf::Reset {
            self.events.push_back(ExchangeEvent::Failed(cancelled(code)));
            self.reset(Code::H3_REQUEST_CANCELLED);
        }
    }

    fn fail(&mut self, error: StreamError) {
        if self.send != SendHalf::Reset {
            self.events.push_back(ExchangeEvent::Failed(error));
        }
        self.reset(error.code);
        self.stop(error.code);
    }

    /// Resets the sending half; what was queued for it is void.
    fn reset(&mut self, code: Code) {
        if self.send != SendHalf::Reset {
            self.send = SendHalf::Reset;
            self.transmits.retain(|transmit| matches!(transmit, Transmit::Stop(_)));
            self.transmits.push_back(Transmit::Reset(code));
        }
    }

    fn stop(&mut self, code: Code) {
        if self.recv != RecvHalf::Ended {
            self.transmits.push_back(Transmit::Stop(code));
            self.end_recv();
        }
    }

    /// From now on the receiving half only waits for its end.
    fn discard(&mut self) {
        if self.recv != RecvHalf::Ended {
            self.recv = RecvHalf::Discard;
            self.drop_input();
        }
    }

    fn end_recv(&mut self) {
        self.recv = RecvHalf::Ended;
        self.drop_input();
    }

    fn drop_input(&mut self) {
        self.frames = FrameParser::new(FrameContext::Request);
        self.content = BytesMut::new();
    }
}

/// Why a response cannot be sent.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum InvalidResponse {
    /// Not a final status.
    #[error("the status of a response is 200 to 599, not {0}")]
    Status(u16),
    /// Content with a status that has none.
    #[error("a response with status {0} has no content")]
    Content(u16),
    /// A header that would make the message malformed.
    #[error("{0}")]
    Field(&'static str),
    /// More than the peer's SETTINGS_MAX_FIELD_SECTION_SIZE.
    #[error("the headers count {size} bytes, the client takes at most {limit}")]
    TooLarge {
        /// Counted as RFC 9114 4.2.2 does.
        size: u64,
        /// What the peer announced.
        limit: u64,
    },
}

/// Makes the header section of a response to `method`, and cuts off content that must not be sent.
///
/// Content-Length becomes that of the content. Only a response to HEAD and a 304, which describe content they do not
/// have, keep the one they were given when there is no content to count.
///
/// # Errors
///
/// See [`InvalidResponse`]. `peer_limit` is the SETTINGS_MAX_FIELD_SECTION_SIZE of the peer.
pub fn response(
    method: &str,
    status: u16,
    mut headers: HeaderList,
    content: Bytes,
    peer_limit: u64,
) -> Result<(Response, Bytes), InvalidResponse> {
    if !matches!(status, 200..600) {
        return Err(InvalidResponse::Status(status));
    }
    // RFC 9110 15.3.5, 15.3.6, 15.4.5.
    let has_no_content = matches!(status, 204 | 205 | 304);
    if has_no_content && !content.is_empty() {
        return Err(InvalidResponse::Content(status));
    }
    for (name, _) in &mut headers {
        name.make_ascii_lowercase();
    }
    headers::check_fields(&headers).map_err(InvalidResponse::Field)?;
    let is_head = method == "HEAD";
    if !((is_head || status == 304) && content.is_empty()) {
        headers.retain(|(name, _)| name != "content-length");
        // RFC 9110 8.6: a server MUST NOT send Content-Length with 204.
        if !has_no_content {
            headers.push(("content-length".to_owned(), content.len().to_string()));
        }
    }
    let response = Response::new(status, headers);
    let size = response.section_size();
    if size > peer_limit {
        return Err(InvalidResponse::TooLarge {
            size,
            limit: peer_limit,
        });
    }
    // RFC 9110 9.3.2: a server MUST NOT send content in the response to HEAD.
    Ok((response, if is_head { Bytes::new() } else { content }))
}

fn malformed(reason: &'static str) -> StreamError {
    StreamError {
        code: Code::H3_MESSAGE_ERROR,
        reason,
    }
}

fn cancelled(code: Code) -> StreamError {
    StreamError {
        code,
        reason: "cancelled by the peer",
    }
}
