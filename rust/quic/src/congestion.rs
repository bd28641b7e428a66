//! Congestion control that leaves room for acknowledgements and for the close.
//!
//! quinn sends nothing at all while data waits and the window is full or the pacer says so (quinn-proto 0.11.19,
//! `poll_transmit`), although two things are not congestion control's business (RFC 9002 section 2):
//!
//! * **ACKs**, which RFC 9000 section 13.2.1 wants within max_ack_delay. Two ends that both have data to send on a lossy path
//!   then hold back each other's ACKs, and each other's window with them: round trips are measured in seconds, probe
//!   timeouts grow to minutes, and the next rebinding or outage ends the connection, or its idle timeout does. Simulation
//!   showed it. So when the window is full and nothing was sent for a round trip, there is room for one packet, in which
//!   the ACK goes along. That deviates from RFC 9002 section 7 by one packet in a round trip; the smallest window is two.
//! * **CONNECTION_CLOSE**. A closed connection reads no ACKs any more, so its window never opens: whoever closed in the
//!   middle of a bulk transfer closed silently, and the peer found out by its idle timeout. So [`close`] lifts the window.

use std::{
    any::Any,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use quinn::{
    Connection, VarInt,
    congestion::{Controller, ControllerFactory, ControllerMetrics},
};
use quinn_proto::RttEstimator;

/// The time by the clock that quinn's timers go by.
pub type Clock = Arc<dyn Fn() -> Instant + Send + Sync>;

/// What quinn takes as a factory.
pub type SharedFactory = Arc<dyn ControllerFactory + Send + Sync>;

/// Before the first round trip is measured; and on paths that are faster, ACKs wait so long anyway (max_ack_delay).
const MIN_INTERVAL: Duration = Duration::from_millis(25);

/// Packets between two acknowledgements: a peer that is silent must not be sent to without end, and each of them puts off
/// the probe timeout, which alone finds out that the path has become narrower. With 2 of them, two of 200 simulated hours
/// saw streams stand still for minutes. None did with 6, but for paths that become narrower while both ends send; those
/// need room in quinn itself.
const EXTRA: u32 = 6;

/// The controllers of `inner`, with room for acknowledgements and for [`close`].
pub fn with_room(inner: SharedFactory, clock: Clock) -> SharedFactory {
    Arc::new(Factory { inner, clock })
}

/// Send CONNECTION_CLOSE, whatever waits. The first close wins.
pub fn close(connection: &Connection, code: u64, reason: &[u8]) {
    if let Ok(controller) = connection.congestion_state().into_any().downcast::<Roomy>() {
        controller.is_closing.store(true, Relaxed);
    }
    connection.close(VarInt::from_u64(code).unwrap_or(VarInt::MAX), reason);
}

struct Factory {
    inner: SharedFactory,
    clock: Clock,
}

impl ControllerFactory for Factory {
    fn build(self: Arc<Self>, now: Instant, current_mtu: u16) -> Box<dyn Controller> {
        Box::new(Roomy {
            inner: self.inner.clone().build(now, current_mtu),
            clock: self.clock.clone(),
            mtu: current_mtu.into(),
            in_flight: 0,
            last_sent: now,
            interval: MIN_INTERVAL,
            extra: EXTRA,
            is_closing: Arc::default(),
        })
    }
}

struct Roomy {
    inner: Box<dyn Controller>,
    clock: Clock,
    mtu: u64,
    /// As far as a controller is told: exact with every batch of acknowledgements, at least as much in between.
    in_flight: u64,
    last_sent: Instant,
    interval: Duration,
    extra: u32,
    /// Shared with the copies that quinn hands out.
    is_closing: Arc<AtomicBool>,
}

impl Roomy {
    fn is_full(&self) -> bool {
        self.in_flight + self.mtu >= self.inner.window()
    }
}

impl Controller for Roomy {
    fn on_sent(&mut self, now: Instant, bytes: u64, last_packet_number: u64) {
        if self.is_full() {
            self.extra = self.extra.saturating_sub(1);
        }
        self.in_flight += bytes;
        self.last_sent = now;
        self.inner.on_sent(now, bytes, last_packet_number);
    }

    fn on_ack(&mut self, now: Instant, sent: Instant, bytes: u64, app_limited: bool, rtt: &RttEstimator) {
        self.interval = rtt.min().max(MIN_INTERVAL);
        self.inner.on_ack(now, sent, bytes, app_limited, rtt);
    }

    fn on_end_acks(&mut self, now: Instant, in_flight: u64, app_limited: bool, largest_packet_num_acked: Option<u64>) {
        self.in_flight = in_flight;
        self.extra = EXTRA;
        self.inner
            .on_end_acks(now, in_flight, app_limited, largest_packet_num_acked);
    }

    fn on_congestion_event(&mut self, now: Instant, sent: Instant, is_persistent_congestion: bool, lost_bytes: u64) {
        self.in_flight = self.in_flight.saturating_sub(lost_bytes);
        self.inner
            .on_congestion_event(now, sent, is_persistent_congestion, lost_bytes);
    }

    fn on_mtu_update(&mut self, new_mtu: u16) {
        self.mtu = new_mtu.into();
        self.inner.on_mtu_update(new_mtu);
    }

    fn window(&self) -> u64 {
        if self.is_closing.load(Relaxed) {
            return UNPACED;
        }
        let window = self.inner.window();
        if self.extra > 0 && self.is_full() && (self.clock)().saturating_duration_since(self.last_sent) >= self.interval
        {
            // quinn sends while what is in flight and the packet stay below this.
            return window.max(self.in_flight + self.mtu + 1);
        }
        window
    }

    fn metrics(&self) -> ControllerMetrics {
        self.inner.metrics()
    }

    fn clone_box(&self) -> Box<dyn Controller> {
        Box::new(Self {
            inner: self.inner.clone_box(),
            clock: self.clock.clone(),
            // quinn clones it for a new path, on which nothing is in flight.
            in_flight: 0,
            is_closing: self.is_closing.clone(),
            ..*self
        })
    }

    fn initial_window(&self) -> u64 {
        self.inner.initial_window()
    }

    fn into_any(self: Box<Self>) -> Box<dyn Any> {
        self
    }
}

/// The smallest window that quinn neither fills nor paces.
const UNPACED: u64 = 1 << 32;
