//! Waiting from Python: an awaitable that suspends its task until a condition of the core may hold.
//!
//! It is awaited again and again, each time with a new future, until the caller has what it wants. The future carries
//! nothing, so a cancelled wait loses nothing. All of it is here and not in a coroutine, because a wait is part of nearly
//! every request: in Python it took more bytecode than everything else that a round trip does.

use std::{
    collections::BTreeSet,
    time::{Duration, Instant},
};

use parking_lot::Mutex;
use pyo3::{intern, prelude::*};
use wt_io::bridge::{port::Token, ring::WaitPoint};

use crate::{bridge::Bridge, convert};

/// One wait for one condition of one object.
#[pyclass(frozen, module = "pywebtransport._core")]
pub(crate) struct Readiness {
    bridge: Py<Bridge>,
    point: Box<dyn WaitPoint>,
    place: Mutex<Place>,
}

#[derive(Default)]
struct Place {
    /// In the queue of the condition, from the first await on.
    token: Option<Token>,
    since: Option<Instant>,
    limit: Option<Duration>,
    deadline: Option<Instant>,
    /// A future was given out; the next step is its result.
    suspended: bool,
}

impl Readiness {
    pub(crate) fn new(py: Python<'_>, bridge: &Py<Bridge>, point: Box<dyn WaitPoint>) -> Self {
        Self::within(py, bridge, point, None)
    }

    /// One that ends after so many seconds.
    pub(crate) fn within(py: Python<'_>, bridge: &Py<Bridge>, point: Box<dyn WaitPoint>, limit: Option<f64>) -> Self {
        Self {
            bridge: bridge.clone_ref(py),
            point,
            place: Mutex::new(Place {
                limit: limit.map(convert::seconds),
                ..Place::default()
            }),
        }
    }

    /// Give the place up; how long it was held.
    fn end(&self) -> Duration {
        let (token, since, deadline) = {
            let mut place = self.place.lock();
            (place.token.take(), place.since, place.deadline)
        };
        if let Some(token) = token {
            let bridge = self.bridge.get();
            self.point.queue().leave(bridge.port(), token);
            if let Some(deadline) = deadline {
                bridge.deadlines().lock().remove(deadline, token);
            }
            bridge.forget(token);
        }
        let time = since.map_or(Duration::ZERO, |since| since.elapsed());
        if token.is_some() {
            self.point.waited(time);
        }
        time
    }
}

#[pymethods]
impl Readiness {
    fn limit(&self, seconds: f64) {
        self.place.lock().limit = Some(convert::seconds(seconds));
    }

    #[getter]
    fn ticket(&self) -> u64 {
        self.place.lock().token.map_or(0, |token| token.0)
    }

    #[getter]
    fn expired(&self) -> bool {
        self.place
            .lock()
            .deadline
            .is_some_and(|deadline| Instant::now() >= deadline)
    }

    fn __await__(slf: Py<Self>) -> Py<Self> {
        slf
    }

    fn __iter__(slf: Py<Self>) -> Py<Self> {
        slf
    }

    /// What the task of the event loop waits for, then the result None.
    fn __next__<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyAny>>> {
        if std::mem::take(&mut self.place.lock().suspended) {
            return Ok(None);
        }
        let bridge = self.bridge.bind(py);
        bridge.get().check()?;
        let future = bridge
            .get()
            .event_loop(py)?
            .call_method0(intern!(py, "create_future"))?;
        // The protocol of asyncio's tasks: this future comes from an await, and not from a stray `yield`.
        future.setattr(intern!(py, "_asyncio_future_blocking"), true)?;
        self.park(bridge, future.clone().unbind())?;
        Ok(Some(future))
    }

    fn wake(&self, py: Python<'_>) -> PyResult<()> {
        let token = self.place.lock().token;
        token.map_or(Ok(()), |token| self.bridge.get().resolve(py, token))
    }

    fn leave(&self) -> f64 {
        if self.bridge.get().may_drop() {
            self.end().as_secs_f64()
        } else {
            0.0
        }
    }
}

impl Readiness {
    fn park(&self, bridge: &Bound<'_, Bridge>, future: Py<PyAny>) -> PyResult<()> {
        let port = bridge.get().port();
        let token = self.place.lock().token;
        if let Some(token) = token {
            bridge.get().wait_again(token, future);
            self.place.lock().suspended = true;
            self.point.queue().repark(port, token, || self.point.is_ready());
            return Ok(());
        }
        port.stats.parks.add(1);
        let token = bridge.get().wait(future);
        let now = Instant::now();
        let deadline = {
            let mut place = self.place.lock();
            place.token = Some(token);
            place.since = Some(now);
            place.suspended = true;
            // A limit beyond the clock is none.
            place.deadline = place.limit.and_then(|limit| now.checked_add(limit));
            place.deadline
        };
        self.point.queue().park(port, token, || self.point.is_ready());
        match deadline {
            Some(deadline) => Bridge::expire_at(bridge, deadline, token),
            None => Ok(()),
        }
    }
}

impl Drop for Readiness {
    fn drop(&mut self) {
        if self.bridge.get().may_drop() {
            self.end();
        }
    }
}

/// The time limits of an event loop's waits. One timer of the loop serves all: a timer for each, made and cancelled, costs
/// more than the wait itself, which nearly always ends long before its limit.
#[derive(Default)]
pub(crate) struct Deadlines {
    waiting: BTreeSet<(Instant, Token)>,
    /// The loop's timer and what it is set for; it may come for nothing.
    timer: Option<(Instant, Py<PyAny>)>,
}

/// The resolution of uvloop's timers: less would call back at once, again and again.
const SHORTEST_TIMER: Duration = Duration::from_millis(1);

/// A longer one is set again when it comes; event loops refuse numbers that are too large.
const LONGEST_TIMER: Duration = Duration::from_secs(24 * 3600);

impl Deadlines {
    pub(crate) fn add(&mut self, deadline: Instant, token: Token) {
        self.waiting.insert((deadline, token));
    }

    pub(crate) fn remove(&mut self, deadline: Instant, token: Token) {
        self.waiting.remove(&(deadline, token));
    }

    /// Whose time is up.
    pub(crate) fn take_due(&mut self, now: Instant) -> Vec<Token> {
        let later = self.waiting.split_off(&(now, Token(u64::MAX)));
        let due = std::mem::replace(&mut self.waiting, later);
        due.into_iter().map(|(_, token)| token).collect()
    }

    /// The deadline for which a timer must be set, and in what time it has to come.
    pub(crate) fn unwatched(&self) -> Option<(Instant, Duration)> {
        let (first, _) = *self.waiting.first()?;
        if self.timer.as_ref().is_some_and(|(at, _)| *at <= first) {
            return None;
        }
        let delay = first.saturating_duration_since(Instant::now());
        Some((first, delay.clamp(SHORTEST_TIMER, LONGEST_TIMER)))
    }

    /// Note the timer that was set; the one before it.
    pub(crate) fn set_timer(&mut self, timer: Option<(Instant, Py<PyAny>)>) -> Option<Py<PyAny>> {
        std::mem::replace(&mut self.timer, timer).map(|(_, before)| before)
    }
}
