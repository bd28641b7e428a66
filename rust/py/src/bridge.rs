//! The bridge of one event loop: parked futures, wakes, and the loop driver's place on the loop.
//!
//! Python objects that wait live here and nowhere below. The core rings tokens; the loop comes by, through the wake
//! descriptor, and the futures behind the tokens are resolved. I/O threads never touch Python.

use std::{
    collections::HashMap,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, AtomicU32, Ordering},
    },
    thread::{self, ThreadId},
    time::{Duration, Instant},
};

use parking_lot::Mutex;
use pyo3::{
    exceptions::PyRuntimeError,
    intern,
    prelude::*,
    types::{PyDict, PyWeakrefReference},
};
use slab::Slab;
use wt_io::{
    bridge::{
        port::{Port, Token},
        wake::{Wake, os_wake},
    },
    client::client_endpoint,
    config::Preset,
    driver::{Driver, DriverKind, event_loop::LoopDriver, thread::IoThread},
    endpoint::{self, ClientEndpoint},
};

use crate::{errors, exit::Turn, readiness::Deadlines};

/// Counts the forks that lead to this process; objects carry the number of their birth.
static GENERATION: AtomicU32 = AtomicU32::new(0);

/// The wake channel of one event loop.
#[pyclass(frozen, weakref, module = "pywebtransport._core")]
pub(crate) struct Bridge {
    generation: u32,
    /// The one that runs the loop.
    thread: ThreadId,
    event_loop: Py<PyWeakrefReference>,
    port: Arc<Port>,
    descriptor: i64,
    waiters: Mutex<Waiters>,
    deadlines: Mutex<Deadlines>,
    /// Made by the first client or server that asks for it.
    loop_driver: OnceLock<Option<Arc<LoopDriver>>>,
    /// Called when the loop was blocked: for how many seconds, and the shortest idle timeout of what the loop drives.
    on_gap: Py<PyAny>,
    shortest_idle_timeout: Mutex<Duration>,
    /// The first operation of a loop turn was driven inline already.
    turn_driven: AtomicBool,
    /// The loop will call `on_turn_end`.
    turn_end_due: AtomicBool,
    /// Descriptors that the loop watches for the loop driver, and whether for writing too.
    watched: Mutex<HashMap<i64, bool>>,
    /// The clients' sockets, with their drivers and presets.
    endpoints: Mutex<Vec<(DriverKind, Preset, ClientEndpoint)>>,
}

/// When what an operation of the loop driver gave to send leaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Departure {
    /// At once, if it is the first of this turn of the loop, or the last one was long ago.
    Now,
    /// At the end of the turn, or with the next operation: more is likely to follow that fits into the same packet.
    TurnEnd,
}

#[derive(Default)]
struct Waiters {
    slots: Slab<Slot>,
    generation: u32,
}

struct Slot {
    generation: u32,
    waiter: Waiter,
}

enum Waiter {
    /// Resolved once.
    Future(Option<Py<PyAny>>),
    /// Called through `loop.call_soon` at every ring.
    Callback(Py<PyAny>),
}

impl Waiters {
    fn insert(&mut self, waiter: Waiter) -> Token {
        self.generation = self.generation.wrapping_add(1);
        let generation = self.generation;
        let index = self.slots.insert(Slot { generation, waiter });
        // 0 is no token, so indexes count from 1.
        Token((u64::from(generation) << 32) | (index as u64 + 1))
    }

    fn get(&mut self, token: Token) -> Option<&mut Waiter> {
        let (generation, index) = ((token.0 >> 32) as u32, (token.0 as u32).checked_sub(1)?);
        let slot = self.slots.get_mut(index as usize)?;
        (slot.generation == generation).then_some(&mut slot.waiter)
    }

    /// Drop what it returns after the lock: that may run Python code.
    fn remove(&mut self, token: Token) -> Option<Slot> {
        self.get(token)?;
        self.slots.try_remove((token.0 as u32 - 1) as usize)
    }
}

#[pymethods]
impl Bridge {
    #[new]
    fn new(event_loop: &Bound<'_, PyAny>, on_gap: Py<PyAny>) -> PyResult<Self> {
        let wake = os_wake()?;
        let descriptor = Wake::descriptor(&*wake);
        let port = Arc::new(Port::new(wake));
        let bridge = Self {
            generation: GENERATION.load(Ordering::Relaxed),
            thread: thread::current().id(),
            event_loop: PyWeakrefReference::new(event_loop)?.unbind(),
            port,
            descriptor,
            waiters: Mutex::default(),
            deadlines: Mutex::default(),
            loop_driver: OnceLock::new(),
            on_gap,
            shortest_idle_timeout: Mutex::new(Duration::MAX),
            turn_driven: AtomicBool::new(false),
            turn_end_due: AtomicBool::new(false),
            watched: Mutex::default(),
            endpoints: Mutex::default(),
        };
        Ok(bridge)
    }

    fn fileno(&self) -> i64 {
        self.descriptor
    }

    fn on_wake(slf: &Bound<'_, Self>) -> PyResult<()> {
        let this = slf.get();
        if this.is_stale() {
            return Ok(());
        }
        this.port.acknowledge();
        this.port.stats.drains.add(1);
        Self::turn(slf)
    }

    /// A socket of the loop driver became readable or writable.
    fn on_socket(slf: &Bound<'_, Self>) -> PyResult<()> {
        Self::on_event(slf, LoopDriver::on_socket)
    }

    /// The timer of the loop driver fired.
    fn on_timer(slf: &Bound<'_, Self>) -> PyResult<()> {
        Self::on_event(slf, LoopDriver::on_timer)
    }

    /// The turn of the loop in which operations were left to later is over.
    fn on_turn_end(slf: &Bound<'_, Self>) -> PyResult<()> {
        let this = slf.get();
        this.turn_end_due.store(false, Ordering::Relaxed);
        match this.running_loop_driver() {
            Some(driver) if driver.has_work() && !this.is_stale() => Self::turn(slf),
            _ => Ok(()),
        }
    }

    /// The time of a wait may be up.
    fn on_deadline(slf: &Bound<'_, Self>) -> PyResult<()> {
        let this = slf.get();
        if this.is_stale() {
            return Ok(());
        }
        let fired = this.deadlines.lock().set_timer(None);
        drop(fired);
        let due = this.deadlines.lock().take_due(Instant::now());
        for token in due {
            this.resolve(slf.py(), token)?;
        }
        Self::watch_deadlines(slf)
    }

    fn close(slf: &Bound<'_, Self>) -> PyResult<()> {
        let this = slf.get();
        if this.is_stale() {
            return Ok(());
        }
        let endpoints = std::mem::take(&mut *this.endpoints.lock());
        endpoints.iter().for_each(|(_, _, endpoint)| endpoint::close(endpoint));
        if let Some(driver) = this.running_loop_driver() {
            // The close packets go out, then the tasks go.
            driver.finish();
            driver.close();
        }
        // Its timer refers to the bridge.
        let timer = this.deadlines.lock().set_timer(None);
        drop(timer);
        // The generation goes on: tokens that are still held somewhere must not fit those that come later.
        let waiters = std::mem::take(&mut this.waiters.lock().slots);
        drop(waiters);
        Self::unwatch_all(slf)
    }

    fn stats(&self) -> HashMap<&'static str, u64> {
        let stats = &self.port.stats;
        HashMap::from([
            ("bells", stats.bells.get()),
            ("writes", stats.writes.get()),
            ("drains", stats.drains.get()),
            ("tokens", stats.tokens.get()),
            ("parks", stats.parks.get()),
            ("bytes_copied", stats.bytes_copied.get()),
            ("drives", stats.drives.get()),
            ("drive_cuts", stats.drive_cuts.get()),
            ("longest_drive_us", stats.longest_drive_us.get()),
            ("late_drives", stats.late_drives.get()),
            ("longest_gap_us", stats.longest_gap_us.get()),
            ("stand_ins", stats.stand_ins.get()),
            ("waiters", self.waiters.lock().slots.len() as u64),
        ])
    }
}

impl Bridge {
    pub(crate) fn port(&self) -> &Arc<Port> {
        &self.port
    }

    /// The loop, while it exists.
    pub(crate) fn event_loop<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        use pyo3::types::PyWeakrefMethods;
        self.event_loop
            .bind(py)
            .upgrade()
            .ok_or_else(|| PyRuntimeError::new_err("the event loop of this object does not exist any more"))
    }

    fn is_stale(&self) -> bool {
        self.generation != GENERATION.load(Ordering::Relaxed)
    }

    /// Objects of a parent process must not be used in a forked child: their I/O is not here.
    #[inline]
    pub(crate) fn check(&self) -> PyResult<()> {
        if self.is_stale() {
            Err(errors::after_fork())
        } else {
            Ok(())
        }
    }

    fn running_loop_driver(&self) -> Option<&Arc<LoopDriver>> {
        self.loop_driver.get()?.as_ref()
    }

    /// Whether a destructor may touch the core: not in a forked child, where its locks may be held for ever.
    pub(crate) fn may_drop(&self) -> bool {
        !self.is_stale()
    }

    /// The driver that a configuration asks for; "loop" becomes "thread" where the loop cannot watch descriptors.
    pub(crate) fn driver(slf: &Bound<'_, Self>, wish: DriverKind, idle_timeout: Duration) -> PyResult<Driver> {
        let this = slf.get();
        this.check()?;
        if wish == DriverKind::Loop {
            let driver = this.loop_driver.get_or_init(|| LoopDriver::new(this.port.clone()).ok());
            if let Some(driver) = driver
                && Self::watch(slf, driver.timer_descriptor(), "on_timer").is_ok()
            {
                let mut shortest = this.shortest_idle_timeout.lock();
                *shortest = idle_timeout.min(*shortest);
                return Ok(driver.driver());
            }
        }
        Ok(IoThread::driver()?)
    }

    /// The socket that all clients of this loop and driver share, as far as their presets allow it.
    pub(crate) fn client_endpoint(&self, driver: &Driver, preset: Preset) -> PyResult<ClientEndpoint> {
        let mut endpoints = self.endpoints.lock();
        let mut known = endpoints.iter();
        if let Some((_, _, endpoint)) =
            known.find(|(kind, other, _)| *kind == driver.kind() && other.shares_endpoint(preset))
        {
            return Ok(endpoint.clone());
        }
        let endpoint = client_endpoint(driver, preset).map_err(|error| PyRuntimeError::new_err(error.to_string()))?;
        endpoints.push((driver.kind(), preset, endpoint.clone()));
        Ok(endpoint)
    }

    pub(crate) fn deadlines(&self) -> &Mutex<Deadlines> {
        &self.deadlines
    }

    /// Keep a future for the rings of the token that is returned.
    pub(crate) fn wait(&self, future: Py<PyAny>) -> Token {
        self.waiters.lock().insert(Waiter::Future(Some(future)))
    }

    /// Keep another one for the same token.
    pub(crate) fn wait_again(&self, token: Token, future: Py<PyAny>) {
        let mut waiters = self.waiters.lock();
        let next = Waiter::Future(Some(future));
        let before = waiters.get(token).map(|waiter| std::mem::replace(waiter, next));
        drop(waiters);
        // Here, because dropping it may run Python code.
        drop(before);
    }

    pub(crate) fn forget(&self, token: Token) {
        let forgotten = self.waiters.lock().remove(token);
        drop(forgotten);
    }

    /// Wake the future behind `token` at `deadline`, unless the wait has ended before.
    pub(crate) fn expire_at(slf: &Bound<'_, Self>, deadline: Instant, token: Token) -> PyResult<()> {
        slf.get().deadlines.lock().add(deadline, token);
        Self::watch_deadlines(slf)
    }

    fn watch_deadlines(slf: &Bound<'_, Self>) -> PyResult<()> {
        let (this, py) = (slf.get(), slf.py());
        let Some((at, delay)) = this.deadlines.lock().unwatched() else {
            return Ok(());
        };
        let arguments = (delay.as_secs_f64(), slf.getattr(intern!(py, "on_deadline"))?);
        let timer = this
            .event_loop(py)?
            .call_method1(intern!(py, "call_later"), arguments)?;
        let before = this.deadlines.lock().set_timer(Some((at, timer.unbind())));
        before.map_or(Ok(()), |before| {
            before.call_method0(py, intern!(py, "cancel")).map(drop)
        })
    }

    /// Wake the future behind `token`, if it waits.
    pub(crate) fn resolve(&self, py: Python<'_>, token: Token) -> PyResult<()> {
        let future = match self.waiters.lock().get(token) {
            Some(Waiter::Future(future)) => future.take(),
            _ => None,
        };
        future.map_or(Ok(()), |future| resolve(future.bind(py)))
    }

    /// Run an operation that may wake I/O tasks. The first one of a loop turn is driven at once, so that it leaves without
    /// waiting for the loop; those that soon follow wait for the end of the turn and leave together.
    #[inline]
    pub(crate) fn operate<T>(slf: &Bound<'_, Self>, driver: DriverKind, operation: impl FnOnce() -> T) -> PyResult<T> {
        Self::operate_at(slf, driver, Departure::Now, operation)
    }

    /// [`Bridge::operate`] for an operation that may have to wait for the end of the turn.
    pub(crate) fn operate_at<T>(
        slf: &Bound<'_, Self>,
        driver: DriverKind,
        departure: Departure,
        operation: impl FnOnce() -> T,
    ) -> PyResult<T> {
        let this = slf.get();
        // With the thread driver the tasks are elsewhere; with a wake under way the loop comes by anyway.
        if driver == DriverKind::Thread || !this.port.try_hold() {
            return Ok(operation());
        }
        let result = operation();
        let mut tokens = Vec::new();
        let Some(driver) = this.running_loop_driver().filter(|driver| driver.has_work()) else {
            this.port.take(&mut tokens);
            // Another thread (name resolution) may have scheduled a task meanwhile, and found the flag held.
            if this.running_loop_driver().is_some_and(|driver| driver.has_work()) {
                this.port.signal();
            }
            this.complete(slf.py(), &tokens)?;
            return Ok(result);
        };
        if departure == Departure::Now && (!this.turn_driven.swap(true, Ordering::Relaxed) || driver.is_due()) {
            driver.drive();
        }
        this.port.take(&mut tokens);
        if driver.has_work() {
            Self::drive_at_turn_end(slf)?;
        }
        Self::finish_turn(slf, driver, tokens)?;
        Ok(result)
    }

    /// Have the rest driven when the callbacks that are ready now have run. On the loop's own thread a callback is enough,
    /// which spares the descriptor's write, poll and read.
    fn drive_at_turn_end(slf: &Bound<'_, Self>) -> PyResult<()> {
        let this = slf.get();
        if thread::current().id() != this.thread {
            this.port.signal();
        } else if !this.turn_end_due.swap(true, Ordering::Relaxed) {
            let callback = slf.getattr(intern!(slf.py(), "on_turn_end"))?;
            let call_soon = intern!(slf.py(), "call_soon");
            if let Err(error) = this
                .event_loop(slf.py())
                .and_then(|event_loop| event_loop.call_method1(call_soon, (callback,)))
            {
                // A loop that is closed: nothing is driven any more.
                this.turn_end_due.store(false, Ordering::Relaxed);
                drop(error);
            }
        }
        Ok(())
    }

    /// Tell the loop driver of an event, then let it see to it.
    fn on_event(slf: &Bound<'_, Self>, tell: impl FnOnce(&LoopDriver)) -> PyResult<()> {
        let this = slf.get();
        if let (Some(driver), false) = (this.running_loop_driver(), this.is_stale()) {
            this.port.hold();
            tell(driver);
            Self::turn(slf)?;
        }
        Ok(())
    }

    /// Run the loop driver's tasks, then resolve what became ready.
    fn turn(slf: &Bound<'_, Self>) -> PyResult<()> {
        let Some(_turn) = Turn::begin() else {
            return Ok(());
        };
        let this = slf.get();
        let mut tokens = Vec::new();
        this.turn_driven.store(false, Ordering::Relaxed);
        match this.running_loop_driver() {
            Some(driver) => {
                this.port.hold();
                driver.drive();
                this.port.take(&mut tokens);
                if driver.has_work() {
                    this.port.signal();
                }
                Self::finish_turn(slf, driver, tokens)?;
                this.tell_gap(slf.py(), driver)
            }
            None => {
                this.port.take(&mut tokens);
                this.complete(slf.py(), &tokens)
            }
        }
    }

    /// The watchdog: it can only bark afterwards.
    fn tell_gap(&self, py: Python<'_>, driver: &LoopDriver) -> PyResult<()> {
        if let Some(gap) = driver.take_gap() {
            let idle_timeout = self.shortest_idle_timeout.lock().as_secs_f64();
            self.on_gap.call1(py, (gap.as_secs_f64(), idle_timeout))?;
        }
        Ok(())
    }

    fn finish_turn(slf: &Bound<'_, Self>, driver: &LoopDriver, tokens: Vec<Token>) -> PyResult<()> {
        if let Some(descriptors) = driver.descriptors() {
            let mut unused = false;
            for descriptor in descriptors {
                if descriptor.unused {
                    unused = true;
                    Self::unwatch(slf, descriptor.fd)?;
                } else {
                    Self::watch(slf, descriptor.fd, "on_socket")?;
                    Self::watch_writing(slf, descriptor.fd, descriptor.wants_write)?;
                }
            }
            if unused {
                driver.release_unused();
            }
        }
        slf.get().complete(slf.py(), &tokens)
    }

    /// Resolve the futures behind `tokens`.
    fn complete(&self, py: Python<'_>, tokens: &[Token]) -> PyResult<()> {
        self.port.stats.tokens.add(tokens.len() as u64);
        for token in tokens {
            let (future, callback) = match self.waiters.lock().get(*token) {
                Some(Waiter::Future(future)) => (future.take(), None),
                Some(Waiter::Callback(callback)) => (None, Some(callback.clone_ref(py))),
                None => (None, None),
            };
            if let Some(future) = future {
                resolve(future.bind(py))?;
            }
            if let Some(callback) = callback {
                self.event_loop(py)?
                    .call_method1(intern!(py, "call_soon"), (callback,))?;
            }
        }
        Ok(())
    }

    fn watch(slf: &Bound<'_, Self>, fd: i64, method: &str) -> PyResult<()> {
        let this = slf.get();
        if this.watched.lock().contains_key(&fd) {
            return Ok(());
        }
        let callback = slf.getattr(method)?;
        this.event_loop(slf.py())?
            .call_method1(intern!(slf.py(), "add_reader"), (fd, callback))?;
        this.watched.lock().insert(fd, false);
        Ok(())
    }

    fn watch_writing(slf: &Bound<'_, Self>, fd: i64, wanted: bool) -> PyResult<()> {
        let this = slf.get();
        let Some(before) = this.watched.lock().insert(fd, wanted) else {
            return Ok(());
        };
        let event_loop = this.event_loop(slf.py())?;
        match (before, wanted) {
            (false, true) => event_loop
                .call_method1("add_writer", (fd, slf.getattr("on_socket")?))
                .map(drop),
            (true, false) => event_loop.call_method1("remove_writer", (fd,)).map(drop),
            _ => Ok(()),
        }
    }

    fn unwatch(slf: &Bound<'_, Self>, fd: i64) -> PyResult<()> {
        let this = slf.get();
        let Some(writing) = this.watched.lock().remove(&fd) else {
            return Ok(());
        };
        let Ok(event_loop) = this.event_loop(slf.py()) else {
            return Ok(());
        };
        // A closed loop has forgotten its descriptors.
        if event_loop.call_method0("is_closed")?.is_truthy()? {
            return Ok(());
        }
        event_loop.call_method1("remove_reader", (fd,))?;
        if writing {
            event_loop.call_method1("remove_writer", (fd,))?;
        }
        Ok(())
    }

    fn unwatch_all(slf: &Bound<'_, Self>) -> PyResult<()> {
        let fds: Vec<i64> = slf.get().watched.lock().keys().copied().collect();
        fds.into_iter().try_for_each(|fd| Self::unwatch(slf, fd))
    }
}

impl Drop for Bridge {
    fn drop(&mut self) {
        if self.may_drop() {
            // The endpoints first: what they wake is dropped with the driver's queue.
            self.endpoints.lock().clear();
            if let Some(driver) = self.running_loop_driver() {
                driver.close();
            }
        }
    }
}

fn resolve(future: &Bound<'_, PyAny>) -> PyResult<()> {
    let py = future.py();
    // One that was cancelled is done.
    if !future.call_method0(intern!(py, "done"))?.is_truthy()? {
        future.call_method1(intern!(py, "set_result"), (py.None(),))?;
    }
    Ok(())
}

/// A callable that is called at every ring of its token, for as long as this object lives.
#[pyclass(frozen, module = "pywebtransport._core")]
pub(crate) struct Subscription {
    bridge: Py<Bridge>,
    token: Token,
}

impl Subscription {
    pub(crate) fn new(bridge: Py<Bridge>, callback: Py<PyAny>) -> Self {
        let token = bridge.get().waiters.lock().insert(Waiter::Callback(callback));
        Self { bridge, token }
    }

    pub(crate) fn token(&self) -> Token {
        self.token
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        let bridge = self.bridge.get();
        if bridge.may_drop() {
            bridge.forget(self.token);
        }
    }
}

/// In a forked child, before anything else runs there.
#[pyfunction]
pub(crate) fn forget_after_fork() {
    GENERATION.fetch_add(1, Ordering::Relaxed);
    IoThread::forget_after_fork();
    LoopDriver::forget_after_fork();
    endpoint::forget_after_fork();
}

/// Have Python call [`forget_after_fork`], where there is fork.
pub(crate) fn register_at_fork(module: &Bound<'_, PyModule>) -> PyResult<()> {
    let py = module.py();
    let os = py.import("os")?;
    if os.hasattr("register_at_fork")? {
        let arguments = PyDict::new(py);
        arguments.set_item("after_in_child", module.getattr("forget_after_fork")?)?;
        os.call_method("register_at_fork", (), Some(&arguments))?;
    }
    Ok(())
}
