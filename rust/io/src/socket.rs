//! A UDP socket that can be closed while others still refer to it.
//!
//! quinn gives its socket to every connection, and a connection keeps it for as long as the application keeps any handle,
//! long after its end. A server's port has to be free when the server is closed, so its socket is a shell around the real
//! one, which [`ReleasableSocket::release`] drops.

use std::{
    io::{self, IoSliceMut},
    net::SocketAddr,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use parking_lot::{Mutex, RwLock};
use quinn::{
    AsyncUdpSocket, UdpPoller,
    udp::{RecvMeta, Transmit},
};
use slab::Slab;

/// The shell. Once released it takes packets and drops them, and receives none.
#[derive(Debug)]
pub(crate) struct ReleasableSocket {
    address: SocketAddr,
    real: RwLock<Option<Arc<dyn AsyncUdpSocket>>>,
    /// They hold the real socket too.
    pollers: Mutex<Slab<Pin<Box<dyn UdpPoller>>>>,
}

impl ReleasableSocket {
    pub(crate) fn new(real: Arc<dyn AsyncUdpSocket>) -> io::Result<Arc<Self>> {
        Ok(Arc::new(Self {
            address: real.local_addr()?,
            real: RwLock::new(Some(real)),
            pollers: Mutex::default(),
        }))
    }

    /// Let the real socket go.
    pub(crate) fn release(&self) {
        // Dropped after the locks: a socket's end wakes whoever waits for it.
        let real = self.real.write().take();
        let pollers = std::mem::take(&mut *self.pollers.lock());
        drop((real, pollers));
    }
}

impl AsyncUdpSocket for ReleasableSocket {
    fn create_io_poller(self: Arc<Self>) -> Pin<Box<dyn UdpPoller>> {
        let real = self.real.read().clone();
        let key = real.map(|real| self.pollers.lock().insert(real.create_io_poller()));
        Box::pin(Poller { socket: self, key })
    }

    fn try_send(&self, transmit: &Transmit<'_>) -> io::Result<()> {
        match &*self.real.read() {
            Some(real) => real.try_send(transmit),
            None => Ok(()),
        }
    }

    fn poll_recv(
        &self,
        cx: &mut Context<'_>,
        buffers: &mut [IoSliceMut<'_>],
        meta: &mut [RecvMeta],
    ) -> Poll<io::Result<usize>> {
        match &*self.real.read() {
            Some(real) => real.poll_recv(cx, buffers, meta),
            None => Poll::Pending,
        }
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        Ok(self.address)
    }

    fn max_transmit_segments(&self) -> usize {
        self.real.read().as_ref().map_or(1, |real| real.max_transmit_segments())
    }

    fn max_receive_segments(&self) -> usize {
        self.real.read().as_ref().map_or(1, |real| real.max_receive_segments())
    }

    fn may_fragment(&self) -> bool {
        self.real.read().as_ref().is_none_or(|real| real.may_fragment())
    }
}

/// One connection's wait for room.
#[derive(Debug)]
struct Poller {
    socket: Arc<ReleasableSocket>,
    key: Option<usize>,
}

impl UdpPoller for Poller {
    fn poll_writable(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut pollers = self.socket.pollers.lock();
        match self.key.and_then(|key| pollers.get_mut(key)) {
            Some(real) => real.as_mut().poll_writable(cx),
            None => Poll::Ready(Ok(())),
        }
    }
}

impl Drop for Poller {
    fn drop(&mut self) {
        let real = self.key.and_then(|key| self.socket.pollers.lock().try_remove(key));
        drop(real);
    }
}
