//! A session's datagrams: two bounded queues in front of QUIC's own buffers.
//!
//! Sending: `send` copies the payload behind its prefix (quarter stream id) into a queue per priority and rings the pump;
//! the pump feeds QUIC as congestion control allows, so priority and age count until late. Receiving: the connection's
//! reader pushes batches, the application pops. What does not fit drops the oldest and is counted.

use std::{
    collections::VecDeque,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use bytes::{Bytes, BytesMut};
use parking_lot::Mutex;
use tokio::sync::Notify;
use wt_proto::datagram::{encode_prefix, prefix_len};

use crate::{
    bridge::ring::{WaitPoint, WaitQueue, wait_point},
    config::{DATAGRAM_QUEUE_BYTES, DatagramOverflow},
    driver::{Either, select},
    error::DatagramError,
    send_stream::Written,
    session::Session,
    stats::unix_seconds,
};

/// Priorities 0, 1 and 2; 2 goes first.
pub const PRIORITIES: usize = 3;

/// Small datagrams share allocations, each freed when all in it have been sent. The first one after a pause has the first
/// size, as many a session sends one now and then and keeps the rest; each further one is twice as large, up to the second.
const SHARED_ALLOCATION: (usize, usize) = (1 << 10, 64 << 10);

/// Entries for which an empty queue keeps room: 14 KB. A burst of 4096 needs 230.
const KEPT_ROOM: usize = 256;

/// Datagrams that the pump takes from the queues at once: those it took can no longer be overtaken by a priority.
const PUMP_BATCH: usize = 64;

/// Every so many calls that did not wait the caller is told to let the event loop run.
const YIELD_INTERVAL: u64 = 256;

/// Single datagrams remembered for event listeners that are slow to fetch them.
const EVENT_LOG: usize = 4096;

/// What happened to one datagram; recorded only while somebody listens.
#[derive(Debug, Clone)]
pub struct DatagramEvent {
    /// `sent`, `received` or `expired`.
    pub kind: &'static str,
    /// Payload bytes.
    pub size: usize,
    /// Number in its direction, from 0.
    pub sequence: u64,
    /// Unix seconds.
    pub time: f64,
}

/// One received datagram.
#[derive(Debug)]
pub struct Received {
    /// The payload.
    pub data: Bytes,
    /// Number among the received ones, from 0.
    pub sequence: u64,
    /// Arrival in unix seconds.
    pub arrived: f64,
}

/// Counters of both directions.
#[derive(Debug, Default, Clone)]
pub struct DatagramStats {
    /// Accepted by `send`.
    pub sent: u64,
    /// Their payload bytes.
    pub bytes_sent: u64,
    /// Accepted, then dropped by a full queue or refused at one.
    pub send_drops: u64,
    /// Accepted, then refused by QUIC.
    pub send_failures: u64,
    /// Accepted, then too old.
    pub expired: u64,
    /// Arrived for this session.
    pub received: u64,
    /// Their payload bytes.
    pub bytes_received: u64,
    /// Dropped by a full queue.
    pub receive_drops: u64,
    /// Handed to the application.
    pub delivered: u64,
    /// Smallest payload seen, both directions; `u64::MAX` before the first.
    pub min_size: u64,
    /// Largest payload seen, both directions.
    pub max_size: u64,
}

/// What waits now.
#[derive(Debug, Default, Clone, Copy)]
pub struct DatagramQueues {
    /// Received, not read.
    pub incoming: usize,
    /// Their bytes.
    pub incoming_bytes: usize,
    /// Accepted, not with QUIC, by priority.
    pub outgoing: [usize; PRIORITIES],
    /// Their bytes.
    pub outgoing_bytes: usize,
}

/// The datagram side of one session.
#[derive(Debug)]
pub struct Datagrams {
    prefix: Bytes,
    bound: usize,
    overflow: DatagramOverflow,
    /// Largest payload; refreshed from QUIC when a send would not fit, and by the pump.
    max_size: AtomicUsize,
    outgoing: Mutex<Outgoing>,
    incoming: Mutex<Incoming>,
    bell: Notify,
    available: WaitQueue,
    room: WaitQueue,
    recording: AtomicBool,
    events: Mutex<VecDeque<DatagramEvent>>,
}

#[derive(Debug, Default)]
struct Outgoing {
    /// By priority; none before the first datagram.
    queues: Vec<VecDeque<Queued>>,
    len: usize,
    bytes: usize,
    shared: BytesMut,
    /// The size of the last shared allocation since the pump has waited.
    allocated: usize,
    next: u64,
    sent: u64,
    bytes_sent: u64,
    drops: u64,
    failures: u64,
    expired: u64,
    min_size: Option<u64>,
    max_size: u64,
    pump: Pump,
}

/// The task that feeds QUIC.
#[derive(Debug, Default, PartialEq, Eq)]
enum Pump {
    /// It begins with the first datagram: most sessions that wait have never sent one.
    #[default]
    Unborn,
    Waiting,
    Working,
}

#[derive(Debug)]
struct Queued {
    /// Prefix and payload.
    packet: Bytes,
    expires: Option<Instant>,
    sequence: u64,
}

#[derive(Debug, Default)]
struct Incoming {
    queue: VecDeque<Received>,
    bytes: usize,
    received: u64,
    bytes_received: u64,
    drops: u64,
    delivered: u64,
    /// Taken since the application last waited.
    taken: u64,
    min_size: Option<u64>,
    max_size: u64,
}

impl Datagrams {
    /// Queues for the session with this id.
    pub(crate) fn new(session: u64, bound: usize, overflow: DatagramOverflow) -> Self {
        let mut prefix = BytesMut::with_capacity(prefix_len(session));
        encode_prefix(session, &mut prefix);
        Self {
            prefix: prefix.freeze(),
            bound,
            overflow,
            max_size: AtomicUsize::new(0),
            outgoing: Mutex::default(),
            incoming: Mutex::default(),
            bell: Notify::new(),
            available: WaitQueue::default(),
            room: WaitQueue::default(),
            recording: AtomicBool::new(false),
            events: Mutex::default(),
        }
    }

    /// Entries that may wait in each direction.
    pub fn bound(&self) -> usize {
        self.bound
    }

    /// Count what each direction saw.
    pub fn stats(&self) -> DatagramStats {
        let (outgoing, incoming) = (self.outgoing.lock(), self.incoming.lock());
        DatagramStats {
            sent: outgoing.sent,
            bytes_sent: outgoing.bytes_sent,
            send_drops: outgoing.drops,
            send_failures: outgoing.failures,
            expired: outgoing.expired,
            received: incoming.received,
            bytes_received: incoming.bytes_received,
            receive_drops: incoming.drops,
            delivered: incoming.delivered,
            min_size: outgoing
                .min_size
                .into_iter()
                .chain(incoming.min_size)
                .min()
                .unwrap_or(u64::MAX),
            max_size: outgoing.max_size.max(incoming.max_size),
        }
    }

    /// What waits now.
    pub fn queues(&self) -> DatagramQueues {
        let (outgoing, incoming) = (self.outgoing.lock(), self.incoming.lock());
        DatagramQueues {
            incoming: incoming.queue.len(),
            incoming_bytes: incoming.bytes,
            outgoing: std::array::from_fn(|priority| outgoing.queues.get(priority).map_or(0, VecDeque::len)),
            outgoing_bytes: outgoing.bytes,
        }
    }

    /// Record single datagrams for event listeners, or stop to.
    pub fn record_events(&self, enabled: bool) {
        self.recording.store(enabled, Relaxed);
        if !enabled {
            self.events.lock().clear();
        }
    }

    /// The recorded events since the last call.
    pub fn take_events(&self) -> VecDeque<DatagramEvent> {
        std::mem::take(&mut *self.events.lock())
    }

    fn record(&self, kind: &'static str, size: usize, sequence: u64) {
        if self.recording.load(Relaxed) {
            let mut events = self.events.lock();
            if events.len() == EVENT_LOG {
                events.pop_front();
            }
            events.push_back(DatagramEvent {
                kind,
                size,
                sequence,
                time: unix_seconds(),
            });
        }
    }
}

impl Session {
    /// Largest payload that can be sent now.
    pub fn max_datagram_size(&self) -> usize {
        let datagrams = self.datagrams();
        let quic = self.connection().quic().max_datagram_size().unwrap_or(0);
        let size = quic.saturating_sub(datagrams.prefix.len());
        datagrams.max_size.store(size, Relaxed);
        size
    }

    /// Queue one datagram with a priority of 0 to 2 and, if `ttl` is given, an age at which it is dropped unsent.
    pub fn send_datagram(
        self: &Arc<Self>,
        data: &[u8],
        priority: u8,
        ttl: Option<Duration>,
    ) -> Result<Written, DatagramError> {
        if !self.is_connected() {
            return Err(DatagramError::SessionClosed(self.close_info()));
        }
        let datagrams = self.datagrams();
        if data.len() > datagrams.max_size.load(Relaxed) {
            let max = self.max_datagram_size();
            if data.len() > max {
                datagrams.outgoing.lock().drops += 1;
                return Err(DatagramError::TooLarge { size: data.len(), max });
            }
        }
        let mut outgoing = datagrams.outgoing.lock();
        if outgoing.len >= datagrams.bound || outgoing.bytes + data.len() > DATAGRAM_QUEUE_BYTES {
            match datagrams.overflow {
                DatagramOverflow::Wait => return Ok(Written::NoRoom),
                DatagramOverflow::DropOldest if outgoing.evict() => {}
                _ => {
                    outgoing.drops += 1;
                    return Err(DatagramError::Full);
                }
            }
        }
        let packet = outgoing.packet(&datagrams.prefix, data);
        // An age that cannot be represented is no age limit.
        let expires = ttl.and_then(|ttl| self.connection().driver().now().checked_add(ttl));
        let sequence = outgoing.next;
        outgoing.next += 1;
        outgoing.len += 1;
        outgoing.bytes += packet.len();
        outgoing.sent += 1;
        outgoing.bytes_sent += data.len() as u64;
        outgoing.seen(data.len());
        outgoing.queues.resize_with(PRIORITIES, VecDeque::new);
        outgoing.queues[usize::from(priority).min(PRIORITIES - 1)].push_back(Queued {
            packet,
            expires,
            sequence,
        });
        let yields = outgoing.sent.is_multiple_of(YIELD_INTERVAL);
        let pump = std::mem::replace(&mut outgoing.pump, Pump::Working);
        drop(outgoing);
        self.count_copied(data.len());
        match pump {
            Pump::Unborn => self.connection().driver().spawn(run_pump(self.clone())),
            Pump::Waiting => datagrams.bell.notify_one(),
            Pump::Working => {}
        }
        Ok(if yields { Written::SentYield } else { Written::Sent })
    }

    /// Take the oldest datagram; None when there is none, or when it is time to let others run.
    pub fn try_receive_datagram(&self) -> Result<Option<Received>, DatagramError> {
        let mut incoming = self.datagrams().incoming.lock();
        if !incoming.may_take() {
            return self.nothing_received(incoming.queue.is_empty());
        }
        let received = incoming.pop();
        drop(incoming);
        self.count_copied(received.as_ref().map_or(0, |received| received.data.len()));
        Ok(received)
    }

    /// Take up to `max` datagrams at once; None as in [`try_receive_datagram`](Self::try_receive_datagram).
    pub fn try_receive_datagrams(&self, max: usize) -> Result<Option<Vec<Bytes>>, DatagramError> {
        let mut incoming = self.datagrams().incoming.lock();
        if !incoming.may_take() {
            return self.nothing_received(incoming.queue.is_empty());
        }
        let count = incoming.queue.len().min(max);
        incoming.taken += count as u64;
        incoming.delivered += count as u64;
        let batch: Vec<Bytes> = incoming.queue.drain(..count).map(|received| received.data).collect();
        let bytes = batch.iter().map(Bytes::len).sum();
        incoming.bytes -= bytes;
        drop(incoming);
        self.count_copied(bytes);
        Ok(Some(batch))
    }

    /// A payload was copied from the application's object, or the caller is about to copy it into one.
    fn count_copied(&self, bytes: usize) {
        self.port().stats.bytes_copied.add(bytes as u64);
    }

    fn nothing_received<T>(&self, empty: bool) -> Result<Option<T>, DatagramError> {
        // What arrived before the end is delivered before the end.
        if empty && self.has_ended() {
            Err(DatagramError::SessionClosed(self.close_info()))
        } else {
            Ok(None)
        }
    }

    /// Whether somebody waits for a datagram already.
    pub fn has_datagram_waiters(&self) -> bool {
        self.datagrams().available.has_waiters()
    }

    /// Drop what waits in one direction; returns how many entries that were.
    pub fn clear_datagrams(&self, incoming: bool) -> usize {
        if incoming {
            let mut incoming = self.datagrams().incoming.lock();
            incoming.bytes = 0;
            std::mem::take(&mut incoming.queue).len()
        } else {
            let mut outgoing = self.datagrams().outgoing.lock();
            outgoing.queues.iter_mut().for_each(VecDeque::clear);
            outgoing.bytes = 0;
            std::mem::take(&mut outgoing.len)
        }
    }

    /// Ready when a datagram can be taken, or the session ended.
    pub fn datagram_available(self: &Arc<Self>) -> Box<dyn WaitPoint> {
        wait_point(
            self.clone(),
            |this| &this.datagrams().available,
            |this| !this.datagrams().incoming.lock().queue.is_empty() || this.has_ended(),
        )
    }

    /// Ready when `send_datagram` would take one, or fail.
    pub fn datagram_room(self: &Arc<Self>) -> Box<dyn WaitPoint> {
        wait_point(
            self.clone(),
            |this| &this.datagrams().room,
            |this| !this.is_connected() || this.datagrams().has_room(),
        )
    }

    /// Datagrams arrived for this session; `batch` is emptied.
    pub(crate) fn push_datagrams(&self, batch: &mut Vec<Bytes>) {
        let datagrams = self.datagrams();
        let now = unix_seconds();
        {
            let mut incoming = datagrams.incoming.lock();
            for data in batch.drain(..) {
                let sequence = incoming.received;
                incoming.received += 1;
                incoming.bytes_received += data.len() as u64;
                incoming.seen(data.len());
                datagrams.record("received", data.len(), sequence);
                incoming.bytes += data.len();
                incoming.queue.push_back(Received {
                    data,
                    sequence,
                    arrived: now,
                });
                if incoming.queue.len() > datagrams.bound || incoming.bytes > DATAGRAM_QUEUE_BYTES {
                    incoming.drop_oldest();
                }
            }
        }
        datagrams.available.notify_one(self.port());
        if datagrams.recording.load(Relaxed) {
            self.changed();
        }
    }

    /// The session ended or is closing: wake everybody.
    pub(crate) fn wake_datagram_waiters(&self) {
        let datagrams = self.datagrams();
        datagrams.available.notify_all(self.port());
        datagrams.room.notify_all(self.port());
        datagrams.bell.notify_one();
    }

    /// Whether all accepted datagrams are with QUIC.
    pub(crate) fn datagrams_flushed(&self) -> bool {
        let outgoing = self.datagrams().outgoing.lock();
        outgoing.len == 0 && outgoing.pump != Pump::Working
    }
}

impl Datagrams {
    fn has_room(&self) -> bool {
        let outgoing = self.outgoing.lock();
        // Half empty: a sender that is woken can send a burst before it waits again.
        outgoing.len <= self.bound / 2 && outgoing.bytes <= DATAGRAM_QUEUE_BYTES / 2
    }
}

impl Outgoing {
    fn packet(&mut self, prefix: &[u8], data: &[u8]) -> Bytes {
        let size = prefix.len() + data.len();
        if self.shared.capacity() < size {
            let (first, last) = SHARED_ALLOCATION;
            self.allocated = (2 * self.allocated).clamp(first, last);
            self.shared = BytesMut::with_capacity(self.allocated.max(size));
        }
        self.shared.extend_from_slice(prefix);
        self.shared.extend_from_slice(data);
        self.shared.split().freeze()
    }

    /// Nothing is left: an idle session holds no large buffer.
    fn rest(&mut self) {
        self.queues.iter_mut().for_each(release);
        self.allocated = 0;
        if self.shared.capacity() > SHARED_ALLOCATION.0 {
            self.shared = BytesMut::new();
        }
    }

    fn evict(&mut self) -> bool {
        let Some(oldest) = self.queues.first_mut().and_then(VecDeque::pop_front) else {
            return false;
        };
        self.forget(&oldest);
        self.drops += 1;
        true
    }

    fn forget(&mut self, entry: &Queued) {
        self.len -= 1;
        self.bytes -= entry.packet.len();
    }

    fn seen(&mut self, size: usize) {
        let size = size as u64;
        self.min_size = Some(self.min_size.map_or(size, |min| min.min(size)));
        self.max_size = self.max_size.max(size);
    }
}

impl Incoming {
    /// Whether there is something, and the loop has had its turn lately.
    fn may_take(&mut self) -> bool {
        let may = !self.queue.is_empty() && self.taken < YIELD_INTERVAL;
        if !may {
            self.taken = 0;
            release(&mut self.queue);
        }
        may
    }

    fn pop(&mut self) -> Option<Received> {
        let received = self.queue.pop_front()?;
        self.bytes -= received.data.len();
        self.taken += 1;
        self.delivered += 1;
        Some(received)
    }

    fn drop_oldest(&mut self) {
        if let Some(oldest) = self.queue.pop_front() {
            self.bytes -= oldest.data.len();
            self.drops += 1;
        }
    }

    fn seen(&mut self, size: usize) {
        let size = size as u64;
        self.min_size = Some(self.min_size.map_or(size, |min| min.min(size)));
        self.max_size = self.max_size.max(size);
    }
}

/// Give up the room of a queue that is empty and was long.
fn release<T>(queue: &mut VecDeque<T>) {
    if queue.is_empty() && queue.capacity() > KEPT_ROOM {
        *queue = VecDeque::new();
    }
}

/// Feed a session's datagrams to QUIC until the session has ended. One task per session.
async fn run_pump(session: Arc<Session>) {
    let mut batch: Vec<Queued> = Vec::new();
    let datagrams = session.datagrams();
    loop {
        let now = session.connection().driver().now();
        {
            let mut outgoing = datagrams.outgoing.lock();
            for priority in (0..PRIORITIES).rev() {
                while batch.len() < PUMP_BATCH {
                    let Some(entry) = outgoing.queues[priority].pop_front() else {
                        break;
                    };
                    outgoing.forget(&entry);
                    if entry.expires.is_some_and(|expires| expires <= now) {
                        outgoing.expired += 1;
                        datagrams.record("expired", entry.packet.len() - datagrams.prefix.len(), entry.sequence);
                    } else {
                        batch.push(entry);
                    }
                }
            }
            outgoing.pump = Pump::Working;
            if batch.is_empty() {
                outgoing.pump = Pump::Waiting;
                outgoing.rest();
            }
        }
        if datagrams.has_room() {
            datagrams.room.notify_all(session.port());
        }
        if batch.is_empty() {
            batch = Vec::new();
            session.flush_progress();
            match select(datagrams.bell.notified(), session.ended()).await {
                Either::Left(()) => continue,
                Either::Right(()) => return,
            }
        }
        for entry in batch.drain(..) {
            // Draft-16 section 4.7: after the end an endpoint MUST NOT send datagrams.
            if session.has_ended() {
                return;
            }
            let size = entry.packet.len() - datagrams.prefix.len();
            match session.connection().quic().send_datagram_wait(entry.packet).await {
                Ok(()) => datagrams.record("sent", size, entry.sequence),
                Err(quinn::SendDatagramError::ConnectionLost(_)) => return,
                // The path's MTU shrank while it waited, or the peer takes no datagrams. What quinn itself holds at such a
                // moment, less than 128 KiB, it drops without telling.
                Err(_) => {
                    datagrams.outgoing.lock().failures += 1;
                    session.max_datagram_size();
                }
            }
        }
        if datagrams.recording.load(Relaxed) {
            session.changed();
        }
    }
}
