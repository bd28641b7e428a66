//! quinn itself: QUIC streams and datagrams without HTTP/3. The ALPN name stands for the path.

use std::{collections::HashMap, net::SocketAddr, sync::Arc};

use bytes::Bytes;
use quinn::{
    ClientConfig, Connection, Endpoint, EndpointConfig, RecvStream, SendStream, ServerConfig, TokioRuntime,
    TransportConfig,
    crypto::rustls::{QuicClientConfig, QuicServerConfig},
};
use rustls::{
    DigitallySignedStruct, SignatureScheme,
    client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature},
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime, pem::PemObject},
};

use crate::{
    control, handlers,
    library::{Client, Fallible, Options, PATHS, Reader, Session, Writer, socket},
};

pub(crate) async fn run(options: &Options) -> Fallible<()> {
    if !options.is_server() {
        return control::obey(Some(Dialer::new(options)?), options, None, "quinn").await;
    }
    let endpoint = endpoint(options, Some(server_config(options)?))?;
    let port = endpoint.local_addr()?.port();
    tokio::spawn(serve(endpoint));
    control::obey(None::<Dialer>, options, Some(port), "quinn").await
}

async fn serve(endpoint: Endpoint) {
    while let Some(incoming) = endpoint.accept().await {
        tokio::spawn(async move {
            let connection = incoming.await?;
            let data = connection.handshake_data().ok_or("no handshake data")?;
            let data = data.downcast::<quinn::crypto::rustls::HandshakeData>();
            let path = data.ok().and_then(|data| data.protocol).ok_or("no ALPN")?;
            handlers::run(std::str::from_utf8(&path)?, connection).await
        });
    }
}

#[derive(Clone)]
struct Dialer {
    endpoint: Endpoint,
    configs: Arc<HashMap<&'static str, ClientConfig>>,
}

impl Dialer {
    fn new(options: &Options) -> Fallible<Self> {
        let configs = PATHS.map(|path| client_config(options, path).map(|config| (path, config)));
        Ok(Self {
            endpoint: endpoint(options, None)?,
            configs: Arc::new(configs.into_iter().collect::<Fallible<_>>()?),
        })
    }
}

impl Client for Dialer {
    type Session = Connection;

    async fn connect(&self, port: u16, path: &'static str) -> Fallible<Connection> {
        let address = SocketAddr::from(([127, 0, 0, 1], port));
        let config = self.configs[path].clone();
        Ok(self.endpoint.connect_with(config, address, "localhost")?.await?)
    }
}

impl Session for Connection {
    type Writer = SendStream;
    type Reader = RecvStream;

    async fn open(&self) -> Fallible<(SendStream, RecvStream)> {
        Ok(self.open_bi().await?)
    }

    async fn accept(&self) -> Fallible<(SendStream, RecvStream)> {
        Ok(self.accept_bi().await?)
    }

    fn send_datagram(&self, data: Bytes) -> Fallible<()> {
        Ok(Connection::send_datagram(self, data)?)
    }

    async fn send_datagram_wait(&self, data: Bytes) -> Fallible<()> {
        Ok(Connection::send_datagram_wait(self, data).await?)
    }

    async fn receive_datagram(&self) -> Fallible<Bytes> {
        Ok(self.read_datagram().await?)
    }

    fn close(&self) {
        Connection::close(self, 0u32.into(), b"");
    }
}

impl Writer for SendStream {
    async fn write_all(&mut self, data: &[u8]) -> Fallible<()> {
        Ok(SendStream::write_all(self, data).await?)
    }

    fn finish(mut self) {
        let _ = SendStream::finish(&mut self); // fails when the peer has stopped it, which ends it as well
    }
}

impl Reader for RecvStream {
    async fn read(&mut self, buffer: &mut [u8]) -> Fallible<Option<usize>> {
        Ok(RecvStream::read(self, buffer).await?)
    }

    async fn read_exact(&mut self, buffer: &mut [u8]) -> Fallible<()> {
        Ok(RecvStream::read_exact(self, buffer).await?)
    }

    async fn count(&mut self) -> Fallible<usize> {
        let mut size = 0;
        while let Some(chunk) = self.read_chunk(usize::MAX, true).await? {
            size += chunk.bytes.len();
        }
        Ok(size)
    }
}

fn endpoint(options: &Options, server: Option<ServerConfig>) -> Fallible<Endpoint> {
    let mut config = EndpointConfig::default();
    if options.jumbo {
        config.max_udp_payload_size(JUMBO)?;
    }
    Ok(Endpoint::new(config, server, socket()?, Arc::new(TokioRuntime))?)
}

fn transport(options: &Options) -> Arc<TransportConfig> {
    let mut transport = TransportConfig::default();
    transport.max_concurrent_bidi_streams(options.streams.into());
    if options.jumbo {
        transport.initial_mtu(JUMBO).min_mtu(JUMBO).mtu_discovery_config(None);
    }
    Arc::new(transport)
}

fn server_config(options: &Options) -> Fallible<ServerConfig> {
    let chain = vec![CertificateDer::from_pem_file(&options.certfile)?];
    let key = PrivateKeyDer::from_pem_file(&options.keyfile)?;
    let mut tls = rustls::ServerConfig::builder()
        .with_no_client_auth()
        .with_single_cert(chain, key)?;
    tls.alpn_protocols = PATHS.iter().map(|path| path.as_bytes().to_vec()).collect();
    let mut config = ServerConfig::with_crypto(Arc::new(QuicServerConfig::try_from(tls)?));
    config.transport_config(transport(options));
    Ok(config)
}

fn client_config(options: &Options, path: &str) -> Fallible<ClientConfig> {
    let mut tls = rustls::ClientConfig::builder()
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(AnyCertificate(rustls::crypto::aws_lc_rs::default_provider())))
        .with_no_client_auth();
    tls.alpn_protocols = vec![path.as_bytes().to_vec()];
    let mut config = ClientConfig::new(Arc::new(QuicClientConfig::try_from(tls)?));
    config.transport_config(transport(options));
    Ok(config)
}

/// Takes every certificate, as all peers do here; the signatures are still checked.
#[derive(Debug)]
struct AnyCertificate(CryptoProvider);

impl ServerCertVerifier for AnyCertificate {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, cert, dss, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, cert, dss, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

/// The greatest packet with which the kernel still takes a batch (GSO); what the preset of the library uses.
const JUMBO: u16 = 6000;
