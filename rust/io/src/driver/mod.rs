//! Who runs the I/O tasks: a thread of its own, or the event loop's thread.
//!
//! Everything in this crate asks its [`Driver`] for tasks, timers, sockets and the time and never calls tokio's spawn or
//! timers, or the system's clock, itself; that is what makes the two interchangeable, and what lets `tests/sim` put a
//! simulated network and a virtual clock below the same code. The trait behind it is [`Host`], quinn's own `Runtime` and
//! what quinn takes from the system without asking it.

pub mod event_loop;
mod executor;
mod stand_in;
pub mod thread;

use std::{
    fmt::Debug,
    future::Future,
    io,
    net::SocketAddr,
    pin::{Pin, pin},
    sync::Arc,
    task::{Context, Poll, Waker},
    time::{Duration, Instant},
};

use pin_project_lite::pin_project;
use quinn::{AsyncTimer, AsyncUdpSocket, Runtime};

use crate::{
    config::LONGEST_TIMER,
    endpoint::{self, Bound},
};

/// Where a driver's tasks live: quinn's runtime, with its sockets and its randomness.
pub trait Host: Runtime {
    /// A UDP socket bound to `address`; `dual_stack` lets an IPv6 socket carry IPv4 too.
    fn bind(&self, address: SocketAddr, dual_stack: bool) -> io::Result<Bound> {
        let (socket, buffers) = endpoint::socket(address, dual_stack)?;
        let socket = self.wrap_udp_socket(socket)?;
        Ok(Bound { socket, buffers })
    }

    /// What an endpoint's random choices start from; None: the system's entropy.
    fn rng_seed(&self) -> Option<[u8; 32]> {
        None
    }
}

/// The two ways of running I/O.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DriverKind {
    /// quinn is polled on the event loop's own thread: half the round-trip time. While user code blocks that, a thread
    /// stands in for it.
    Loop,
    /// quinn runs on the I/O thread: it leaves more of a busy loop to user code, for two cross-thread wakes per round trip.
    Thread,
}

impl DriverKind {
    /// The name used in configurations.
    pub fn name(self) -> &'static str {
        match self {
            Self::Loop => "loop",
            Self::Thread => "thread",
        }
    }
}

/// A handle on one driver; cheap to clone.
#[derive(Debug, Clone)]
pub struct Driver {
    kind: DriverKind,
    host: Arc<dyn Host>,
}

impl Driver {
    pub(crate) fn new(kind: DriverKind, host: Arc<dyn Host>) -> Self {
        Self { kind, host }
    }

    /// A driver on a host of the caller's making, for simulations. As with the I/O thread, the tasks are none of the event
    /// loop's business.
    pub fn on(host: Arc<dyn Host>) -> Self {
        Self::new(DriverKind::Thread, host)
    }

    /// Which of the two this is.
    pub fn kind(&self) -> DriverKind {
        self.kind
    }

    /// Run a future to its end in the background.
    pub fn spawn(&self, future: impl Future<Output = ()> + Send + 'static) {
        self.host.spawn(Box::pin(future));
    }

    /// The time by the clock that the timers go by.
    pub fn now(&self) -> Instant {
        self.host.now()
    }

    /// A timer that fires once, `after` from now.
    pub fn sleep(&self, after: Duration) -> Sleep {
        Sleep(self.host.new_timer(self.now() + after.min(LONGEST_TIMER)))
    }

    /// `future`, or None when it takes longer than `limit`.
    pub fn timeout<F: Future>(&self, limit: Duration, future: F) -> Timeout<F> {
        Timeout {
            first: select(future, self.sleep(limit)),
        }
    }

    /// A socket bound to `address`, watched by this driver.
    pub(crate) fn bind(&self, address: SocketAddr, dual_stack: bool) -> io::Result<Bound> {
        self.host.bind(address, dual_stack)
    }

    /// A quinn endpoint on `socket`, driven by this driver.
    pub(crate) fn endpoint(
        &self,
        socket: Arc<dyn AsyncUdpSocket>,
        server: Option<quinn::ServerConfig>,
        mut config: quinn::EndpointConfig,
    ) -> io::Result<quinn::Endpoint> {
        config.rng_seed(self.host.rng_seed());
        quinn::Endpoint::new_with_abstract_socket(config, server, socket, self.host.clone())
    }
}

/// Future of [`Driver::sleep`].
#[derive(Debug)]
pub struct Sleep(Pin<Box<dyn AsyncTimer>>);

impl Future for Sleep {
    type Output = ();
    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        self.0.as_mut().poll(cx)
    }
}

/// Which of two futures came first.
#[derive(Debug)]
pub enum Either<L, R> {
    /// The first one.
    Left(L),
    /// The second one.
    Right(R),
}

pin_project! {
    /// Future of [`select`]. A type of its own, as an async fn holds what it is given twice, and a select of selects four
    /// times: a session's task was 9 KB.
    #[derive(Debug)]
    #[must_use = "futures do nothing unless they are awaited"]
    pub struct Select<A, B> {
        #[pin]
        left: A,
        #[pin]
        right: B,
    }
}

/// Wait for the first of two futures; the other is dropped with this one. The first wins a tie.
pub fn select<A: Future, B: Future>(left: A, right: B) -> Select<A, B> {
    Select { left, right }
}

impl<A: Future, B: Future> Future for Select<A, B> {
    type Output = Either<A::Output, B::Output>;
    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        if let Poll::Ready(value) = this.left.poll(cx) {
            return Poll::Ready(Either::Left(value));
        }
        this.right.poll(cx).map(Either::Right)
    }
}

pin_project! {
    /// Future of [`Driver::timeout`].
    #[derive(Debug)]
    #[must_use = "futures do nothing unless they are awaited"]
    pub struct Timeout<F> {
        #[pin]
        first: Select<F, Sleep>,
    }
}

impl<F: Future> Future for Timeout<F> {
    type Output = Option<F::Output>;
    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        self.project().first.poll(cx).map(|first| match first {
            Either::Left(value) => Some(value),
            Either::Right(()) => None,
        })
    }
}

/// Poll a future once, without being woken by it; None when it is not ready.
pub(crate) fn now<F: Future>(future: F) -> Option<F::Output> {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(value) => Some(value),
        Poll::Pending => None,
    }
}

/// Poll a future once; None when it is not ready.
pub(crate) async fn poll_once<F: Future>(future: F) -> Option<F::Output> {
    let mut future = std::pin::pin!(future);
    std::future::poll_fn(|cx| {
        Poll::Ready(match future.as_mut().poll(cx) {
            Poll::Ready(value) => Some(value),
            Poll::Pending => None,
        })
    })
    .await
}
