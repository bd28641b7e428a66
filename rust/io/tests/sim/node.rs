//! One machine of the world: the [`Host`] below a driver, with its timers and sockets.

use std::{
    future::Future,
    io::{self, IoSliceMut},
    net::{Ipv4Addr, SocketAddr},
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU16, AtomicUsize, Ordering::Relaxed},
    },
    task::{Context, Poll},
    time::Instant,
};

use parking_lot::Mutex;
use quinn::{
    AsyncTimer, AsyncUdpSocket, Runtime, UdpPoller,
    udp::{RecvMeta, Transmit},
};
use wt_io::{
    driver::{Driver, Host},
    endpoint::{Bound, Buffers},
};

use crate::{
    network::{Inbox, Packet},
    random::Random,
    world::World,
};

/// What one `sendmsg` may carry with GSO; Linux takes up to 64.
const SEGMENTS: usize = 10;

#[derive(Debug)]
pub struct Node {
    world: Arc<World>,
    ip: Ipv4Addr,
    next_port: AtomicU16,
    random: Mutex<Random>,
    tasks: Arc<AtomicUsize>,
}

impl Node {
    pub fn new(world: &Arc<World>, ip: Ipv4Addr, random: Random) -> Arc<Self> {
        Arc::new(Self {
            world: world.clone(),
            ip,
            next_port: AtomicU16::new(50_000),
            random: Mutex::new(random),
            tasks: Arc::default(),
        })
    }

    pub fn driver(self: &Arc<Self>) -> Driver {
        Driver::on(self.clone())
    }

    /// Tasks that have not ended.
    pub fn tasks(&self) -> usize {
        self.tasks.load(Relaxed)
    }
}

impl Host for Node {
    fn bind(&self, address: SocketAddr, _dual_stack: bool) -> io::Result<Bound> {
        if address.is_ipv6() {
            return Err(io::ErrorKind::AddrNotAvailable.into());
        }
        let port = match address.port() {
            0 => self.next_port.fetch_add(1, Relaxed),
            port => port,
        };
        let address = SocketAddr::new(self.ip.into(), port);
        let inbox = self.world.network.lock().bind(address)?;
        Ok(Bound {
            socket: Arc::new(Socket {
                world: self.world.clone(),
                address,
                inbox,
            }),
            buffers: Buffers::default(),
        })
    }

    fn rng_seed(&self) -> Option<[u8; 32]> {
        Some(self.random.lock().seed())
    }
}

impl Runtime for Node {
    fn new_timer(&self, at: Instant) -> Pin<Box<dyn AsyncTimer>> {
        Box::pin(Timer {
            world: self.world.clone(),
            id: self.world.new_timer(),
            at,
            is_set: false,
        })
    }

    fn spawn(&self, future: Pin<Box<dyn Future<Output = ()> + Send>>) {
        let alive = Alive::new(&self.tasks);
        self.world.spawn(async move {
            let _alive = alive;
            future.await;
        });
    }

    fn wrap_udp_socket(&self, _socket: std::net::UdpSocket) -> io::Result<Arc<dyn AsyncUdpSocket>> {
        Err(io::Error::other("a real socket has no place in a simulation"))
    }

    fn now(&self) -> Instant {
        self.world.now()
    }
}

/// Counts a task until it is dropped.
struct Alive(Arc<AtomicUsize>);

impl Alive {
    fn new(tasks: &Arc<AtomicUsize>) -> Self {
        tasks.fetch_add(1, Relaxed);
        Self(tasks.clone())
    }
}

impl Drop for Alive {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Relaxed);
    }
}

#[derive(Debug)]
struct Timer {
    world: Arc<World>,
    id: u64,
    at: Instant,
    is_set: bool,
}

impl Timer {
    fn cancel(&mut self) {
        if std::mem::take(&mut self.is_set) {
            self.world.cancel(self.id, self.at);
        }
    }
}

impl AsyncTimer for Timer {
    fn reset(mut self: Pin<&mut Self>, at: Instant) {
        self.cancel();
        self.at = at;
    }

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        if self.world.wait(self.id, self.at, cx.waker()) {
            self.is_set = false;
            return Poll::Ready(());
        }
        self.is_set = true;
        Poll::Pending
    }
}

impl Drop for Timer {
    fn drop(&mut self) {
        self.cancel();
    }
}

#[derive(Debug)]
struct Socket {
    world: Arc<World>,
    address: SocketAddr,
    inbox: Arc<Mutex<Inbox>>,
}

impl AsyncUdpSocket for Socket {
    fn create_io_poller(self: Arc<Self>) -> Pin<Box<dyn UdpPoller>> {
        Box::pin(AlwaysWritable)
    }

    fn try_send(&self, transmit: &Transmit<'_>) -> io::Result<()> {
        let now = self.world.now();
        let mut network = self.world.network.lock();
        for segment in transmit
            .contents
            .chunks(transmit.segment_size.unwrap_or(usize::MAX).max(1))
        {
            network.send(
                now,
                Packet {
                    from: self.address,
                    to: transmit.destination,
                    ecn: transmit.ecn,
                    contents: segment.into(),
                },
            );
        }
        Ok(())
    }

    fn poll_recv(
        &self,
        cx: &mut Context<'_>,
        buffers: &mut [IoSliceMut<'_>],
        meta: &mut [RecvMeta],
    ) -> Poll<io::Result<usize>> {
        let mut inbox = self.inbox.lock();
        let mut count = 0;
        for (buffer, meta) in buffers.iter_mut().zip(meta) {
            let Some(packet) = inbox.packets.pop_front() else { break };
            let len = packet.contents.len();
            buffer[..len].copy_from_slice(&packet.contents);
            *meta = RecvMeta {
                addr: packet.from,
                len,
                stride: len,
                ecn: packet.ecn,
                dst_ip: Some(self.address.ip()),
            };
            count += 1;
        }
        if count > 0 {
            return Poll::Ready(Ok(count));
        }
        inbox.reader = Some(cx.waker().clone());
        Poll::Pending
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        Ok(self.address)
    }

    fn max_transmit_segments(&self) -> usize {
        SEGMENTS
    }

    fn may_fragment(&self) -> bool {
        false
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        self.world.network.lock().unbind(self.address);
    }
}

/// A full link drops, it does not refuse.
#[derive(Debug)]
struct AlwaysWritable;

impl UdpPoller for AlwaysWritable {
    fn poll_writable(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}
