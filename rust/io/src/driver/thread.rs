//! The thread driver: one I/O thread per process, named `pywebtransport-io`, with a current-thread tokio runtime.
//!
//! Sockets and timers are tokio's, the tasks are not: tokio writes to a descriptor for each task that another thread
//! wakes or spawns, two writes for an echo on a new stream. Ours are woken together (see `executor`), run by one task of
//! tokio's.
//!
//! It is started by the first client or server that wants it, never at import. A forked child inherits the memory but
//! not the thread: [`IoThread::forget_after_fork`] leaks what is left (dropping a tokio runtime in a child can hang) and the
//! next use starts a new one.

use std::{
    future::Future,
    io,
    pin::Pin,
    sync::{Arc, mpsc},
    thread::JoinHandle,
    time::{Duration, Instant},
};

use parking_lot::Mutex;
use quinn::{AsyncTimer, AsyncUdpSocket, Runtime, TokioRuntime};
use tokio::{
    runtime::Handle,
    sync::{Notify, oneshot},
    task::{unconstrained, yield_now},
};

use super::{Driver, DriverKind, Host, executor::Executor};

/// The name that the thread shows in `top -H`, `py-spy` and core dumps.
pub const THREAD_NAME: &str = "pywebtransport-io";

/// Tasks that are run before sockets and timers get their turn; tokio has 61.
const TURN: usize = 64;

static IO_THREAD: Mutex<Option<IoThread>> = Mutex::new(None);

/// The process's I/O thread.
#[derive(Debug)]
pub struct IoThread {
    runtime: Arc<ThreadRuntime>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl IoThread {
    /// A driver on the I/O thread, which is started if it does not run yet.
    pub fn driver() -> io::Result<Driver> {
        let mut slot = IO_THREAD.lock();
        let runtime = match &*slot {
            Some(running) => running.runtime.clone(),
            None => slot.insert(Self::start()?).runtime.clone(),
        };
        Ok(Driver::new(DriverKind::Thread, runtime))
    }

    fn start() -> io::Result<Self> {
        let (ready, started) = mpsc::sync_channel(1);
        let (stop, stopped) = oneshot::channel();
        let thread = std::thread::Builder::new().name(THREAD_NAME.into()).spawn(move || {
            let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
                Ok(runtime) => runtime,
                Err(error) => return ready.send(Err(error)).unwrap_or_default(),
            };
            let bell = Arc::new(Notify::new());
            let executor = Executor::new({
                let bell = bell.clone();
                move |is_first| {
                    if is_first {
                        bell.notify_one();
                    }
                }
            });
            let _ = ready.send(Ok(Arc::new(ThreadRuntime {
                handle: runtime.handle().clone(),
                executor: executor.clone(),
            })));
            runtime.block_on(async {
                // Its tasks share one poll: with tokio's budget for a poll they would stop in the middle.
                runtime.spawn(unconstrained(run(executor.clone(), bell)));
                // An error means that the sender is gone, which is a wish to stop too.
                let _ = stopped.await;
                executor.close();
            });
            runtime.shutdown_timeout(Duration::from_millis(100));
        })?;
        let runtime = started.recv().map_err(io::Error::other)??;
        Ok(Self {
            runtime,
            stop: Some(stop),
            thread: Some(thread),
        })
    }

    /// Run `last` to its end, at most for `timeout`, then stop and join the thread. Does nothing when there is none.
    pub fn shutdown(last: impl Future<Output = ()> + Send + 'static, timeout: Duration) {
        let Some(mut io) = IO_THREAD.lock().take() else { return };
        let (done, finished) = mpsc::sync_channel(1);
        io.runtime.handle.spawn(async move {
            last.await;
            let _ = done.send(());
        });
        let _ = finished.recv_timeout(timeout);
        drop(io.stop.take());
        if let Some(thread) = io.thread.take() {
            let _ = thread.join();
        }
    }

    /// In a forked child: forget the parent's thread without touching it.
    pub fn forget_after_fork() {
        // The mutex may have been held by a thread that does not exist here; a lost runtime is leaked on purpose.
        if let Some(mut slot) = IO_THREAD.try_lock() {
            std::mem::forget(slot.take());
        }
    }
}

/// Run what is woken, for ever.
async fn run(executor: Arc<Executor>, bell: Arc<Notify>) {
    // Across wakes too: a thread that rings again and again must not keep this one from its sockets.
    let mut ran = 0;
    loop {
        bell.notified().await;
        while executor.run_one() {
            ran += 1;
            if ran == TURN {
                ran = 0;
                yield_now().await;
            }
        }
    }
}

/// quinn's runtime, usable from threads outside tokio's context.
#[derive(Debug)]
struct ThreadRuntime {
    handle: Handle,
    executor: Arc<Executor>,
}

impl Host for ThreadRuntime {}

impl Runtime for ThreadRuntime {
    fn new_timer(&self, at: Instant) -> Pin<Box<dyn AsyncTimer>> {
        let _context = self.handle.enter();
        TokioRuntime.new_timer(at)
    }
    fn spawn(&self, future: Pin<Box<dyn Future<Output = ()> + Send>>) {
        self.executor.spawn(future);
    }
    fn wrap_udp_socket(&self, socket: std::net::UdpSocket) -> io::Result<Arc<dyn AsyncUdpSocket>> {
        let _context = self.handle.enter();
        TokioRuntime.wrap_udp_socket(socket)
    }
}
