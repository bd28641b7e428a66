//! The end of the process: everything is closed, and no other thread is left in the middle of a turn.
//!
//! Before Python 3.14 a thread that wants to run Python code while the interpreter goes down is ended by `pthread_exit`,
//! which unwinds its stack. Frames of this library cannot be unwound so: the process would be aborted. An event loop that
//! still runs in a daemon thread comes to that when a turn resolves futures, which runs Python code. So turns of other
//! threads are waited for at the end, and no further ones begin.

use std::{
    sync::{
        OnceLock,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    thread::{self, ThreadId},
    time::{Duration, Instant},
};

use pyo3::prelude::*;
use wt_io::{
    driver::{event_loop::LoopDriver, thread::IoThread},
    endpoint,
};

/// The thread that ends the process, once it does.
static ENDING: OnceLock<ThreadId> = OnceLock::new();

/// Turns under way, on all threads.
static TURNS: AtomicUsize = AtomicUsize::new(0);

/// Being in a turn of an event loop.
pub(crate) struct Turn(());

impl Turn {
    /// None: the process ends on another thread, and nothing must be told to Python on this one any more.
    pub(crate) fn begin() -> Option<Self> {
        // First the count, then the look; `shutdown` does it the other way round, so one of the two sees the other.
        TURNS.fetch_add(1, SeqCst);
        let turn = Self(());
        ENDING
            .get()
            .is_none_or(|ending| *ending == thread::current().id())
            .then_some(turn)
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        TURNS.fetch_sub(1, SeqCst);
    }
}

/// Close everything at the end of the process.
#[pyfunction]
pub(crate) fn shutdown(py: Python<'_>, timeout: f64) {
    let timeout = Duration::try_from_secs_f64(timeout).unwrap_or_default();
    // Detached: the I/O thread never attaches, but other Python threads may want to run meanwhile.
    py.detach(|| {
        let endpoints = endpoint::close_all("the process ends");
        LoopDriver::drive_all();
        IoThread::shutdown(endpoint::idle(endpoints), timeout);
        let _ = ENDING.set(thread::current().id());
        let began = Instant::now();
        // Nobody rings for this: it happens once, and a turn takes microseconds.
        while TURNS.load(SeqCst) > 0 && began.elapsed() < timeout {
            thread::sleep(Duration::from_millis(1));
        }
    });
}
