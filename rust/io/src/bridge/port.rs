//! The wake channel of one event loop.
//!
//! Rules, all of which the loom test relies on:
//! * A producer pushes its token first and raises `signaled` second; only the one that raises it wakes the loop.
//! * The loop clears `signaled` before it takes the tokens, with a read-modify-write, so that it sees every push of a
//!   producer that found the flag raised. A push after that finds it cleared and wakes again. No wake is lost.
//! * While the loop thread itself runs I/O tasks it holds the flag raised ([`Port::hold`]): rings of that time need no
//!   system call, because the loop looks afterwards anyway.

use super::{
    sync::{AtomicBool, Mutex, Ordering},
    wake::Wake,
};
use crate::stats::BridgeStats;

/// Names one waiter of one loop. Plain data: the binding knows what it stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Token(pub u64);

/// Carries tokens from any thread to one event loop.
#[derive(Debug)]
pub struct Port {
    signaled: AtomicBool,
    ready: Mutex<Vec<Token>>,
    wake: Box<dyn Wake>,
    /// Counters of this loop's bridge.
    pub stats: BridgeStats,
}

impl Port {
    /// A port that wakes its loop with `wake`.
    pub fn new(wake: Box<dyn Wake>) -> Self {
        Self {
            signaled: AtomicBool::new(false),
            ready: Mutex::new(Vec::new()),
            wake,
            stats: BridgeStats::default(),
        }
    }

    /// Report one waiter as ready. Any thread.
    pub fn ring(&self, token: Token) {
        {
            let mut ready = self.ready.lock();
            // One that is rung again and again, by a flood for one session, waits there once.
            if ready.last() != Some(&token) {
                ready.push(token);
            }
        }
        self.stats.bells.add(1);
        self.signal();
    }

    /// Make the loop look, whatever the reason. Any thread.
    pub fn signal(&self) {
        if !self.signaled.swap(true, Ordering::AcqRel) {
            self.stats.writes.add(1);
            self.wake.wake();
        }
    }

    /// Keep rings from waking while the loop thread works itself; [`Port::take`] ends it.
    pub fn hold(&self) {
        self.signaled.swap(true, Ordering::AcqRel);
    }

    /// [`Port::hold`], unless a wake is under way; false then.
    pub fn try_hold(&self) -> bool {
        !self.signaled.swap(true, Ordering::AcqRel)
    }

    /// Consume the wake of the file descriptor, then nothing else: call [`Port::take`] for the tokens.
    pub fn acknowledge(&self) {
        self.wake.acknowledge();
    }

    /// Clear the flag and move all tokens to `tokens`. Loop thread only.
    pub fn take(&self, tokens: &mut Vec<Token>) {
        self.signaled.swap(false, Ordering::AcqRel);
        std::mem::swap(&mut *self.ready.lock(), tokens);
    }
}
