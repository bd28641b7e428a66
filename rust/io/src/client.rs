//! Connecting: resolution, Happy Eyeballs, TLS, SETTINGS.

use std::{collections::VecDeque, future::Future, net::SocketAddr, pin::Pin, sync::Arc, task::Poll, time::Duration};

use quinn::crypto::rustls::QuicClientConfig;
use wt_proto::dialect::Role;

use crate::{
    bridge::port::Port,
    config::{CONNECTION_ATTEMPT_DELAY, ClientConfig, CommonConfig, Preset},
    connection::{Connection, Place, Unready},
    driver::Driver,
    endpoint::{self, Bound, ClientEndpoint, SocketInfo},
    error::{ConnectError, ConnectionEnd, TlsConfigError},
    operation::Operation,
    tls,
};

/// Sessions that a client puts on one connection with flow control; the next one gets a connection of its own. QUIC's
/// congestion control sees them as one flow, and one lost packet can hold up what is behind it in all of them.
const MAX_SESSIONS: u64 = 64;

/// A client configuration, parsed once, with the socket of its driver.
#[derive(Debug)]
pub struct Client {
    driver: Driver,
    port: Arc<Port>,
    endpoint: ClientEndpoint,
    crypto: quinn::ClientConfig,
    limits: Arc<CommonConfig>,
}

/// A client's UDP socket, shared by all clients of one loop and driver whose presets allow it.
pub fn client_endpoint(driver: &Driver, preset: Preset) -> Result<ClientEndpoint, ConnectError> {
    let failed = |error: std::io::Error| ConnectError::Socket(error.to_string());
    let Bound { socket, buffers } = endpoint::client_socket(driver).map_err(failed)?;
    let info = SocketInfo::new(&socket, buffers);
    let endpoint = driver
        .endpoint(socket, None, preset.endpoint_config(quinn::EndpointConfig::default()))
        .map_err(failed)?;
    endpoint::remember(&endpoint);
    Ok(ClientEndpoint::new(endpoint, info))
}

impl Client {
    /// Check and load everything that can be wrong before a packet is sent.
    pub fn new(
        driver: Driver,
        port: Arc<Port>,
        endpoint: ClientEndpoint,
        config: ClientConfig,
    ) -> Result<Arc<Self>, TlsConfigError> {
        let tls = QuicClientConfig::try_from(tls::client(&config)?)
            .map_err(|error| TlsConfigError::Setting(error.to_string()))?;
        let mut crypto = quinn::ClientConfig::new(Arc::new(tls));
        crypto.transport_config(config.common.transport(Role::Client, &driver));
        Ok(Arc::new(Self {
            driver,
            port,
            endpoint,
            crypto,
            limits: Arc::new(config.common),
        }))
    }

    /// Who runs its connections.
    pub fn driver(&self) -> &Driver {
        &self.driver
    }

    /// [`Client::connect`] as an operation.
    pub fn connecting(self: &Arc<Self>, host: String, port: u16) -> Arc<Operation<Result<Lease, ConnectError>>> {
        // A lease that is dropped closes its connection.
        Operation::start(&self.driver, self.port.clone(), self.clone().connect(host, port), drop)
    }

    /// Connect to the first address of `host` that answers, and wait for its SETTINGS.
    ///
    /// A port that does not answer is tried until the caller gives up.
    ///
    /// # Cancel safety
    /// Dropping the future abandons the attempt and closes what was made.
    pub async fn connect(self: Arc<Self>, host: String, port: u16) -> Result<Lease, ConnectError> {
        let resolved = endpoint::resolve(&host, port)
            .await
            .map_err(|error| ConnectError::Resolve {
                host: host.clone(),
                reason: error.to_string(),
            })?;
        let quic = self.race(interleave(resolved), &host).await?;
        let place = Place {
            driver: self.driver.clone(),
            port: self.port.clone(),
            socket: self.endpoint.socket().clone(),
        };
        let connection = Connection::start(quic, place, Role::Client, self.limits.clone(), MAX_SESSIONS, None, None);
        let lease = Lease(connection);
        match lease.connection().settings_received().await {
            Ok(_) => Ok(lease),
            Err(Unready::Unsupported(unsupported)) => Err(ConnectError::Unsupported {
                address: lease.connection().remote_address().to_string(),
                reason: unsupported.to_string(),
            }),
            Err(Unready::Ended(end)) => Err(failed(&end, &host)),
        }
    }

    /// Happy Eyeballs (RFC 8305): the next address gets its chance when the ones before have not answered for a while or
    /// have failed; the first that answers wins, the others are abandoned.
    ///
    /// An address that stays silent is tried again. One that refuses is not: those that are still silent then get a last
    /// chance before the refusal counts.
    async fn race(&self, addresses: Vec<SocketAddr>, host: &str) -> Result<wt_quic::Connection, ConnectError> {
        let mut waiting = VecDeque::from(addresses);
        let mut attempts: Vec<(SocketAddr, Pin<Box<quinn::Connecting>>)> = Vec::new();
        let mut refusal = None;
        let mut unusable = ConnectError::Resolve {
            host: host.to_owned(),
            reason: "the name has no address".into(),
        };
        let mut delay: Option<crate::driver::Sleep> = None;
        std::future::poll_fn(move |cx| {
            loop {
                let mut index = 0;
                while index < attempts.len() {
                    match attempts[index].1.as_mut().poll(cx) {
                        Poll::Pending => index += 1,
                        Poll::Ready(Ok(connection)) => return Poll::Ready(Ok(connection)),
                        Poll::Ready(Err(quinn::ConnectionError::TimedOut)) => {
                            waiting.push_back(attempts.swap_remove(index).0);
                            delay = None;
                        }
                        Poll::Ready(Err(error)) => {
                            attempts.swap_remove(index);
                            refusal = Some(failed(&ConnectionEnd::new(&error), host));
                            delay = waiting.is_empty().then(|| self.driver.sleep(LAST_CHANCE));
                        }
                    }
                }
                if attempts.is_empty() {
                    delay = None;
                }
                if let Some(timer) = &mut delay {
                    if Pin::new(timer).poll(cx).is_pending() {
                        return Poll::Pending;
                    }
                    delay = None;
                }
                let Some(address) = waiting.pop_front() else {
                    return match refusal.take() {
                        Some(refusal) => Poll::Ready(Err(refusal)),
                        None if attempts.is_empty() => Poll::Ready(Err(unusable.clone())),
                        None => Poll::Pending,
                    };
                };
                match self.endpoint.connect_with(self.crypto.clone(), self.map(address), host) {
                    Ok(connecting) => attempts.push((address, Box::pin(connecting))),
                    Err(error) => {
                        unusable = ConnectError::Connection {
                            message: error.to_string(),
                            code: None,
                        }
                    }
                }
                let is_last = refusal.is_some() && waiting.is_empty();
                delay = Some(
                    self.driver
                        .sleep(if is_last { LAST_CHANCE } else { CONNECTION_ATTEMPT_DELAY }),
                );
            }
        })
        .await
    }

    /// An IPv6 socket reaches IPv4 through mapped addresses.
    fn map(&self, address: SocketAddr) -> SocketAddr {
        match (self.endpoint.local_addr(), address) {
            (Ok(local), SocketAddr::V4(v4)) if local.is_ipv6() => {
                SocketAddr::new(v4.ip().to_ipv6_mapped().into(), v4.port())
            }
            _ => address,
        }
    }
}

/// A client's hold on its connection: when the last handle is dropped without a close, the connection is closed, as a
/// keep-alive would keep it for ever otherwise.
#[derive(Debug)]
pub struct Lease(Arc<Connection>);

impl Lease {
    /// The connection.
    pub fn connection(&self) -> &Arc<Connection> {
        &self.0
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        if self.0.end().is_none() {
            self.0.close(wt_proto::error_code::Code::H3_NO_ERROR.0, "");
        }
    }
}

/// Alternate between the families, beginning with the resolver's first choice (RFC 8305 section 4).
fn interleave(addresses: Vec<SocketAddr>) -> Vec<SocketAddr> {
    let first_is_v6 = addresses.first().is_some_and(SocketAddr::is_ipv6);
    let (first, second): (Vec<_>, Vec<_>) = addresses
        .into_iter()
        .partition(|address| address.is_ipv6() == first_is_v6);
    let mut second = second.into_iter();
    let mut mixed = Vec::new();
    for address in first {
        mixed.push(address);
        mixed.extend(second.next());
    }
    mixed.extend(second);
    mixed
}

fn failed(end: &ConnectionEnd, host: &str) -> ConnectError {
    // RFC 9001 section 4.8: TLS alerts are 0x100 + the alert; 42 to 49 are about certificates, 116 demands one. A wrong signature
    // is 51, in a certificate as elsewhere.
    let alert = end.code.checked_sub(0x100).filter(|alert| *alert < 0x100);
    let about_certificate = matches!(alert, Some(42..=49)) || end.reason.contains("invalid peer certificate");
    if end.by == wt_proto::session::Initiator::Local && about_certificate {
        return ConnectError::Certificate(tls::explain(&end.reason, host));
    }
    let message = match (end.cause, alert) {
        ("timeout", _) => {
            format!("no answer from '{host}': is a WebTransport server listening there, and is UDP allowed?")
        }
        (_, Some(116)) => format!(
            "'{host}' demands a client certificate: pass certfile=... and keyfile=... ({})",
            end.reason
        ),
        (_, Some(120)) => format!("'{host}' does not speak HTTP/3 (ALPN): {}", end.reason),
        _ if u64::from(quinn::TransportErrorCode::CONNECTION_REFUSED) == end.code => {
            format!("'{host}' refused the connection: it has as many as it allows, or is shutting down")
        }
        _ => format!("connection to '{host}' failed: {}", end.reason),
    };
    ConnectError::Connection {
        message,
        code: (end.code != 0).then_some(end.code),
    }
}

/// After a refusal, the time for addresses that have not answered: a handshake on a path of 300 ms takes 600 ms.
const LAST_CHANCE: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use super::interleave;

    #[test]
    fn families_alternate_and_the_first_choice_goes_first() {
        let parse = |text: &str| text.parse().expect("a socket address");
        let (a, b, c, d) = (parse("[::1]:1"), parse("[::2]:1"), parse("1.1.1.1:1"), parse("[::3]:1"));
        assert_eq!(interleave(vec![a, b, d, c]), vec![a, c, b, d]);
        assert_eq!(interleave(vec![c, a, b]), vec![c, a, b]);
    }
}
