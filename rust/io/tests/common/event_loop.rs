//! An application's event loop as wt-io sees it: a thread that watches descriptors and resolves waiters by their tokens.
//!
//! It does what the binding does for asyncio, with `poll` in place of a selector. With the loop driver, I/O tasks run on
//! this thread too; with the thread driver only the wake descriptor is watched. In the simulation there is no thread: the
//! turns of the loop are a task of the simulated host.

use std::{
    collections::HashMap,
    future::Future,
    os::fd::BorrowedFd,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering},
        mpsc,
    },
    thread::JoinHandle,
};

use rustix::event::{PollFd, PollFlags, poll};
use tokio::sync::{Notify, oneshot};
use wt_io::{
    bridge::{
        port::{Port, Token},
        ring::WaitPoint,
        wake::{Wake, os_wake},
    },
    driver::{
        Driver, DriverKind,
        event_loop::{Descriptor, LoopDriver},
        thread::IoThread,
    },
};

/// A running event loop. Dropping it stops and joins its thread.
#[derive(Debug)]
pub struct EventLoop {
    pub port: Arc<Port>,
    pub driver: Driver,
    waiters: Arc<Mutex<HashMap<Token, Arc<Notify>>>>,
    next_token: AtomicU64,
    stop: Arc<AtomicBool>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl EventLoop {
    pub fn start(kind: DriverKind) -> Self {
        let wake = os_wake().expect("the system has descriptors left");
        let descriptor = Wake::descriptor(&*wake);
        let port = Arc::new(Port::new(wake));
        let loop_driver =
            (kind == DriverKind::Loop).then(|| LoopDriver::new(port.clone()).expect("Linux has timer descriptors"));
        let driver = match &loop_driver {
            Some(driver) => driver.driver(),
            None => IoThread::driver().expect("the system has threads left"),
        };
        let waiters = Arc::new(Mutex::new(HashMap::new()));
        let stop = Arc::new(AtomicBool::new(false));
        let turns = Turns {
            wake: descriptor,
            port: port.clone(),
            driver: loop_driver,
            waiters: waiters.clone(),
            stop: stop.clone(),
        };
        Self {
            port,
            driver,
            waiters,
            next_token: AtomicU64::new(1),
            stop,
            thread: Mutex::new(Some(std::thread::spawn(move || turns.run()))),
        }
    }

    /// A loop whose turns are a task of `driver`.
    pub fn on(driver: Driver) -> Self {
        let bell = Arc::new(Notify::new());
        let port = Arc::new(Port::new(Box::new(Bell(bell.clone()))));
        let waiters = Arc::new(Mutex::new(HashMap::new()));
        let stop = Arc::new(AtomicBool::new(false));
        let turns = Turns {
            wake: -1,
            port: port.clone(),
            driver: None,
            waiters: waiters.clone(),
            stop: stop.clone(),
        };
        driver.spawn(async move {
            let mut tokens = Vec::new();
            while !turns.stop.load(Ordering::SeqCst) {
                bell.notified().await;
                turns.port.take(&mut tokens);
                turns.deliver(&mut tokens);
            }
        });
        Self {
            port,
            driver,
            waiters,
            next_token: AtomicU64::new(1),
            stop,
            thread: Mutex::new(None),
        }
    }

    /// The first value that `attempt` gives; parked on `point` in between, as the binding does it.
    pub async fn until<T>(&self, point: Box<dyn WaitPoint>, mut attempt: impl FnMut() -> Option<T>) -> T {
        if !point.queue().has_waiters()
            && let Some(value) = attempt()
        {
            return value;
        }
        let ticket = self.park(&*point);
        loop {
            ticket.bell.notified().await;
            if let Some(value) = attempt() {
                return value;
            }
            point
                .queue()
                .repark(&self.port, ticket.token, || ticket.point.is_ready());
        }
    }

    /// Wait until the condition holds.
    pub async fn ready(&self, point: Box<dyn WaitPoint>) {
        let ticket = self.park(&*point);
        while !point.is_ready() {
            ticket.bell.notified().await;
            point.queue().repark(&self.port, ticket.token, || point.is_ready());
        }
    }

    fn park<'a>(&'a self, point: &'a dyn WaitPoint) -> Ticket<'a> {
        let (token, bell) = self.waiter();
        point.queue().park(&self.port, token, || point.is_ready());
        Ticket {
            event_loop: self,
            point,
            token,
            bell,
        }
    }

    /// Run a control operation on the driver, as the binding does; dropping the returned future drops `operation`.
    pub async fn run<T: Send + 'static>(&self, operation: impl Future<Output = T> + Send + 'static) -> T {
        let (mut done, result) = oneshot::channel();
        self.driver.spawn(async move {
            let value = tokio::select! {
                // The default order is random, which a simulation could not repeat.
                biased;
                value = operation => value,
                () = done.closed() => return,
            };
            let _ = done.send(value);
        });
        let value = result.await.expect("the driver runs");
        self.turn().await;
        value
    }

    /// Wait until the loop has come by once more: it delivers results after it has looked at its descriptors.
    async fn turn(&self) {
        let (token, bell) = self.waiter();
        self.port.ring(token);
        bell.notified().await;
        self.waiters.lock().expect("not poisoned").remove(&token);
    }

    fn waiter(&self) -> (Token, Arc<Notify>) {
        let token = Token(self.next_token.fetch_add(1, Ordering::Relaxed));
        let bell = Arc::new(Notify::new());
        self.waiters.lock().expect("not poisoned").insert(token, bell.clone());
        (token, bell)
    }

    /// Hold up the I/O tasks of this driver until the guard is dropped: what is queued meanwhile stays queued.
    pub async fn pause(&self) -> Paused {
        let (resume, resumed) = mpsc::channel::<()>();
        let (holds, held) = oneshot::channel();
        self.driver.spawn(async move {
            let _ = holds.send(());
            let _ = resumed.recv();
        });
        held.await.expect("the driver runs");
        Paused(resume)
    }

    /// End the loop's thread; nothing is resolved, and with the loop driver nothing is driven any more.
    pub fn stop(&self) {
        self.stop.store(true, Ordering::SeqCst);
        self.port.signal();
        if let Some(thread) = self.thread.lock().expect("not poisoned").take() {
            let _ = thread.join();
        }
    }

    /// Waiters that have not left.
    pub fn waiting(&self) -> usize {
        self.waiters.lock().expect("not poisoned").len()
    }
}

impl Drop for EventLoop {
    fn drop(&mut self) {
        self.stop();
    }
}

/// Guard of [`EventLoop::pause`].
pub struct Paused(#[expect(dead_code, reason = "its end is the message")] mpsc::Sender<()>);

/// A place in a queue, given up when it is dropped: also when the waiting test is cancelled.
struct Ticket<'a> {
    event_loop: &'a EventLoop,
    point: &'a dyn WaitPoint,
    token: Token,
    bell: Arc<Notify>,
}

impl Drop for Ticket<'_> {
    fn drop(&mut self) {
        self.point.queue().leave(&self.event_loop.port, self.token);
        self.event_loop
            .waiters
            .lock()
            .expect("not poisoned")
            .remove(&self.token);
    }
}

/// Wakes a loop that is a task.
#[derive(Debug)]
struct Bell(Arc<Notify>);

impl Wake for Bell {
    fn wake(&self) {
        self.0.notify_one();
    }
    fn acknowledge(&self) {}
    fn descriptor(&self) -> i64 {
        -1
    }
}

/// What the loop's thread works with.
struct Turns {
    wake: i64,
    port: Arc<Port>,
    driver: Option<Arc<LoopDriver>>,
    waiters: Arc<Mutex<HashMap<Token, Arc<Notify>>>>,
    stop: Arc<AtomicBool>,
}

impl Turns {
    fn run(self) {
        let mut sockets: Vec<Descriptor> = Vec::new();
        let mut tokens = Vec::new();
        while !self.stop.load(Ordering::SeqCst) {
            self.wait(&sockets);
            if let Some(driver) = &self.driver {
                self.port.hold();
                driver.drive();
                self.port.take(&mut tokens);
                if driver.has_work() {
                    self.port.signal();
                }
                if let Some(descriptors) = driver.descriptors() {
                    let unused = descriptors.iter().any(|descriptor| descriptor.unused);
                    sockets = descriptors;
                    sockets.retain(|descriptor| !descriptor.unused);
                    if unused {
                        driver.release_unused();
                    }
                }
            } else {
                self.port.take(&mut tokens);
            }
            self.deliver(&mut tokens);
        }
        if let Some(driver) = &self.driver {
            driver.close();
        }
    }

    fn deliver(&self, tokens: &mut Vec<Token>) {
        let waiters = self.waiters.lock().expect("not poisoned");
        for token in tokens.drain(..) {
            if let Some(bell) = waiters.get(&token) {
                bell.notify_one();
            }
        }
    }

    fn wait(&self, sockets: &[Descriptor]) {
        let mut watched = vec![PollFd::from_borrowed_fd(borrow(self.wake), PollFlags::IN)];
        if let Some(driver) = &self.driver {
            watched.push(PollFd::from_borrowed_fd(
                borrow(driver.timer_descriptor()),
                PollFlags::IN,
            ));
            watched.extend(sockets.iter().map(|socket| {
                let write = if socket.wants_write {
                    PollFlags::OUT
                } else {
                    PollFlags::empty()
                };
                PollFd::from_borrowed_fd(borrow(socket.fd), PollFlags::IN | write)
            }));
        }
        poll(&mut watched, None).expect("the descriptors are open");
        let fired: Vec<bool> = watched.iter().map(|fd| !fd.revents().is_empty()).collect();
        if fired[0] {
            self.port.acknowledge();
        }
        if let Some(driver) = &self.driver {
            if fired[1] {
                driver.on_timer();
            }
            if fired[2..].contains(&true) {
                driver.on_socket();
            }
        }
    }
}

#[expect(unsafe_code, reason = "wt-io hands out descriptors as numbers")]
fn borrow<'a>(descriptor: i64) -> BorrowedFd<'a> {
    // SAFETY: the port owns the wake, the driver the timer, and a socket stays open until `release_unused`, which is called
    // only after it has left the watched list. All of them outlive the `poll` that this is for.
    unsafe { BorrowedFd::borrow_raw(descriptor as i32) }
}
