//! The network between a client and a server: a relay of UDP packets that can do what routers do.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed},
    },
};

use tokio::{net::UdpSocket, sync::watch, task::JoinHandle};

use super::raw::loopback;

/// Forwards between one client and one server. The server sees it as the client, as it sees a NAT.
pub struct Relay {
    address: SocketAddr,
    outside: watch::Sender<Arc<UdpSocket>>,
    state: Arc<State>,
    task: JoinHandle<()>,
}

/// What the relaying task goes by.
struct State {
    /// Larger packets do not pass.
    largest: AtomicUsize,
    too_large: AtomicU64,
}

impl Relay {
    pub async fn to(target: SocketAddr) -> Self {
        let inside = UdpSocket::bind(loopback()).await.expect("a socket");
        let address = inside.local_addr().expect("bound");
        let (outside, path) = watch::channel(outside(target).await);
        let state = Arc::new(State {
            largest: AtomicUsize::new(usize::MAX),
            too_large: AtomicU64::new(0),
        });
        let task = tokio::spawn(forward(inside, path, state.clone()));
        Self {
            address,
            outside,
            state,
            task,
        }
    }

    /// Where the client connects to.
    pub fn port(&self) -> u16 {
        self.address.port()
    }

    /// The client as the server sees it.
    pub fn outside(&self) -> SocketAddr {
        self.outside.borrow().local_addr().expect("bound")
    }

    /// Forget the mapping, as a NAT does: the client has another address from now on, and what is sent to the old one
    /// is lost.
    pub async fn rebind(&self) {
        let target = self.outside.borrow().peer_addr().expect("connected");
        self.retarget(target).await;
    }

    /// Let another server stand where the first one was.
    pub async fn retarget(&self, target: SocketAddr) {
        self.outside.send_replace(outside(target).await);
    }

    /// Drop packets with a UDP payload of more than so many bytes, in both directions.
    pub fn limit(&self, largest: usize) {
        self.state.largest.store(largest, Relaxed);
    }

    /// Packets dropped for their size.
    pub fn too_large(&self) -> u64 {
        self.state.too_large.load(Relaxed)
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl State {
    fn lets_through(&self, len: usize) -> bool {
        let passes = len <= self.largest.load(Relaxed);
        if !passes {
            self.too_large.fetch_add(1, Relaxed);
        }
        passes
    }
}

async fn outside(target: SocketAddr) -> Arc<UdpSocket> {
    let socket = UdpSocket::bind(loopback()).await.expect("a socket");
    socket.connect(target).await.expect("loopback is reachable");
    Arc::new(socket)
}

async fn forward(inside: UdpSocket, mut path: watch::Receiver<Arc<UdpSocket>>, state: Arc<State>) {
    let (mut up, mut down) = (vec![0; 1 << 16], vec![0; 1 << 16]);
    let mut client = None;
    loop {
        let outside = path.borrow_and_update().clone();
        // Errors are those of a server that is gone for the moment: its packets are lost.
        tokio::select! {
            received = inside.recv_from(&mut up) => if let Ok((len, from)) = received {
                client = Some(from);
                if state.lets_through(len) {
                    let _ = outside.send(&up[..len]).await;
                }
            },
            received = outside.recv(&mut down) => if let (Ok(len), Some(client)) = (received, client)
                && state.lets_through(len)
            {
                let _ = inside.send_to(&down[..len], client).await;
            },
            _ = path.changed() => {}
        }
    }
}
