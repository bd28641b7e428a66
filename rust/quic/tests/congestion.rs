//! The controller that leaves room for acknowledgements, driven as quinn drives it.

use std::{
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use quinn::congestion::{Controller, NewRenoConfig};
use wt_quic::congestion::with_room;

const MTU: u64 = 1200;

/// A controller on a clock of its own.
struct Path {
    controller: Box<dyn Controller>,
    now: Arc<Mutex<Instant>>,
    window: u64,
}

impl Path {
    fn new() -> Self {
        let now = Arc::new(Mutex::new(Instant::now()));
        let clock = now.clone();
        let clock = Arc::new(move || *clock.lock().expect("not poisoned"));
        let factory = with_room(Arc::new(NewRenoConfig::default()), clock);
        let begin = *now.lock().expect("not poisoned");
        let controller = factory.build(begin, MTU as u16);
        let window = controller.window();
        Self {
            controller,
            now,
            window,
        }
    }

    fn now(&self) -> Instant {
        *self.now.lock().expect("not poisoned")
    }

    fn wait(&self, duration: Duration) {
        *self.now.lock().expect("not poisoned") += duration;
    }

    fn fill(&mut self) {
        let now = self.now();
        self.controller.on_sent(now, self.window, 1);
    }

    /// What quinn asks before a packet of full size, with so much in flight.
    fn may_send(&self, in_flight: u64) -> bool {
        in_flight + MTU < self.controller.window()
    }
}

const A_ROUND_TRIP: Duration = Duration::from_millis(100);

#[test]
fn a_window_with_room_is_the_window() {
    let path = Path::new();
    path.wait(A_ROUND_TRIP);
    assert_eq!(path.controller.window(), path.window);
    assert_eq!(path.controller.initial_window(), path.window);
}

#[test]
fn a_full_window_has_room_for_one_packet_after_a_while() {
    let mut path = Path::new();
    path.fill();
    assert!(!path.may_send(path.window), "not at once");
    path.wait(A_ROUND_TRIP);
    assert!(path.may_send(path.window));
    assert!(!path.may_send(path.window + MTU), "one, not two");
    path.controller.on_sent(path.now(), MTU, 2);
    assert!(!path.may_send(path.window + MTU), "the next one waits again");
}

#[test]
fn a_silent_peer_is_not_sent_to_without_end() {
    let mut path = Path::new();
    path.fill();
    let mut in_flight = path.window;
    let mut sent = 0;
    for number in 2..100 {
        path.wait(A_ROUND_TRIP);
        if path.may_send(in_flight) {
            path.controller.on_sent(path.now(), MTU, number);
            in_flight += MTU;
            sent += 1;
        }
    }
    assert_eq!(sent, 6);
    // An acknowledgement, although it frees nothing: the peer is there.
    path.controller.on_end_acks(path.now(), in_flight, false, Some(1));
    assert!(path.may_send(in_flight));
}

#[test]
fn a_new_path_begins_with_an_empty_window() {
    let mut path = Path::new();
    path.fill();
    let copy = path.controller.clone_box();
    path.wait(A_ROUND_TRIP);
    assert_eq!(copy.window(), path.window);
    assert!(path.controller.window() > path.window);
}
