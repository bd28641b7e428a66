//! The file descriptor by which a port wakes its event loop: eventfd on Linux, a pipe on other Unixes, a socket pair on
//! Windows, whose selector loops watch nothing but sockets.

use std::{fmt::Debug, io};

/// How a port wakes its loop.
pub trait Wake: Debug + Send + Sync {
    /// Make the descriptor readable. Called from any thread, once per burst.
    fn wake(&self);
    /// Make it unreadable again. Loop thread only.
    fn acknowledge(&self);
    /// The descriptor (Windows: socket) to watch for reading.
    fn descriptor(&self) -> i64;
}

/// The cheapest wake of this platform.
pub fn os_wake() -> io::Result<Box<dyn Wake>> {
    Ok(Box::new(OsWake::new()?))
}

#[cfg(any(target_os = "linux", target_os = "android"))]
#[derive(Debug)]
struct OsWake(std::os::fd::OwnedFd);

#[cfg(any(target_os = "linux", target_os = "android"))]
impl OsWake {
    fn new() -> io::Result<Self> {
        use rustix::event::{EventfdFlags, eventfd};
        Ok(Self(eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?))
    }
}

#[cfg(any(target_os = "linux", target_os = "android"))]
impl Wake for OsWake {
    fn wake(&self) {
        // WouldBlock means that the counter is at its maximum, so readable already.
        let _ = rustix::io::retry_on_intr(|| rustix::io::write(&self.0, &1u64.to_ne_bytes()));
    }
    fn acknowledge(&self) {
        let mut counter = [0; 8];
        let _ = rustix::io::retry_on_intr(|| rustix::io::read(&self.0, &mut counter));
    }
    fn descriptor(&self) -> i64 {
        use std::os::fd::AsRawFd;
        self.0.as_raw_fd().into()
    }
}

#[cfg(all(unix, not(any(target_os = "linux", target_os = "android"))))]
#[derive(Debug)]
struct OsWake {
    reader: std::os::fd::OwnedFd,
    writer: std::os::fd::OwnedFd,
}

#[cfg(all(unix, not(any(target_os = "linux", target_os = "android"))))]
impl OsWake {
    fn new() -> io::Result<Self> {
        let (reader, writer) = rustix::pipe::pipe()?;
        for end in [&reader, &writer] {
            rustix::io::ioctl_fionbio(end, true)?;
            rustix::io::fcntl_setfd(end, rustix::io::FdFlags::CLOEXEC)?;
        }
        Ok(Self { reader, writer })
    }
}

#[cfg(all(unix, not(any(target_os = "linux", target_os = "android"))))]
impl Wake for OsWake {
    fn wake(&self) {
        // WouldBlock means that the pipe is full, so readable already.
        let _ = rustix::io::retry_on_intr(|| rustix::io::write(&self.writer, &[1]));
    }
    fn acknowledge(&self) {
        let mut scratch = [0; 512];
        let _ = rustix::io::retry_on_intr(|| rustix::io::read(&self.reader, &mut scratch));
    }
    fn descriptor(&self) -> i64 {
        use std::os::fd::AsRawFd;
        self.reader.as_raw_fd().into()
    }
}

#[cfg(windows)]
#[derive(Debug)]
struct OsWake {
    reader: std::net::UdpSocket,
    writer: std::net::UdpSocket,
}

#[cfg(windows)]
impl OsWake {
    fn new() -> io::Result<Self> {
        let reader = std::net::UdpSocket::bind(("127.0.0.1", 0))?;
        let writer = std::net::UdpSocket::bind(("127.0.0.1", 0))?;
        writer.connect(reader.local_addr()?)?;
        reader.connect(writer.local_addr()?)?;
        reader.set_nonblocking(true)?;
        writer.set_nonblocking(true)?;
        Ok(Self { reader, writer })
    }
}

#[cfg(windows)]
impl Wake for OsWake {
    fn wake(&self) {
        let _ = self.writer.send(&[1]);
    }
    fn acknowledge(&self) {
        let mut scratch = [0; 16];
        while self.reader.recv(&mut scratch).is_ok() {}
    }
    fn descriptor(&self) -> i64 {
        use std::os::windows::io::AsRawSocket;
        self.reader.as_raw_socket() as i64
    }
}
