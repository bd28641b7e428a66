//! wtransport: WebTransport over HTTP/3 in Rust, on quinn.

use bytes::Bytes;
use wtransport::{
    ClientConfig, Connection, Endpoint, Identity, RecvStream, SendStream, ServerConfig,
    endpoint::endpoint_side::{self, Server},
};

use crate::{
    control, handlers,
    library::{Client, Fallible, Options, Reader, Session, Writer, socket},
};

pub(crate) async fn run(options: &Options) -> Fallible<()> {
    if options.jumbo || options.streams != 100 {
        return Err("wtransport's own configuration has neither the packet size nor the stream limit".into());
    }
    if !options.is_server() {
        let config = ClientConfig::builder()
            .with_bind_socket(socket()?)
            .with_no_cert_validation()
            .build();
        let dialer = Dialer(std::sync::Arc::new(Endpoint::client(config)?));
        return control::obey(Some(dialer), options, None, "wtransport").await;
    }
    let identity = Identity::load_pemfiles(&options.certfile, &options.keyfile).await?;
    let config = ServerConfig::builder()
        .with_bind_socket(socket()?)
        .with_identity(identity)
        .build();
    let endpoint = Endpoint::server(config)?;
    let port = endpoint.local_addr()?.port();
    tokio::spawn(serve(endpoint));
    control::obey(None::<Dialer>, options, Some(port), "wtransport").await
}

async fn serve(endpoint: Endpoint<Server>) {
    loop {
        let incoming = endpoint.accept().await;
        tokio::spawn(async move {
            let request = incoming.await?;
            let path = request.path().to_owned();
            handlers::run(&path, Connected::from(request.accept().await?)).await
        });
    }
}

#[derive(Clone)]
struct Dialer(std::sync::Arc<Endpoint<endpoint_side::Client>>);

impl Client for Dialer {
    type Session = Connected;

    async fn connect(&self, port: u16, path: &'static str) -> Fallible<Connected> {
        let connection = self.0.connect(format!("https://127.0.0.1:{port}{path}")).await?;
        Ok(connection.into())
    }
}

/// A connection is not `Clone`.
#[derive(Clone)]
pub(crate) struct Connected(std::sync::Arc<Connection>);

impl From<Connection> for Connected {
    fn from(connection: Connection) -> Self {
        Self(std::sync::Arc::new(connection))
    }
}

impl Session for Connected {
    type Writer = SendStream;
    type Reader = RecvStream;

    async fn open(&self) -> Fallible<(SendStream, RecvStream)> {
        Ok(self.0.open_bi().await?.await?)
    }

    async fn accept(&self) -> Fallible<(SendStream, RecvStream)> {
        Ok(self.0.accept_bi().await?)
    }

    fn send_datagram(&self, data: Bytes) -> Fallible<()> {
        Ok(self.0.send_datagram(data)?)
    }

    async fn send_datagram_wait(&self, _data: Bytes) -> Fallible<()> {
        Err("wtransport cannot wait for room".into())
    }

    async fn receive_datagram(&self) -> Fallible<Bytes> {
        Ok(self.0.receive_datagram().await?.payload())
    }

    fn close(&self) {
        self.0.close(0u32.into(), b"");
    }
}

impl Writer for SendStream {
    async fn write_all(&mut self, data: &[u8]) -> Fallible<()> {
        Ok(SendStream::write_all(self, data).await?)
    }

    /// Its own `finish` waits for the peer's acknowledgement; dropping ends the stream too.
    fn finish(self) {
        drop(self);
    }
}

impl Reader for RecvStream {
    async fn read(&mut self, buffer: &mut [u8]) -> Fallible<Option<usize>> {
        Ok(RecvStream::read(self, buffer).await?)
    }

    async fn read_exact(&mut self, buffer: &mut [u8]) -> Fallible<()> {
        Ok(RecvStream::read_exact(self, buffer).await?)
    }
}
