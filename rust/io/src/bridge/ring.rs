//! Those who wait for one condition of one object, first in, first out.
//!
//! Theory of operation. A consumer first tries without waiting. Only when there is nothing does it publish itself here
//! ([`WaitQueue::park`]) and then look again; a producer first publishes its data and then looks for waiters
//! ([`WaitQueue::notify_one`], [`WaitQueue::notify_all`]). Each side stores one variable and loads the other's, so both put
//! a sequentially consistent fence between (Dekker): at least one of them sees the other. While the consumer keeps up,
//! the producer pays one load.
//!
//! A woken waiter keeps its place until it leaves, so that it takes its item before those behind it, and a newcomer
//! that finds waiters queues behind them ([`WaitQueue::has_waiters`]). Whoever leaves passes the wake on: a cancelled
//! waiter cannot swallow it. Wakes may be spurious; the condition itself is always asked again.

use std::{
    collections::VecDeque,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use super::{
    port::{Port, Token},
    sync::{AtomicBool, Mutex, Ordering, fence},
};

/// The waiters of one condition.
#[derive(Debug)]
pub struct WaitQueue {
    armed: AtomicBool,
    waiters: Mutex<VecDeque<Waiter>>,
}

#[derive(Debug)]
struct Waiter {
    token: Token,
    notified: bool,
}

impl Default for WaitQueue {
    fn default() -> Self {
        Self {
            armed: AtomicBool::new(false),
            waiters: Mutex::new(VecDeque::new()),
        }
    }
}

impl WaitQueue {
    /// Whether anybody waits; a newcomer then has to queue too.
    #[inline]
    pub fn has_waiters(&self) -> bool {
        self.armed.load(Ordering::Relaxed)
    }

    /// Join the queue. If `ready` says that the condition holds already, the token is rung at once, after those before it.
    pub fn park(&self, port: &Port, token: Token, ready: impl FnOnce() -> bool) {
        {
            let mut waiters = self.waiters.lock();
            waiters.push_back(Waiter { token, notified: false });
            self.armed.store(true, Ordering::Relaxed);
        }
        fence(Ordering::SeqCst);
        if ready() {
            self.wake(port, Reach::Through(token));
        }
    }

    /// Wait again at the same place.
    pub fn repark(&self, port: &Port, token: Token, ready: impl FnOnce() -> bool) {
        if let Some(waiter) = self.waiters.lock().iter_mut().find(|waiter| waiter.token == token) {
            waiter.notified = false;
        }
        fence(Ordering::SeqCst);
        if ready() {
            self.wake(port, Reach::Through(token));
        }
    }

    /// Give the place up and pass the wake on.
    pub fn leave(&self, port: &Port, token: Token) {
        let next = {
            let mut waiters = self.waiters.lock();
            let Some(place) = waiters.iter().position(|waiter| waiter.token == token) else {
                return;
            };
            waiters.remove(place);
            self.armed.store(!waiters.is_empty(), Ordering::Relaxed);
            !waiters.is_empty()
        };
        if next {
            self.wake(port, Reach::First);
        }
    }

    /// Data for one waiter was published: wake the first.
    #[inline]
    pub fn notify_one(&self, port: &Port) {
        fence(Ordering::SeqCst);
        if self.armed.load(Ordering::Relaxed) {
            self.wake(port, Reach::First);
        }
    }

    /// The condition changed for everybody: wake all, in order.
    #[inline]
    pub fn notify_all(&self, port: &Port) {
        fence(Ordering::SeqCst);
        if self.armed.load(Ordering::Relaxed) {
            self.wake(port, Reach::All);
        }
    }

    fn wake(&self, port: &Port, reach: Reach) {
        for waiter in self.waiters.lock().iter_mut() {
            if !waiter.notified {
                waiter.notified = true;
                port.ring(waiter.token);
            }
            if reach == Reach::First || reach == Reach::Through(waiter.token) {
                break;
            }
        }
    }
}

/// How far into the queue a wake goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Reach {
    /// To the first waiter.
    First,
    /// To this one and all before it. They may wait for something else: the conditions of one object share a queue.
    Through(Token),
    /// To everybody.
    All,
}

/// A condition on which the binding can park, without knowing what it is.
pub trait WaitPoint: Send + Sync {
    /// Whether the condition holds now (or the object ended).
    fn is_ready(&self) -> bool;
    /// The waiters of the condition.
    fn queue(&self) -> &WaitQueue;
    /// Somebody has waited for so long.
    fn waited(&self, time: Duration);
}

struct On<T> {
    object: Arc<T>,
    queue: fn(&T) -> &WaitQueue,
    ready: fn(&T) -> bool,
    times: fn(&T) -> Option<&WaitTimes>,
}

impl<T: Send + Sync> WaitPoint for On<T> {
    fn is_ready(&self) -> bool {
        (self.ready)(&self.object)
    }
    fn queue(&self) -> &WaitQueue {
        (self.queue)(&self.object)
    }
    fn waited(&self, time: Duration) {
        if let Some(times) = (self.times)(&self.object) {
            times.add(time);
        }
    }
}

/// A [`WaitPoint`] made of an object, its queue and its condition.
pub fn wait_point<T: Send + Sync + 'static>(
    object: Arc<T>,
    queue: fn(&T) -> &WaitQueue,
    ready: fn(&T) -> bool,
) -> Box<dyn WaitPoint> {
    timed_wait_point(object, queue, ready, |_| None)
}

/// The same for an object that counts how long was waited for it.
pub fn timed_wait_point<T: Send + Sync + 'static>(
    object: Arc<T>,
    queue: fn(&T) -> &WaitQueue,
    ready: fn(&T) -> bool,
    times: fn(&T) -> Option<&WaitTimes>,
) -> Box<dyn WaitPoint> {
    Box::new(On {
        object,
        queue,
        ready,
        times,
    })
}

/// How long was waited for an object.
#[derive(Debug, Default)]
pub struct WaitTimes {
    total_ns: AtomicU64,
    longest_ns: AtomicU64,
}

impl WaitTimes {
    fn add(&self, time: Duration) {
        let time = u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        self.total_ns.fetch_add(time, Relaxed);
        self.longest_ns.fetch_max(time, Relaxed);
    }

    /// The sum, and the longest wait.
    pub fn get(&self) -> (Duration, Duration) {
        let read = |value: &AtomicU64| Duration::from_nanos(value.load(Relaxed));
        (read(&self.total_ns), read(&self.longest_ns))
    }
}
