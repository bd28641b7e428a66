//! Loom models of the bridge: every interleaving of the operations below is tried, so no wake is ever lost.
//!
//! Run with `cargo test -p wt-loom` (part of `cargo test --workspace`). The code is `rust/io/src/bridge`, included by path.
//!
//! What "no lost wake" means here: once all threads have stopped, nothing is left undone without a wake that is still to
//! be consumed. A loop that consumes wakes for ever then never sleeps on work.

use std::{
    collections::{HashSet, VecDeque},
    sync::Arc,
};

use loom::{
    sync::{
        Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
};
use wt_loom::bridge::{
    port::{Port, Token},
    ring::WaitQueue,
    wake::Wake,
};

/// Stands for the eventfd: readable or not.
#[derive(Debug, Clone)]
struct Descriptor(Arc<AtomicUsize>);

impl Descriptor {
    fn is_readable(&self) -> bool {
        self.0.load(Ordering::SeqCst) > 0
    }
}

impl Wake for Descriptor {
    fn wake(&self) {
        self.0.store(1, Ordering::SeqCst);
    }
    fn acknowledge(&self) {
        self.0.store(0, Ordering::SeqCst);
    }
    fn descriptor(&self) -> i64 {
        -1
    }
}

fn port() -> (Arc<Port>, Descriptor) {
    let descriptor = Descriptor(Arc::new(AtomicUsize::new(0)));
    (Arc::new(Port::new(Box::new(descriptor.clone()))), descriptor)
}

/// One pass of the event loop: consume the wake, take the tokens.
fn turn(port: &Port) -> Vec<Token> {
    let mut tokens = Vec::new();
    port.acknowledge();
    port.take(&mut tokens);
    tokens
}

/// The tokens that were or will be delivered: those in `seen`, and those that a pending wake leads to.
fn delivered(port: &Port, descriptor: &Descriptor, seen: Vec<Token>) -> HashSet<Token> {
    let mut all: HashSet<Token> = seen.into_iter().collect();
    if descriptor.is_readable() {
        all.extend(turn(port));
    }
    let mut lost = Vec::new();
    port.take(&mut lost);
    assert!(lost.is_empty(), "{lost:?} wait without a wake");
    all
}

const A: Token = Token(1);
const B: Token = Token(2);

#[test]
fn a_token_is_never_left_without_a_wake() {
    loom::model(|| {
        let (port, descriptor) = port();
        let producers = [A, B].map(|token| {
            let port = port.clone();
            thread::spawn(move || port.ring(token))
        });
        let mut seen = Vec::new();
        if descriptor.is_readable() {
            seen.extend(turn(&port));
        }
        producers.into_iter().for_each(|producer| producer.join().unwrap());
        assert_eq!(delivered(&port, &descriptor, seen), HashSet::from([A, B]));
    });
}

#[test]
fn a_burst_is_one_wake() {
    loom::model(|| {
        let (port, descriptor) = port();
        port.ring(A);
        port.ring(B);
        assert_eq!(port.stats.writes.get(), 1);
        assert_eq!(delivered(&port, &descriptor, Vec::new()), HashSet::from([A, B]));
    });
}

#[test]
fn a_token_rung_during_a_drive_is_taken_after_it() {
    loom::model(|| {
        let (port, descriptor) = port();
        let producer = {
            let port = port.clone();
            thread::spawn(move || port.ring(A))
        };
        port.hold();
        // The loop's thread rings by itself while it drives: no system call.
        port.ring(B);
        let mut seen = Vec::new();
        port.take(&mut seen);
        producer.join().unwrap();
        assert_eq!(delivered(&port, &descriptor, seen), HashSet::from([A, B]));
    });
}

/// The loop driver's queue, as far as the port is concerned.
#[derive(Default)]
struct Tasks {
    queue: Mutex<VecDeque<u8>>,
    ran: AtomicUsize,
}

impl Tasks {
    fn schedule(&self, task: u8, port: &Port) {
        self.queue.lock().unwrap().push_back(task);
        port.signal();
    }

    /// A budget of one task per drive.
    fn drive(&self) {
        if self.queue.lock().unwrap().pop_front().is_some() {
            self.ran.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn has_work(&self) -> bool {
        !self.queue.lock().unwrap().is_empty()
    }

    /// The loop comes by: its wake was readable.
    fn turn(&self, port: &Port) {
        port.acknowledge();
        port.hold();
        self.end_of_turn(port);
    }

    fn end_of_turn(&self, port: &Port) {
        self.drive();
        port.take(&mut Vec::new());
        if self.has_work() {
            port.signal();
        }
    }
}

#[test]
fn a_task_is_never_left_without_a_wake() {
    loom::model(|| {
        let (port, descriptor) = port();
        let tasks = Arc::new(Tasks::default());
        let producer = {
            let (port, tasks) = (port.clone(), tasks.clone());
            thread::spawn(move || [1, 2].map(|task| tasks.schedule(task, &port)))
        };
        tasks.turn(&port);
        producer.join().unwrap();
        while descriptor.is_readable() {
            tasks.turn(&port);
        }
        assert_eq!(tasks.ran.load(Ordering::Relaxed), 2, "a task waits without a wake");
    });
}

/// The first operation of a loop turn is driven inline, without a wake: what others schedule meanwhile must not be lost.
#[test]
fn a_task_scheduled_during_an_inline_drive_runs() {
    loom::model(|| {
        let (port, descriptor) = port();
        let tasks = Arc::new(Tasks::default());
        let producer = {
            let (port, tasks) = (port.clone(), tasks.clone());
            thread::spawn(move || tasks.schedule(1, &port))
        };
        let holds = port.try_hold();
        tasks.schedule(2, &port);
        if holds {
            tasks.end_of_turn(&port);
        }
        producer.join().unwrap();
        while descriptor.is_readable() {
            tasks.turn(&port);
        }
        assert_eq!(tasks.ran.load(Ordering::Relaxed), 2, "a task waits without a wake");
    });
}

/// Items that a producer publishes, as the real queues do it: relaxed, because the protocol alone must suffice.
#[derive(Debug, Default)]
struct Items(AtomicUsize);

impl Items {
    fn publish(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
    fn any(&self) -> bool {
        self.0.load(Ordering::Relaxed) > 0
    }
    fn take(&self) -> bool {
        self.0
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |items| items.checked_sub(1))
            .is_ok()
    }
}

#[derive(Default)]
struct Object {
    items: Items,
    queue: WaitQueue,
}

#[test]
fn one_who_parks_while_data_arrives_is_woken() {
    loom::model(|| {
        let (port, descriptor) = port();
        let object = Arc::new(Object::default());
        let producer = {
            let (port, object) = (port.clone(), object.clone());
            thread::spawn(move || {
                object.items.publish();
                object.queue.notify_one(&port);
            })
        };
        object.queue.park(&port, A, || object.items.any());
        producer.join().unwrap();
        assert!(delivered(&port, &descriptor, Vec::new()).contains(&A));
    });
}

#[test]
fn one_who_parks_again_while_data_arrives_is_woken() {
    loom::model(|| {
        let (port, descriptor) = port();
        let object = Arc::new(Object::default());
        object.queue.park(&port, A, || true);
        assert_eq!(turn(&port), [A]);
        let producer = {
            let (port, object) = (port.clone(), object.clone());
            thread::spawn(move || {
                object.items.publish();
                object.queue.notify_one(&port);
            })
        };
        if object.items.take() {
            producer.join().unwrap();
            return;
        }
        object.queue.repark(&port, A, || object.items.any());
        producer.join().unwrap();
        assert!(delivered(&port, &descriptor, Vec::new()).contains(&A));
    });
}

#[test]
fn everybody_who_parks_before_the_end_is_woken_by_it() {
    loom::model(|| {
        let (port, descriptor) = port();
        let object = Arc::new(Object::default());
        let end = {
            let (port, object) = (port.clone(), object.clone());
            thread::spawn(move || {
                object.items.publish();
                object.queue.notify_all(&port);
            })
        };
        let other = {
            let (port, object) = (port.clone(), object.clone());
            thread::spawn(move || object.queue.park(&port, B, || object.items.any()))
        };
        object.queue.park(&port, A, || object.items.any());
        end.join().unwrap();
        other.join().unwrap();
        assert_eq!(delivered(&port, &descriptor, Vec::new()), HashSet::from([A, B]));
    });
}

/// Streams have one queue for "room", "flushed" and "ended": whoever finds its own condition true must not depend on
/// those in front of it, who wait for something else.
#[test]
fn one_behind_another_that_waits_for_something_else_is_woken() {
    loom::model(|| {
        let (port, descriptor) = port();
        let object = Arc::new(Object::default());
        object.queue.park(&port, A, || false);
        let producer = {
            let (port, object) = (port.clone(), object.clone());
            thread::spawn(move || {
                object.items.publish();
                object.queue.notify_all(&port);
            })
        };
        object.queue.park(&port, B, || object.items.any());
        producer.join().unwrap();
        assert!(delivered(&port, &descriptor, Vec::new()).contains(&B));
    });
}

#[test]
fn a_waiter_that_gives_up_passes_the_wake_on() {
    loom::model(|| {
        let (port, descriptor) = port();
        let object = Arc::new(Object::default());
        object.queue.park(&port, A, || object.items.any());
        object.queue.park(&port, B, || object.items.any());
        let producer = {
            let (port, object) = (port.clone(), object.clone());
            thread::spawn(move || {
                object.items.publish();
                object.queue.notify_one(&port);
            })
        };
        // Cancelled: woken or not, it takes nothing.
        object.queue.leave(&port, A);
        producer.join().unwrap();
        assert!(delivered(&port, &descriptor, Vec::new()).contains(&B));
    });
}

#[test]
fn two_items_reach_two_waiters() {
    loom::model(|| {
        let (port, descriptor) = port();
        let object = Arc::new(Object::default());
        object.queue.park(&port, A, || object.items.any());
        object.queue.park(&port, B, || object.items.any());
        let producer = {
            let (port, object) = (port.clone(), object.clone());
            thread::spawn(move || {
                for _ in 0..2 {
                    object.items.publish();
                    object.queue.notify_one(&port);
                }
            })
        };
        let mut waiting = vec![A, B];
        let resolve = |tokens: Vec<Token>, waiting: &mut Vec<Token>| {
            for token in tokens {
                if waiting.contains(&token) {
                    if object.items.take() {
                        waiting.retain(|other| *other != token);
                        object.queue.leave(&port, token);
                    } else {
                        object.queue.repark(&port, token, || object.items.any());
                    }
                }
            }
        };
        if descriptor.is_readable() {
            resolve(turn(&port), &mut waiting);
        }
        producer.join().unwrap();
        while descriptor.is_readable() {
            resolve(turn(&port), &mut waiting);
        }
        assert_eq!(waiting, [], "waits beside an item");
        assert!(!object.queue.has_waiters());
    });
}

/// The first in the queue gets the first item, also when a second waiter parks while it is being woken.
#[test]
fn tokens_are_rung_in_the_order_of_the_queue() {
    loom::model(|| {
        let (port, _) = port();
        let object = Arc::new(Object::default());
        object.queue.park(&port, A, || object.items.any());
        let producer = {
            let (port, object) = (port.clone(), object.clone());
            thread::spawn(move || {
                object.items.publish();
                object.queue.notify_one(&port);
            })
        };
        object.queue.park(&port, B, || object.items.any());
        producer.join().unwrap();
        assert_eq!(turn(&port).first(), Some(&A));
    });
}
