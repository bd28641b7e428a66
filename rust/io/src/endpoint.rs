//! UDP sockets and quinn endpoints: binding, buffers, and the list of what must be closed at the end of the process.

use std::{
    io,
    net::{Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket},
    ops::Deref,
    sync::{Arc, Weak},
};

use parking_lot::Mutex;
use quinn::AsyncUdpSocket;
use socket2::{Domain, Protocol, Socket, Type};

use crate::{config::SOCKET_BUFFER, driver::Driver};

pub use quinn::Endpoint;

/// Endpoints of the process that were not closed yet.
static OPEN: Mutex<Vec<Endpoint>> = Mutex::new(Vec::new());

/// Remember an endpoint for [`close_all`].
pub(crate) fn remember(endpoint: &Endpoint) {
    OPEN.lock().push(endpoint.clone());
}

/// Forget an endpoint that was closed.
pub(crate) fn forget(endpoint: &Endpoint) {
    let address = endpoint.local_addr().ok();
    OPEN.lock().retain(|open| open.local_addr().ok() != address);
}

/// Close every connection of every endpoint; returns the endpoints, to wait for.
pub fn close_all(reason: &str) -> Vec<Endpoint> {
    let open = std::mem::take(&mut *OPEN.lock());
    for endpoint in &open {
        endpoint.close(quinn::VarInt::from_u32(0x100), reason.as_bytes());
    }
    open
}

/// Close one endpoint and all its connections.
pub fn close(endpoint: &Endpoint) {
    endpoint.close(quinn::VarInt::from_u32(0x100), b"");
    forget(endpoint);
}

/// Wait until the connections of closed endpoints are forgotten, so that their close packets have gone out.
pub async fn idle(endpoints: Vec<Endpoint>) {
    for endpoint in &endpoints {
        endpoint.wait_idle().await;
    }
}

/// In a forked child: forget the parent's endpoints without closing them, so that nothing is sent in its name.
pub fn forget_after_fork() {
    if let Some(mut open) = OPEN.try_lock() {
        std::mem::forget(std::mem::take(&mut *open));
    }
}

/// A socket below a driver, with what the system gave it.
#[derive(Debug)]
pub struct Bound {
    /// The socket.
    pub socket: Arc<dyn AsyncUdpSocket>,
    /// Its buffers.
    pub buffers: Buffers,
}

/// Socket buffers as obtained, in bytes, to compare with [`SOCKET_BUFFER`]; 0: unknown.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Buffers {
    /// For what was not sent yet.
    pub send: usize,
    /// For what was not received yet; more than that is lost.
    pub receive: usize,
}

/// What there is to know of the socket of an endpoint. Does not keep it open.
#[derive(Debug)]
pub struct SocketInfo {
    /// UDP port.
    pub port: u16,
    /// Its buffers.
    pub buffers: Buffers,
    socket: Weak<dyn AsyncUdpSocket>,
}

impl SocketInfo {
    pub(crate) fn new(socket: &Arc<dyn AsyncUdpSocket>, buffers: Buffers) -> Arc<Self> {
        Arc::new(Self {
            port: socket.local_addr().map_or(0, |address| address.port()),
            buffers,
            socket: Arc::downgrade(socket),
        })
    }

    /// Packets that the kernel takes in one call (GSO); 1: it does not, 0: the socket is closed. quinn asks when the socket is made,
    /// and once a network card has refused.
    pub fn gso_segments(&self) -> usize {
        self.socket.upgrade().map_or(0, |socket| socket.max_transmit_segments())
    }

    /// Packets that the kernel hands over in one piece (GRO); 1: it does not, 0: the socket is closed.
    pub fn gro_segments(&self) -> usize {
        self.socket.upgrade().map_or(0, |socket| socket.max_receive_segments())
    }
}

/// The endpoint of clients.
#[derive(Debug, Clone)]
pub struct ClientEndpoint {
    quic: Endpoint,
    socket: Arc<SocketInfo>,
}

impl ClientEndpoint {
    pub(crate) fn new(quic: Endpoint, socket: Arc<SocketInfo>) -> Self {
        Self { quic, socket }
    }

    /// What there is to know of its socket.
    pub fn socket(&self) -> &Arc<SocketInfo> {
        &self.socket
    }
}

impl Deref for ClientEndpoint {
    type Target = Endpoint;
    fn deref(&self) -> &Endpoint {
        &self.quic
    }
}

/// A socket for clients: one for IPv6 and IPv4 where the system has IPv6, else for IPv4 alone.
pub(crate) fn client_socket(driver: &Driver) -> io::Result<Bound> {
    match driver.bind((Ipv6Addr::UNSPECIFIED, 0).into(), true) {
        Ok(socket) => Ok(socket),
        Err(_) => driver.bind((Ipv4Addr::UNSPECIFIED, 0).into(), false),
    }
}

/// A bound socket with large buffers. `dual_stack` lets an IPv6 socket carry IPv4 too.
pub(crate) fn socket(address: SocketAddr, dual_stack: bool) -> io::Result<(UdpSocket, Buffers)> {
    let socket = Socket::new(Domain::for_address(address), Type::DGRAM, Some(Protocol::UDP))?;
    if address.is_ipv6() {
        socket.set_only_v6(!dual_stack)?;
    }
    // The kernel caps both at its own limits, Linux silently; whatever it grants is used, and reported.
    let _ = socket.set_recv_buffer_size(SOCKET_BUFFER);
    let _ = socket.set_send_buffer_size(SOCKET_BUFFER);
    let buffers = Buffers {
        send: granted(socket.send_buffer_size()),
        receive: granted(socket.recv_buffer_size()),
    };
    socket.bind(&address.into())?;
    Ok((socket.into(), buffers))
}

/// Linux doubles what it is asked for, to have room for its own records, and tells the double (socket(7)).
fn granted(told: io::Result<usize>) -> usize {
    let told = told.unwrap_or(0);
    if cfg!(target_os = "linux") { told / 2 } else { told }
}

/// Resolve a name without blocking: addresses at once, `localhost` by RFC 6761, everything else on a thread of its own.
pub(crate) async fn resolve(host: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
    if let Ok(address) = host.parse::<std::net::IpAddr>() {
        return Ok(vec![SocketAddr::new(address, port)]);
    }
    // RFC 6761 section 6.3: "localhost" names loopback, whatever a resolver says.
    if host.eq_ignore_ascii_case("localhost") {
        return Ok(vec![
            (Ipv6Addr::LOCALHOST, port).into(),
            (Ipv4Addr::LOCALHOST, port).into(),
        ]);
    }
    let (sender, receiver) = tokio::sync::oneshot::channel();
    let name: Arc<str> = host.into();
    std::thread::Builder::new()
        .name("pywebtransport-dns".into())
        .spawn(move || {
            let found = std::net::ToSocketAddrs::to_socket_addrs(&(&*name, port)).map(Iterator::collect);
            let _ = sender.send(found);
        })?;
    receiver.await.map_err(io::Error::other)?
}
