//! The two ends: a listening server, a connecting client, and the session each of them has.

use std::{
    net::{SocketAddr, UdpSocket},
    ops::Deref,
    sync::{Arc, Mutex},
    time::Duration,
};

use bytes::Bytes;
use wt_io::{
    client::{Client, Lease, client_endpoint},
    config::{ClientConfig, ServerConfig},
    connection::Connection,
    endpoint::{self, ClientEndpoint, Endpoint},
    error::{CloseInfo, ConnectError, DatagramError, ListenError, OpenError, StreamEnd},
    http::{Exchange, NoContent},
    operation::Operation,
    proto::headers::HeaderList,
    recv_stream::RecvStream,
    send_stream::{SendStream, Written},
    server::{Accepted, Closed, Server},
    session::{Session, Stream},
};

use super::{Born, EventLoop, Net, eventually, relay::Relay};

/// A server and the loop that accepts from it.
pub struct Listener {
    pub server: Arc<Server>,
    event_loop: Arc<EventLoop>,
    born: Arc<Born>,
}

impl Net {
    /// A server on any free port of 127.0.0.1.
    pub async fn listen(&self, config: ServerConfig) -> Listener {
        self.listen_on("127.0.0.1", 0, config)
            .await
            .expect("loopback has free ports")
    }

    pub async fn listen_on(&self, host: &str, port: u16, config: ServerConfig) -> Result<Listener, ListenError> {
        let event_loop = self.server_loop.clone();
        let listening = Server::listen(
            event_loop.driver.clone(),
            event_loop.port.clone(),
            config,
            host.to_owned(),
            port,
        );
        let server = event_loop.run(listening).await?;
        Ok(Listener {
            server,
            event_loop,
            born: self.born.clone(),
        })
    }

    /// A client with a socket of its own.
    pub fn dialer(&self, config: ClientConfig) -> Dialer {
        let event_loop = self.client_loop.clone();
        let endpoint = client_endpoint(&event_loop.driver, config.common.preset).expect("a socket");
        let client = Client::new(
            event_loop.driver.clone(),
            event_loop.port.clone(),
            endpoint.clone(),
            config,
        )
        .expect("a valid configuration");
        Dialer {
            client,
            endpoint,
            leases: Mutex::default(),
            event_loop,
            born: self.born.clone(),
        }
    }

    /// Server and client with one established session.
    pub async fn pair(&self) -> Pair {
        self.pair_with(self.server_config(), self.client_config()).await
    }

    pub async fn pair_with(&self, server: ServerConfig, client: ClientConfig) -> Pair {
        let listener = self.listen(server).await;
        let dialer = self.dialer(client);
        let (client, server) = dialer.session(&listener).await;
        Pair {
            listener,
            dialer,
            client,
            server,
        }
    }

    /// The same with a relay between them.
    pub async fn relayed_pair(&self, server: ServerConfig, client: ClientConfig) -> (Relay, Pair) {
        let listener = self.listen(server).await;
        let relay = Relay::to(listener.address()).await;
        let dialer = self.dialer(client);
        let (client, server) = dialer.session_through(relay.port(), &listener).await;
        let pair = Pair {
            listener,
            dialer,
            client,
            server,
        };
        (relay, pair)
    }
}

impl Listener {
    pub fn address(&self) -> SocketAddr {
        self.server.local_address()
    }

    pub fn port(&self) -> u16 {
        self.address().port()
    }

    /// The next connection or request; None when the server is closed.
    pub async fn next(&self) -> Option<Accepted> {
        let accepted = self
            .event_loop
            .until(self.server.acceptable(), || match self.server.try_accept() {
                Ok(Some(accepted)) => Some(Some(accepted)),
                Ok(None) => None,
                Err(Closed) => Some(None),
            })
            .await;
        match &accepted {
            Some(Accepted::Connection(connection)) => self.born.connection(connection),
            Some(Accepted::Request(session)) => self.born.session(session),
            Some(Accepted::Exchange(_)) | None => {}
        }
        accepted
    }

    pub async fn connection(&self) -> Arc<Connection> {
        loop {
            if let Some(Accepted::Connection(connection)) = self.next().await {
                return connection;
            }
        }
    }

    /// The next session request; connections are passed over.
    pub async fn request(&self) -> Peer {
        loop {
            match self.next().await.expect("the server is open") {
                Accepted::Request(session) => {
                    return Peer {
                        session,
                        event_loop: self.event_loop.clone(),
                    };
                }
                Accepted::Connection(_) | Accepted::Exchange(_) => {}
            }
        }
    }

    /// The next request of plain HTTP; connections are passed over.
    pub async fn exchange(&self) -> Arc<Exchange> {
        loop {
            match self.next().await.expect("the server is open") {
                Accepted::Exchange(exchange) => return exchange,
                Accepted::Connection(_) => {}
                Accepted::Request(session) => panic!("a request for a session: {session:?}"),
            }
        }
    }

    /// The content of a request.
    pub async fn content(&self, exchange: &Arc<Exchange>) -> Result<Bytes, NoContent> {
        self.event_loop.until(exchange.collected(), || exchange.content()).await
    }

    pub async fn accept(&self) -> Peer {
        let session = self.request().await;
        assert!(session.accept(Vec::new()), "a fresh request can be accepted");
        session
    }

    /// Wind down for at most this long; the server is not closed yet.
    pub async fn drain(&self, limit: Duration) {
        self.event_loop.run(self.server.clone().drain(limit)).await;
    }

    pub async fn close(&self) {
        self.event_loop.run(self.server.clone().close()).await;
    }
}

/// A client and the loop that it connects from. It holds its connections; its socket closes when it is dropped.
pub struct Dialer {
    client: Arc<Client>,
    endpoint: ClientEndpoint,
    leases: Mutex<Vec<Lease>>,
    event_loop: Arc<EventLoop>,
    born: Arc<Born>,
}

impl Dialer {
    pub async fn connect(&self, host: &str, port: u16) -> Result<Arc<Connection>, ConnectError> {
        let lease = self.lease(host, port).await?;
        let connection = lease.connection().clone();
        self.leases.lock().expect("not poisoned").push(lease);
        Ok(connection)
    }

    /// Connect; the connection closes with its lease.
    pub async fn lease(&self, host: &str, port: u16) -> Result<Lease, ConnectError> {
        let connecting = self.client.clone().connect(host.to_owned(), port);
        let lease = self.event_loop.run(connecting).await?;
        self.born.connection(lease.connection());
        Ok(lease)
    }

    /// Send a CONNECT.
    pub fn request(&self, connection: &Arc<Connection>, path: &str) -> Peer {
        self.request_with(connection, "localhost", path, Vec::new())
    }

    pub fn request_with(&self, connection: &Arc<Connection>, authority: &str, path: &str, headers: HeaderList) -> Peer {
        self.try_request(connection, authority, path, headers)
            .expect("the connection lives")
    }

    pub fn try_request(
        &self,
        connection: &Arc<Connection>,
        authority: &str,
        path: &str,
        headers: HeaderList,
    ) -> Result<Peer, OpenError> {
        let session = connection.request_session(authority.into(), path.into(), headers)?;
        self.born.session(&session);
        Ok(Peer {
            session,
            event_loop: self.event_loop.clone(),
        })
    }

    /// Connect and establish a session: the client's view of it, then the server's.
    pub async fn session(&self, listener: &Listener) -> (Peer, Peer) {
        self.session_through(listener.port(), listener).await
    }

    /// The same by way of another port, behind which that server is.
    pub async fn session_through(&self, port: u16, listener: &Listener) -> (Peer, Peer) {
        let connection = self.connect("127.0.0.1", port).await.expect("connected");
        let client = self.request(&connection, "/");
        let server = listener.accept().await;
        client.established().await;
        assert!(client.is_connected());
        (client, server)
    }

    /// The client's UDP socket.
    pub fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }

    /// Cut the network cable: nothing that is sent arrives any more, in either direction.
    pub fn vanish(&self) {
        // quinn reads from the socket before the current one too. A socket for IPv4 cannot send to the addresses of one for
        // IPv6, and nobody knows where it listens.
        for _ in 0..2 {
            let nowhere = UdpSocket::bind("127.0.0.1:0").expect("a socket");
            self.endpoint.rebind(nowhere).expect("rebound");
        }
    }
}

impl Drop for Dialer {
    fn drop(&mut self) {
        endpoint::close(&self.endpoint);
    }
}

/// One end of a session, with the loop that its application runs on.
#[derive(Clone)]
pub struct Peer {
    pub session: Arc<Session>,
    event_loop: Arc<EventLoop>,
}

impl Deref for Peer {
    type Target = Arc<Session>;
    fn deref(&self) -> &Arc<Session> {
        &self.session
    }
}

impl Peer {
    pub fn event_loop(&self) -> &EventLoop {
        &self.event_loop
    }

    /// Wait until the request is answered.
    pub async fn established(&self) {
        self.event_loop.ready(Session::established(&self.session)).await;
    }

    pub async fn closed(&self) -> CloseInfo {
        self.event_loop.ready(Session::closed(&self.session)).await;
        self.close_info().expect("a closed session has a verdict")
    }

    /// Open a stream; waits for the peer's limit.
    pub async fn open(&self, bidirectional: bool) -> Result<Stream, OpenError> {
        if let Some(stream) = self.try_open(bidirectional)? {
            return Ok(stream);
        }
        let opening = CancelOnDrop(self.session.openable(bidirectional));
        let opened = self.event_loop.until(opening.0.ready(), || opening.0.take()).await;
        opened.expect("the opening does not panic")
    }

    pub async fn open_uni(&self) -> Arc<SendStream> {
        match self.open(false).await.expect("the session is open") {
            Stream::Send(send) => send,
            other => panic!("not a stream of this side: {other:?}"),
        }
    }

    pub async fn open_bi(&self) -> (Arc<SendStream>, Arc<RecvStream>) {
        match self.open(true).await.expect("the session is open") {
            Stream::Bidirectional(send, recv) => (send, recv),
            other => panic!("not bidirectional: {other:?}"),
        }
    }

    /// The next stream of the peer.
    pub async fn accept_stream(&self) -> Result<Stream, OpenError> {
        self.event_loop
            .until(self.acceptable(), || self.try_accept().transpose())
            .await
    }

    pub async fn accept_uni(&self) -> Arc<RecvStream> {
        match self.accept_stream().await.expect("the session is open") {
            Stream::Recv(recv) => recv,
            other => panic!("not a unidirectional stream of the peer: {other:?}"),
        }
    }

    pub async fn accept_bi(&self) -> (Arc<SendStream>, Arc<RecvStream>) {
        match self.accept_stream().await.expect("the session is open") {
            Stream::Bidirectional(send, recv) => (send, recv),
            other => panic!("not bidirectional: {other:?}"),
        }
    }

    /// Write all of `data`, in pieces below the high-water mark.
    pub async fn write(&self, stream: &Arc<SendStream>, data: &[u8], finish: bool) -> Result<(), StreamEnd> {
        let pieces = data.len().div_ceil(PIECE).max(1);
        for number in 0..pieces {
            let piece = &data[number * PIECE..data.len().min((number + 1) * PIECE)];
            let last = finish && number + 1 == pieces;
            self.event_loop
                .until(stream.writable(), || match stream.write(piece, last) {
                    Ok(Written::NoRoom) => None,
                    Ok(_) => Some(Ok(())),
                    Err(end) => Some(Err(end)),
                })
                .await?;
        }
        Ok(())
    }

    /// Some bytes, at most `max`; none at the end of the stream.
    pub async fn read(&self, stream: &Arc<RecvStream>, max: usize) -> Result<Vec<u8>, StreamEnd> {
        let chunks = self
            .event_loop
            .until(stream.readable(), || stream.try_read(max).transpose())
            .await?;
        Ok(chunks.iter().flatten().copied().collect())
    }

    pub async fn read_exact(&self, stream: &Arc<RecvStream>, len: usize) -> Vec<u8> {
        let mut bytes = Vec::new();
        while bytes.len() < len {
            let more = self.read(stream, len - bytes.len()).await.expect("no early end");
            assert!(
                !more.is_empty(),
                "the stream ended after {} of {len} bytes",
                bytes.len()
            );
            bytes.extend(more);
        }
        bytes
    }

    pub async fn read_to_end(&self, stream: &Arc<RecvStream>) -> Result<Vec<u8>, StreamEnd> {
        let mut bytes = Vec::new();
        loop {
            let more = self.read(stream, usize::MAX).await?;
            if more.is_empty() {
                return Ok(bytes);
            }
            bytes.extend(more);
        }
    }

    /// Send one datagram; waits for room if that is the policy.
    pub async fn send(&self, data: &[u8]) -> Result<(), DatagramError> {
        self.event_loop
            .until(self.datagram_room(), || match self.send_datagram(data, 1, None) {
                Ok(Written::NoRoom) => None,
                Ok(_) => Some(Ok(())),
                Err(error) => Some(Err(error)),
            })
            .await
    }

    pub async fn datagram(&self) -> Result<Bytes, DatagramError> {
        self.event_loop
            .until(self.datagram_available(), || self.try_receive_datagram().transpose())
            .await
            .map(|received| received.data)
    }

    /// Every stream that was counted as created is counted as closed, once its end has made its way.
    pub async fn all_streams_closed(&self) {
        eventually("all streams are closed", || {
            let stats = self.stats();
            stats.streams_created.get() == stats.streams_closed.get()
        })
        .await;
    }
}

struct CancelOnDrop(Arc<Operation<Result<Stream, OpenError>>>);

impl Drop for CancelOnDrop {
    fn drop(&mut self) {
        self.0.cancel();
    }
}

/// A server, a client and the session between them.
pub struct Pair {
    pub listener: Listener,
    pub dialer: Dialer,
    pub client: Peer,
    pub server: Peer,
}

impl Pair {
    /// Close everything and see that nothing is left: no waiter, no open stream, no session, no connection.
    pub async fn finish(self) {
        let Self {
            listener,
            dialer,
            client,
            server,
        } = self;
        client.close(0, "");
        client.closed().await;
        server.closed().await;
        for end in [&client, &server] {
            end.abandon();
            end.all_streams_closed().await;
            let connection = end.connection();
            eventually("the session left its connection", || connection.session_count() == 0).await;
            assert_eq!(end.event_loop.waiting(), 0, "every waiter has left");
        }
        drop(dialer);
        server.connection().lost().await;
        eventually("the server forgot its connections", || {
            listener.server.connection_count() == 0
        })
        .await;
        listener.close().await;
    }
}

/// Half the default high-water mark of a send queue.
const PIECE: usize = 512 << 10;
