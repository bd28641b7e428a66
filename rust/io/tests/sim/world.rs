//! A single-threaded world: tasks, a clock that jumps, and the network between its nodes.
//!
//! Theory of operation. Tasks run first in, first out, as on both real drivers, and the clock stands still meanwhile. When no
//! task is runnable it jumps to the next packet that arrives or timer that is due. Nothing else makes time pass, so an hour
//! with little traffic takes no time, and nothing depends on how fast this machine is.

use std::{
    collections::{BTreeMap, VecDeque},
    future::Future,
    sync::{
        Arc, Weak,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    task::Waker,
    time::{Duration, Instant},
};

use async_task::Runnable;
use parking_lot::Mutex;

use crate::network::Network;

/// Polls without the clock moving, after which tasks only wake each other.
const SPINNING: u64 = 1_000_000;

#[derive(Debug)]
pub struct World {
    epoch: Instant,
    queue: Mutex<VecDeque<Runnable>>,
    clock: Mutex<Clock>,
    next_timer: AtomicU64,
    pub network: Mutex<Network>,
}

#[derive(Debug)]
struct Clock {
    now: Instant,
    timers: BTreeMap<(Instant, u64), Waker>,
}

/// Why a world came to no end, and when.
#[derive(Debug, thiserror::Error)]
pub enum Stuck {
    #[error("nothing will ever happen again after {0:?}")]
    Dead(Duration),
    #[error("tasks wake each other without end at {0:?}")]
    Spinning(Duration),
    #[error("it is not over after {0:?}")]
    TooLong(Duration),
}

impl World {
    pub fn new(seed: u64) -> Arc<Self> {
        let epoch = Instant::now();
        Arc::new(Self {
            epoch,
            queue: Mutex::default(),
            clock: Mutex::new(Clock {
                now: epoch,
                timers: BTreeMap::new(),
            }),
            next_timer: AtomicU64::new(0),
            network: Mutex::new(Network::new(seed, epoch)),
        })
    }

    pub fn now(&self) -> Instant {
        self.clock.lock().now
    }

    /// Since the beginning.
    pub fn elapsed(&self) -> Duration {
        self.now() - self.epoch
    }

    pub fn spawn(self: &Arc<Self>, future: impl Future<Output = ()> + Send + 'static) {
        // Weak: a waker may outlive the world, in a timer or socket of it.
        let world: Weak<Self> = Arc::downgrade(self);
        let schedule = move |task| {
            if let Some(world) = world.upgrade() {
                world.queue.lock().push_back(task);
            }
        };
        let (runnable, task) = async_task::spawn(future, schedule);
        task.detach();
        runnable.schedule();
    }

    /// Run until `main` is done, for at most `limit` on the world's clock. A panic of any task is the caller's.
    pub fn run<T: Send + 'static>(
        self: &Arc<Self>,
        limit: Duration,
        main: impl Future<Output = T> + Send + 'static,
    ) -> Result<T, Stuck> {
        let end = self.now() + limit;
        let result = Arc::new(Mutex::new(None));
        let slot = result.clone();
        self.spawn(async move {
            let value = main.await;
            *slot.lock() = Some(value);
        });
        let mut polls = 0;
        loop {
            while let Some(task) = self.next_task() {
                task.run();
                polls += 1;
                if polls > SPINNING {
                    return Err(Stuck::Spinning(self.elapsed()));
                }
            }
            if let Some(value) = result.lock().take() {
                return Ok(value);
            }
            let Some(next) = self.next_event() else {
                return Err(Stuck::Dead(self.elapsed()));
            };
            if next > end {
                return Err(Stuck::TooLong(self.elapsed()));
            }
            polls = 0;
            self.advance(next);
        }
    }

    fn next_task(&self) -> Option<Runnable> {
        self.queue.lock().pop_front()
    }

    fn next_event(&self) -> Option<Instant> {
        let timer = self.clock.lock().timers.first_key_value().map(|(&(at, _), _)| at);
        let packet = self.network.lock().next_arrival();
        timer.into_iter().chain(packet).min()
    }

    fn advance(&self, to: Instant) {
        crate::diary::set_time(to - self.epoch);
        let mut due = Vec::new();
        {
            let mut clock = self.clock.lock();
            // A timer that was set for the past is due now.
            clock.now = clock.now.max(to);
            let later = clock.timers.split_off(&(to, u64::MAX));
            due.extend(std::mem::replace(&mut clock.timers, later).into_values());
        }
        let readers = self.network.lock().deliver(to);
        readers.into_iter().chain(due).for_each(Waker::wake);
    }

    pub fn new_timer(&self) -> u64 {
        self.next_timer.fetch_add(1, Relaxed)
    }

    /// Whether `at` has come; otherwise `waker` is woken then.
    pub fn wait(&self, timer: u64, at: Instant, waker: &Waker) -> bool {
        let mut clock = self.clock.lock();
        let is_due = at <= clock.now;
        if !is_due {
            let before = clock.timers.insert((at, timer), waker.clone());
            drop(clock);
            drop(before);
        }
        is_due
    }

    pub fn cancel(&self, timer: u64, at: Instant) {
        let cancelled = self.clock.lock().timers.remove(&(at, timer));
        drop(cancelled);
    }
}
