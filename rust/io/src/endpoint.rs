//! UDP sockets and quinn endpoints: binding, buffers, and the list of what must be closed at the end of the process.

use std::{
    io,
    net::{Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket},
    sync::Arc,
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

/// A socket for clients: one for IPv6 and IPv4 where the system has IPv6, else for IPv4 alone.
pub(crate) fn client_socket(driver: &Driver) -> io::Result<Arc<dyn AsyncUdpSocket>> {
    match driver.bind((Ipv6Addr::UNSPECIFIED, 0).into(), true) {
        Ok(socket) => Ok(socket),
        Err(_) => driver.bind((Ipv4Addr::UNSPECIFIED, 0).into(), false),
    }
}

/// A bound socket with large buffers. `dual_stack` lets an IPv6 socket carry IPv4 too.
pub(crate) fn socket(address: SocketAddr, dual_stack: bool) -> io::Result<UdpSocket> {
    let socket = Socket::new(Domain::for_address(address), Type::DGRAM, Some(Protocol::UDP))?;
    if address.is_ipv6() {
        socket.set_only_v6(!dual_stack)?;
    }
    // The kernel caps both silently at its own limits; whatever it grants is used.
    let _ = socket.set_recv_buffer_size(SOCKET_BUFFER);
    let _ = socket.set_send_buffer_size(SOCKET_BUFFER);
    socket.bind(&address.into())?;
    Ok(socket.into())
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
