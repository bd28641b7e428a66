//! Resuming TLS sessions (RFC 8446 section 2.2): a client that comes back spares both ends the certificate and its signatures.
//!
//! Data never travels in the first flight (0-RTT): it could be replayed. Keys are exchanged anew each time (psk_dhe_ke),
//! so that a ticket key that leaks later opens no recorded connection.
//!
//! A resumed handshake shows no certificate, so nothing may come in by it that a full one would keep out:
//!
//! * Tickets belong to one client object and with it to one set of settings: authorities, pins, verification on or off.
//! * A client uses a ticket only while its verifier accepts the certificates of that server, again and now: one that has expired
//!   since, or lost its place in the system's trust store, leads to a full handshake, which says so.
//! * A server that checks client certificates gives no tickets: it would not see the certificate again.
//!
//! Each ticket is used once, so that nobody can tell from it that two connections are of one client (RFC 8446 appendix C.4).
//! The keys of a server's tickets are in its memory alone, and change every 6 hours; a restarted server makes full
//! handshakes.

use std::{
    collections::{HashMap, VecDeque},
    sync::Arc,
};

use parking_lot::Mutex;
use rustls::{
    DigitallySignedStruct, DistinguishedName, NamedGroup, SignatureScheme,
    client::{
        ClientSessionStore, Resumption, Tls12ClientSessionValue, Tls13ClientSessionValue,
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    },
    crypto::aws_lc_rs,
    pki_types::{CertificateDer, ServerName, UnixTime},
    server::ProducesTickets,
};

use crate::stats::Counter;

/// Servers whose tickets a client keeps; the one that was not used for longest makes room.
const MAX_SERVERS: usize = 16;

/// Tickets of one server: so many connects at once resume. Each holds the certificates too, 4 KiB with a usual chain:
/// 16 x 32 x 4 KiB = 2 MiB at most, and 4 KiB for a client that has one connection to one server.
const MAX_TICKETS: usize = 32;

/// Different certificate chains that one name may have shown; the machines behind it may differ. Whoever shows more
/// gets full handshakes.
const MAX_CHAINS: usize = 4;

/// A verifier that remembers what it accepted, and the store that asks it again before a ticket is used.
pub(crate) fn of_client(verifier: Arc<dyn ServerCertVerifier>) -> (Arc<dyn ServerCertVerifier>, Resumption) {
    let tickets = Arc::new(Tickets {
        verifier,
        memory: Mutex::default(),
    });
    (Arc::new(Remembering(tickets.clone())), Resumption::store(tickets))
}

/// What makes and opens the tickets of one server, and counts those that come back.
pub(crate) fn of_server(resumed: Arc<Counter>) -> Result<Arc<dyn ProducesTickets>, rustls::Error> {
    Ok(Arc::new(Counted {
        inner: aws_lc_rs::Ticketer::new()?,
        resumed,
    }))
}

/// The tickets of one client.
#[derive(Debug)]
struct Tickets {
    verifier: Arc<dyn ServerCertVerifier>,
    memory: Mutex<Memory<Tls13ClientSessionValue>>,
}

impl ClientSessionStore for Tickets {
    fn set_kx_hint(&self, server_name: ServerName<'static>, group: NamedGroup) {
        self.memory.lock().known(&server_name).group = Some(group);
    }

    fn kx_hint(&self, server_name: &ServerName<'_>) -> Option<NamedGroup> {
        self.memory.lock().servers.get(&server_name.to_owned())?.group
    }

    // QUIC has no TLS 1.2.
    fn set_tls12_session(&self, _server_name: ServerName<'static>, _value: Tls12ClientSessionValue) {}

    fn tls12_session(&self, _server_name: &ServerName<'_>) -> Option<Tls12ClientSessionValue> {
        None
    }

    fn remove_tls12_session(&self, _server_name: &ServerName<'static>) {}

    fn insert_tls13_ticket(&self, server_name: ServerName<'static>, value: Tls13ClientSessionValue) {
        self.memory.lock().insert(&server_name, value);
    }

    fn take_tls13_ticket(&self, server_name: &ServerName<'static>) -> Option<Tls13ClientSessionValue> {
        // Not under the lock: the system's verifier may take its time.
        let chains = self.memory.lock().chains(server_name);
        let now = UnixTime::now();
        let valid = chains
            .iter()
            .all(|chain| chain.is_valid(&*self.verifier, server_name, now));
        let mut memory = self.memory.lock();
        if !valid {
            memory.forget(server_name);
            return None;
        }
        memory.take(server_name)
    }
}

/// What a client knows of servers. A ticket does not tell which of a server's chains it stands for, so it stands for all.
#[derive(Debug)]
struct Memory<T> {
    servers: HashMap<ServerName<'static>, Known<T>>,
    turn: u64,
}

#[derive(Debug)]
struct Known<T> {
    chains: Vec<Arc<Chain>>,
    /// The latest last.
    tickets: VecDeque<T>,
    group: Option<NamedGroup>,
    last_used: u64,
}

/// Certificates that the verifier accepted for a name.
#[derive(Debug, PartialEq, Eq)]
struct Chain {
    end_entity: CertificateDer<'static>,
    intermediates: Vec<CertificateDer<'static>>,
    ocsp_response: Vec<u8>,
}

impl Chain {
    fn is_valid(&self, verifier: &dyn ServerCertVerifier, name: &ServerName<'_>, now: UnixTime) -> bool {
        verifier
            .verify_server_cert(&self.end_entity, &self.intermediates, name, &self.ocsp_response, now)
            .is_ok()
    }
}

impl<T> Default for Memory<T> {
    fn default() -> Self {
        Self {
            servers: HashMap::new(),
            turn: 0,
        }
    }
}

impl<T> Memory<T> {
    /// The entry of a name, which is made if need be.
    fn known(&mut self, name: &ServerName<'static>) -> &mut Known<T> {
        self.turn += 1;
        if !self.servers.contains_key(name) && self.servers.len() >= MAX_SERVERS {
            let oldest = self.servers.iter().min_by_key(|(_, known)| known.last_used);
            if let Some(oldest) = oldest.map(|(name, _)| name.clone()) {
                self.servers.remove(&oldest);
            }
        }
        let known = self.servers.entry(name.clone()).or_insert_with(|| Known {
            chains: Vec::new(),
            tickets: VecDeque::new(),
            group: None,
            last_used: 0,
        });
        known.last_used = self.turn;
        known
    }

    fn accepted(&mut self, name: &ServerName<'static>, chain: Chain) {
        let known = self.known(name);
        // One more than allowed is kept, which says that there are too many.
        if known.chains.len() <= MAX_CHAINS && !known.chains.iter().any(|other| **other == chain) {
            known.chains.push(Arc::new(chain));
        }
    }

    fn chains(&self, name: &ServerName<'static>) -> Vec<Arc<Chain>> {
        self.servers
            .get(name)
            .map(|known| known.chains.clone())
            .unwrap_or_default()
    }

    /// A ticket of a server whose certificates nobody remembers is of no use.
    fn insert(&mut self, name: &ServerName<'static>, ticket: T) {
        let known = self.known(name);
        if (1..=MAX_CHAINS).contains(&known.chains.len()) {
            if known.tickets.len() >= MAX_TICKETS {
                known.tickets.pop_front();
            }
            known.tickets.push_back(ticket);
        }
    }

    /// The latest: its key lives longest.
    fn take(&mut self, name: &ServerName<'static>) -> Option<T> {
        let known = self.servers.get(name)?;
        if !(1..=MAX_CHAINS).contains(&known.chains.len()) {
            return None;
        }
        self.known(name).tickets.pop_back()
    }

    /// Its certificates are good no more. Connections that they have made may bring tickets still; those count for nothing
    /// until a full handshake has been accepted.
    fn forget(&mut self, name: &ServerName<'static>) {
        self.servers.remove(name);
    }
}

/// Verifies as the client's verifier does.
#[derive(Debug)]
struct Remembering(Arc<Tickets>);

impl ServerCertVerifier for Remembering {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let Tickets { verifier, memory } = &*self.0;
        let verified = verifier.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now)?;
        let chain = Chain {
            end_entity: end_entity.clone().into_owned(),
            intermediates: intermediates.iter().map(|one| one.clone().into_owned()).collect(),
            ocsp_response: ocsp_response.to_vec(),
        };
        memory.lock().accepted(&server_name.to_owned(), chain);
        Ok(verified)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.0.verifier.verify_tls12_signature(message, certificate, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.0.verifier.verify_tls13_signature(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.verifier.supported_verify_schemes()
    }

    fn requires_raw_public_keys(&self) -> bool {
        self.0.verifier.requires_raw_public_keys()
    }

    fn root_hint_subjects(&self) -> Option<&[DistinguishedName]> {
        self.0.verifier.root_hint_subjects()
    }
}

/// Counts the tickets of earlier connections that open.
#[derive(Debug)]
struct Counted {
    inner: Arc<dyn ProducesTickets>,
    resumed: Arc<Counter>,
}

impl ProducesTickets for Counted {
    fn enabled(&self) -> bool {
        self.inner.enabled()
    }

    fn lifetime(&self) -> u32 {
        self.inner.lifetime()
    }

    fn encrypt(&self, plain: &[u8]) -> Option<Vec<u8>> {
        self.inner.encrypt(plain)
    }

    fn decrypt(&self, cipher: &[u8]) -> Option<Vec<u8>> {
        let plain = self.inner.decrypt(cipher)?;
        self.resumed.add(1);
        Some(plain)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use rustls::{RootCertStore, client::WebPkiServerVerifier};

    use super::*;

    fn name(text: &str) -> ServerName<'static> {
        ServerName::try_from(text.to_owned()).expect("a valid name")
    }

    fn chain(number: u8) -> Chain {
        Chain {
            end_entity: CertificateDer::from(vec![number]),
            intermediates: Vec::new(),
            ocsp_response: Vec::new(),
        }
    }

    #[test]
    fn each_ticket_is_given_out_once_the_latest_first() {
        let (mut memory, server) = (Memory::default(), name("a.example"));
        memory.accepted(&server, chain(1));
        for number in 0..MAX_TICKETS + 2 {
            memory.insert(&server, number);
        }
        assert_eq!(memory.take(&name("b.example")), None);
        for number in (2..MAX_TICKETS + 2).rev() {
            assert_eq!(memory.take(&server), Some(number));
        }
        assert_eq!(memory.take(&server), None);
    }

    #[test]
    fn a_ticket_without_a_certificate_is_not_kept() {
        let (mut memory, server) = (Memory::default(), name("a.example"));
        memory.insert(&server, 1);
        assert_eq!(memory.take(&server), None);
        memory.accepted(&server, chain(1));
        memory.insert(&server, 2);
        memory.forget(&server);
        memory.insert(&server, 3);
        assert_eq!(memory.take(&server), None);
        memory.accepted(&server, chain(2));
        assert_eq!(memory.take(&server), None);
    }

    #[test]
    fn a_name_with_too_many_certificates_is_never_resumed() {
        let (mut memory, server) = (Memory::default(), name("a.example"));
        for number in 0..MAX_CHAINS as u8 {
            memory.accepted(&server, chain(number));
            memory.accepted(&server, chain(0));
            memory.insert(&server, number);
        }
        assert_eq!(memory.take(&server), Some(MAX_CHAINS as u8 - 1));
        for number in 10..20 {
            memory.accepted(&server, chain(number));
            memory.insert(&server, number);
            assert_eq!(memory.take(&server), None);
        }
        assert_eq!(memory.chains(&server).len(), MAX_CHAINS + 1);
    }

    #[test]
    fn the_server_that_was_not_used_for_longest_is_forgotten() {
        let mut memory = Memory::default();
        let names: Vec<_> = (0..MAX_SERVERS)
            .map(|number| name(&format!("{number}.example")))
            .collect();
        for server in &names {
            memory.accepted(server, chain(1));
            memory.insert(server, 1);
            memory.insert(server, 2);
        }
        assert_eq!(memory.take(&names[0]), Some(2));
        memory.accepted(&name("one.more"), chain(1));
        assert_eq!(memory.servers.len(), MAX_SERVERS);
        assert_eq!(memory.take(&names[0]), Some(1));
        assert_eq!(memory.take(&names[1]), None);
    }

    #[test]
    fn a_certificate_that_has_expired_since_is_found_out() {
        let key = rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).expect("a key");
        let params = rcgen::CertificateParams::new(["a.example".to_owned()]).expect("a valid name");
        let mut params = params;
        let (now, hour) = (std::time::SystemTime::now(), Duration::from_secs(3600));
        params.not_before = (now - hour).into();
        params.not_after = (now + hour).into();
        let certificate = params.self_signed(&key).expect("signed");
        let mut roots = RootCertStore::empty();
        roots.add(certificate.der().clone()).expect("a certificate");
        let provider = Arc::new(aws_lc_rs::default_provider());
        let verifier = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider)
            .build()
            .expect("a verifier");
        let chain = Chain {
            end_entity: certificate.der().clone(),
            intermediates: Vec::new(),
            ocsp_response: Vec::new(),
        };
        let since_epoch = now.duration_since(std::time::UNIX_EPOCH).expect("after 1970");
        let at = |after| UnixTime::since_unix_epoch(since_epoch + after);
        assert!(chain.is_valid(&*verifier, &name("a.example"), at(Duration::ZERO)));
        assert!(!chain.is_valid(&*verifier, &name("a.example"), at(2 * hour)));
        assert!(!chain.is_valid(&*verifier, &name("b.example"), at(Duration::ZERO)));
    }
}
