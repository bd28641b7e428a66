//! The loop driver: I/O tasks run on the event loop's own thread.
//!
//! Theory of operation. Tasks, timers and sockets are quinn's, through its `Runtime` trait. A task that is woken goes into
//! `queue` and the port is signalled, so that the loop comes by; [`LoopDriver::drive`] runs the queue on the loop's thread
//! within a time budget. The binding drives when the wake descriptor, a socket or the timer became readable, and (adaptive
//! rule) right after the first operation of a loop turn, so that a single request leaves at once, and once at the end of
//! the turn for all the others. A turn that takes long is as several: answers do not wait for handlers that compute.
//!
//! No Python code runs inside a drive, and a drive is never entered twice. Wakes may come from any thread (name resolution
//! has threads of its own), polls happen on the loop's thread and, while user code blocks that, on the thread of the
//! stand-in (`stand_in.rs`).
//!
//! Sockets are watched by the event loop, not here: the binding asks for [`LoopDriver::descriptors`] and registers them.
//! The timer is a timerfd, because asyncio rounds its own timers up to milliseconds and quinn paces in less.

use std::{
    collections::BTreeMap,
    future::Future,
    io::{self, IoSliceMut},
    pin::Pin,
    sync::{
        Arc, Weak,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    task::{Context, Poll, Waker},
    time::{Duration, Instant},
};

use parking_lot::Mutex;
use quinn::{
    AsyncTimer, AsyncUdpSocket, Runtime, UdpPoller,
    udp::{RecvMeta, Transmit},
};
use quinn_udp::UdpSocketState;

use super::{
    Driver, DriverKind, Host,
    executor::Executor,
    stand_in::{Ready, StandIn},
};
use crate::bridge::port::Port;

/// How long one drive may run before other callbacks of the loop get their turn. Without a limit one drive ran 24-68 ms
/// under a flood and timers were 19 ms late; with 250 us they are 0.03 ms late at p50 (performance.md 3).
const DRIVE_BUDGET: Duration = Duration::from_micros(250);

/// A gap between the wish to drive and the drive that is counted and told: user code blocked the loop. As long as the peer
/// waits for an acknowledgement (max_ack_delay, RFC 9000 section 18.2).
const LATE_DRIVE: Duration = Duration::from_millis(25);

/// A drive so long ago no longer holds back the next operation's. A handler of a millisecond has its answer sent at once,
/// while 50 echoes of 14 us each still leave in two drives.
const LONG_TURN: Duration = Duration::from_micros(500);

/// Bound of the work at the end of a process: 64 drives of 250 us are 16 ms.
const LAST_DRIVES: usize = 64;

/// Loop drivers of the process, for the end of it.
static DRIVERS: Mutex<Vec<Weak<LoopDriver>>> = Mutex::new(Vec::new());

/// Runs I/O tasks on one event loop's thread.
#[derive(Debug)]
pub struct LoopDriver {
    port: Arc<Port>,
    executor: Arc<Executor>,
    state: Arc<DriveState>,
    timers: Mutex<Timers>,
    sockets: Mutex<Vec<Arc<LoopSocket>>>,
    /// The answer of `descriptors` may have changed.
    watch_changed: AtomicBool,
    alarm: Alarm,
    stand_in: StandIn,
    next_timer: AtomicU64,
    /// The longest gap that nobody has been told of, in microseconds.
    untold_gap_us: AtomicU64,
}

#[derive(Debug, Default)]
struct DriveState {
    /// Held by who drives.
    driving: Mutex<()>,
    /// Times that the event loop came to drive.
    turns: AtomicU64,
    /// When the last drive ended.
    driven_at: Mutex<Option<Instant>>,
    /// Since when the event loop has left something ready, if the stand-in has begun.
    blocked_since: Mutex<Option<Instant>>,
    /// When the first task of the batch that waits for a drive became runnable.
    since: Mutex<Option<Instant>>,
}

#[derive(Debug, Default)]
struct Timers {
    waiting: BTreeMap<(Instant, u64), Waker>,
    armed: Option<Instant>,
}

/// What the event loop has to watch for one socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Descriptor {
    /// The file descriptor.
    pub fd: i64,
    /// Watch for writability too: a send was refused.
    pub wants_write: bool,
    /// Nobody uses the socket any more: stop watching, then call [`LoopDriver::release_unused`].
    pub unused: bool,
}

impl LoopDriver {
    /// A driver for the loop behind `port`; an error where the platform has no timer descriptor.
    pub fn new(port: Arc<Port>) -> io::Result<Arc<Self>> {
        let state = Arc::<DriveState>::default();
        let executor = {
            let (port, state) = (port.clone(), state.clone());
            Executor::new(move |is_first| {
                if is_first && !state.driving.is_locked() {
                    *state.since.lock() = Some(Instant::now());
                }
                port.signal();
            })
        };
        let driver = Arc::new(Self {
            port,
            executor,
            state,
            timers: Mutex::default(),
            sockets: Mutex::default(),
            watch_changed: AtomicBool::new(false),
            alarm: Alarm::new()?,
            stand_in: StandIn::new()?,
            next_timer: AtomicU64::new(0),
            untold_gap_us: AtomicU64::new(0),
        });
        driver.stand_in.watch().timer(&driver.alarm);
        driver.stand_in.start(Arc::downgrade(&driver))?;
        let mut drivers = DRIVERS.lock();
        drivers.retain(|driver| driver.strong_count() > 0);
        drivers.push(Arc::downgrade(&driver));
        Ok(driver)
    }

    /// At the end of the process, when no loop runs any more: carry out what was asked last, such as close packets.
    pub fn drive_all() {
        let drivers: Vec<_> = DRIVERS.lock().iter().filter_map(Weak::upgrade).collect();
        for driver in drivers {
            driver.finish();
        }
    }

    /// When the event loop will not come any more: carry out what was asked last. The stand-in ends here, too.
    pub fn finish(&self) {
        self.stand_in.stop();
        // Each drive ends within its budget; a close takes a few turns through endpoint and connection.
        for _ in 0..LAST_DRIVES {
            self.drive();
            if !self.has_work() {
                break;
            }
        }
    }

    /// In a forked child: forget the parent's drivers.
    pub fn forget_after_fork() {
        if let Some(mut drivers) = DRIVERS.try_lock() {
            drivers.clear();
        }
    }

    /// The handle that io code uses.
    pub fn driver(self: &Arc<Self>) -> Driver {
        Driver::new(DriverKind::Loop, Arc::new(LoopRuntime(self.clone())))
    }

    /// Run what is runnable, for at most the time budget; the port's flag should be held meanwhile. Does nothing while the
    /// stand-in drives.
    pub fn drive(&self) {
        self.state.turns.fetch_add(1, Ordering::Relaxed);
        if let Some(driving) = self.state.driving.try_lock() {
            if let Some(since) = self.state.blocked_since.lock().take() {
                self.watch_gap(since.elapsed());
            }
            self.run();
            drop(driving);
        }
    }

    /// Whether the last drive was so long ago that the next operation should be driven at once, if only this is not the
    /// first of its turn anyway.
    pub fn is_due(&self) -> bool {
        let driven_at = *self.state.driven_at.lock();
        driven_at.is_none_or(|at| at.elapsed() > LONG_TURN)
    }

    /// Times that the event loop came to drive.
    pub(super) fn turns(&self) -> u64 {
        self.state.turns.load(Ordering::Relaxed)
    }

    /// Drive in place of the event loop, which has left something ready since then. Whether there is more to do; None: the
    /// loop drives.
    pub(super) fn stand_in(&self, ready: Ready, since: Instant) -> Option<bool> {
        let driving = self.state.driving.try_lock()?;
        if self.state.blocked_since.lock().replace(since) != Some(since) {
            self.port.stats.stand_ins.add(1);
        }
        if ready.socket {
            self.on_socket();
        }
        if ready.timer {
            self.on_timer();
        }
        self.run();
        drop(driving);
        // A loop that is alive again comes by and takes over, also when there is nothing left to read.
        self.port.signal();
        Some(self.has_work())
    }

    /// Let the stand-in watch what it has seen an event of, once more.
    pub(super) fn watch_again(&self) {
        let watch = self.stand_in.watch();
        watch.timer(&self.alarm);
        // Nobody reads what comes for one that is not used any more, it would stay ready.
        for socket in self.sockets.lock().iter().filter(|socket| !socket.is_unused()) {
            watch.socket(&socket.io, !socket.writers.lock().is_empty());
        }
    }

    fn run(&self) {
        let started = Instant::now();
        if let Some(since) = self.state.since.lock().take() {
            self.watch_gap(started.saturating_duration_since(since));
        }
        self.port.stats.drives.add(1);
        let mut now = started;
        while self.executor.run_one() {
            now = Instant::now();
            if now.duration_since(started) > DRIVE_BUDGET {
                self.port.stats.drive_cuts.add(1);
                break;
            }
        }
        self.port
            .stats
            .longest_drive_us
            .max(now.duration_since(started).as_micros() as u64);
        *self.state.driven_at.lock() = Some(now);
        self.arm();
    }

    fn watch_gap(&self, gap: Duration) {
        if gap > LATE_DRIVE {
            let gap = gap.as_micros() as u64;
            self.port.stats.late_drives.add(1);
            self.port.stats.longest_gap_us.max(gap);
            self.untold_gap_us.fetch_max(gap, Ordering::Relaxed);
        }
    }

    /// The longest time for which the event loop was blocked since the last call, if it was.
    pub fn take_gap(&self) -> Option<Duration> {
        // Mostly there is none: a look is cheaper than a change.
        if self.untold_gap_us.load(Ordering::Relaxed) == 0 {
            return None;
        }
        Some(Duration::from_micros(self.untold_gap_us.swap(0, Ordering::Relaxed)))
    }

    /// Whether tasks are left to run: the caller then signals the port again.
    pub fn has_work(&self) -> bool {
        self.executor.has_work()
    }

    /// The timer descriptor fired: wake what is due. Drive afterwards.
    pub fn on_timer(&self) {
        self.alarm.acknowledge();
        let now = Instant::now();
        let mut due = Vec::new();
        {
            let mut timers = self.timers.lock();
            if let Some(armed) = timers.armed.take() {
                self.watch_gap(now.saturating_duration_since(armed));
            }
            let later = timers.waiting.split_off(&(now, u64::MAX));
            due.extend(std::mem::replace(&mut timers.waiting, later).into_values());
        }
        due.into_iter().for_each(Waker::wake);
    }

    /// A socket became readable or writable: wake its tasks. Drive afterwards.
    pub fn on_socket(&self) {
        for socket in &*self.sockets.lock() {
            socket.wake_readers();
            socket.wake_writers();
        }
    }

    /// The timer's descriptor.
    pub fn timer_descriptor(&self) -> i64 {
        self.alarm.descriptor()
    }

    /// What to watch, if that may have changed since the last call.
    pub fn descriptors(&self) -> Option<Vec<Descriptor>> {
        if !self.watch_changed.swap(false, Ordering::AcqRel) {
            return None;
        }
        Some(self.sockets.lock().iter().map(|socket| socket.watch()).collect())
    }

    /// Close the sockets that nobody uses any more. They are kept until the event loop no longer watches their descriptors,
    /// which the system would reuse.
    pub fn release_unused(&self) {
        self.sockets.lock().retain(|socket| !socket.is_unused());
    }

    /// Drop all tasks: the loop is closed and nothing will be driven again. Call it once more when the last handle goes.
    pub fn close(&self) {
        self.stand_in.stop();
        // The tasks that wait for a timer wake as their timers go.
        self.executor.close();
        let timers = std::mem::take(&mut self.timers.lock().waiting);
        drop(timers);
        self.executor.close();
        self.sockets.lock().clear();
    }

    /// Set the timer descriptor if something is due before what it is set for. It may fire early, never late.
    fn arm(&self) {
        let mut timers = self.timers.lock();
        let Some((&(first, _), _)) = timers.waiting.first_key_value() else {
            return;
        };
        if timers.armed.is_none_or(|armed| first < armed) {
            timers.armed = Some(first);
            self.alarm.set(first.saturating_duration_since(Instant::now()));
        }
    }
}

#[derive(Debug)]
struct LoopRuntime(Arc<LoopDriver>);

impl Host for LoopRuntime {}

impl Runtime for LoopRuntime {
    fn new_timer(&self, at: Instant) -> Pin<Box<dyn AsyncTimer>> {
        let id = self.0.next_timer.fetch_add(1, Ordering::Relaxed);
        Box::pin(LoopTimer {
            driver: self.0.clone(),
            at,
            id,
            waiting: false,
        })
    }

    fn spawn(&self, future: Pin<Box<dyn Future<Output = ()> + Send>>) {
        self.0.executor.spawn(future);
    }

    fn wrap_udp_socket(&self, socket: std::net::UdpSocket) -> io::Result<Arc<dyn AsyncUdpSocket>> {
        let state = UdpSocketState::new((&socket).into())?;
        let socket = Arc::new(LoopSocket {
            io: socket,
            state,
            refused: AtomicBool::new(false),
            unused: AtomicBool::new(false),
            drained: AtomicBool::new(false),
            reader: Mutex::new(None),
            writers: Mutex::default(),
            driver: Arc::downgrade(&self.0),
        });
        self.0.stand_in.watch().socket(&socket.io, false);
        let mut sockets = self.0.sockets.lock();
        sockets.push(socket.clone());
        drop(sockets);
        self.0.watch_changed.store(true, Ordering::Release);
        self.0.port.signal();
        Ok(Arc::new(LoopHandle(socket)))
    }
}

#[derive(Debug)]
struct LoopTimer {
    driver: Arc<LoopDriver>,
    at: Instant,
    id: u64,
    waiting: bool,
}

impl LoopTimer {
    fn forget(&mut self) {
        if std::mem::take(&mut self.waiting) {
            self.driver.timers.lock().waiting.remove(&(self.at, self.id));
        }
    }
}

impl AsyncTimer for LoopTimer {
    fn reset(mut self: Pin<&mut Self>, at: Instant) {
        self.forget();
        self.at = at;
    }

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        if Instant::now() >= self.at {
            self.forget();
            return Poll::Ready(());
        }
        self.waiting = true;
        self.driver
            .timers
            .lock()
            .waiting
            .insert((self.at, self.id), cx.waker().clone());
        Poll::Pending
    }
}

impl Drop for LoopTimer {
    fn drop(&mut self) {
        self.forget();
    }
}

#[derive(Debug)]
struct LoopSocket {
    io: std::net::UdpSocket,
    state: UdpSocketState,
    /// The last send was refused.
    refused: AtomicBool,
    /// Nobody holds a handle any more.
    unused: AtomicBool,
    /// The last read took everything: nothing to read until the event loop says so (it watches level-triggered).
    drained: AtomicBool,
    /// quinn reads one socket from one task.
    reader: Mutex<Option<Waker>>,
    /// Every connection may wait for room to send.
    writers: Mutex<Vec<Waker>>,
    driver: Weak<LoopDriver>,
}

impl LoopSocket {
    fn wake_readers(&self) {
        self.drained.store(false, Ordering::Relaxed);
        if let Some(waker) = self.reader.lock().take() {
            waker.wake();
        }
    }

    fn wake_writers(&self) {
        let writers = std::mem::take(&mut *self.writers.lock());
        if !writers.is_empty() {
            self.refused.store(false, Ordering::Relaxed);
            self.watch_changed();
            writers.into_iter().for_each(Waker::wake);
        }
    }

    fn watch_changed(&self) {
        if let Some(driver) = self.driver.upgrade() {
            driver.watch_changed.store(true, Ordering::Release);
        }
    }

    fn is_unused(&self) -> bool {
        self.unused.load(Ordering::Acquire)
    }

    fn watch(&self) -> Descriptor {
        #[cfg(unix)]
        let fd = i64::from(std::os::fd::AsRawFd::as_raw_fd(&self.io));
        #[cfg(windows)]
        let fd = std::os::windows::io::AsRawSocket::as_raw_socket(&self.io) as i64;
        Descriptor {
            fd,
            wants_write: !self.writers.lock().is_empty(),
            unused: self.is_unused(),
        }
    }
}

/// What quinn holds of a socket. With the last one the socket is unused, and the event loop learns it.
#[derive(Debug)]
struct LoopHandle(Arc<LoopSocket>);

impl Drop for LoopHandle {
    fn drop(&mut self) {
        self.0.unused.store(true, Ordering::Release);
        if let Some(driver) = self.0.driver.upgrade() {
            driver.watch_changed.store(true, Ordering::Release);
            driver.port.signal();
        }
    }
}

impl AsyncUdpSocket for LoopHandle {
    fn create_io_poller(self: Arc<Self>) -> Pin<Box<dyn UdpPoller>> {
        Box::pin(LoopPoller(self))
    }

    fn try_send(&self, transmit: &Transmit<'_>) -> io::Result<()> {
        // `send`, not `try_send`: quinn gives a connection up at any error but WouldBlock, and a packet that the system refuses
        // (no route for now, an MTU probe that is too large) is no more than a lost one.
        let LoopSocket { io, state, refused, .. } = &*self.0;
        let sent = state.send(io.into(), transmit);
        if sent.is_err() {
            refused.store(true, Ordering::Relaxed);
        }
        sent
    }

    fn poll_recv(
        &self,
        cx: &mut Context<'_>,
        buffers: &mut [IoSliceMut<'_>],
        meta: &mut [RecvMeta],
    ) -> Poll<io::Result<usize>> {
        let LoopSocket {
            io,
            state,
            drained,
            reader,
            ..
        } = &*self.0;
        if !drained.load(Ordering::Relaxed) {
            match state.recv(io.into(), buffers, meta) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                result => {
                    // A batch that is not full was the last one: saves the call that would only say "would block".
                    let last = result.as_ref().is_ok_and(|count| *count < buffers.len());
                    drained.store(last, Ordering::Relaxed);
                    return Poll::Ready(result);
                }
            }
        }
        *reader.lock() = Some(cx.waker().clone());
        Poll::Pending
    }

    fn local_addr(&self) -> io::Result<std::net::SocketAddr> {
        self.0.io.local_addr()
    }

    fn max_transmit_segments(&self) -> usize {
        self.0.state.max_gso_segments()
    }

    fn max_receive_segments(&self) -> usize {
        self.0.state.gro_segments()
    }

    fn may_fragment(&self) -> bool {
        self.0.state.may_fragment()
    }
}

/// quinn asks before every packet; there is nothing to wait for unless the last one was refused.
#[derive(Debug)]
struct LoopPoller(Arc<LoopHandle>);

impl UdpPoller for LoopPoller {
    fn poll_writable(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let socket = &self.0.0;
        if !socket.refused.load(Ordering::Relaxed) {
            return Poll::Ready(Ok(()));
        }
        #[cfg(unix)]
        {
            use rustix::event::{PollFd, PollFlags, Timespec, poll};
            let mut fds = [PollFd::new(&socket.io, PollFlags::OUT)];
            if poll(&mut fds, Some(&Timespec { tv_sec: 0, tv_nsec: 0 })).is_ok_and(|ready| ready > 0) {
                socket.refused.store(false, Ordering::Relaxed);
                return Poll::Ready(Ok(()));
            }
        }
        socket.writers.lock().push(cx.waker().clone());
        socket.watch_changed();
        Poll::Pending
    }
}

/// The timer descriptor of a loop driver.
#[cfg(any(target_os = "linux", target_os = "android"))]
#[derive(Debug)]
struct Alarm(std::os::fd::OwnedFd);

#[cfg(any(target_os = "linux", target_os = "android"))]
impl Alarm {
    fn new() -> io::Result<Self> {
        use rustix::time::{TimerfdClockId, TimerfdFlags, timerfd_create};
        Ok(Self(timerfd_create(
            TimerfdClockId::Monotonic,
            TimerfdFlags::CLOEXEC | TimerfdFlags::NONBLOCK,
        )?))
    }

    fn set(&self, after: Duration) {
        use rustix::time::{Itimerspec, TimerfdTimerFlags, Timespec, timerfd_settime};
        // Zero would disarm the timer.
        let after = after.max(Duration::from_micros(1));
        let at = Timespec {
            tv_sec: after.as_secs() as i64,
            tv_nsec: after.subsec_nanos().into(),
        };
        let once = Itimerspec {
            it_interval: Timespec { tv_sec: 0, tv_nsec: 0 },
            it_value: at,
        };
        let _ = timerfd_settime(&self.0, TimerfdTimerFlags::empty(), &once);
    }

    fn acknowledge(&self) {
        let mut expirations = [0; 8];
        let _ = rustix::io::read(&self.0, &mut expirations);
    }

    fn descriptor(&self) -> i64 {
        std::os::fd::AsRawFd::as_raw_fd(&self.0).into()
    }
}

#[cfg(any(target_os = "linux", target_os = "android"))]
impl std::os::fd::AsFd for Alarm {
    fn as_fd(&self) -> std::os::fd::BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// Without a timer descriptor there is no loop driver: the driver "loop" becomes "thread".
#[cfg(not(any(target_os = "linux", target_os = "android")))]
#[derive(Debug)]
struct Alarm;

#[cfg(not(any(target_os = "linux", target_os = "android")))]
impl Alarm {
    fn new() -> io::Result<Self> {
        Err(io::ErrorKind::Unsupported.into())
    }
    fn set(&self, _after: Duration) {}
    fn acknowledge(&self) {}
    fn descriptor(&self) -> i64 {
        -1
    }
}
