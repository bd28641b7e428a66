//! Counters that any thread may read while others count.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::{SystemTime, UNIX_EPOCH},
};

/// A number that only grows, and is exact once the counting threads are quiet.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// Add `n`.
    #[inline]
    pub fn add(&self, n: u64) {
        self.0.fetch_add(n, Relaxed);
    }

    /// Raise to `value` if that is larger.
    pub fn max(&self, value: u64) {
        self.0.fetch_max(value, Relaxed);
    }

    /// The present value.
    pub fn get(&self) -> u64 {
        self.0.load(Relaxed)
    }
}

/// A point in time that is set once; unix seconds, 0 while unset.
#[derive(Debug, Default)]
pub struct Moment(AtomicU64);

impl Moment {
    /// Now, unless it was set before.
    pub fn set_once(&self) {
        let _ = self.0.compare_exchange(0, unix_seconds().to_bits(), Relaxed, Relaxed);
    }

    /// Now, whatever it was.
    pub fn touch(&self) {
        self.0.store(unix_seconds().to_bits(), Relaxed);
    }

    /// Unix seconds, 0.0 while unset.
    pub fn get(&self) -> f64 {
        f64::from_bits(self.0.load(Relaxed))
    }
}

/// Wall-clock time in unix seconds: what the public API calls a timestamp.
pub fn unix_seconds() -> f64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0.0, |elapsed| elapsed.as_secs_f64())
}

/// What one event loop's bridge and loop driver did.
#[derive(Debug, Default)]
pub struct BridgeStats {
    /// Tokens rung.
    pub bells: Counter,
    /// Wakes written to the descriptor; much smaller than `bells` under load.
    pub writes: Counter,
    /// Wakes consumed by the loop.
    pub drains: Counter,
    /// Futures resolved.
    pub tokens: Counter,
    /// Futures parked.
    pub parks: Counter,
    /// Bytes of streams and datagrams that were copied from the application's objects, and into them.
    pub bytes_copied: Counter,
    /// Times the loop driver ran its tasks.
    pub drives: Counter,
    /// Drives that their time budget cut short.
    pub drive_cuts: Counter,
    /// Longest drive in microseconds.
    pub longest_drive_us: Counter,
    /// Times that the event loop was blocked: work had waited for a drive, or a timer, for more than 25 ms.
    pub late_drives: Counter,
    /// The longest of those in microseconds.
    pub longest_gap_us: Counter,
    /// Times that the stand-in began to drive because the event loop was blocked.
    pub stand_ins: Counter,
}

/// Counters of one session. Datagram counters live beside their queues.
#[derive(Debug, Default)]
pub struct SessionStats {
    /// When the request was sent or arrived.
    pub created_at: Moment,
    /// When the 2xx was sent or arrived.
    pub ready_at: Moment,
    /// When the session ended.
    pub closed_at: Moment,
    /// Streams opened and accepted.
    pub streams_created: Counter,
    /// Streams done in both directions.
    pub streams_closed: Counter,
    /// Failed openings, and streams that ended by reset or stop.
    pub stream_errors: Counter,
    /// The bidirectional ones of `streams_created`.
    pub bidirectional_streams: Counter,
    /// The unidirectional ones of `streams_created`.
    pub unidirectional_streams: Counter,
    /// Violations of the peer that cost it this session or one of its streams.
    pub protocol_errors: Counter,
}

/// Counters of one connection that quinn does not keep.
#[derive(Debug, Default)]
pub struct ConnectionStats {
    /// When the handshake was complete.
    pub established_at: Moment,
    /// When the connection ended.
    pub closed_at: Moment,
    /// Last time that application data moved in either direction.
    pub last_activity: Moment,
    /// Streams refused: unknown or closed session, too many half-read headers, header timeouts.
    pub streams_rejected: Counter,
    /// Violations of the peer, of any width.
    pub protocol_errors: Counter,
}

/// Counters of one server.
#[derive(Debug, Default)]
pub struct ServerStats {
    /// Connections whose handshake was complete.
    pub connections_accepted: Counter,
    /// Connections refused at `max_connections`.
    pub connections_rejected: Counter,
    /// Handshakes that began with the ticket of an earlier connection.
    pub handshakes_resumed: Arc<Counter>,
    /// Handshakes that failed or timed out.
    pub handshakes_failed: Counter,
    /// Those among them that were not over in time.
    pub handshakes_timed_out: Counter,
    /// Attempts that were answered with a Retry: the client shows that it receives at its address, or never comes back.
    pub retries_sent: Counter,
    /// Attempts at `max_pending_handshakes` from addresses that may be spoofed; they got no answer.
    pub handshakes_ignored: Counter,
    /// Attempts at `max_pending_handshakes` from addresses that are not spoofed.
    pub handshakes_refused: Counter,
    /// Connections that ended for a violation of the peer.
    pub protocol_errors: Counter,
    /// Requests answered by the core itself: surplus sessions, foreign origins, what nobody can serve.
    pub requests_rejected: Counter,
    /// The session requests among them that were refused for their origin.
    pub origins_refused: Counter,
    /// Requests of plain HTTP that were given to the application.
    pub http_requests: Counter,
    /// Requests that were given up because their peer was too slow: with the header section, the content, or in taking
    /// the response.
    pub requests_timed_out: Counter,
}
