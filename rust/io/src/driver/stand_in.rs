//! The stand-in: a thread that runs the loop driver's tasks while user code blocks the event loop.
//!
//! Without it a handler that computes delays acknowledgements, and whatever else needs no Python, and one that computes
//! for longer than the idle timeout loses its sessions.
//!
//! Theory of operation. The thread watches the descriptors that the event loop watches, each until its first event. It
//! then gives the loop [`PATIENCE`]: one that has driven since the watching began is alive, and the thread watches again.
//! Otherwise it drives in the loop's place whenever a descriptor is ready, until the loop drives again. So it wakes no more
//! often than once in [`PATIENCE`] while packets come and the loop is alive, and never while nothing comes.
//!
//! Like the I/O thread it never touches Python: what becomes ready for the application is rung at the port and waits.

use std::{
    io,
    sync::{Arc, Weak},
    thread::JoinHandle,
    time::{Duration, Instant},
};

use parking_lot::Mutex;

use super::event_loop::LoopDriver;

/// How long the event loop may leave something ready. Less than max_ack_delay (25 ms, RFC 9000 section 18.2), so that
/// peers do not probe; more than the callbacks of a healthy loop's turn take.
const PATIENCE: Duration = Duration::from_millis(10);

/// What a descriptor tells.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Ready {
    /// The timer fired.
    pub(super) timer: bool,
    /// A socket became readable or writable.
    pub(super) socket: bool,
}

/// The thread of one loop driver.
#[derive(Debug)]
pub(super) struct StandIn {
    watch: Arc<Watch>,
    thread: Mutex<Option<JoinHandle<()>>>,
    /// The process that has the thread: a forked child shares the bell.
    process: u32,
}

impl StandIn {
    pub(super) fn new() -> io::Result<Self> {
        Ok(Self {
            watch: Arc::new(Watch::new()?),
            thread: Mutex::new(None),
            process: std::process::id(),
        })
    }

    pub(super) fn start(&self, driver: Weak<LoopDriver>) -> io::Result<()> {
        let watch = self.watch.clone();
        let thread = std::thread::Builder::new()
            .name("pywebtransport-stand-in".into())
            .spawn(move || run(&watch, &driver))?;
        *self.thread.lock() = Some(thread);
        Ok(())
    }

    /// What it watches with.
    pub(super) fn watch(&self) -> &Watch {
        &self.watch
    }

    /// Stop the thread and wait for it, which takes no longer than a drive.
    pub(super) fn stop(&self) {
        self.watch.stop();
        let thread = self.thread.lock().take();
        if let Some(thread) = thread {
            let _ = thread.join();
        }
    }
}

impl Drop for StandIn {
    fn drop(&mut self) {
        // Not joined here: it may be the thread itself that gives up the last handle of the driver.
        if self.process == std::process::id() {
            self.watch.stop();
        }
    }
}

fn run(watch: &Watch, driver: &Weak<LoopDriver>) {
    // Looked up before the descriptors are watched: a loop that sees to an event has another turn than this.
    let mut turns = 0;
    while let Some(mut ready) = watch.wait() {
        let noticed = Instant::now();
        if watch.is_stopped_within(PATIENCE) {
            return;
        }
        loop {
            let Some(driver) = driver.upgrade() else { return };
            let turns_now = driver.turns();
            let is_blocked = turns_now == turns;
            let drive = is_blocked.then(|| driver.stand_in(ready, noticed)).flatten();
            driver.watch_again();
            drop(driver);
            ready = match drive {
                None => {
                    turns = turns_now;
                    break;
                }
                // A drive that its budget cut short goes on at once.
                Some(has_more) if has_more && !watch.is_stopped_within(Duration::ZERO) => Ready::default(),
                Some(_) => match watch.wait() {
                    Some(ready) => ready,
                    None => return,
                },
            };
        }
    }
}

/// Descriptors that are watched until their first event, and a bell that ends the watching.
#[cfg(any(target_os = "linux", target_os = "android"))]
#[derive(Debug)]
pub(super) struct Watch {
    epoll: std::os::fd::OwnedFd,
    bell: std::os::fd::OwnedFd,
}

#[cfg(any(target_os = "linux", target_os = "android"))]
mod epoll_watch {
    use std::{io, os::fd::AsFd, time::Duration};

    use rustix::{
        buffer::spare_capacity,
        event::{
            EventfdFlags, PollFd, PollFlags, Timespec,
            epoll::{self, CreateFlags, EventData, EventFlags},
            eventfd, poll,
        },
        io::{retry_on_intr, write},
    };

    use super::{Ready, Watch};

    const BELL: EventData = EventData::new_u64(0);
    const TIMER: EventData = EventData::new_u64(1);
    const SOCKET: EventData = EventData::new_u64(2);

    impl Watch {
        pub(super) fn new() -> io::Result<Self> {
            let watch = Self {
                epoll: epoll::create(CreateFlags::CLOEXEC)?,
                bell: eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?,
            };
            epoll::add(&watch.epoll, &watch.bell, BELL, EventFlags::IN)?;
            Ok(watch)
        }

        /// Watch the timer until it fires.
        pub(in super::super) fn timer(&self, timer: impl AsFd) {
            self.once(timer, TIMER, EventFlags::IN);
        }

        /// Watch a socket until it is readable, or writable.
        pub(in super::super) fn socket(&self, socket: impl AsFd, for_writing: bool) {
            let flags = if for_writing {
                EventFlags::IN | EventFlags::OUT
            } else {
                EventFlags::IN
            };
            self.once(socket, SOCKET, flags);
        }

        /// What cannot be watched is left to the event loop.
        fn once(&self, source: impl AsFd, data: EventData, flags: EventFlags) {
            let flags = flags | EventFlags::ONESHOT;
            if epoll::modify(&self.epoll, &source, data, flags).is_err() {
                let _ = epoll::add(&self.epoll, &source, data, flags);
            }
        }

        /// Wait for an event; None: stop.
        pub(super) fn wait(&self) -> Option<Ready> {
            let mut events = Vec::with_capacity(8);
            retry_on_intr(|| epoll::wait(&self.epoll, spare_capacity(&mut events), None)).ok()?;
            let told = |data| events.iter().any(|event| { event.data } == data);
            (!told(BELL)).then(|| Ready {
                timer: told(TIMER),
                socket: told(SOCKET),
            })
        }

        /// Wait for so long, or for the end.
        pub(super) fn is_stopped_within(&self, time: Duration) -> bool {
            let time = Timespec {
                tv_sec: time.as_secs() as i64,
                tv_nsec: time.subsec_nanos().into(),
            };
            // A signal shortens it, which does no harm.
            poll(&mut [PollFd::new(&self.bell, PollFlags::IN)], Some(&time)).is_ok_and(|events| events > 0)
        }

        pub(super) fn stop(&self) {
            let _ = retry_on_intr(|| write(&self.bell, &1u64.to_ne_bytes()));
        }
    }
}

/// Without a timer descriptor there is no loop driver to stand in for.
#[cfg(not(any(target_os = "linux", target_os = "android")))]
#[derive(Debug)]
pub(super) struct Watch;

#[cfg(not(any(target_os = "linux", target_os = "android")))]
impl Watch {
    fn new() -> io::Result<Self> {
        Err(io::ErrorKind::Unsupported.into())
    }
    pub(super) fn timer<T>(&self, _timer: T) {}
    pub(super) fn socket<T>(&self, _socket: T, _for_writing: bool) {}
    fn wait(&self) -> Option<Ready> {
        None
    }
    fn is_stopped_within(&self, _time: Duration) -> bool {
        true
    }
    fn stop(&self) {}
}
