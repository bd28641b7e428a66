//! What the bridge costs, alone: `cargo bench -p wt-io`.
//!
//! `hit` is what an operation pays that need not wait, on either side; `park` what a waiter pays; `wake` is a whole round
//! trip between two threads, which is mostly the kernel's (cross-core, about 45 us each way; 3 us on one core).

use std::hint::black_box;
#[cfg(target_os = "linux")]
use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
};

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use wt_io::bridge::{
    port::{Port, Token},
    ring::WaitQueue,
    wake::os_wake,
};

fn hit(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("hit");
    let (port, queue) = (port(), WaitQueue::default());
    group.bench_function("the producer finds nobody waiting", |bencher| {
        bencher.iter(|| queue.notify_one(black_box(&port)));
    });
    group.bench_function("the consumer finds nobody before it", |bencher| {
        bencher.iter(|| black_box(&queue).has_waiters());
    });
    group.finish();
}

fn park(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("park");
    let (port, queue) = (port(), WaitQueue::default());
    group.bench_function("and leave, never woken", |bencher| {
        bencher.iter(|| {
            queue.park(&port, TOKEN, || false);
            queue.leave(&port, TOKEN);
        });
    });
    // The loop holds the flag while it drives the transport itself: no system call. This is the loop driver's case.
    let mut tokens = Vec::new();
    group.bench_function("woken from the loop's own thread", |bencher| {
        bencher.iter(|| {
            queue.park(&port, TOKEN, || false);
            port.hold();
            queue.notify_one(&port);
            take(&port, &mut tokens);
            queue.leave(&port, TOKEN);
        });
    });
    group.bench_function("woken through the descriptor, same thread", |bencher| {
        bencher.iter(|| {
            queue.park(&port, TOKEN, || false);
            queue.notify_one(&port);
            port.acknowledge();
            take(&port, &mut tokens);
            queue.leave(&port, TOKEN);
        });
    });
    group.finish();
}

fn completion(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("completion");
    let (port, mut tokens) = (port(), Vec::new());
    for count in [1, 64] {
        group.throughput(Throughput::Elements(count));
        group.bench_function(format!("{count} waiters, one wake"), |bencher| {
            bencher.iter(|| {
                for number in 0..count {
                    port.ring(Token(number));
                }
                port.acknowledge();
                take(&port, &mut tokens);
            });
        });
    }
    group.finish();
}

/// Two event loops that do nothing but wake each other.
#[cfg(target_os = "linux")]
fn wake(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("wake");
    let (mut here, mut there) = (event_loop::Loop::new(), event_loop::Loop::new());
    let (to_here, to_there) = (here.port.clone(), there.port.clone());
    let over = Arc::new(AtomicBool::new(false));
    let told = over.clone();
    let echo = thread::spawn(move || {
        loop {
            there.turn();
            if told.load(Ordering::Acquire) {
                break;
            }
            to_here.ring(TOKEN);
        }
    });
    group.bench_function("round trip between two threads", |bencher| {
        bencher.iter(|| {
            to_there.ring(TOKEN);
            here.turn();
        });
    });
    group.finish();
    over.store(true, Ordering::Release);
    to_there.ring(TOKEN);
    echo.join().expect("it does not panic");
}

/// What can be waited for without unsafe code is an eventfd of our own.
#[cfg(not(target_os = "linux"))]
fn wake(_criterion: &mut Criterion) {}

#[cfg(target_os = "linux")]
mod event_loop {
    use std::{
        os::fd::{AsRawFd, OwnedFd},
        sync::Arc,
    };

    use rustix::{
        event::{EventfdFlags, PollFd, PollFlags, eventfd, poll},
        io::{read, retry_on_intr, write},
    };
    use wt_io::bridge::{
        port::{Port, Token},
        wake::Wake,
    };

    /// The same as the library's own, whose descriptor is only a number.
    #[derive(Debug, Clone)]
    struct Descriptor(Arc<OwnedFd>);

    impl Wake for Descriptor {
        fn wake(&self) {
            let _ = retry_on_intr(|| write(&self.0, &1u64.to_ne_bytes()));
        }
        fn acknowledge(&self) {
            let _ = retry_on_intr(|| read(&self.0, &mut [0; 8]));
        }
        fn descriptor(&self) -> i64 {
            self.0.as_raw_fd().into()
        }
    }

    /// An event loop that watches one descriptor.
    pub(crate) struct Loop {
        pub(crate) port: Arc<Port>,
        descriptor: Descriptor,
        tokens: Vec<Token>,
    }

    impl Loop {
        pub(crate) fn new() -> Self {
            let flags = EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK;
            let descriptor = Descriptor(Arc::new(eventfd(0, flags).expect("a descriptor")));
            let port = Arc::new(Port::new(Box::new(descriptor.clone())));
            let tokens = Vec::new();
            Self {
                port,
                descriptor,
                tokens,
            }
        }

        /// Waits for a wake and takes what is ready.
        pub(crate) fn turn(&mut self) {
            let mut watched = [PollFd::new(&*self.descriptor.0, PollFlags::IN)];
            retry_on_intr(|| poll(&mut watched, None)).expect("it can be polled");
            self.port.acknowledge();
            super::take(&self.port, &mut self.tokens);
        }
    }
}

fn port() -> Port {
    Port::new(os_wake().expect("a descriptor"))
}

fn take(port: &Port, tokens: &mut Vec<Token>) {
    port.take(tokens);
    black_box(&*tokens);
    tokens.clear();
}

const TOKEN: Token = Token(7);

criterion_group!(bridge, hit, park, completion, wake);
criterion_main!(bridge);
