//! The package's own runtime under pyo3-async-runtimes, for the operations that happen once per connection: connect,
//! listen, close.
//!
//! Only those: one await through `future_into_py` costs 57-180 us, a hit on the readiness bridge (`port.rs`) 0.4 us, and a
//! cancelled await drops its result, which for a datagram would be a loss. Everything that moves data uses the bridge.
//!
//! The generic runtime trait has no `self`: tasks find their driver through a thread-local that is set while they are
//! polled and while the binding starts them. "Blocking" work of the trait is the delivery of a result to Python; it
//! runs on the event loop's thread at its next turn, so that no I/O thread ever attaches to Python.

use std::{
    any::Any,
    cell::RefCell,
    future::Future,
    panic::{AssertUnwindSafe, catch_unwind},
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll},
};

use parking_lot::Mutex;
use pyo3::prelude::*;
use pyo3_async_runtimes::{
    TaskLocals,
    generic::{self, ContextExt, JoinError, Runtime},
};
use wt_io::{bridge::port::Port, driver::Driver};

use crate::port::Bridge;

/// Results on their way to the event loop's thread.
pub(crate) struct Completions {
    port: Arc<Port>,
    waiting: Mutex<Vec<Box<dyn FnOnce() + Send>>>,
    any: AtomicBool,
}

impl Completions {
    pub(crate) fn new(port: Arc<Port>) -> Self {
        Self {
            port,
            waiting: Mutex::default(),
            any: AtomicBool::new(false),
        }
    }

    /// Deliver what waits. Event loop's thread only.
    #[inline]
    pub(crate) fn run(&self, _attached: Python<'_>) {
        if self.any.swap(false, Ordering::AcqRel) {
            let waiting = std::mem::take(&mut *self.waiting.lock());
            waiting.into_iter().for_each(|deliver| deliver());
        }
    }

    fn push(&self, deliver: Box<dyn FnOnce() + Send>) {
        self.waiting.lock().push(deliver);
        self.any.store(true, Ordering::Release);
        self.port.signal();
    }
}

#[derive(Clone)]
struct Home {
    driver: Driver,
    completions: Arc<Completions>,
}

thread_local! {
    static HOME: RefCell<Option<Home>> = const { RefCell::new(None) };
}

impl Home {
    /// Run `work` with this as the thread's home.
    fn enter<T>(&self, work: impl FnOnce() -> T) -> T {
        let before = HOME.replace(Some(self.clone()));
        let result = work();
        HOME.set(before);
        result
    }

    fn current() -> Option<Self> {
        HOME.with_borrow(Clone::clone)
    }
}

/// Start `future` on `driver` and return the asyncio future of its result. Cancelling that drops the Rust future.
pub(crate) fn awaitable<'py, F, T>(
    bridge: &Bound<'py, Bridge>,
    driver: &Driver,
    future: F,
) -> PyResult<Bound<'py, PyAny>>
where
    F: Future<Output = T> + Send + 'static,
    T: for<'any> IntoPyObject<'any> + Send + 'static,
{
    let py = bridge.py();
    let locals = TaskLocals::new(bridge.get().event_loop(py)?);
    let home = Home {
        driver: driver.clone(),
        completions: bridge.get().completions().clone(),
    };
    Bridge::operate(bridge, driver.kind(), || {
        home.enter(|| {
            generic::future_into_py_with_locals::<PackageRuntime, _, T>(py, locals, async move { Ok(future.await) })
        })
    })?
}

/// The driver of the calling binding, seen through the trait of pyo3-async-runtimes.
struct PackageRuntime;

impl Runtime for PackageRuntime {
    type JoinError = Panicked;
    type JoinHandle = Joined;

    fn spawn<F: Future<Output = ()> + Send + 'static>(future: F) -> Joined {
        let (done, joined) = result_slot();
        // Without a home there is nothing to run on; the join handle then reports the task as gone.
        if let Some(home) = Home::current() {
            let task = Scoped {
                home: home.clone(),
                future: Box::pin(future),
            };
            home.driver.spawn(async move { done.send(task.await) });
        }
        joined
    }

    fn spawn_blocking<F: FnOnce() + Send + 'static>(work: F) -> Joined {
        let (done, joined) = result_slot();
        if let Some(home) = Home::current() {
            home.completions.push(Box::new(move || {
                done.send(catch_unwind(AssertUnwindSafe(work)).map_err(Panicked::new))
            }));
        }
        joined
    }
}

impl ContextExt for PackageRuntime {
    fn scope<F, R>(_locals: TaskLocals, future: F) -> Pin<Box<dyn Future<Output = R> + Send>>
    where
        F: Future<Output = R> + Send + 'static,
    {
        // No task of ours asks for its locals: none awaits a Python coroutine.
        Box::pin(future)
    }

    fn get_task_locals() -> Option<TaskLocals> {
        None
    }
}

/// A future that is polled with its home set, and whose panics are caught.
struct Scoped {
    home: Home,
    future: Pin<Box<dyn Future<Output = ()> + Send>>,
}

impl Future for Scoped {
    type Output = Result<(), Panicked>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let Self { home, future } = &mut *self;
        match home.enter(|| catch_unwind(AssertUnwindSafe(|| future.as_mut().poll(cx)))) {
            Ok(poll) => poll.map(Ok),
            Err(panic) => Poll::Ready(Err(Panicked::new(panic))),
        }
    }
}

/// A task ended by a panic, or was never run.
pub(crate) struct Panicked(Option<Mutex<Box<dyn Any + Send>>>);

impl Panicked {
    fn new(panic: Box<dyn Any + Send>) -> Self {
        Self(Some(Mutex::new(panic)))
    }
}

impl JoinError for Panicked {
    fn is_panic(&self) -> bool {
        self.0.is_some()
    }

    fn into_panic(self) -> Box<dyn Any + Send + 'static> {
        match self.0 {
            Some(panic) => panic.into_inner(),
            None => Box::new("the task was dropped"),
        }
    }
}

/// What a task leaves for its join handle.
struct Done(Arc<Mutex<Slot>>);

/// The other end of [`Done`].
pub(crate) struct Joined(Arc<Mutex<Slot>>);

#[derive(Default)]
struct Slot {
    result: Option<Result<(), Panicked>>,
    waker: Option<std::task::Waker>,
}

fn result_slot() -> (Done, Joined) {
    let slot = Arc::new(Mutex::new(Slot::default()));
    (Done(slot.clone()), Joined(slot))
}

impl Done {
    fn send(self, result: Result<(), Panicked>) {
        self.0.lock().result = Some(result);
    }
}

impl Drop for Done {
    fn drop(&mut self) {
        let waker = {
            let mut slot = self.0.lock();
            if slot.result.is_none() {
                slot.result = Some(Err(Panicked(None)));
            }
            slot.waker.take()
        };
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}

impl Future for Joined {
    type Output = Result<(), Panicked>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut slot = self.0.lock();
        match slot.result.take() {
            Some(result) => Poll::Ready(result),
            None => {
                slot.waker = Some(cx.waker().clone());
                Poll::Pending
            }
        }
    }
}
