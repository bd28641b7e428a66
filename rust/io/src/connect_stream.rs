//! The CONNECT stream of one session: carries bytes between QUIC and wt-proto's state machine, and ends the session.
//!
//! This task alone reads and writes the CONNECT stream, and it never stops reading while the session lives, whatever the
//! application does. A close from this side has three phases: *flushing* what was accepted (bounded by `close_timeout`),
//! *answering* (CLOSE and FIN are sent, the peer's FIN is awaited for about a second), and the end. When the peer has not even
//! acknowledged by then, this side's session ends all the same, but the stream is left to QUIC, which goes on
//! retransmitting (*delivering*): a reset would take back a CLOSE whose packet was lost, and a stop could overtake it.

use std::{
    collections::VecDeque,
    future::{Future, pending, poll_fn},
    pin::{Pin, pin},
    sync::Arc,
    task::Poll,
    time::Duration,
};

use bytes::Bytes;
use wt_proto::{
    capsule::Capsule,
    error::ConnectionError,
    error_code::Code,
    session::{CloseCause, CloseInfo, Initiator, SessionEvent, State, Transmit},
};
use wt_quic::{ReadError, Stopped, WriteError};

use crate::{
    config::CLOSE_ANSWER_TIMEOUT,
    connection::{Refusal, yield_now},
    driver::{Sleep, poll_once},
    error::ConnectionEnd,
    session::{Command, Session},
};

/// The two halves of the CONNECT stream and what is still to be written.
pub(crate) struct ConnectStream {
    pub(crate) send: wt_quic::SendStream,
    pub(crate) recv: wt_quic::RecvStream,
}

enum Step {
    Wrote(Result<usize, WriteError>),
    Read(Result<Option<Bytes>, ReadError>),
    Stopped(Stopped),
    Command,
    Flushed,
    Timeout,
    Lost,
}

enum Phase {
    Running,
    Flushing(u32, String, Sleep),
    Answering(Sleep),
    /// Until everything is acknowledged, or the connection ends.
    Delivering,
}

struct Task {
    session: Arc<Session>,
    machine: wt_proto::session::Session,
    stream: ConnectStream,
    out: VecDeque<Bytes>,
    finish: bool,
    writing: bool,
    reading: bool,
    phase: Phase,
    finished: bool,
    heard: Option<Box<SessionEvent>>,
    /// The peer has everything up to the FIN.
    acknowledged: bool,
}

/// Run a session until its CONNECT stream is done. `heard` is what the machine has said already.
///
/// Not an async fn: that would hold its arguments for as long as the session lives, beside the task made of them.
pub(crate) fn run(
    session: Arc<Session>,
    machine: wt_proto::session::Session,
    stream: ConnectStream,
    heard: Option<SessionEvent>,
) -> impl Future<Output = ()> + Send + 'static {
    let mut task = Task {
        session,
        machine,
        stream,
        out: VecDeque::new(),
        finish: false,
        writing: true,
        reading: true,
        phase: Phase::Running,
        finished: false,
        heard: heard.map(Box::new),
        acknowledged: false,
    };
    // MAX_DATA and CLOSE must not starve behind bulk streams (protocol.md 9.3).
    task.stream.send.set_priority(i32::MAX);
    async move {
        if let Err(error) = task.run().await {
            task.session.connection().fail(&error);
        }
    }
}

impl Drop for Task {
    /// Whatever happened, a panic or the end of the driver too, there is a verdict, and the connection lets the session go.
    fn drop(&mut self) {
        let connection = self.session.connection();
        let info = self.machine.close_info().cloned();
        self.session
            .end_with(info.unwrap_or_else(|| connection_lost(&connection.end_now())));
        connection.forget(self.session.id());
    }
}

fn connection_lost(end: &ConnectionEnd) -> CloseInfo {
    CloseInfo {
        code: u32::try_from(end.code).unwrap_or(0),
        reason: end.reason.clone(),
        by: end.by,
        cause: CloseCause::ConnectionLost,
    }
}

impl Task {
    // What happens seldom is boxed: this future lives as long as its session and is as large as its largest part.
    async fn run(&mut self) -> Result<(), ConnectionError> {
        let mut stopped: Pin<Box<dyn Future<Output = Stopped> + Send>> = Box::pin(self.stream.send.stopped());
        let mut has_read = false;
        loop {
            self.handle_commands();
            self.transmit();
            Box::pin(self.handle_events()).await;
            self.send_credit();
            self.transmit();
            if self.finished && self.out.is_empty() {
                return Ok(());
            }
            if std::mem::take(&mut has_read) {
                // Hundreds of capsules fit into a packet, and a million into QUIC's windows: a flood gives way to the other
                // tasks after every piece of it.
                yield_now().await;
            }
            match self.step(&mut stopped).await {
                // With its buffer, when nothing is left: few sessions write more than their answer.
                Step::Wrote(Ok(whole)) if whole == self.out.len() => self.out = VecDeque::new(),
                Step::Wrote(Ok(whole)) => drop(self.out.drain(..whole)),
                Step::Wrote(Err(WriteError::Stopped(code))) | Step::Stopped(Stopped::ByPeer(code)) => {
                    self.out.clear();
                    self.writing = false;
                    stopped = Box::pin(pending());
                    self.machine.handle_stopped(Code(code));
                }
                Step::Wrote(Err(WriteError::Closed)) => self.out.clear(),
                Step::Stopped(Stopped::Acknowledged) => {
                    stopped = Box::pin(pending());
                    self.acknowledged = true;
                    if let Phase::Delivering = self.phase {
                        self.give_up();
                        return Ok(());
                    }
                }
                Step::Read(Ok(Some(chunk))) => {
                    self.machine.handle_data(chunk)?;
                    has_read = true;
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
                Step::Flushed => self.send_close(),
                Step::Timeout => match &self.phase {
                    Phase::Flushing(..) => self.send_close(),
                    _ if self.writing || self.acknowledged => {
                        self.give_up();
                        return Ok(());
                    }
                    _ => {
                        self.phase = Phase::Delivering;
                        if let Some(info) = self.machine.close_info() {
                            self.session.end_with(info.clone());
                        }
                    }
                },
                Step::Lost
                | Step::Wrote(Err(WriteError::ConnectionLost))
                | Step::Stopped(Stopped::ConnectionLost)
                | Step::Read(Err(ReadError::ConnectionLost)) => {
                    Box::pin(self.drain_received()).await?;
                    let end = self.session.connection().end_now();
                    let code = (end.cause != "timeout").then_some(end.code);
                    self.machine.handle_connection_lost(end.reason, code, end.by);
                    Box::pin(self.handle_events()).await;
                    return Ok(());
                }
            }
        }
    }

    /// A connection that is lost may have delivered a CLOSE before: it explains more than the loss does.
    async fn drain_received(&mut self) -> Result<(), ConnectionError> {
        while self.reading {
            match poll_once(self.stream.recv.read_chunk()).await {
                Some(Ok(Some(chunk))) => self.machine.handle_data(chunk)?,
                Some(Ok(None)) => {
                    self.reading = false;
                    self.machine.handle_fin()?;
                }
                Some(Err(ReadError::Reset(code))) => {
                    self.reading = false;
                    self.machine.handle_reset(Code(code));
                }
                _ => self.reading = false,
            }
        }
        Ok(())
    }

    async fn step(&mut self, stopped: &mut Pin<Box<dyn Future<Output = Stopped> + Send>>) -> Step {
        let Self {
            session,
            stream,
            out,
            reading,
            phase,
            ..
        } = self;
        let ConnectStream { send, recv } = stream;
        let mut command = pin!(session.command_bell.notified());
        let mut lost = pin!(session.connection().lost());
        let mut flushed = matches!(phase, Phase::Flushing(..)).then(|| Box::pin(session.flushed()));
        // What needs no memory of its last poll is made anew at each, and lives no longer.
        poll_fn(|cx| {
            if !out.is_empty()
                && let Poll::Ready(wrote) = pin!(send.write_chunks(out.make_contiguous())).poll(cx)
            {
                return Poll::Ready(Step::Wrote(wrote));
            }
            if *reading && let Poll::Ready(read) = pin!(recv.read_chunk()).poll(cx) {
                return Poll::Ready(Step::Read(read));
            }
            if let Poll::Ready(stopped) = stopped.as_mut().poll(cx) {
                return Poll::Ready(Step::Stopped(stopped));
            }
            if command.as_mut().poll(cx).is_ready() {
                return Poll::Ready(Step::Command);
            }
            if flushed
                .as_mut()
                .is_some_and(|flushed| flushed.as_mut().poll(cx).is_ready())
            {
                return Poll::Ready(Step::Flushed);
            }
            if let Phase::Answering(timer) | Phase::Flushing(_, _, timer) = phase
                && Pin::new(timer).poll(cx).is_ready()
            {
                return Poll::Ready(Step::Timeout);
            }
            lost.as_mut().poll(cx).map(|()| Step::Lost)
        })
        .await
    }

    /// The peer does not answer.
    fn give_up(&mut self) {
        self.machine.handle_close_timeout();
        self.phase = Phase::Running;
        self.transmit();
    }

    fn handle_commands(&mut self) {
        for command in self.session.take_commands() {
            match command {
                Command::Accept(headers) => match self.session.connection().dialect() {
                    Some(dialect) => self.machine.accept(dialect, headers),
                    None => self.machine.reject(500, Vec::new()),
                },
                Command::Reject(status, headers) => self.machine.reject(status, headers),
                Command::Drain => self.machine.drain(),
                Command::Goaway(id) => self.machine.handle_goaway(id),
                Command::Abort(error) => self.machine.abort(error.code, error.reason),
                Command::Close(code, reason) => {
                    if self.machine.state() == State::Connecting {
                        self.machine.close(code, &reason);
                    } else if !self.session.has_ended() {
                        let limit = self.session.limits().close_timeout;
                        self.phase = Phase::Flushing(code, reason, self.sleep(limit));
                    }
                }
            }
        }
    }

    /// Tell the peer what it may send. Only when all before it is with QUIC, so that it is the latest number and no queue
    /// builds up: a peer that does not take its capsules hears the last of them.
    fn send_credit(&mut self) {
        if !self.out.is_empty() || !matches!(self.machine.state(), State::Open | State::Draining) {
            return;
        }
        while let Some(capsule) = self.session.next_credit_capsule() {
            if let Capsule::MaxData(_) = capsule {
                // The window may have grown: QUIC must let through what is promised here.
                self.session.connection().fit_quic_limits();
            }
            self.machine.send_flow_control(&capsule);
        }
    }

    fn send_close(&mut self) {
        if let Phase::Flushing(code, reason, _) = std::mem::replace(&mut self.phase, Phase::Running) {
            // Behind everything that QUIC has taken: the peer stops reading its streams at the CLOSE, and of a stream that
            // was not finished nobody tells when it has arrived. What flow control holds back does not hold this back.
            self.stream.send.set_priority(i32::MIN);
            let limit = if self.session.has_unfinished_data() {
                CLOSE_ANSWER_TIMEOUT.max(self.session.limits().close_timeout)
            } else {
                CLOSE_ANSWER_TIMEOUT
            };
            self.machine.close(code, &reason);
            self.phase = Phase::Answering(self.sleep(limit));
        }
    }

    fn sleep(&self, limit: Duration) -> Sleep {
        self.session.connection().driver().sleep(limit)
    }

    fn transmit(&mut self) {
        while let Some(transmit) = self.machine.poll_transmit() {
            match transmit {
                Transmit::Data(bytes) if self.writing => self.out.push_back(bytes),
                Transmit::Data(_) => {}
                Transmit::Finish => self.finish = true,
                Transmit::Reset(code) => {
                    self.out.clear();
                    self.finish = false;
                    self.writing = false;
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
            self.writing = false;
            self.stream.send.finish();
        }
    }

    async fn handle_events(&mut self) {
        let mut datagrams = Vec::new();
        loop {
            let heard = self.heard.take().map(|event| *event);
            let event = heard.or_else(|| self.machine.poll_event());
            let session = &self.session;
            if let Some(SessionEvent::Datagram(payload)) = event {
                datagrams.push(payload);
                continue;
            }
            if !datagrams.is_empty() {
                session.push_datagrams(&mut datagrams);
            }
            let Some(event) = event else { return };
            match event {
                SessionEvent::Request(request) => match session.connection().deliver_request(session, request) {
                    Ok(()) => {}
                    Err(Refusal::Status(status)) => self.machine.reject(status, Vec::new()),
                    Err(Refusal::Abort(code, reason)) => self.machine.abort(code, reason),
                },
                SessionEvent::Foreign { protocol } => {
                    session.connection().count_refused_request();
                    // RFC 9220 section 3: an unknown :protocol SHOULD get 501.
                    self.machine
                        .reject(if protocol.is_some() { 501 } else { 404 }, Vec::new());
                }
                // Taken before it comes here: see `connection/requests.rs`.
                SessionEvent::Plain(_) => {}
                SessionEvent::Established(response) => session.set_established(response.headers),
                SessionEvent::Refused(response) => session.set_response(response.headers),
                SessionEvent::Draining => session.set_draining(),
                SessionEvent::FlowControl(capsule) => {
                    if let Err(error) = session.take_credit_capsule(&capsule) {
                        self.machine.abort(error.code, error.reason);
                    }
                }
                // Collected above: a chunk may hold hundreds.
                SessionEvent::Datagram(_) => {}
                SessionEvent::Closed(info) => {
                    if info.by == Initiator::Local && info.cause == CloseCause::Closed {
                        // The streams are told at the end, when the peer has had its chance to read.
                        continue;
                    }
                    self.phase = Phase::Answering(self.sleep(CLOSE_ANSWER_TIMEOUT));
                    // What arrived before the close may still be on its way through the queues of this side.
                    self.session.connection().settle().await;
                    self.session.end_with(info);
                }
                SessionEvent::Finished => self.finished = true,
            }
            self.transmit();
        }
    }
}
