//! Plain HTTP on the side: one request and its response, as the application and its I/O task share them.
//!
//! The task alone reads and writes the stream. It reads the content only when the application asks for it, and drops
//! the rest of a request that is answered; what the peer does not take of a response stays here, and the connection
//! limits how many there are. No wait is without an end but that for the application, and there the connection's end is
//! one.

use std::{
    collections::VecDeque,
    future::pending,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::AcqRel},
    },
};

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::sync::Notify;
use wt_proto::{
    error::ConnectionError,
    error_code::Code,
    headers::{HeaderList, PlainRequest, Response},
    http::{self, ExchangeEvent, InvalidResponse},
    session::Transmit,
};
use wt_quic::{ReadError, Stopped, WriteError};

use crate::{
    bridge::ring::{WaitPoint, WaitQueue, wait_point},
    config::CLOSE_ANSWER_TIMEOUT,
    connect_stream::ConnectStream,
    connection::Connection,
    driver::{Either, Sleep, select},
};

/// A request of plain HTTP that waits for its response.
#[derive(Debug)]
pub struct Exchange {
    id: u64,
    connection: Arc<Connection>,
    request: PlainRequest,
    commands: Mutex<Vec<Command>>,
    command_bell: Notify,
    is_answered: AtomicBool,
    content: Mutex<Option<Result<Bytes, NoContent>>>,
    changes: WaitQueue,
}

/// Why the content of a request is not there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NoContent {
    /// There is more of it than the limit allows.
    TooLarge,
    /// It did not come in time.
    TooSlow,
    /// The request was cancelled, or broke a rule, or the connection is lost: nobody waits for the answer.
    Gone,
}

impl NoContent {
    /// The status to answer with (RFC 9110 sections 15.5.14 and 15.5.9); None when there is nobody to answer.
    pub fn status(self) -> Option<u16> {
        match self {
            Self::TooLarge => Some(413),
            Self::TooSlow => Some(408),
            Self::Gone => None,
        }
    }
}

/// What the application, or a datagram, asked of the task.
#[derive(Debug)]
enum Command {
    Collect(u64),
    Respond(Response, Bytes),
    Abandon,
    Datagram,
}

impl Exchange {
    pub(crate) fn new(id: u64, connection: Arc<Connection>, request: PlainRequest) -> Arc<Self> {
        Arc::new(Self {
            id,
            connection,
            request,
            commands: Mutex::default(),
            command_bell: Notify::new(),
            is_answered: AtomicBool::new(false),
            content: Mutex::default(),
            changes: WaitQueue::default(),
        })
    }

    /// The connection it came on.
    pub fn connection(&self) -> &Arc<Connection> {
        &self.connection
    }

    /// What is asked.
    pub fn request(&self) -> &PlainRequest {
        &self.request
    }

    /// Read the content, at most `limit` bytes of it. Once; before that nothing of it is read.
    pub fn collect(&self, limit: u64) {
        self.command(Command::Collect(limit));
    }

    /// The content once it is whole, or why it never will be; None before that.
    pub fn content(&self) -> Option<Result<Bytes, NoContent>> {
        self.content.lock().clone()
    }

    /// Ready when `content` has something.
    pub fn collected(self: &Arc<Self>) -> Box<dyn WaitPoint> {
        wait_point(self.clone(), |this| &this.changes, |this| this.content.lock().is_some())
    }

    /// Answer; Content-Length is added. The first answer counts, and a request that is gone takes any.
    pub fn respond(&self, status: u16, headers: HeaderList, content: Bytes) -> Result<(), InvalidResponse> {
        let limit = self.connection.peer_field_limit();
        let (response, content) = http::response(&self.request.method, status, headers, content, limit)?;
        if !self.is_answered.swap(true, AcqRel) {
            self.command(Command::Respond(response, content));
        }
        Ok(())
    }

    /// Nobody will answer: reset the stream, unless there is an answer.
    pub fn abandon(&self) {
        if !self.is_answered.swap(true, AcqRel) {
            self.command(Command::Abandon);
        }
    }

    // For the I/O tasks.

    /// Answer with a status and nothing else.
    pub(crate) fn refuse(&self, status: u16) {
        if self.respond(status, HeaderList::new(), Bytes::new()).is_err() {
            self.abandon();
        }
    }

    /// A datagram came that the request gives no meaning.
    pub(crate) fn refuse_datagram(&self) {
        self.command(Command::Datagram);
    }

    fn command(&self, command: Command) {
        self.commands.lock().push(command);
        self.command_bell.notify_one();
    }

    fn set_content(&self, content: Result<Bytes, NoContent>) {
        {
            let mut slot = self.content.lock();
            if slot.is_some() {
                return;
            }
            *slot = Some(content);
        }
        self.changes.notify_all(self.connection.port());
    }
}

enum Step {
    Wrote(Result<usize, WriteError>),
    Read(Result<Option<Bytes>, ReadError>),
    Stopped(Stopped),
    Command,
    Timeout,
    Lost,
}

/// What the exchange waits for, with the limit of it.
enum Phase {
    /// The application: it decides how long it takes.
    Asked,
    /// The content.
    Collecting(Sleep),
    /// Room for the response; the time begins anew with each piece that is taken.
    Responding(Sleep),
    /// The end of the request, whose response is with QUIC.
    Ending(Sleep),
    /// The acknowledgement of the response: only then the connection may close without losing it.
    Delivering(Sleep),
}

struct Task {
    exchange: Arc<Exchange>,
    machine: http::Exchange,
    stream: ConnectStream,
    out: VecDeque<Bytes>,
    finish: bool,
    /// Nothing more is to be written and nobody waits for an acknowledgement.
    sent: bool,
    reading: bool,
    phase: Phase,
}

/// Run an exchange until its stream is done.
pub(crate) async fn run(exchange: Arc<Exchange>, machine: http::Exchange, stream: ConnectStream) {
    let connection = exchange.connection.clone();
    let mut task = Task {
        exchange,
        machine,
        stream,
        out: VecDeque::new(),
        finish: false,
        sent: false,
        reading: true,
        phase: Phase::Asked,
    };
    if let Err(error) = task.run().await {
        connection.fail(&error);
    }
}

impl Drop for Task {
    /// Whatever happened, nobody waits for content any more, and the connection lets the request go.
    fn drop(&mut self) {
        self.exchange.set_content(Err(NoContent::Gone));
        self.exchange.connection.forget_exchange(self.exchange.id);
    }
}

impl Task {
    async fn run(&mut self) -> Result<(), ConnectionError> {
        let mut stopped: Pin<Box<dyn Future<Output = Stopped> + Send>> = Box::pin(self.stream.send.stopped());
        loop {
            self.handle_commands()?;
            self.handle_events();
            self.transmit();
            if self.machine.is_over() && self.sent {
                return Ok(());
            }
            match self.step(&mut stopped).await {
                Step::Wrote(Ok(whole)) => {
                    drop(self.out.drain(..whole));
                    self.exchange.connection.touch();
                    if let Phase::Responding(_) = self.phase {
                        self.phase = Phase::Responding(self.timer());
                    }
                }
                Step::Wrote(Err(WriteError::Stopped(code))) | Step::Stopped(Stopped::ByPeer(code)) => {
                    stopped = Box::pin(pending());
                    self.machine.handle_stopped(Code(code));
                }
                Step::Wrote(Err(WriteError::Closed)) => self.out.clear(),
                Step::Stopped(Stopped::Acknowledged) => {
                    stopped = Box::pin(pending());
                    self.sent = true;
                }
                Step::Read(Ok(Some(chunk))) => {
                    self.exchange.connection.touch();
                    self.machine.handle_data(chunk)?;
                }
                Step::Read(Ok(None)) => {
                    self.reading = false;
                    self.machine.handle_fin()?;
                }
                Step::Read(Err(ReadError::Reset(code))) => {
                    self.reading = false;
                    self.machine.handle_reset(Code(code));
                }
                Step::Read(Err(ReadError::Closed)) => self.reading = false,
                Step::Command => {}
                Step::Timeout => self.handle_timeout(),
                Step::Lost
                | Step::Wrote(Err(WriteError::ConnectionLost))
                | Step::Stopped(Stopped::ConnectionLost)
                | Step::Read(Err(ReadError::ConnectionLost)) => return Ok(()),
            }
        }
    }

    async fn step(&mut self, stopped: &mut Pin<Box<dyn Future<Output = Stopped> + Send>>) -> Step {
        let Self {
            exchange,
            machine,
            stream,
            out,
            reading,
            phase,
            ..
        } = self;
        let ConnectStream { send, recv } = stream;
        let write = async {
            if out.is_empty() {
                pending().await
            } else {
                send.write_chunks(out.make_contiguous()).await
            }
        };
        let read = async {
            if *reading && machine.wants_input() {
                recv.read_chunk().await
            } else {
                pending().await
            }
        };
        let timing = async {
            match phase {
                Phase::Asked => pending().await,
                Phase::Collecting(timer)
                | Phase::Responding(timer)
                | Phase::Ending(timer)
                | Phase::Delivering(timer) => timer.await,
            }
        };
        let stream_step = async {
            match select(write, select(read, stopped)).await {
                Either::Left(wrote) => Step::Wrote(wrote),
                Either::Right(Either::Left(read)) => Step::Read(read),
                Either::Right(Either::Right(stopped)) => Step::Stopped(stopped),
            }
        };
        let other_step = async {
            match select(
                exchange.command_bell.notified(),
                select(timing, exchange.connection.lost()),
            )
            .await
            {
                Either::Left(()) => Step::Command,
                Either::Right(Either::Left(())) => Step::Timeout,
                Either::Right(Either::Right(())) => Step::Lost,
            }
        };
        match select(stream_step, other_step).await {
            Either::Left(step) | Either::Right(step) => step,
        }
    }

    fn handle_commands(&mut self) -> Result<(), ConnectionError> {
        let commands = std::mem::take(&mut *self.exchange.commands.lock());
        for command in commands {
            match command {
                Command::Collect(limit) => {
                    self.machine.collect(limit)?;
                    if self.machine.is_collecting() {
                        self.phase = Phase::Collecting(self.timer());
                    }
                }
                Command::Respond(response, content) => {
                    self.machine.respond(&response, content);
                    self.phase = Phase::Responding(self.timer());
                }
                Command::Abandon => self.machine.abort(Code::H3_INTERNAL_ERROR, "nobody answers"),
                Command::Datagram => self.machine.handle_datagram(),
            }
        }
        Ok(())
    }

    fn handle_events(&mut self) {
        while let Some(event) = self.machine.poll_event() {
            self.exchange.set_content(match event {
                ExchangeEvent::Content(content) => Ok(content),
                ExchangeEvent::TooLarge => Err(NoContent::TooLarge),
                ExchangeEvent::TooSlow => Err(NoContent::TooSlow),
                ExchangeEvent::Failed(_) => Err(NoContent::Gone),
            });
            if let Phase::Collecting(_) = self.phase {
                self.phase = Phase::Asked;
            }
        }
    }

    fn handle_timeout(&mut self) {
        match self.phase {
            Phase::Asked => {}
            Phase::Collecting(_) => {
                self.exchange.connection.count_timeout();
                self.phase = Phase::Asked;
                self.machine.handle_content_timeout();
            }
            Phase::Responding(_) => {
                self.exchange.connection.count_timeout();
                self.phase = Phase::Asked;
                self.machine
                    .abort(Code::H3_REQUEST_CANCELLED, "the response is not taken");
            }
            Phase::Ending(_) => {
                self.machine.handle_rest_timeout();
                self.phase = Phase::Delivering(self.timer());
            }
            // QUIC goes on with what it has.
            Phase::Delivering(_) => {
                self.phase = Phase::Asked;
                self.sent = true;
            }
        }
    }

    fn transmit(&mut self) {
        while let Some(transmit) = self.machine.poll_transmit() {
            match transmit {
                Transmit::Data(bytes) => self.out.push_back(bytes),
                Transmit::Finish => self.finish = true,
                Transmit::Reset(code) => {
                    self.out.clear();
                    self.finish = false;
                    self.sent = true;
                    self.stream.send.reset(code.0);
                }
                Transmit::Stop(code) => {
                    self.reading = false;
                    self.stream.recv.stop(code.0);
                }
            }
        }
        if self.finish && self.out.is_empty() {
            self.finish = false;
            self.stream.send.finish();
            let driver = self.exchange.connection.driver();
            self.phase = Phase::Ending(driver.sleep(CLOSE_ANSWER_TIMEOUT));
        }
    }

    fn timer(&self) -> Sleep {
        let connection = &self.exchange.connection;
        connection.driver().sleep(connection.request_timeout())
    }
}
