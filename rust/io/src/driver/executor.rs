//! The tasks of a driver, and the queue of those that are woken.
//!
//! Any thread may wake or spawn. Only the first that finds the queue empty tells the driver's thread, which then runs
//! everything that has come together: ringing it for each task is a system call each, and what the tasks send would
//! leave one by one. No wake is lost: the driver goes to sleep after it has found the queue empty, under the queue's lock, and
//! the next task finds it empty as well.

use std::{
    collections::VecDeque,
    fmt::{self, Debug, Formatter},
    future::Future,
    panic::{AssertUnwindSafe, catch_unwind},
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use async_task::{Runnable, Task};
use parking_lot::Mutex;
use slab::Slab;

/// Runs tasks when its owner says so.
pub(super) struct Executor {
    queue: Mutex<VecDeque<Runnable>>,
    /// Everything that was spawned and has not ended, so that `close` finds those too that wait for something.
    tasks: Mutex<Slab<Task<()>>>,
    closed: AtomicBool,
    /// Called for a task that became runnable, with whether it is the first in the queue. May be called under locks of
    /// whoever wakes.
    on_work: Box<dyn Fn(bool) + Send + Sync>,
}

impl Executor {
    pub(super) fn new(on_work: impl Fn(bool) + Send + Sync + 'static) -> Arc<Self> {
        Arc::new(Self {
            queue: Mutex::default(),
            tasks: Mutex::default(),
            closed: AtomicBool::new(false),
            on_work: Box::new(on_work),
        })
    }

    pub(super) fn spawn(self: &Arc<Self>, future: Pin<Box<dyn Future<Output = ()> + Send>>) {
        let executor = self.clone();
        let mut tasks = self.tasks.lock();
        let entry = tasks.vacant_entry();
        let ended = Ended(executor.clone(), entry.key());
        let future = async move {
            let _ended = ended;
            future.await;
        };
        let (runnable, task) = async_task::spawn(future, move |runnable| executor.schedule(runnable));
        entry.insert(task);
        drop(tasks);
        runnable.schedule();
    }

    /// Whether a task waits to be run.
    pub(super) fn has_work(&self) -> bool {
        !self.queue.lock().is_empty()
    }

    /// Run the task that has waited longest; false when there is none.
    pub(super) fn run_one(&self) -> bool {
        let Some(task) = self.queue.lock().pop_front() else {
            return false;
        };
        // A panic ends its task only, as tokio does it; the connection's guard turns it into an error.
        let _ = catch_unwind(AssertUnwindSafe(|| task.run()));
        true
    }

    /// Drop all tasks: nothing will be run again. Call it once more when the last handle goes.
    pub(super) fn close(&self) {
        self.closed.store(true, Ordering::SeqCst);
        // Dropping a task may wake or spawn others: take them out before they are dropped, until none is left. A handle that
        // is dropped cancels its task, which then comes into the queue once more.
        loop {
            let tasks = std::mem::take(&mut *self.tasks.lock());
            let runnable = std::mem::take(&mut *self.queue.lock());
            if tasks.is_empty() && runnable.is_empty() {
                break;
            }
        }
    }

    fn schedule(&self, task: Runnable) {
        let is_first = {
            let mut queue = self.queue.lock();
            queue.push_back(task);
            queue.len() == 1
        };
        // After `close` it is not dropped here: the waker may have been called under a lock of quinn's that the task's
        // destructor takes. The next `close` drops it.
        if !self.closed.load(Ordering::SeqCst) {
            (self.on_work)(is_first);
        }
    }
}

impl Debug for Executor {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.debug_struct("Executor")
            .field("has_work", &self.has_work())
            .finish_non_exhaustive()
    }
}

/// Takes a task off the list when it has ended, by a panic too.
struct Ended(Arc<Executor>, usize);

impl Drop for Ended {
    fn drop(&mut self) {
        let task = self.0.tasks.lock().try_remove(self.1);
        if let Some(task) = task {
            task.detach();
        }
    }
}
