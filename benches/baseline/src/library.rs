//! What the rows need of a library.

use std::{collections::HashMap, error::Error, future::Future, net::UdpSocket};

use bytes::Bytes;
use socket2::{Domain, Protocol, Socket, Type};

pub(crate) type Fallible<T> = Result<T, Box<dyn Error + Send + Sync>>;

/// The command line.
pub(crate) struct Options {
    pub(crate) library: String,
    pub(crate) role: String,
    pub(crate) certfile: String,
    pub(crate) keyfile: String,
    /// `wait` or `drop_oldest`: what to do when datagrams cannot leave as fast as they come.
    pub(crate) waits: bool,
    /// Packets of 6000 bytes.
    pub(crate) jumbo: bool,
    /// Streams that the peer may have open.
    pub(crate) streams: u32,
    /// Threads of the runtime; from the environment, so that it can be tried with everything else unchanged.
    pub(crate) threads: usize,
}

impl Options {
    /// Reads `LIBRARY ROLE --name value...`; what a peer in Rust has no use for (`--loop`) is passed over.
    pub(crate) fn parse(mut arguments: impl Iterator<Item = String>) -> Fallible<Self> {
        let library = arguments.next().ok_or("no library given")?;
        let role = arguments.next().ok_or("no role given")?;
        let mut values = HashMap::new();
        while let Some(name) = arguments.next() {
            let value = arguments.next().ok_or_else(|| format!("{name} has no value"))?;
            values.insert(name, value);
        }
        let mut take = |name: &str| values.remove(name).unwrap_or_default();
        Ok(Self {
            library,
            role,
            certfile: take("--certfile"),
            keyfile: take("--keyfile"),
            waits: take("--overflow") == "wait",
            jumbo: take("--preset") == "jumbo",
            streams: take("--streams").parse().unwrap_or(100),
            threads: std::env::var("BASELINE_THREADS")
                .ok()
                .map_or(Ok(1), |text| text.parse())?,
        })
    }

    /// Whether this is the server.
    pub(crate) fn is_server(&self) -> bool {
        self.role == "server"
    }
}

/// A connected session.
pub(crate) trait Session: Clone + Send + Sync + 'static {
    type Writer: Writer;
    type Reader: Reader;

    fn open(&self) -> impl Future<Output = Fallible<(Self::Writer, Self::Reader)>> + Send;
    fn accept(&self) -> impl Future<Output = Fallible<(Self::Writer, Self::Reader)>> + Send;
    /// Queues a datagram; a full queue loses its oldest.
    fn send_datagram(&self, data: Bytes) -> Fallible<()>;
    /// Waits for room instead, if the library can.
    fn send_datagram_wait(&self, data: Bytes) -> impl Future<Output = Fallible<()>> + Send;
    fn receive_datagram(&self) -> impl Future<Output = Fallible<Bytes>> + Send;
    fn close(&self);
}

/// The sending side of a stream.
pub(crate) trait Writer: Send + Sync + 'static {
    fn write_all(&mut self, data: &[u8]) -> impl Future<Output = Fallible<()>> + Send;
    /// Ends the stream, without waiting for anything.
    fn finish(self);
}

/// The receiving side of a stream.
pub(crate) trait Reader: Send + Sync + 'static {
    fn read(&mut self, buffer: &mut [u8]) -> impl Future<Output = Fallible<Option<usize>>> + Send;
    fn read_exact(&mut self, buffer: &mut [u8]) -> impl Future<Output = Fallible<()>> + Send;

    /// Reads to the end and returns the number of bytes.
    fn count(&mut self) -> impl Future<Output = Fallible<usize>> + Send {
        async {
            let (mut buffer, mut size) = (vec![0; 65536], 0);
            while let Some(count) = self.read(&mut buffer).await? {
                size += count;
            }
            Ok(size)
        }
    }

    /// Reads a short text to its end.
    fn text(&mut self) -> impl Future<Output = Fallible<String>> + Send {
        async {
            let (mut buffer, mut text) = ([0; 1024], String::new());
            while let Some(count) = self.read(&mut buffer).await? {
                text.push_str(std::str::from_utf8(&buffer[..count])?);
            }
            Ok(text)
        }
    }
}

/// A client that can connect again and again.
pub(crate) trait Client: Clone + Send + Sync + 'static {
    type Session: Session;

    fn connect(&self, port: u16, path: &'static str) -> impl Future<Output = Fallible<Self::Session>> + Send;
}

/// A UDP socket on the loopback with buffers of 4 MiB (the kernel may grant less): the default of 208 KiB loses packets.
pub(crate) fn socket() -> Fallible<UdpSocket> {
    let socket = Socket::new(Domain::IPV4, Type::DGRAM, Some(Protocol::UDP))?;
    socket.set_recv_buffer_size(SOCKET_BUFFER)?;
    socket.set_send_buffer_size(SOCKET_BUFFER)?;
    socket.bind(&std::net::SocketAddr::from(([127, 0, 0, 1], 0)).into())?;
    Ok(socket.into())
}

/// The version of a dependency: the libraries do not tell, the lock file does.
pub(crate) fn version(name: &str) -> String {
    let entry = format!("name = \"{name}\"\nversion = \"");
    let version = include_str!("../Cargo.lock")
        .split_once(&entry)
        .and_then(|(_, rest)| rest.split('"').next());
    version.unwrap_or("unknown").to_owned()
}

/// The four things that a server does with a session.
pub(crate) const PATHS: [&str; 4] = ["/echo", "/sink", "/source", "/count"];

const SOCKET_BUFFER: usize = 4 << 20;
