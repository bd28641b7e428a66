//! What the applications of a seed do: streams of every kind and end, datagrams, pauses. Each end checks what arrives.
//!
//! Nothing is told over the wire: who opens a stream writes down in the [`Ledger`] what will happen on it, and who accepts
//! it looks that up by the stream's id. Both run in one process, and the ledger is written before the first packet leaves.
//!
//! One thing may go wrong: without RESET_STREAM_AT (draft-ietf-quic-reliable-stream-reset) a reset can overtake the stream's
//! header when the header's packet is lost, and the peer never learns whose stream it was. Such streams are counted.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{
        Arc, Weak,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use parking_lot::Mutex;
use wt_io::{
    driver::Driver,
    error::{DatagramError, OpenError, StreamEnd},
    proto::error_code::Code,
    recv_stream::{RecvState, RecvStream},
    send_stream::{SendState, SendStream, Written},
    session::{Session, Stream},
};

use crate::{
    common::Peer,
    random::{Random, difference, fill},
};

/// No stream takes longer, whatever the network does: more than the longest pause of a reader for each of its pauses.
const STALLED: Duration = Duration::from_secs(600);

/// Halves that an end reads and writes at once; with more it opens no further stream. A path with 5 % loss carries little.
const AT_ONCE: usize = 10;

/// A stream that was reset and did not arrive within this time never will: its packets were tried many times.
const NEVER: Duration = Duration::from_secs(60);

/// What will happen in one direction of a stream.
#[derive(Debug, Clone, Copy)]
struct Half {
    /// Names its content, and the dice of its writer and reader.
    content: u64,
    len: u64,
    end: End,
    /// The reader pauses between reads, up to so many milliseconds.
    reluctance: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    /// All of it arrives, then the end of the stream.
    Finish,
    /// The writer resets it after `len` bytes.
    Reset(u32),
    /// The reader stops it after so many bytes.
    Stop(u64, u32),
}

/// What will happen on one stream.
#[derive(Debug, Clone, Copy)]
struct Plan {
    forth: Half,
    /// On a bidirectional one.
    back: Option<Half>,
    /// The way back begins when the way forth is over.
    is_answer: bool,
}

/// What was planned, what has happened.
#[derive(Debug, Default)]
pub struct Ledger {
    plans: BTreeMap<u64, Plan>,
    /// Streams that were opened and not accepted yet.
    unaccepted: BTreeSet<u64>,
    /// Halves that are not over, by stream and direction.
    unfinished: BTreeSet<(u64, &'static str)>,
    /// Streams that were reset and are not accepted yet, and when that was.
    overtaking: BTreeMap<u64, Instant>,
    /// A reset may come before the peer has accepted the stream. Not with flow control: the credit of a stream that never
    /// arrives is lost to its session, and sooner or later there would be none.
    pub has_early_resets: bool,
    /// Content numbers of datagrams on their way, or lost, and where they go.
    datagrams: BTreeMap<u64, (Arrow, usize)>,
    next_content: u64,
    /// For the message of a failure.
    ends: Vec<(&'static str, Weak<Session>)>,
    /// Where the story is.
    pub scene: String,
    pub sums: Sums,
}

/// A session, and which of its ends receives.
type Arrow = (u64, bool);

/// For the last line.
#[derive(Debug, Default, Clone, Copy)]
pub struct Sums {
    pub streams: u64,
    /// Bytes on streams that arrived as they should.
    pub bytes: u64,
    pub resets: u64,
    /// Streams whose reset overtook their header.
    pub never_known: u64,
    pub stops: u64,
    pub datagrams_sent: u64,
    pub datagrams_received: u64,
}

impl Ledger {
    fn content(&mut self) -> u64 {
        self.next_content += 1;
        self.next_content
    }

    fn is_done(&self) -> bool {
        self.unaccepted.is_empty() && self.unfinished.is_empty()
    }

    /// A stream whose header was overtaken by its reset.
    fn strike_out(&mut self, stream: u64) {
        self.unaccepted.remove(&stream);
        self.overtaking.remove(&stream);
        self.unfinished.remove(&(stream, "reading forth"));
        self.unfinished.remove(&(stream, "writing back"));
        self.sums.never_known += 1;
    }

    fn strike_out_old(&mut self, now: Instant) {
        let old = |(stream, reset): (&u64, &Instant)| (now - *reset > NEVER).then_some(*stream);
        let old: Vec<_> = self.overtaking.iter().filter_map(old).collect();
        old.into_iter().for_each(|stream| self.strike_out(stream));
    }

    /// What is left, for the message of a failure.
    pub fn open_ends(&self) -> String {
        let plans: Vec<_> = self
            .unfinished
            .iter()
            .map(|(stream, half)| format!("{half} of stream {stream}: {:?}", self.plans.get(stream)))
            .collect();
        let sessions: Vec<_> = self
            .ends
            .iter()
            .filter_map(|(name, session)| Some((name, session.upgrade()?)))
            .map(|(name, session)| format!("{name} of session {}: {:?}", session.id(), session.credits()))
            .collect();
        format!(
            "while {}; credits: {sessions:#?}; streams not accepted: {:?}; not over: {plans:#?}",
            self.scene, self.unaccepted
        )
    }
}

/// One end of one session, with its application.
#[derive(Clone)]
pub struct Actor {
    peer: Peer,
    ledger: Arc<Mutex<Ledger>>,
    name: &'static str,
    /// Actions are so many milliseconds apart, at most.
    pace: u64,
    /// Nobody does anything within these, since the beginning.
    quiet: Arc<Vec<(Duration, Duration)>>,
    /// Halves that this end reads or writes.
    begun: Arc<AtomicUsize>,
}

impl Actor {
    pub fn new(
        peer: &Peer,
        ledger: &Arc<Mutex<Ledger>>,
        name: &'static str,
        pace: u64,
        quiet: Arc<Vec<(Duration, Duration)>>,
    ) -> Self {
        ledger.lock().ends.push((name, Arc::downgrade(&peer.session)));
        Self {
            peer: peer.clone(),
            ledger: ledger.clone(),
            name,
            pace,
            quiet,
            begun: Arc::default(),
        }
    }

    fn driver(&self) -> &Driver {
        &self.peer.event_loop().driver
    }

    /// Accept and receive until the session ends.
    pub fn serve(&self) {
        let this = self.clone();
        self.driver().spawn(async move {
            loop {
                match this.peer.accept_stream().await {
                    Ok(stream) => this.accept(stream),
                    Err(OpenError::SessionClosed(_)) => return,
                    Err(error) => panic!("{}: {error}", this.name),
                }
            }
        });
        let this = self.clone();
        self.driver().spawn(async move {
            loop {
                match this.peer.datagram().await {
                    Ok(data) => this.check_datagram(&data),
                    Err(DatagramError::SessionClosed(_)) => return,
                    Err(error) => panic!("{}: {error}", this.name),
                }
            }
        });
    }

    /// Do this and that for as long as `duration`, then wait until all of it is over, at both ends.
    pub async fn act(self, mut random: Random, duration: Duration) {
        let driver = self.driver().clone();
        let began = driver.now();
        loop {
            let elapsed = driver.now() - began;
            if elapsed >= duration {
                break;
            }
            if let Some((_, until)) = self.quiet.iter().find(|(from, to)| (*from..*to).contains(&elapsed)) {
                driver.sleep(*until - elapsed).await;
                continue;
            }
            if self.begun.load(Relaxed) >= AT_ONCE {
                driver.sleep(Duration::from_millis(100)).await;
                continue;
            }
            match random.below(10) {
                0..6 => self.open(&mut random).await,
                6..8 => self.send_datagrams(&mut random).await,
                _ => driver.sleep(random.millis(0..5 * self.pace)).await,
            }
            driver.sleep(random.millis(0..self.pace)).await;
        }
        while !self.ledger.lock().is_done() {
            driver.sleep(Duration::from_millis(100)).await;
            self.ledger.lock().strike_out_old(driver.now());
        }
    }

    async fn open(&self, random: &mut Random) {
        let plan = {
            let mut ledger = self.ledger.lock();
            Plan {
                forth: half(random, &mut ledger),
                back: random.chance(0.5).then(|| half(random, &mut ledger)),
                is_answer: random.chance(0.5),
            }
        };
        let opening = self.peer.open(plan.back.is_some());
        let stream = self.driver().timeout(STALLED, opening).await;
        let stream = stream.unwrap_or_else(|| panic!("{}: no credit for a stream", self.name));
        let (send, recv) = match stream.expect("the session lives") {
            Stream::Bidirectional(send, recv) => (send, Some(recv)),
            Stream::Send(send) => (send, None),
            Stream::Recv(_) => panic!("opened a stream of the peer"),
        };
        {
            let mut ledger = self.ledger.lock();
            ledger.sums.streams += 1;
            ledger.plans.insert(send.id(), plan);
            ledger.unaccepted.insert(send.id());
            ledger.unfinished.insert((send.id(), "writing forth"));
            ledger.unfinished.insert((send.id(), "reading forth"));
            if plan.back.is_some() {
                ledger.unfinished.insert((send.id(), "writing back"));
                ledger.unfinished.insert((send.id(), "reading back"));
            }
        }
        self.spawn_half(send.id(), "writing forth", self.clone().write(send, plan.forth));
        if let (Some(recv), Some(back)) = (recv, plan.back) {
            self.spawn_half(recv.id(), "reading back", self.clone().read(recv, back));
        }
    }

    fn accept(&self, stream: Stream) {
        let (send, recv) = match stream {
            Stream::Bidirectional(send, recv) => (Some(send), recv),
            Stream::Recv(recv) => (None, recv),
            Stream::Send(_) => panic!("accepted a stream of this side"),
        };
        let id = recv.id();
        let plan = {
            let mut ledger = self.ledger.lock();
            assert!(
                ledger.unaccepted.remove(&id),
                "stream {id} was accepted twice, or too late"
            );
            ledger.overtaking.remove(&id);
            ledger.plans[&id]
        };
        assert_eq!(send.is_some(), plan.back.is_some(), "the kind of stream {id}");
        let reading = self.clone().read(recv, plan.forth);
        let writing = send.zip(plan.back).map(|(send, back)| self.clone().write(send, back));
        match writing {
            Some(writing) if plan.is_answer => {
                let this = self.clone();
                self.driver().spawn(async move {
                    this.clone().half(id, "reading forth", reading).await;
                    this.half(id, "writing back", writing).await;
                });
            }
            writing => {
                self.spawn_half(id, "reading forth", reading);
                if let Some(writing) = writing {
                    self.spawn_half(id, "writing back", writing);
                }
            }
        }
    }

    fn spawn_half(&self, id: u64, name: &'static str, work: impl Future<Output = ()> + Send + 'static) {
        self.driver().spawn(self.clone().half(id, name, work));
    }

    async fn half(self, id: u64, name: &'static str, work: impl Future<Output = ()> + Send + 'static) {
        self.begun.fetch_add(1, Relaxed);
        if self.driver().timeout(STALLED, work).await.is_none() {
            let plan = self.ledger.lock().plans[&id];
            panic!(
                "{}: {name} of stream {id} is not over after {STALLED:?}: {plan:?}",
                self.name
            );
        }
        self.begun.fetch_sub(1, Relaxed);
        let mut ledger = self.ledger.lock();
        assert!(
            ledger.unfinished.remove(&(id, name)),
            "{name} of stream {id} ended twice"
        );
        if !ledger.unfinished.iter().any(|(stream, _)| *stream == id) {
            ledger.plans.remove(&id);
        }
    }

    async fn write(self, stream: Arc<SendStream>, half: Half) {
        let Self { peer, name, ledger, .. } = &self;
        let id = stream.id();
        let mut random = Random::new(half.content, "writer");
        let mut piece = vec![0; 64 << 10];
        let mut written = 0;
        let early = loop {
            if written == half.len {
                break None;
            }
            let size = random.one_of(&[1, 100, 1_000, 10_000, 65_536]).min(half.len - written);
            let piece = &mut piece[..size as usize];
            fill(half.content, written, piece);
            let is_last = written + size == half.len && half.end == End::Finish && random.chance(0.5);
            if let Err(end) = peer.write(&stream, piece, is_last).await {
                break Some(end);
            }
            written += size;
            if random.chance(0.1) {
                self.driver().sleep(random.millis(0..200)).await;
            }
        };
        match (half.end, early) {
            (End::Finish, None) => {
                stream.finish();
                peer.event_loop().ready(stream.ended()).await;
                let state = stream.state();
                assert!(
                    matches!(state, SendState::Sent | SendState::Acknowledged),
                    "{name}: stream {id} was finished and is {state:?}: {:?}",
                    stream.end()
                );
            }
            (End::Reset(code), None) => {
                self.driver().sleep(random.millis(0..300)).await;
                while self.is_unaccepted(id) && !ledger.lock().has_early_resets {
                    self.driver().sleep(Duration::from_millis(20)).await;
                }
                stream.reset(code);
                if self.is_unaccepted(id) {
                    ledger.lock().overtaking.insert(id, self.driver().now());
                }
                assert_eq!(stream.state(), SendState::Reset, "{name}: stream {id}");
            }
            (End::Stop(_, code), early) => {
                if early.is_none() {
                    peer.event_loop().ready(stream.ended()).await;
                }
                let end = early.or(stream.end()).expect("the peer stopped it");
                assert!(
                    matches!(end, StreamEnd::Stopped(_)),
                    "{name}: stream {id} should be stopped: {end:?}"
                );
                assert_eq!(end.application_code(), Some(code), "{name}: the code on stream {id}");
            }
            (planned, Some(end)) => panic!("{name}: stream {id} should end with {planned:?}: {end:?}"),
        }
    }

    async fn read(self, stream: Arc<RecvStream>, half: Half) {
        let Self { peer, name, ledger, .. } = &self;
        let id = stream.id();
        let mut random = Random::new(half.content, "reader");
        let mut got = 0;
        let end = loop {
            if let End::Stop(after, code) = half.end
                && got >= after
            {
                stream.stop(code);
                assert_eq!(stream.state(), RecvState::Stopped, "{name}: stream {id}");
                ledger.lock().sums.stops += 1;
                return;
            }
            match peer.read(&stream, random.one_of(&[1_000, 20_000, 1 << 20])).await {
                Ok(bytes) if bytes.is_empty() => break None,
                Ok(bytes) => {
                    if let Some(at) = difference(half.content, got, &bytes) {
                        panic!("{name}: stream {id} differs from what was written at byte {at}");
                    }
                    got += bytes.len() as u64;
                }
                Err(end) => break Some(end),
            }
            if half.reluctance > 0 {
                self.driver().sleep(random.millis(0..half.reluctance)).await;
            }
        };
        match (half.end, end) {
            // RFC 9114 section 4.1: so the server answers a stream that ends before it said what it is.
            (_, Some(StreamEnd::Reset(code))) if code == Code::H3_REQUEST_INCOMPLETE.0 && self.is_overtaking(id) => {
                ledger.lock().strike_out(id);
            }
            (End::Finish, None) => {
                assert_eq!(got, half.len, "{name}: bytes on stream {id}");
                assert_eq!(stream.state(), RecvState::Finished, "{name}: stream {id}");
            }
            (End::Reset(code), Some(end)) => {
                assert!(matches!(end, StreamEnd::Reset(_)), "{name}: stream {id}: {end:?}");
                assert_eq!(
                    end.application_code(),
                    Some(code),
                    "{name}: the code on stream {id}, after {got} bytes: {end:?}"
                );
                assert!(got <= half.len, "{name}: {got} bytes on stream {id}: {half:?}");
                ledger.lock().sums.resets += 1;
            }
            (planned, end) => panic!("{name}: stream {id} should end with {planned:?}, after {got} bytes: {end:?}"),
        }
        ledger.lock().sums.bytes += got;
    }

    fn is_unaccepted(&self, stream: u64) -> bool {
        self.ledger.lock().unaccepted.contains(&stream)
    }

    fn is_overtaking(&self, stream: u64) -> bool {
        self.ledger.lock().overtaking.contains_key(&stream)
    }

    async fn send_datagrams(&self, random: &mut Random) {
        for _ in 0..random.within(1..20) {
            let max = self.peer.max_datagram_size();
            // The content's number, so that the receiver knows what it should be.
            let size = if random.chance(0.2) {
                max
            } else {
                random.within(8..max as u64) as usize
            };
            let content = {
                let mut ledger = self.ledger.lock();
                let content = ledger.content();
                ledger.datagrams.insert(content, (self.arrow(true), size));
                ledger.sums.datagrams_sent += 1;
                content
            };
            let mut data = vec![0; size];
            data[..8].copy_from_slice(&content.to_be_bytes());
            fill(content, 8, &mut data[8..]);
            match self.peer.send_datagram(&data, 1, None) {
                Ok(Written::Sent | Written::SentYield) => {}
                refused => panic!("{}: a datagram of {size} bytes: {refused:?}", self.name),
            }
        }
    }

    fn check_datagram(&self, data: &[u8]) {
        let (number, body) = data.split_first_chunk::<8>().expect("it has a number");
        let content = u64::from_be_bytes(*number);
        let mut ledger = self.ledger.lock();
        let sent = ledger.datagrams.remove(&content);
        let sent = sent.unwrap_or_else(|| panic!("{}: datagram {content} came twice, or from nowhere", self.name));
        assert_eq!(sent, (self.arrow(false), data.len()), "datagram {content}");
        assert_eq!(difference(content, 8, body), None, "the content of datagram {content}");
        ledger.sums.datagrams_received += 1;
    }

    /// Where a datagram goes that this end sends or receives.
    fn arrow(&self, is_sender: bool) -> Arrow {
        let is_client = self.name == "client";
        (self.peer.id(), is_client != is_sender)
    }
}

fn half(random: &mut Random, ledger: &mut Ledger) -> Half {
    let len = match random.below(20) {
        0 => 0,
        1..12 => random.below(3_000),
        12..19 => random.within(3_000..60_000),
        _ => random.within(60_000..400_000),
    };
    let code = random.next() as u32;
    Half {
        content: ledger.content(),
        len,
        end: match random.below(10) {
            0 => End::Reset(code),
            1 => End::Stop(random.below(len + 1), code),
            _ => End::Finish,
        },
        // At most two minutes of pauses in all, however small the pieces are.
        reluctance: if random.chance(0.2) {
            1_000.min(240_000_000 / (len + 1))
        } else {
            0
        },
    }
}
