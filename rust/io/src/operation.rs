//! What takes its time and is asked for once: a connect, a listen, a stream while the peer's limit is used up.

use std::{future::Future, sync::Arc};

use parking_lot::Mutex;

use crate::{
    bridge::{
        port::Port,
        ring::{WaitPoint, WaitQueue, wait_point},
    },
    driver::{Driver, Either, select},
    gate::Gate,
};

/// A future that runs on a driver, and its result until somebody takes it. Whoever gives it up calls
/// [`Operation::cancel`].
#[derive(Debug)]
pub struct Operation<T> {
    port: Arc<Port>,
    result: Mutex<Progress<T>>,
    undo: fn(T),
    cancelled: Gate,
    done: WaitQueue,
}

#[derive(Debug)]
enum Progress<T> {
    UnderWay,
    Done(T),
    /// Taken, given back, or lost with its task.
    Gone,
}

/// There is no result any more: it was taken before, or the task ended without one (a panic, or the end of its driver).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Gone;

impl<T: Send + 'static> Operation<T> {
    /// Run `future` on `driver`; `undo` gets a result that nobody wants any more.
    pub fn start(
        driver: &Driver,
        port: Arc<Port>,
        future: impl Future<Output = T> + Send + 'static,
        undo: fn(T),
    ) -> Arc<Self> {
        let operation = Arc::new(Self {
            port,
            result: Mutex::new(Progress::UnderWay),
            undo,
            cancelled: Gate::default(),
            done: WaitQueue::default(),
        });
        let run = Run(operation.clone());
        driver.spawn(async move {
            if let Either::Left(result) = select(future, run.0.cancelled.passed()).await {
                *run.0.result.lock() = Progress::Done(result);
            }
        });
        operation
    }

    /// The result, once; None while there is none.
    pub fn take(&self) -> Option<Result<T, Gone>> {
        let mut progress = self.result.lock();
        match std::mem::replace(&mut *progress, Progress::Gone) {
            Progress::UnderWay => {
                *progress = Progress::UnderWay;
                None
            }
            Progress::Done(result) => Some(Ok(result)),
            Progress::Gone => Some(Err(Gone)),
        }
    }

    /// Give it up, or what has come out of it meanwhile. Idempotent.
    pub fn cancel(&self) {
        self.cancelled.open();
        self.give_back();
    }

    /// Ready when `take` has something.
    pub fn ready(self: &Arc<Self>) -> Box<dyn WaitPoint> {
        wait_point(
            self.clone(),
            |this| &this.done,
            |this| !matches!(*this.result.lock(), Progress::UnderWay),
        )
    }

    fn give_back(&self) {
        if let Some(Ok(unwanted)) = self.take() {
            (self.undo)(unwanted);
        }
    }
}

/// The task of an operation: it tells the waiter however it ends.
struct Run<T: Send + 'static>(Arc<Operation<T>>);

impl<T: Send + 'static> Drop for Run<T> {
    fn drop(&mut self) {
        {
            let mut progress = self.0.result.lock();
            if matches!(*progress, Progress::UnderWay) {
                *progress = Progress::Gone;
            }
        }
        self.0.done.notify_all(&self.0.port);
        if self.0.cancelled.is_open() {
            self.0.give_back();
        }
    }
}
