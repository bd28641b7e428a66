//! Several sessions between two sides of one connection, each side with its registry; what they send arrives in any order
//! and in any pieces. Two sides that keep the rules never find fault with each other, agree on how each session ended,
//! and lose track of no stream.

use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};

use arbitrary::Arbitrary;
use bytes::Bytes;
use wt_proto::dialect::{Dialect, Role};
use wt_proto::error_code::Code;
use wt_proto::headers::HeaderList;
use wt_proto::registry::{DatagramRoute, Limits, Registry, StreamRoute};
use wt_proto::session::{CloseCause, Initiator, Session, SessionEvent, State, Transmit};
use wt_proto::stream_header::{UniHeaderParser, UniStream, encode_uni_header};

use crate::encoded;
use crate::session::{Witness, request};

/// What happens.
#[derive(Debug, Arbitrary)]
pub struct Input {
    steps: Vec<Step>,
}

/// `at_client`: the side that acts, or at which something arrives.
#[derive(Clone, Copy, Debug, Arbitrary)]
enum Step {
    Open,
    Accept(u8),
    Reject(u8),
    Close {
        at_client: bool,
        which: u8,
        code: u32,
    },
    Abort {
        at_client: bool,
        which: u8,
    },
    Drain {
        at_client: bool,
        which: u8,
    },
    SendStream {
        at_client: bool,
        which: u8,
    },
    SendDatagram {
        at_client: bool,
        which: u8,
    },
    StreamArrives {
        at_client: bool,
        which: u8,
    },
    DatagramArrives {
        at_client: bool,
        which: u8,
    },
    /// So many bytes of a CONNECT stream, then what stands behind them.
    ConnectArrives {
        at_client: bool,
        which: u8,
        bytes: u16,
    },
    CloseTimeout {
        at_client: bool,
        which: u8,
    },
    Wait(u8),
}

/// One side of the connection.
struct Side {
    role: Role,
    registry: Registry<u64, u32>,
    sessions: BTreeMap<u64, (Session, Witness)>,
    /// On its way to here, by session.
    connect: BTreeMap<u64, VecDeque<Transmit>>,
    streams: Vec<(u32, Bytes)>,
    datagrams: Vec<Bytes>,
    /// Streams that came out: given to their session or turned away.
    out: Vec<u32>,
    /// Streams sent to here.
    sent: u32,
}

impl Input {
    /// Applies the events, then lets everything arrive and end.
    pub fn check(self) {
        let mut client = Side::new(Role::Client);
        let mut server = Side::new(Role::Server);
        let mut now = Instant::now();
        for step in self.steps {
            step.apply(&mut client, &mut server, now);
            if let Step::Wait(seconds) = step {
                now += Duration::from_secs(u64::from(seconds % 8));
            }
            for side in [&mut client, &mut server] {
                side.out.extend(side.registry.expire(now));
                assert!(side.registry.early_len() <= LIMITS.total);
            }
        }
        carry_all(&mut client, &mut server, now);
        for (_, (session, _)) in client.sessions.iter_mut().chain(&mut server.sessions) {
            session.close(0, "the end");
        }
        carry_all(&mut client, &mut server, now);
        for (_, (session, _)) in client.sessions.iter_mut().chain(&mut server.sessions) {
            session.handle_close_timeout();
        }
        carry_all(&mut client, &mut server, now);
        client.assert_over(now);
        server.assert_over(now);
        for (id, (_, here)) in &client.sessions {
            if let Some((_, there)) = server.sessions.get(id) {
                assert_agree(here, there);
                assert_agree(there, here);
            }
        }
    }
}

impl Step {
    fn apply(self, client: &mut Side, server: &mut Side, now: Instant) {
        let (side, other) = if self.is_at_client() {
            (client, server)
        } else {
            (server, client)
        };
        match self {
            Step::Open => {
                let id = side.sessions.len() as u64 * 4;
                if id < 4 * MOST_SESSIONS {
                    let session = Session::client(id, &request(), u64::MAX);
                    assert!(side.registry.insert(id, id).streams.is_empty(), "before its request");
                    side.sessions.insert(id, (session, Witness::default()));
                    side.take_output(id, other);
                }
            }
            Step::Accept(which) => {
                side.with(which, other, |session, _| {
                    session.accept(Dialect::D02, HeaderList::new())
                });
                side.admit(which);
            }
            Step::Reject(which) => side.with(which, other, |session, _| session.reject(403, HeaderList::new())),
            Step::Close { which, code, .. } => {
                side.with(which, other, |session, _| session.close(code, "because"));
            }
            Step::Abort { which, .. } => {
                side.with(which, other, |session, _| {
                    session.abort(Code::H3_REQUEST_REJECTED, "surplus")
                });
            }
            Step::Drain { which, .. } => side.with(which, other, |session, _| session.drain()),
            Step::SendStream { which, .. } => side.with(which, other, |session, other| {
                if may_send(session) {
                    let header = encoded(|out| encode_uni_header(session.id(), out));
                    other.streams.push((other.sent, header));
                    other.sent += 1;
                }
            }),
            Step::SendDatagram { which, .. } => side.with(which, other, |session, other| {
                if may_send(session) {
                    let prefix = encoded(|out| wt_proto::datagram::encode_prefix(session.id(), out));
                    other.datagrams.push(prefix);
                }
            }),
            Step::StreamArrives { which, .. } => side.receive_stream(usize::from(which), now),
            Step::DatagramArrives { which, .. } => side.receive_datagram(usize::from(which), now),
            Step::ConnectArrives { which, bytes, .. } => {
                let which = usize::from(which) % side.connect.len().max(1);
                if let Some(id) = side.connect.keys().nth(which).copied() {
                    side.receive_connect(id, usize::from(bytes), other);
                }
            }
            Step::CloseTimeout { which, .. } => side.with(which, other, |session, _| session.handle_close_timeout()),
            Step::Wait(_) => {}
        }
    }

    fn is_at_client(self) -> bool {
        match self {
            Step::Open => true,
            Step::Accept(_) | Step::Reject(_) | Step::Wait(_) => false,
            Step::Close { at_client, .. }
            | Step::Abort { at_client, .. }
            | Step::Drain { at_client, .. }
            | Step::SendStream { at_client, .. }
            | Step::SendDatagram { at_client, .. }
            | Step::StreamArrives { at_client, .. }
            | Step::DatagramArrives { at_client, .. }
            | Step::ConnectArrives { at_client, .. }
            | Step::CloseTimeout { at_client, .. } => at_client,
        }
    }
}

impl Side {
    fn new(role: Role) -> Self {
        Side {
            role,
            registry: Registry::new(role, LIMITS),
            sessions: BTreeMap::new(),
            connect: BTreeMap::new(),
            streams: Vec::new(),
            datagrams: Vec::new(),
            out: Vec::new(),
            sent: 0,
        }
    }

    fn id(&self, which: u8) -> Option<u64> {
        let which = usize::from(which) % self.sessions.len().max(1);
        self.sessions.keys().nth(which).copied()
    }

    /// Acts on a session, if there is any, and carries out what it wants.
    fn with(&mut self, which: u8, other: &mut Side, act: impl FnOnce(&mut Session, &mut Side)) {
        if let Some(id) = self.id(which) {
            act(&mut self.sessions.get_mut(&id).expect("it is there").0, other);
            self.take_output(id, other);
        }
    }

    /// A session that the server accepted gets what has been waiting for it.
    fn admit(&mut self, which: u8) {
        let Some(id) = self.id(which) else { return };
        let is_open = matches!(self.sessions[&id].0.state(), State::Open | State::Draining);
        if is_open && self.registry.get(id).is_none() {
            self.out.extend(self.registry.insert(id, id).streams);
        }
    }

    fn take_output(&mut self, id: u64, other: &mut Side) {
        let (session, witness) = self.sessions.get_mut(&id).expect("it is there");
        while let Some(event) = session.poll_event() {
            witness.hear(&event);
            if matches!(event, SessionEvent::Closed(_)) {
                self.out.extend(self.registry.discard(id).streams);
            }
        }
        let wire = other.connect.entry(id).or_default();
        while let Some(transmit) = session.poll_transmit() {
            witness.see(&transmit);
            // RFC 9000 section 3.2: a reset may overtake the data and the end before it.
            if matches!(transmit, Transmit::Reset(_)) {
                wire.retain(|earlier| matches!(earlier, Transmit::Stop(_)));
            }
            wire.push_back(transmit);
        }
        witness.compare(session);
    }

    fn take_all_output(&mut self, other: &mut Side) {
        let ids: Vec<u64> = self.sessions.keys().copied().collect();
        ids.into_iter().for_each(|id| self.take_output(id, other));
    }

    /// Everything on its way arrives; whether there was nothing on the CONNECT streams.
    fn receive_all(&mut self, other: &mut Side, now: Instant) -> bool {
        let ids: Vec<u64> = self.connect.keys().copied().collect();
        let is_silent = self.connect.values().all(VecDeque::is_empty);
        ids.into_iter()
            .for_each(|id| self.receive_connect(id, usize::MAX, other));
        (0..self.streams.len()).for_each(|_| self.receive_stream(0, now));
        (0..self.datagrams.len()).for_each(|_| self.receive_datagram(0, now));
        is_silent
    }

    fn receive_connect(&mut self, id: u64, mut bytes: usize, other: &mut Side) {
        if self.role == Role::Server {
            let new = || (Session::server(id, u64::MAX), Witness::default());
            self.sessions.entry(id).or_insert_with(new);
        }
        let (session, _) = self.sessions.get_mut(&id).expect("a client knows its own");
        let wire = self.connect.get_mut(&id).expect("the caller looked");
        loop {
            match wire.pop_front() {
                Some(Transmit::Data(mut data)) if data.len() > bytes => {
                    session.handle_data(data.split_to(bytes)).expect("no fault");
                    wire.push_front(Transmit::Data(data));
                    break;
                }
                Some(Transmit::Data(data)) => {
                    bytes -= data.len();
                    session.handle_data(data).expect("no fault");
                }
                Some(Transmit::Finish) => session.handle_fin().expect("no fault"),
                Some(Transmit::Reset(code)) => session.handle_reset(code),
                Some(Transmit::Stop(code)) => session.handle_stopped(code),
                None => break,
            }
        }
        self.take_output(id, other);
    }

    fn receive_stream(&mut self, which: usize, now: Instant) {
        if self.streams.is_empty() {
            return;
        }
        let (number, header) = self.streams.swap_remove(which % self.streams.len());
        let Ok(Some((UniStream::WebTransport { session }, _))) = UniHeaderParser::new().push(header) else {
            panic!("a whole header");
        };
        match self.registry.stream(session, number, now) {
            StreamRoute::Deliver(_, stream) | StreamRoute::Reject(stream, _) => self.out.push(stream),
            StreamRoute::Buffered => {
                // A client knows its sessions, but for those that ended long ago: the registry remembers some of them.
                let known = self.sessions.get(&session);
                let has_ended = known.is_some_and(|(session, _)| session.state() == State::Closed);
                assert!(self.role == Role::Server || has_ended, "a client knows its sessions");
            }
        }
    }

    fn receive_datagram(&mut self, which: usize, now: Instant) {
        if self.datagrams.is_empty() {
            return;
        }
        let datagram = self.datagrams.swap_remove(which % self.datagrams.len());
        let (session, payload) = wt_proto::datagram::decode(datagram).expect("valid");
        if let DatagramRoute::Deliver(to, _) = self.registry.datagram(session, payload, now) {
            assert_eq!(to, session);
        }
    }

    fn assert_over(&mut self, now: Instant) {
        for (session, witness) in self.sessions.values() {
            assert!(witness.is_finished && session.state() == State::Closed);
        }
        assert!(self.registry.is_empty());
        self.out.extend(self.registry.expire(now + LIMITS.ttl));
        self.out.sort_unstable();
        assert!(self.out.iter().copied().eq(0..self.sent), "each stream came out once");
    }
}

/// Until both sides are silent.
fn carry_all(client: &mut Side, server: &mut Side, now: Instant) {
    loop {
        client.take_all_output(server);
        server.take_all_output(client);
        let client_is_silent = client.receive_all(server, now);
        let server_is_silent = server.receive_all(client, now);
        if client_is_silent && server_is_silent {
            return;
        }
    }
}

/// §4: a client need not wait for the answer.
fn may_send(session: &Session) -> bool {
    matches!(session.state(), State::Connecting | State::Open | State::Draining)
}

/// What one side closed, the other one heard of in the same words, unless it had an end of its own already.
fn assert_agree(here: &Witness, there: &Witness) {
    let (Some(here), Some(there)) = (&here.verdict, &there.verdict) else {
        panic!("both ended")
    };
    if there.by == Initiator::Peer && there.cause == CloseCause::Closed {
        assert_eq!((here.by, &here.cause), (Initiator::Local, &CloseCause::Closed));
        assert_eq!((here.code, &here.reason), (there.code, &there.reason));
    }
}

const MOST_SESSIONS: u64 = 6;

const LIMITS: Limits = Limits {
    per_session: 4,
    total: 8,
    datagram_bytes: 100,
    ttl: Duration::from_secs(5),
    remembered: 4,
};
