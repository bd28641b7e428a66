//! Peers that write HTTP/3 by hand over plain quinn, so that they can break its rules.

use std::{collections::HashSet, future::Future, net::SocketAddr, sync::Arc, time::Duration};

use bytes::BytesMut;
use quinn::rustls::{
    self,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
};
use wt_io::{
    config::ServerConfig,
    proto::{dialect::Dialect, error_code::Code, headers::ConnectRequest},
};

use super::{Listener, Net};

/// What draft-15 and later want from a client: 0x2c7cf000, 0x08 and 0x33, each 1.
pub const SETTINGS: &[u8] = &[0x00, 0x04, 0x09, 0xac, 0x7c, 0xf0, 0x00, 0x01, 0x08, 0x01, 0x33, 0x01];

/// Long enough for what should not happen, if it did. A test that waits this long in vain passes.
pub const A_WHILE: Duration = Duration::from_millis(150);

/// A client that speaks QUIC and nothing else.
pub struct RawClient {
    pub listener: Listener,
    endpoint: quinn::Endpoint,
    pub quic: quinn::Connection,
    control: Option<quinn::SendStream>,
}

impl RawClient {
    /// Connected; nothing is sent.
    pub async fn connect(net: &Net, datagrams: bool) -> Self {
        Self::connect_to(net, net.server_config(), datagrams).await
    }

    pub async fn connect_to(net: &Net, config: ServerConfig, datagrams: bool) -> Self {
        let listener = net.listen(config).await;
        let config = client_config(net, datagrams);
        let endpoint = quinn::Endpoint::client(loopback()).expect("a socket");
        let quic = endpoint
            .connect_with(config, listener.address(), "localhost")
            .expect("a valid name")
            .await
            .expect("connected");
        Self {
            listener,
            endpoint,
            quic,
            control: None,
        }
    }

    /// Connected, with everything that WebTransport wants.
    pub async fn ready(net: &Net) -> Self {
        Self::ready_with(net, net.server_config(), SETTINGS).await
    }

    /// The same, with other settings of either side.
    pub async fn ready_with(net: &Net, config: ServerConfig, settings: &[u8]) -> Self {
        let mut raw = Self::connect_to(net, config, true).await;
        raw.control = Some(open(&raw.quic, settings).await);
        raw
    }

    pub async fn request(&self) -> (quinn::SendStream, quinn::RecvStream) {
        let (mut send, recv) = self.quic.open_bi().await.expect("open");
        let mut request = BytesMut::new();
        self::request().encode_frame(&mut request);
        send.write_all(&request).await.expect("written");
        (send, recv)
    }

    /// More on the control stream of a client that is ready.
    pub async fn control(&mut self, bytes: &[u8]) {
        let control = self.control.as_mut().expect("it has one");
        control.write_all(bytes).await.expect("written");
    }

    pub async fn request_is_reset(&self, code: Code) {
        let (send, mut recv) = self.request().await;
        assert_eq!(reset_code(&mut recv).await, quinn_code(code));
        let stopped = send.stopped().await.expect("the connection lives");
        assert_eq!(stopped, Some(quinn_code(code)));
    }

    /// The server ends the connection with this code.
    pub async fn ends_with(self, code: Code) {
        assert_eq!(closed_by_peer(&self.quic).await, quinn_code(code));
        self.finish().await;
    }

    pub async fn finish(self) {
        self.quic.close(quinn_code(Code::H3_NO_ERROR), b"");
        self.endpoint.wait_idle().await;
        self.listener.close().await;
    }
}

/// A server that speaks QUIC and nothing else.
pub struct RawServer(quinn::Endpoint);

impl RawServer {
    pub fn listen(net: &Net, datagrams: bool) -> Self {
        let key = PrivateKeyDer::from_pem_slice(net.identity.certificate.key.as_bytes()).expect("PEM");
        let mut tls = rustls::ServerConfig::builder_with_provider(provider())
            .with_protocol_versions(&[&rustls::version::TLS13])
            .expect("known to the provider")
            .with_no_client_auth()
            .with_single_cert(vec![certificate(net)], key)
            .expect("they belong together");
        tls.alpn_protocols = vec![b"h3".to_vec()];
        let crypto = quinn::crypto::rustls::QuicServerConfig::try_from(tls).expect("TLS 1.3");
        let mut config = quinn::ServerConfig::with_crypto(Arc::new(crypto));
        config.transport_config(transport(datagrams));
        Self(quinn::Endpoint::server(config, loopback()).expect("a socket"))
    }

    pub fn port(&self) -> u16 {
        self.0.local_addr().expect("bound").port()
    }

    pub async fn accept(&self) -> quinn::Connection {
        let incoming = self.0.accept().await.expect("the endpoint is open");
        incoming.await.expect("connected")
    }
}

/// A client that trusts the server's certificate.
pub fn client_config(net: &Net, datagrams: bool) -> quinn::ClientConfig {
    let mut roots = rustls::RootCertStore::empty();
    roots.add(certificate(net)).expect("a certificate");
    let mut tls = rustls::ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&rustls::version::TLS13])
        .expect("known to the provider")
        .with_root_certificates(roots)
        .with_no_client_auth();
    tls.alpn_protocols = vec![b"h3".to_vec()];
    let crypto = quinn::crypto::rustls::QuicClientConfig::try_from(tls).expect("TLS 1.3");
    let mut config = quinn::ClientConfig::new(Arc::new(crypto));
    config.transport_config(transport(datagrams));
    config
}

/// The first packets of so many clients, as an attacker has them: valid, with different connection ids, and nobody's.
pub async fn initials(net: &Net, count: usize) -> Vec<Vec<u8>> {
    let silent = tokio::net::UdpSocket::bind(loopback()).await.expect("a socket");
    let address = silent.local_addr().expect("bound");
    let endpoint = quinn::Endpoint::client(loopback()).expect("a socket");
    let config = client_config(net, true);
    let (mut known, mut packets, mut connecting) = (HashSet::new(), Vec::new(), Vec::new());
    let mut buffer = vec![0; 2000];
    while packets.len() < count {
        let attempt = endpoint.connect_with(config.clone(), address, "localhost");
        connecting.push(attempt.expect("a valid name"));
        loop {
            let len = silent.recv(&mut buffer).await.expect("a packet");
            // RFC 9000 section 17.2: the length of the destination connection id is the sixth byte.
            let id = buffer[6..6 + usize::from(buffer[5])].to_vec();
            // What is known already was sent again.
            if known.insert(id) {
                packets.push(buffer[..len].to_vec());
                break;
            }
        }
    }
    packets
}

/// What a client of draft-15 and later asks for.
pub fn request() -> ConnectRequest {
    ConnectRequest::new(Dialect::D15, "localhost", "/", Vec::new())
}

/// Open a unidirectional stream that begins with `bytes`.
pub async fn open(quic: &quinn::Connection, bytes: &[u8]) -> quinn::SendStream {
    let mut stream = quic.open_uni().await.expect("open");
    stream.write_all(bytes).await.expect("written");
    stream
}

pub async fn reset_code(recv: &mut quinn::RecvStream) -> quinn::VarInt {
    match recv.read_to_end(100).await {
        Err(quinn::ReadToEndError::Read(quinn::ReadError::Reset(code))) => code,
        other => panic!("must be reset: {other:?}"),
    }
}

pub async fn closed_by_peer(quic: &quinn::Connection) -> quinn::VarInt {
    match quic.closed().await {
        quinn::ConnectionError::ApplicationClosed(close) => close.error_code,
        other => panic!("not closed by the peer's HTTP/3: {other}"),
    }
}

pub async fn in_vain(future: impl Future) -> bool {
    tokio::time::timeout(A_WHILE, future).await.is_err()
}

fn transport(datagrams: bool) -> Arc<quinn::TransportConfig> {
    let mut transport = quinn::TransportConfig::default();
    if !datagrams {
        // Then max_datagram_frame_size is not announced.
        transport.datagram_receive_buffer_size(None);
    }
    Arc::new(transport)
}

fn provider() -> Arc<rustls::crypto::CryptoProvider> {
    Arc::new(rustls::crypto::aws_lc_rs::default_provider())
}

fn certificate(net: &Net) -> CertificateDer<'static> {
    CertificateDer::from_pem_slice(net.identity.certificate.certificate.as_bytes()).expect("PEM")
}

pub fn loopback() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], 0))
}

pub fn quinn_code(code: Code) -> quinn::VarInt {
    quinn::VarInt::from_u64(code.0).expect("codes are below 2^62")
}
